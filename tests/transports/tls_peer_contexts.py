"""Contexts of bad peers, and ours where a test wants more of them than tests.tls.contexts gives."""

from __future__ import annotations

import functools
import ssl
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import trustme
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    TLSVersion,
    optionsForClientTLS,
    trustRootFromCertificates,
)

from ..tls.contexts import authority, certificate, client_context, server_context


@functools.cache
def peer_context(
    leaf: trustme.LeafCert | None = None,
    *,
    server_side: bool,
    at_least: ssl.TLSVersion | None = None,
    at_most: ssl.TLSVersion | None = None,
    ciphers: str = "ALL:@SECLEVEL=0",
    wants: Callable[[], trustme.CA] | None = None,
) -> ssl.SSLContext:
    """
    A peer's context, which is not particular about anything.

    Args:
        leaf: The peer's certificate. Default: a server's is `certificate()`, a client has none.
        server_side: Whether the peer is the server.
        at_least: The lowest version of TLS.
        at_most: The highest version of TLS.
        ciphers: Those of TLS 1.2.
        wants: The authority that must have issued the other end's certificate. Default: it need have none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE if wants is None else ssl.CERT_REQUIRED
    context.set_ciphers(ciphers)
    if wants is not None:
        wants().configure_trust(context)
    if leaf is not None or server_side:
        (leaf or certificate()).configure_cert(context)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions
        if at_least is not None or at_most is not None:
            context.minimum_version = at_least or ssl.TLSVersion.MINIMUM_SUPPORTED
        if at_most is not None:
            context.maximum_version = at_most
    return context


class Demands(NamedTuple):
    """
    What our context asks for, and what it offers.

    Attributes:
        host: Whom our client wants to talk to.
        only: The only version of TLS.
        leaf: Our client's certificate, if it has any.
        clients_of: The authority that must have issued clients' certificates, if they are to have any.
        common_name_counts: Whether a certificate's common name is its name, where it has no subjectAltName; this is
            so by default in the standard library, and never elsewhere.
    """

    host: str = "localhost"
    only: ssl.TLSVersion | None = None
    leaf: Callable[[], trustme.LeafCert] | None = None
    clients_of: Callable[[], trustme.CA] | None = None
    common_name_counts: bool = True


def our_client(kind: str, demands: Demands = Demands()) -> Any:
    """What our client's ``ssl=`` is given: *kind* is one of ``CLIENT_KINDS``."""
    # All but one kind are told the host by create_connection(), so that one context is enough for all hosts.
    return _our_client(kind, demands if kind == "creator" else demands._replace(host=""))


@functools.cache
def _our_client(kind: str, demands: Demands) -> Any:
    if demands.only is not None and kind in ("options", "creator"):
        root = trustRootFromCertificates([Certificate.loadPEM(authority().cert_pem.bytes())])
        versions = _twisted_versions(demands.only)
        if kind == "options":
            return CertificateOptions(trustRoot=root, **versions)
        return optionsForClientTLS(demands.host, trustRoot=root, extraCertificateOptions=versions)
    given = client_context(kind, demands.host, leaf=demands.leaf and demands.leaf())
    if isinstance(given, ssl.SSLContext):
        given.hostname_checks_common_name = demands.common_name_counts
    return _with_version(given, demands.only)


@functools.cache
def our_server(kind: str, demands: Demands = Demands()) -> Any:
    """What our server's ``ssl=`` is given: *kind* is one of ``SERVER_KINDS``."""
    if demands.only is not None and kind == "options":
        own = PrivateCertificate.loadPEM(certificate().private_key_and_cert_chain_pem.bytes())
        versions = _twisted_versions(demands.only)
        return CertificateOptions(privateKey=own.privateKey.original, certificate=own.original, **versions)
    given = server_context(kind, clients_of=demands.clients_of and demands.clients_of())
    return _with_version(given, demands.only)


def _twisted_versions(only: ssl.TLSVersion) -> dict[str, Any]:
    version = {ssl.TLSVersion.TLSv1_2: TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3: TLSVersion.TLSv1_3}[only]
    return {"insecurelyLowerMinimumTo": version, "lowerMaximumSecurityTo": version}


def _with_version(given: Any, only: ssl.TLSVersion | None) -> Any:
    if only is None:
        return given
    if isinstance(given, ssl.SSLContext):
        given.minimum_version = given.maximum_version = only
    else:
        given.set_min_proto_version(only)
        given.set_max_proto_version(only)
    return given
