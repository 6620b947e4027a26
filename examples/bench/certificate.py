"""The certificate of the servers that speak TLS: made for one run, and nobody checks it."""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path

# The environment variable in which a server finds the path of the file.
VARIABLE = "BENCH_CERTIFICATE"
DAY = datetime.timedelta(days=1)


def certificate_path() -> str:
    """In a server: the file that `write_certificate` has written."""
    return os.environ[VARIABLE]


def write_certificate(path: Path) -> None:
    """Write a key (ECDSA, P-256) and a certificate for this machine, signed by itself, into one PEM file."""
    # Servers need nothing of this but the path, and an import changes what their memory allocation costs.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    addresses = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
