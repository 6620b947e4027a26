"""A certificate as pyOpenSSL's connections show it: what the standard library says of the same one."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from ssl import _ssl  # type: ignore[attr-defined]
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from txasync.tls._peer_certificate import as_stdlib_dict

KEY = Ed25519PrivateKey.generate()
UNKNOWN = ObjectIdentifier("1.3.6.1.4.1.99999.1.2.3")


def name(*attributes: tuple[ObjectIdentifier, str]) -> x509.Name:
    """A name of one attribute in each part."""
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def certificate(
    *extensions: x509.ExtensionType,
    subject: x509.Name | None = None,
    issuer: x509.Name | None = None,
    serial_number: int = 1,
    not_before: datetime.datetime = datetime.datetime(2020, 1, 1),
    not_after: datetime.datetime = datetime.datetime(2040, 12, 31),
) -> bytes:
    """A certificate in binary form."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name((NameOID.COMMON_NAME, "subject")) if subject is None else subject)
        .issuer_name(name((NameOID.COMMON_NAME, "issuer")) if issuer is None else issuer)
        .serial_number(serial_number)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .public_key(KEY.public_key())
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, None).public_bytes(Encoding.DER)


def replaced(der: bytes, old: bytes, new: bytes) -> bytes:
    """*der* with something in it that cryptography would not write; nobody looks at the signature."""
    assert der.count(old) == 1 and len(old) == len(new)
    return der.replace(old, new)


def shown_by_stdlib(der: bytes) -> dict[str, Any]:
    """What ``ssl`` shows of a certificate, by the function that its own tests use."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(ssl.DER_cert_to_PEM_cert(der))
        file.flush()
        shown = _ssl._test_decode_cert(file.name)
    assert isinstance(shown, dict)
    return shown


def check(der: bytes) -> dict[str, Any]:
    """Both must show the same, and that is returned."""
    shown = as_stdlib_dict(x509.load_der_x509_certificate(der))
    assert shown == shown_by_stdlib(der)
    return shown


def alternative_names(*names: x509.GeneralName) -> Any:
    """What is shown of them."""
    return check(certificate(x509.SubjectAlternativeName(names))).get("subjectAltName")


URI = x509.UniformResourceIdentifier("http://ca.example/?q=1")
DIRECTORY_NAME = x509.DirectoryName(name((NameOID.COUNTRY_NAME, "DE"), (NameOID.COMMON_NAME, "Müller")))


# Subject and issuer

KNOWN_ATTRIBUTES = sorted(
    # The value of the one that is left out is no text.
    {oid for oid in vars(NameOID).values() if isinstance(oid, ObjectIdentifier)} - {NameOID.X500_UNIQUE_IDENTIFIER},
    key=lambda oid: oid.dotted_string,
)


def test_names_of_attributes() -> None:
    """Each attribute has OpenSSL's long name, or its numbers."""
    for oid in *KNOWN_ATTRIBUTES, UNKNOWN:
        value = "DE" if oid in (NameOID.COUNTRY_NAME, NameOID.JURISDICTION_COUNTRY_NAME) else "value"
        shown = check(certificate(subject=name((oid, value)), issuer=name((oid, value))))
        assert shown["subject"] == shown["issuer"]
        assert shown["subject"][0][0][1] == value


def test_every_name_that_openssl_has() -> None:
    """There are some hundred; each may be an attribute's, however strange that would be."""
    attributes = []
    for number in range(1, 1400):
        try:
            dotted = _ssl.nid2obj(number)[3]
        except ValueError:
            continue
        if dotted is not None and dotted not in ("2.5.4.6", "1.3.6.1.4.1.311.60.2.1.3"):  # a country has two letters
            attributes.append((ObjectIdentifier(dotted), "value"))
    assert len(attributes) > 500
    assert len(check(certificate(subject=name(*attributes)))["subject"]) == len(attributes)


def test_a_name_with_nothing_in_it() -> None:
    """It is there, and empty."""
    assert check(certificate(subject=name()))["subject"] == ()


def test_the_order_of_attributes_is_kept() -> None:
    """Though one of them may come again."""
    attributes = (NameOID.COMMON_NAME, "b"), (NameOID.ORGANIZATION_NAME, "o"), (NameOID.COMMON_NAME, "a")
    assert check(certificate(subject=name(*attributes)))["subject"] == (
        (("commonName", "b"),),
        (("organizationName", "o"),),
        (("commonName", "a"),),
    )


