"""
What ``ssl=`` may be, and what engine is made of it.

=========================================  ====================================  =====================================
given                                      a client's engine                     a server's engine
=========================================  ====================================  =====================================
``True`` (clients only)                    ``ssl.create_default_context()``      TypeError
``ssl.SSLContext``                         the standard library's                the standard library's
``CertificateOptions``                     pyOpenSSL's; the host is checked      pyOpenSSL's
``IOpenSSLContextFactory``, or anything    pyOpenSSL's; the host is checked      pyOpenSSL's
with its ``getContext``
``OpenSSL.SSL.Context``                    pyOpenSSL's; the host is checked      pyOpenSSL's
``optionsForClientTLS(host)``              pyOpenSSL's; *host* is checked, and   TypeError
                                           ``server_hostname``, if given
``IOpenSSLClientConnectionCreator``        pyOpenSSL's; the creator checks, and  TypeError
                                           ``server_hostname``, if given
``IOpenSSLServerConnectionCreator``        TypeError                             pyOpenSSL's
=========================================  ====================================  =====================================
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._engine import Engine

__all__ = ["EngineMaker", "check_accepted", "default_server_hostname", "engine_maker"]

# It begins as asyncio's own does.
REFUSAL = (
    "ssl argument must be an SSLContext, got {given!r}; a {side}'s may also be {true}an OpenSSL.SSL.Context, or what "
    "Twisted takes (CertificateOptions, {creators}, IOpenSSLContextFactory)"
)

EngineMaker = Callable[["socket.socket | None"], "Engine"]
"""Makes a connection's engine: on the socket, where it is given one and can, else in memory."""


def engine_maker(given: Any, *, server_side: bool, server_hostname: str | None) -> EngineMaker:
    """
    What makes the engines of *given*, an ``ssl=`` argument.

    Args:
        given: See the table above.
        server_side: Whether this end is the server.
        server_hostname: Whom a client wants to talk to; ``""`` asks for no check of the host beyond that of *given*.

    Raises:
        TypeError: *given* is none of what is accepted.
        ValueError: A client's *given* leaves the check to *server_hostname*, and that is None.
    """
    if given is True and not server_side:
        given = _default_context(server_hostname)
    if isinstance(given, ssl.SSLContext):
        from ._stdlib import stdlib_engine

        name = None if server_side else server_hostname or None
        return lambda sock: stdlib_engine(given, server_side, name, sock)
    from ._creators import connection_maker

    maker = connection_maker(given, server_side, server_hostname)
    if maker is None:
        raise TypeError(_refusal(given, server_side))
    return lambda _sock: maker()


def check_accepted(given: Any, *, server_side: bool) -> None:
    """
    Check that *given* may be an ``ssl=`` argument, before anything is connected or bound.

    Raises:
        TypeError: It may not.
    """
    if not given or isinstance(given, ssl.SSLContext) or (given is True and not server_side):
        return
    from ._creators import is_accepted

    if not is_accepted(given, server_side):
        raise TypeError(_refusal(given, server_side))


def default_server_hostname(given: Any, server_hostname: str | None) -> str | None:
    """
    *server_hostname*, unless that is None and *given* says itself whom a client wants to talk to: then ``""``.

    asyncio takes the host's name for None, and demands a name where there is no host.
    """
    if server_hostname is not None or not given or given is True or isinstance(given, ssl.SSLContext):
        return server_hostname
    from ._creators import names_its_host

    return "" if names_its_host(given) else None


def _default_context(server_hostname: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not server_hostname:
        context.check_hostname = False
    return context


def _refusal(given: Any, server_side: bool) -> str:
    if server_side:
        return REFUSAL.format(true="", side="server", creators="IOpenSSLServerConnectionCreator", given=given)
    creators = "optionsForClientTLS(), IOpenSSLClientConnectionCreator"
    return REFUSAL.format(true="True, ", side="client", creators=creators, given=given)
