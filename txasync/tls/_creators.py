"""Twisted's TLS settings and pyOpenSSL's contexts, as makers of engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet._sslverify import ClientTLSOptions
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLContextFactory,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.ssl import CertificateOptions

from ._pyopenssl import PyOpenSSLEngine, TLSProtocolStandIn
from ._verification import Host

__all__ = ["connection_maker", "is_accepted", "names_its_host"]

Creator = Callable[[TLSProtocolStandIn], SSL.Connection]


def is_accepted(given: Any, server_side: bool) -> bool:
    """Whether *given* can make connections of that side."""
    return _creator(given, server_side) is not None


def names_its_host(given: Any) -> bool:
    """Whether a client's *given* says itself whom it wants to talk to, so that the host's name is not imposed on it."""
    return IOpenSSLClientConnectionCreator.providedBy(given) and not isinstance(given, CertificateOptions)


def connection_maker(
    given: Any, server_side: bool, server_hostname: str | None
) -> Callable[[], PyOpenSSLEngine] | None:
    """
    How *given*'s engines are made; None if it is nothing of Twisted's or pyOpenSSL's, or not for that side.

    Raises:
        ValueError: The check of the host is left to *server_hostname*, which is None.
    """
    creator = _creator(given, server_side)
    if creator is None:
        return None
    if server_side:
        return lambda: _server_engine(creator)
    if server_hostname is None and not names_its_host(given):
        raise ValueError(
            f"server_hostname is needed with {given!r}, to check whom the certificate is for: give the server's name "
            f"or address, or '' for no such check"
        )
    hosts = [Host(server_hostname)] if server_hostname else []
    name = hosts[0].name_for_sni() if hosts else None
    if not isinstance(given, ClientTLSOptions):
        return lambda: _client_engine(creator, name, hosts)
    unchecking = _without_its_own_check(creator)
    hosts.append(Host(given._hostnameASCII))
    return lambda: _client_engine(unchecking, name, hosts)


def _creator(given: Any, server_side: bool) -> Creator | None:
    """What makes a connection of *given*, in the order in which Twisted looks."""
    if isinstance(given, SSL.Context):
        return lambda _stand_in: SSL.Connection(given, None)
    # Twisted's annotations ask for a TLSMemoryBIOProtocol, which TLSProtocolStandIn stands in for.
    if server_side and IOpenSSLServerConnectionCreator.providedBy(given):
        return cast(Creator, given.serverConnectionForTLS)
    if not server_side and IOpenSSLClientConnectionCreator.providedBy(given):
        return cast(Creator, given.clientConnectionForTLS)
    is_duck = callable(getattr(given, "getContext", None)) and not isinstance(given, type)
    if IOpenSSLContextFactory.providedBy(given) or is_duck:
        return lambda _stand_in: SSL.Connection(given.getContext(), None)
    return None


def _without_its_own_check(creator: Creator) -> Creator:
    """
    *creator*, one of ``optionsForClientTLS()``, with the check of the host left to us.

    That of Twisted 26 logs a certificate that has no name at all, lets it pass, and leaves a reference cycle.
    """

    def create(stand_in: TLSProtocolStandIn) -> SSL.Connection:
        connection = creator(stand_in)
        # Not without a callback: OpenSSL would keep the one that is there, which pyOpenSSL would free.
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _as_openssl_says)
        return connection

    return create


def _as_openssl_says(_connection: SSL.Connection, _certificate: X509, _code: int, _depth: int, ok: int) -> bool:
    return bool(ok)


def _server_engine(creator: Creator) -> PyOpenSSLEngine:
    stand_in = TLSProtocolStandIn()
    connection = creator(stand_in)
    connection.set_app_data(stand_in)
    connection.set_accept_state()
    return PyOpenSSLEngine(connection, stand_in)


def _client_engine(creator: Creator, name: bytes | None, hosts: list[Host]) -> PyOpenSSLEngine:
    stand_in = TLSProtocolStandIn()
    connection = creator(stand_in)
    connection.set_app_data(stand_in)
    connection.set_connect_state()
    if name is not None and connection.get_servername() is None:
        connection.set_tlsext_host_name(name)
    return PyOpenSSLEngine(connection, stand_in, hosts)
