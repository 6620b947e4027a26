"""What ``get_extra_info()`` says of a Twisted transport."""

from __future__ import annotations

import contextlib
import socket
from asyncio.trsock import TransportSocket
from typing import Any

from twisted.internet.interfaces import ISSLTransport

from .._addresses import as_sockaddr

__all__ = ["ExtraInfo"]

_NAMES = {"peername": "getPeer", "sockname": "getHost"}


class ExtraInfo:
    """
    What is known of *itransport*. Its socket is noted at once: it goes away with the connection, as its names do.

    ================================================  =======================================================
    name                                              comes from
    ================================================  =======================================================
    ``peername``, ``sockname``                        ``getPeer()``, ``getHost()``
    ``socket``                                        ``getHandle()``, that of the transport below TLS
    ``ssl_object``                                    ``getHandle()``, if this is TLS
    ``sslcontext``, ``peercert``, ``peercert_der``,   that ``OpenSSL.SSL.Connection``
    ``cipher``, ``compression``, ``alpn_protocol``,
    ``tls_version``
    ``twisted_transport``                             it is *itransport*
    ================================================  =======================================================

    Names may change while the connection lasts: behind ``haproxy:``, the client's address comes with its first bytes.
    """

    __slots__ = ("_ask", "_connection", "_known", "_socket")

    def __init__(self, itransport: Any) -> None:
        self._known: dict[str, Any] = {"twisted_transport": itransport}
        self._ask = _NAMES
        for name in _NAMES:
            self._ask_again(name)
        handle = _handle_of(itransport)
        self._connection: Any = handle if ISSLTransport.providedBy(itransport) else None
        while handle is not None and not isinstance(handle, socket.socket):
            itransport = getattr(itransport, "transport", None)
            handle = _handle_of(itransport)
        self._socket: socket.socket | None = handle

    @property
    def is_tcp(self) -> bool:
        """Whether there is a TCP socket below."""
        return self._socket is not None and self._socket.family in (socket.AF_INET, socket.AF_INET6)

    def get(self, name: str, default: Any) -> Any:
        """What ``get_extra_info(name, default)`` returns."""
        if name in self._ask:
            self._ask_again(name)
        elif name not in self._known:
            if name == "socket" and self._socket is not None:
                self._known[name] = TransportSocket(self._socket)
            elif self._connection is not None:
                self._ask_connection(name)
        return self._known.get(name, default)

    def settle(self) -> None:
        """The connection is lost, and the names are asked for the last time."""
        for name in _NAMES:
            # Without a socket Twisted's transports have no answer; but a wrapper may know what its peer has told it.
            with contextlib.suppress(AttributeError, OSError):
                self._ask_again(name)
        self._ask = {}

    def _ask_again(self, name: str) -> None:
        self._known[name] = _sockaddr(self._known["twisted_transport"], self._ask[name])

    def _ask_connection(self, name: str) -> None:
        from ...tls._connection_info import connection_info  # with TLS, pyOpenSSL has been imported

        try:
            self._known[name] = connection_info(self._connection, name)
        except KeyError:
            pass


def _sockaddr(itransport: Any, ask: str) -> Any:
    try:
        return as_sockaddr(getattr(itransport, ask)())
    except NotImplementedError:  # as of a child process
        return None


def _handle_of(itransport: Any) -> Any:
    get_handle = getattr(itransport, "getHandle", None)
    return None if get_handle is None else get_handle()