def test_several_attributes_in_one_part_of_a_name() -> None:
    """They stay together."""
    parts = [
        x509.RelativeDistinguishedName(
            [x509.NameAttribute(NameOID.COMMON_NAME, "zz"), x509.NameAttribute(NameOID.LOCALITY_NAME, "Köln")]
        ),
        x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "a")]),
    ]
    shown = check(certificate(subject=x509.Name(parts)))["subject"]
    assert [len(part) for part in shown] == [2, 1]


def test_values_are_any_text() -> None:
    """They are shown as they are."""
    for value in "Žluťoučký kůň", "中文", "😀", "a\0b", " spaces ", "line\nbreak", 'quo"te, comma=+':
        shown = check(certificate(subject=name((NameOID.COMMON_NAME, value))))
        assert shown["subject"] == ((("commonName", value),),)


@pytest.mark.parametrize(
    ("tag", "encoded", "value"),
    [
        (0x13, b"Printabl", "Printabl"),
        (0x16, b"IA5@#*&!", "IA5@#*&!"),
        (0x14, b"T61 only", "T61 only"),
        (0x1E, "Büro".encode("utf-16-be"), "Büro"),
        (0x1C, "Fü".encode("utf-32-be"), "Fü"),
    ],
    ids=["PrintableString", "IA5String", "T61String", "BMPString", "UniversalString"],
)
def test_kinds_of_text(tag: int, encoded: bytes, value: str) -> None:
    """Old certificates have some that are no UTF-8."""
    der = certificate(subject=name((NameOID.COMMON_NAME, "ABCDEFGH")))
    der = replaced(der, b"\x0c\x08ABCDEFGH", bytes([tag, 8]) + encoded)
    assert check(der)["subject"] == ((("commonName", value),),)


# Numbers and dates


def test_serial_numbers_are_pairs_of_hexadecimal_digits() -> None:
    """With a zero in front if there is an odd number of them."""
    for number in 1, 0xA, 0xF, 0x10, 0x7F, 0x80, 0xFF, 0x100, 0xABC, 0xABCD, 2**100, 2**159 - 1:
        shown = check(certificate(serial_number=number))["serialNumber"]
        assert int(shown, 16) == number and len(shown) % 2 == 0


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "00"), (-1, "-01"), (-0x80, "-80"), (-0x101, "-0101"), (-0x8000, "-8000")]
)
@pytest.mark.filterwarnings("ignore:Parsed a")
def test_serial_numbers_that_nobody_should_give(number: int, shown: str) -> None:
    """Zero, and less, are shown as well."""
    encoded = number.to_bytes(2 if number < -0x80 else 1, "big", signed=True)
    marker = b"\x77" * len(encoded)
    der = certificate(serial_number=int.from_bytes(marker, "big"))
    tag = bytes([2, len(encoded)])
    assert check(replaced(der, tag + marker, tag + encoded))["serialNumber"] == shown


def test_dates() -> None:
    """In English, whatever the locale, and with a space before a day of one digit."""
    for date, shown in (
        (datetime.datetime(2021, 3, 7, 4, 5, 6), "Mar  7 04:05:06 2021 GMT"),
        (datetime.datetime(2021, 10, 31, 23, 59, 59), "Oct 31 23:59:59 2021 GMT"),
        (datetime.datetime(1950, 1, 1), "Jan  1 00:00:00 1950 GMT"),
        (datetime.datetime(2049, 12, 31, 23, 59, 59), "Dec 31 23:59:59 2049 GMT"),
        (datetime.datetime(2050, 1, 1), "Jan  1 00:00:00 2050 GMT"),
        (datetime.datetime(9999, 12, 31, 23, 59, 59), "Dec 31 23:59:59 9999 GMT"),
    ):
        found = check(certificate(not_before=date, not_after=date))
        assert found["notBefore"] == found["notAfter"] == shown


def test_months() -> None:
    """Each one has its name."""
    for month in range(1, 13):
        check(certificate(not_before=datetime.datetime(2020, month, 28), not_after=datetime.datetime(2021, month, 3)))


