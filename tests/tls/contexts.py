"""Certificates, made anew for each run, and the contexts of each kind that use them."""

from __future__ import annotations

import functools
import ssl
from typing import Any

import trustme
from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_PEM, X509, load_privatekey
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)

CLIENT_KINDS = ("stdlib", "memory", "options", "creator", "context")
SERVER_KINDS = ("stdlib", "memory", "options", "context")
"""
What ``ssl=`` is given: an ``ssl.SSLContext``; one that our transports cannot use on a socket, so that its bytes go
through memory; Twisted's ``CertificateOptions``; ``optionsForClientTLS()``; a bare ``OpenSSL.SSL.Context``.
"""


class OwnSSLObject(ssl.SSLObject):
    """A context that makes these is asked for them, and so works in memory."""


@functools.cache
def authority() -> trustme.CA:
    """Whom the clients of `client_context` trust, if they are not told otherwise."""
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@functools.cache
def certificate(*names: str) -> trustme.LeafCert:
    """A certificate of the authority's for *names*. Default: localhost and its addresses."""
    return authority().issue_cert(*(names or ("localhost", "127.0.0.1", "::1")), key_type=trustme.KeyType.ECDSA)


def server_context(
    kind: str, leaf: trustme.LeafCert | None = None, *, clients_of: trustme.CA | None = None, alpn: tuple[str, ...] = ()
) -> Any:
    """
    What a server's ``ssl=`` is given.

    Args:
        kind: One of `SERVER_KINDS`.
        leaf: The server's certificate.
        clients_of: The authority that must have issued the clients' certificates, if they are to have any.
        alpn: The protocols that the server speaks.
    """
    leaf = leaf or certificate()
    if kind == "options":
        return _options(leaf, clients_of, alpn)
    if kind == "context":
        return _bare(leaf, clients_of, alpn, SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    if clients_of is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        clients_of.configure_trust(context)
    return _finished(context, kind, alpn)


def client_context(
    kind: str,
    host: str = "localhost",
    *,
    trust: trustme.CA | None = None,
    leaf: trustme.LeafCert | None = None,
    alpn: tuple[str, ...] = (),
) -> Any:
    """
    What a client's ``ssl=`` is given.

    Args:
        kind: One of `CLIENT_KINDS`.
        host: Whom ``optionsForClientTLS`` is to expect.
        trust: The authority that must have issued the server's certificate.
        leaf: The client's own certificate, if it has any.
        alpn: The protocols that the client speaks.
    """
    trust = trust or authority()
    if kind == "options":
        return _options(leaf, trust, alpn)
    if kind == "context":
        return _bare(leaf, trust, alpn, SSL.VERIFY_PEER)
    if kind == "creator":
        return optionsForClientTLS(
            host,
            trustRoot=_trust_root(trust),
            clientCertificate=None if leaf is None else _private(leaf),
            acceptableProtocols=[name.encode() for name in alpn] or None,
        )
    context = ssl.create_default_context(cadata=trust.cert_pem.bytes().decode())  # without the system's authorities
    if leaf is not None:
        leaf.configure_cert(context)
    return _finished(context, kind, alpn)


def _finished(context: ssl.SSLContext, kind: str, alpn: tuple[str, ...]) -> ssl.SSLContext:
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if kind == "memory":
        context.sslobject_class = OwnSSLObject
    return context


def _options(leaf: trustme.LeafCert | None, trust: trustme.CA | None, alpn: tuple[str, ...]) -> Any:
    own = (
        {}
        if leaf is None
        else {"privateKey": _private(leaf).privateKey.original, "certificate": _private(leaf).original}
    )
    return CertificateOptions(
        **own,
        trustRoot=None if trust is None else _trust_root(trust),
        acceptableProtocols=[name.encode() for name in alpn] or None,
    )


def _bare(leaf: trustme.LeafCert | None, trust: trustme.CA | None, alpn: tuple[str, ...], verify: int) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    if leaf is not None:
        context.use_certificate(X509.from_cryptography(_cryptographic(leaf.cert_chain_pems[0])))
        context.use_privatekey(load_privatekey(FILETYPE_PEM, leaf.private_key_pem.bytes()))
    if trust is not None:
        store = context.get_cert_store()
        assert store is not None
        store.add_cert(X509.from_cryptography(_cryptographic(trust.cert_pem)))
        context.set_verify(verify)
        # OpenSSL resumes no session of a client with a certificate, unless it is told whose sessions they are.
        context.set_session_id(b"tests")
    names = [name.encode() for name in alpn]
    if names:
        context.set_alpn_protos(names)
        context.set_alpn_select_callback(functools.partial(_select, names))
    return context


def _select(names: list[bytes], _connection: SSL.Connection, offered: list[bytes]) -> bytes:
    return next(name for name in names if name in offered)


def _cryptographic(pem: trustme.Blob) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.bytes())


def _private(leaf: trustme.LeafCert) -> Any:
    return PrivateCertificate.loadPEM(leaf.private_key_and_cert_chain_pem.bytes())


def _trust_root(trust: trustme.CA) -> Any:
    return trustRootFromCertificates([Certificate.loadPEM(trust.cert_pem.bytes())])
