"""What the TLS of an asyncio transport, of any loop, says of the peer, in Twisted's terms."""

from __future__ import annotations

from typing import Any

__all__ = ["negotiated_protocol", "peer_certificate"]


def peer_certificate(tls: Any) -> Any:
    """The peer's certificate, an ``OpenSSL.crypto.X509``, or None; *tls* is the transport's ``ssl_object``, or None."""
    if tls is None:
        return None
    if not hasattr(tls, "getpeercert"):
        return tls.get_peer_certificate()  # it is pyOpenSSL's
    der = tls.getpeercert(True)
    if not der:
        return None
    from OpenSSL import crypto

    return crypto.load_certificate(crypto.FILETYPE_ASN1, der)


def negotiated_protocol(tls: Any) -> bytes | None:
    """The protocol that ALPN has settled, or None; *tls* is as above."""
    if tls is None:
        return None
    if not hasattr(tls, "selected_alpn_protocol"):
        return tls.get_alpn_proto_negotiated() or None
    name = tls.selected_alpn_protocol()
    return None if name is None else name.encode("ascii")