# Alternative names


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        (x509.DNSName("*.example.org"), ("DNS", "*.example.org")),
        (x509.DNSName(""), ("DNS", "")),
        (x509.DNSName("with:colon"), ("DNS", "with:colon")),
        (x509.DNSName("n\0l"), ("DNS", "n\0l")),
        (x509.RFC822Name("me@example.org"), ("email", "me@example.org")),
        (URI, ("URI", "http://ca.example/?q=1")),
        (x509.UniformResourceIdentifier("urn:uuid:1"), ("URI", "urn:uuid:1")),
        (x509.IPAddress(ipaddress.ip_address("192.0.2.1")), ("IP Address", "192.0.2.1")),
        (x509.IPAddress(ipaddress.ip_address("::")), ("IP Address", "0:0:0:0:0:0:0:0")),
        (x509.IPAddress(ipaddress.ip_address("2001:db8::a:0")), ("IP Address", "2001:DB8:0:0:0:0:A:0")),
        (x509.IPAddress(ipaddress.ip_network("192.0.2.0/24")), ("IP Address", "<invalid>")),
        (x509.IPAddress(ipaddress.ip_network("fe80::/10")), ("IP Address", "<invalid>")),
        (DIRECTORY_NAME, ("DirName", ((("countryName", "DE"),), (("commonName", "Müller"),)))),
        (x509.RegisteredID(NameOID.COMMON_NAME), ("Registered ID", "commonName")),
        (x509.RegisteredID(UNKNOWN), ("Registered ID", UNKNOWN.dotted_string)),
        (x509.OtherName(UNKNOWN, b"\x0c\x01x"), ("othername", "<unsupported>")),
        (x509.OtherName(UNKNOWN, b"\x30\x00"), ("othername", "<unsupported>")),
        (x509.OtherName(ObjectIdentifier("1.3.6.1.5.2.2"), b"\x30\x00"), ("othername", "<unsupported>")),
    ],
    ids=repr,
)
def test_alternative_names(given_name: x509.GeneralName, shown: tuple[str, Any]) -> None:
    """Each kind has its name, and its own way to be shown."""
    assert alternative_names(given_name) == (shown,)


def test_alternative_names_keep_their_order() -> None:
    """The kinds may be mixed."""
    assert alternative_names(x509.DNSName("b"), URI, x509.DNSName("a"), DIRECTORY_NAME, x509.DNSName("b")) == (
        ("DNS", "b"),
        ("URI", "http://ca.example/?q=1"),
        ("DNS", "a"),
        ("DirName", ((("countryName", "DE"),), (("commonName", "Müller"),))),
        ("DNS", "b"),
    )


def test_without_alternative_names_there_is_no_such_key() -> None:
    """Nor one for anything else that is not there."""
    assert sorted(check(certificate())) == [
        "issuer",
        "notAfter",
        "notBefore",
        "serialNumber",
        "subject",
        "version",
    ]


# Where to ask for more


def access(*descriptions: tuple[ObjectIdentifier, x509.GeneralName]) -> x509.AuthorityInformationAccess:
    """The extension that tells where the authority is."""
    return x509.AuthorityInformationAccess(
        [x509.AccessDescription(method, location) for method, location in descriptions]
    )


def test_where_the_authority_is() -> None:
    """Addresses of each kind in their order; what is no URI, or for something else, is left out."""
    ocsp, issuers = AuthorityInformationAccessOID.OCSP, AuthorityInformationAccessOID.CA_ISSUERS
    other = x509.UniformResourceIdentifier("ldap://other.example")
    shown = check(
        certificate(access((ocsp, URI), (issuers, other), (ocsp, other), (ocsp, DIRECTORY_NAME), (UNKNOWN, URI)))
    )
    assert shown["OCSP"] == (URI.value, other.value)
    assert shown["caIssuers"] == (other.value,)


@pytest.mark.parametrize("method", [AuthorityInformationAccessOID.OCSP, AuthorityInformationAccessOID.CA_ISSUERS])
def test_an_authority_that_has_no_uri(method: ObjectIdentifier) -> None:
    """There is no key for it then."""
    for descriptions in [(method, DIRECTORY_NAME)], [(UNKNOWN, URI)], []:
        assert not {"OCSP", "caIssuers"} & set(check(certificate(access(*descriptions))))


def test_where_revocation_lists_are() -> None:
    """Those of all points, in their order."""
    other = x509.UniformResourceIdentifier("ldap://other.example")
    points = [
        x509.DistributionPoint([URI, DIRECTORY_NAME, other], None, None, None),
        x509.DistributionPoint([other], None, frozenset([x509.ReasonFlags.key_compromise]), [DIRECTORY_NAME]),
    ]
    shown = check(certificate(x509.CRLDistributionPoints(points)))
    assert shown["crlDistributionPoints"] == (URI.value, other.value, other.value)


