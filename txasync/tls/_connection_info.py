"""What an ``OpenSSL.SSL.Connection`` tells of its handshake and its peer, in the standard library's terms."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from ._engine import HandshakeInfo
from ._peer_certificate import as_stdlib_dict

__all__ = ["connection_info", "handshake_info", "peer_certificate", "peer_certificate_der"]


def handshake_info(connection: SSL.Connection) -> HandshakeInfo:
    """What the handshake of *connection* has settled, now that it is done."""
    name, version, bits = (
        connection.get_cipher_name(),
        connection.get_cipher_version(),
        connection.get_cipher_bits(),
    )
    return HandshakeInfo(
        cipher=None if name is None or version is None or bits is None else (name, version, bits),
        compression=None,
        alpn_protocol=connection.get_alpn_proto_negotiated().decode("ascii", "replace") or None,
        tls_version=connection.get_protocol_version_name(),
    )


def peer_certificate(connection: SSL.Connection) -> dict[str, Any] | None:
    """The peer's certificate as ``ssl.SSLSocket.getpeercert()`` gives it."""
    certificate = connection.get_peer_certificate()
    if certificate is None:
        return None
    if connection.get_verify_mode() == SSL.VERIFY_NONE:
        return {}  # it was not verified, so the standard library would not show it either
    return as_stdlib_dict(certificate.to_cryptography())


def peer_certificate_der(connection: SSL.Connection) -> bytes | None:
    """The peer's certificate in its binary form."""
    certificate = connection.get_peer_certificate()
    return None if certificate is None else certificate.to_cryptography().public_bytes(Encoding.DER)


def connection_info(connection: SSL.Connection, name: str) -> Any:
    """
    What a transport's ``get_extra_info(name)`` says, once the handshake of *connection* is done.

    Raises:
        KeyError: It is nothing that *connection* could tell.
    """
    if name == "ssl_object":
        return connection
    if name == "sslcontext":
        return connection.get_context()
    if name == "peercert":
        return peer_certificate(connection)
    if name == "peercert_der":
        return peer_certificate_der(connection)
    return handshake_info(connection)._asdict()[name]
