"""Certificates that a good authority would not issue, or that nobody should trust."""

from __future__ import annotations

import datetime
import functools
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..tls.contexts import authority


@functools.cache
def strangers() -> trustme.CA:
    """An authority that nobody trusts."""
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@functools.cache
def expired() -> trustme.LeafCert:
    """A certificate that was good in 2010."""
    return _for_a_year(2010)


@functools.cache
def premature() -> trustme.LeafCert:
    """A certificate that is to be good in 2090."""
    return _for_a_year(2090)


def _for_a_year(year: int) -> trustme.LeafCert:
    january, december = datetime.datetime(year, 1, 1), datetime.datetime(year, 12, 1)
    return authority().issue_cert("localhost", not_before=january, not_after=december)


@functools.cache
def strange() -> trustme.LeafCert:
    """A certificate by an authority that nobody trusts."""
    return strangers().issue_cert("localhost", "127.0.0.1")


@functools.cache
def made_by_hand(
    *names: str, common_name: str = "localhost", self_signed: bool = False, weak_key: bool = False
) -> trustme.LeafCert:
    """
    A certificate such as a good authority would not issue.

    Args:
        names: Its subjectAltName, as it is; it has none if there are none.
        common_name: Its common name.
        self_signed: Whether no authority has signed it.
        weak_key: Whether its key is one of RSA that is too short.
    """
    key: Any = rsa.generate_private_key(65537, 1024) if weak_key else ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(authority().cert_pem.bytes())
    signing: Any = serialization.load_pem_private_key(authority().private_key_pem.bytes(), None)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if self_signed else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2020, 1, 1))
        .not_valid_after(datetime.datetime(2090, 1, 1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((key if self_signed else signing).public_key()),
            critical=False,
        )
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    made = builder.sign(key if self_signed else signing, hashes.SHA256())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return trustme.LeafCert(pem, made.public_bytes(serialization.Encoding.PEM), [])