def test_points_without_a_uri() -> None:
    """A point may have a directory's name, or only an issuer: there is no key then."""
    for point in (
        x509.DistributionPoint([DIRECTORY_NAME], None, None, None),
        x509.DistributionPoint(None, None, None, [DIRECTORY_NAME]),
    ):
        assert "crlDistributionPoints" not in check(certificate(x509.CRLDistributionPoints([point])))


def test_a_point_with_a_name_relative_to_the_issuers() -> None:
    """It is none that one could ask at."""
    relative = x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.COMMON_NAME, "list")])
    point = x509.DistributionPoint(None, relative, None, None)
    der = certificate(x509.CRLDistributionPoints([point]))
    assert "crlDistributionPoints" not in as_stdlib_dict(x509.load_der_x509_certificate(der))


def test_extensions_that_are_not_shown() -> None:
    """They change nothing."""
    der = certificate(
        x509.BasicConstraints(ca=True, path_length=1),
        x509.IssuerAlternativeName([URI]),
        x509.UnrecognizedExtension(UNKNOWN, b"\x05\x00"),
    )
    assert sorted(check(der)) == sorted(check(certificate()))


# All of it

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=15)
ASCII = st.text(st.characters(min_codepoint=1, max_codepoint=127), max_size=20)
OIDS = st.sampled_from(
    [
        NameOID.COMMON_NAME,
        NameOID.ORGANIZATION_NAME,
        NameOID.ORGANIZATIONAL_UNIT_NAME,
        NameOID.LOCALITY_NAME,
        NameOID.STATE_OR_PROVINCE_NAME,
        NameOID.STREET_ADDRESS,
        NameOID.TITLE,
        UNKNOWN,
    ]
)
NAMES = st.lists(
    st.lists(st.tuples(OIDS, TEXT), min_size=1, max_size=3, unique=True).map(
        lambda pairs: x509.RelativeDistinguishedName([x509.NameAttribute(oid, value) for oid, value in pairs])
    ),
    max_size=4,
).map(x509.Name)
ADDRESSES: st.SearchStrategy[Any] = st.ip_addresses(v=4) | st.ip_addresses(v=6, network="2000::/3")
GENERAL_NAMES: st.SearchStrategy[x509.GeneralName] = st.one_of(
    ASCII.map(x509.DNSName),
    ASCII.map(x509.UniformResourceIdentifier),
    ADDRESSES.map(x509.IPAddress),
    NAMES.map(x509.DirectoryName),
    OIDS.map(x509.RegisteredID),
    st.just(x509.RFC822Name("me@example.org")),
    st.binary(max_size=20).map(lambda value: x509.OtherName(UNKNOWN, b"\x04" + bytes([len(value)]) + value)),
)
DATES = st.datetimes(datetime.datetime(1950, 1, 1), datetime.datetime(9999, 12, 31)).map(
    lambda date: date.replace(microsecond=0)
)


@given(
    subject=NAMES,
    issuer=NAMES,
    serial_number=st.integers(1, 2**159 - 1),
    dates=st.tuples(DATES, DATES).map(sorted),
    names=st.lists(GENERAL_NAMES, min_size=1, max_size=4),
    uris=st.lists(ASCII, max_size=3),
)
def test_any_certificate(
    subject: x509.Name,
    issuer: x509.Name,
    serial_number: int,
    dates: list[datetime.datetime],
    names: list[x509.GeneralName],
    uris: list[str],
) -> None:
    """Whatever it says, both say the same of it."""
    found = [x509.UniformResourceIdentifier(uri) for uri in uris]
    extensions: list[x509.ExtensionType] = [x509.SubjectAlternativeName(names)]
    if found:
        extensions.append(
            x509.CRLDistributionPoints([x509.DistributionPoint([uri], None, None, None) for uri in found])
        )
        extensions.append(access(*((AuthorityInformationAccessOID.OCSP, uri) for uri in found)))
    check(
        certificate(
            *extensions,
            subject=subject,
            issuer=issuer,
            serial_number=serial_number,
            not_before=dates[0],
            not_after=dates[1],
        )
    )
