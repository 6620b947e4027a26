"""A certificate in the form in which the standard library shows it."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import struct
from collections.abc import Iterable, Iterator
from ssl import _txt2obj  # type: ignore[attr-defined]
from typing import Any

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

__all__ = ["as_stdlib_dict"]

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]


def as_stdlib_dict(certificate: x509.Certificate) -> dict[str, Any]:
    """
    *certificate* as ``ssl.SSLSocket.getpeercert()`` gives it.

    Source:
        The ssl module's page, "SSLSocket.getpeercert"; names of attributes are OpenSSL's long ones.
    """
    found = {
        "subject": _name(certificate.subject),
        "issuer": _name(certificate.issuer),
        "version": certificate.version.value + 1,
        "serialNumber": _serial_number(certificate.serial_number),
        "notBefore": _time(certificate.not_valid_before_utc),
        "notAfter": _time(certificate.not_valid_after_utc),
    }
    optional = {
        "subjectAltName": _alternative_names(certificate),
        "OCSP": _access(certificate, AuthorityInformationAccessOID.OCSP),
        "caIssuers": _access(certificate, AuthorityInformationAccessOID.CA_ISSUERS),
        "crlDistributionPoints": _distribution_points(certificate),
    }
    return found | {name: value for name, value in optional.items() if value}


def _name(name: x509.Name) -> tuple[tuple[tuple[str, str], ...], ...]:
    return tuple(tuple((_long_name(part.oid), _text(part.value)) for part in rdn) for rdn in name.rdns)


def _long_name(oid: x509.ObjectIdentifier) -> str:
    try:
        _nid, _short, long, _dotted = _txt2obj(oid.dotted_string, False)
    except ValueError:
        return oid.dotted_string
    return str(long)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def _serial_number(number: int) -> str:
    digits = f"{abs(number):X}"
    return ("-" if number < 0 else "") + "0" * (len(digits) % 2) + digits


def _time(time: datetime.datetime) -> str:
    return f"{MONTHS[time.month - 1]} {time.day:2} {time:%H:%M:%S} {time.year} GMT"


def _alternative_names(certificate: x509.Certificate) -> tuple[tuple[str, Any], ...]:
    with contextlib.suppress(x509.ExtensionNotFound):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(map(_general_name, names))
    return ()


def _general_name(name: x509.GeneralName) -> tuple[str, Any]:
    if isinstance(name, x509.DNSName):
        return "DNS", name.value
    if isinstance(name, x509.IPAddress):
        return "IP Address", _address(name.value)
    if isinstance(name, x509.RFC822Name):
        return "email", name.value
    if isinstance(name, x509.UniformResourceIdentifier):
        return "URI", name.value
    if isinstance(name, x509.DirectoryName):
        return "DirName", _name(name.value)
    if isinstance(name, x509.RegisteredID):
        return "Registered ID", _long_name(name.value)
    return "othername", "<unsupported>"


def _address(address: Any) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        return ":".join(f"{group:X}" for group in struct.unpack("!8H", address.packed))
    return str(address) if isinstance(address, ipaddress.IPv4Address) else "<invalid>"


def _access(certificate: x509.Certificate, method: x509.ObjectIdentifier) -> tuple[str, ...]:
    with contextlib.suppress(x509.ExtensionNotFound):
        descriptions = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        return tuple(_uris(each.access_location for each in descriptions if each.access_method == method))
    return ()


def _distribution_points(certificate: x509.Certificate) -> tuple[str, ...]:
    with contextlib.suppress(x509.ExtensionNotFound):
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        return tuple(_uris(name for point in points for name in point.full_name or ()))
    return ()


def _uris(names: Iterable[x509.GeneralName]) -> Iterator[str]:
    return (name.value for name in names if isinstance(name, x509.UniformResourceIdentifier))
