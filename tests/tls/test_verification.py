"""Who a peer must be: what pyOpenSSL's clients accept and refuse is what the standard library's do."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError

from txasync.tls import TLSVerificationError
from txasync.tls._verification import Host, refusal

from .contexts import authority, certificate, client_context, server_context
from .engine_pairs import each_kind, explained, pair, usual_client

PYOPENSSL_KINDS = ("options", "creator", "context")


@functools.cache
def strict_stdlib() -> ssl.SSLContext:
    """A client of the standard library that knows nobody but the `authority`, and no name but the alternative ones."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    authority().configure_trust(context)
    return context


def verdict(kind: str, server: Any, host: str = "localhost") -> Exception | None:
    """What a client of *kind* that wants to talk to *host* thinks of *server*."""
    client = strict_stdlib() if kind == "stdlib" else usual_client(kind, host)
    return pair(client, server, host).outcomes()[0]


def issued(
    *names: x509.GeneralName,
    common_name: str = "subject",
    by: trustme.CA | None = None,
    before: datetime.datetime = datetime.datetime(2020, 1, 1),
    after: datetime.datetime = datetime.datetime(2100, 1, 1),
    extensions: tuple[x509.ExtensionType, ...] = (),
    key: Any = None,
) -> trustme.LeafCert:
    """A certificate with what trustme does not put into any."""
    ca = by or authority()
    ca_key: Any = serialization.load_pem_private_key(ca.private_key_pem.bytes(), None)
    ca_name = x509.load_pem_x509_certificate(ca.cert_pem.bytes()).subject
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(ca_name)
        .serial_number(x509.random_serial_number())
        .not_valid_before(before)
        .not_valid_after(after)
        .public_key(key.public_key())
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signed = builder.sign(ca_key, hashes.SHA256())
    return trustme.LeafCert(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        signed.public_bytes(serialization.Encoding.PEM),
        [],
    )


def dns(*names: str) -> list[x509.GeneralName]:
    return [x509.DNSName(name) for name in names]


def addresses(*values: str) -> list[x509.GeneralName]:
    return [x509.IPAddress(ipaddress.ip_address(value)) for value in values]


# The host

ACCEPTED: list[tuple[list[x509.GeneralName], str]] = [
    (dns("localhost"), "localhost"),
    (dns("LocalHost"), "localhost"),
    (dns("localhost"), "LOCALHOST"),
    (dns("other.example", "one.example"), "one.example"),
    (dns("*.example.org"), "www.example.org"),
    (dns("*.example.org"), "WWW.Example.org"),
    (dns("xn--mller-kva.example"), "müller.example"),
    (dns("xn--mller-kva.example"), "xn--mller-kva.example"),
    (dns("*.xn--mller-kva.example"), "www.müller.example"),
    (addresses("192.0.2.1"), "192.0.2.1"),
    (addresses("2001:db8::1"), "2001:db8::1"),
    (addresses("2001:db8::1"), "2001:0DB8:0:0:0:0:0:1"),
    ([*dns("one.example"), *addresses("192.0.2.1")], "192.0.2.1"),
    ([*dns("one.example"), *addresses("192.0.2.1")], "one.example"),
    ([x509.RFC822Name("me@one.example"), *dns("one.example")], "one.example"),
]

MISMATCHES: list[tuple[list[x509.GeneralName], str]] = [
    (dns("localhost"), "example.org"),
    (dns("example.org"), "www.example.org"),
    (dns("www.example.org"), "example.org"),
    (dns("*.example.org"), "example.org"),
    (dns("*.example.org"), "a.b.example.org"),
    (dns("*.example.org"), "www.example.net"),
    (dns("example.org"), "example.org.evil.example"),
    (dns("notexample.org"), "example.org"),
    (dns("xn--mller-kva.example"), "muller.example"),
    (dns("localhost"), "127.0.0.1"),
    (addresses("192.0.2.1"), "192.0.2.2"),
    (addresses("192.0.2.1"), "2001:db8::1"),
    (addresses("2001:db8::1"), "2001:db8::2"),
    (addresses("192.0.2.1"), "localhost"),
    (addresses("192.0.2.1"), "::ffff:192.0.2.1"),
    ([x509.UniformResourceIdentifier("https://one.example")], "one.example"),
]


def of(case: object) -> str:
    """A name for a case."""
    return case if isinstance(case, str) else "+".join(str(each.value) for each in case)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("names", "host"), ACCEPTED, ids=of)
def test_hosts_that_are_in_the_certificate(names: list[x509.GeneralName], host: str) -> None:
    """Names in any case, by one wildcard, in any spelling of IDNA; addresses in any spelling."""
    server = server_context("stdlib", issued(*names))
    for kind in "stdlib", *PYOPENSSL_KINDS:
        assert verdict(kind, server, host) is None


def test_names_of_things_that_are_no_hosts() -> None:
    """They have underscores; of Twisted's creators, the one for clients does not take such a name at all."""
    server = server_context("stdlib", issued(*dns("under_score.example")))
    for kind in "stdlib", "options", "context":
        assert verdict(kind, server, "under_score.example") is None


@pytest.mark.parametrize(("names", "host"), MISMATCHES, ids=of)
def test_hosts_that_are_not_in_the_certificate(names: list[x509.GeneralName], host: str) -> None:
    """Every client refuses them, with OpenSSL's number, and its words, which name the host."""
    server = server_context("stdlib", issued(*names, common_name=host[:60]))
    by_stdlib = verdict("stdlib", server, host)
    assert isinstance(by_stdlib, ssl.SSLCertVerificationError)
    for kind in PYOPENSSL_KINDS:
        error = verdict(kind, server, host)
        assert isinstance(error, TLSVerificationError), kind
        assert error.verify_code == by_stdlib.verify_code in (62, 64)
        assert same_words(error.verify_message, by_stdlib.verify_message, host)
        assert str(error) == f"certificate verify failed: {error.verify_message}"
        assert isinstance(error.__cause__, VerificationError)


def same_words(ours: str, theirs: str, host: str) -> bool:
    """But for capitals and a full stop; OpenSSL names the host in ASCII, we as it was given."""
    ascii_host = host if ":" in host else host.encode("idna").decode("ascii")
    return ours.lower().replace(host.lower(), ascii_host) == theirs.lower().rstrip(".")


@pytest.mark.parametrize("host", ["localhost", "192.0.2.1"])
def test_the_common_name_is_no_name_of_a_host(host: str) -> None:
    """A certificate with no alternative names is refused, though its common name is the host's."""
    server = server_context("stdlib", issued(common_name=host))
    assert isinstance(verdict("stdlib", server, host), ssl.SSLCertVerificationError)
    for kind in "options", "context":
        error = verdict(kind, server, host)
        assert isinstance(error, TLSVerificationError)
        assert error.verify_code in (50, 62, 64)
        assert isinstance(error.__cause__, CertificateError)
        assert repr(host) in str(error) and "subjectAltName" in str(error)


def test_a_creator_does_not_take_the_common_name_either(reports: Any) -> None:
    """Twisted's own check would only log that it could not be made; ours is instead of it, and nothing is logged."""
    error = verdict("creator", server_context("stdlib", issued(common_name="localhost")))
    assert isinstance(error, TLSVerificationError)
    assert isinstance(error.__cause__, CertificateError)
    if hasattr(usual_client("creator"), "_ctx"):
        reports.clear()  # an older Twisted's check is its context's, and cannot be left out


@pytest.mark.parametrize("pattern", ["*", "*.org", "w*.*.example", "www.*.example", "*..example.org"])
def test_wildcards_that_are_too_broad(pattern: str) -> None:
    """No host is in a certificate that has one, as with the standard library."""
    server = server_context("stdlib", issued(*dns(pattern)))
    for host in "example.org", "www.one.example", "localhost":
        assert isinstance(verdict("stdlib", server, host), ssl.SSLCertVerificationError)
        for kind in "options", "context":
            error = verdict(kind, server, host)
            assert isinstance(error, TLSVerificationError)
            assert error.verify_code in (50, 62)
            assert repr(host) in str(error)


def test_a_scope_is_no_part_of_an_address() -> None:
    """It says on which of our interfaces the peer is, of which its certificate knows nothing."""
    server = server_context("stdlib", issued(*addresses("fe80::1")))
    for kind in "options", "context":
        assert verdict(kind, server, "fe80::1%eth0") is None
        error = verdict(kind, server, "fe80::2%eth0")
        assert isinstance(error, TLSVerificationError)
        assert error.verify_code == 64 and "'fe80::2%eth0'" in str(error)


def test_the_name_for_sni() -> None:
    """In ASCII; an address has none."""
    for name, for_sni in (
        ("localhost", b"localhost"),
        ("www.example.org", b"www.example.org"),
        ("müller.example", b"xn--mller-kva.example"),
        ("xn--mller-kva.example", b"xn--mller-kva.example"),
        ("127.0.0.1", None),
        ("::1", None),
        ("fe80::1%eth0", None),
    ):
        assert Host(name).name_for_sni() == for_sni
        assert Host(name).name == name


def test_names_that_are_none() -> None:
    """They are refused before anything is sent."""
    for name in "two..dots", ".leading", "x" * 64 + ".example":
        with pytest.raises(ValueError, match="label"):
            Host(name)


def test_who_has_no_certificate_is_nobody() -> None:
    """As a client may be, to a server that asks who it is."""
    both = pair(usual_client("context"), server_context("context")).shake_hands()
    with pytest.raises(TLSVerificationError, match="the peer has no certificate for 'localhost'") as caught:
        Host("localhost").check(both.server.ssl_object)
    assert caught.value.verify_code == 50
    Host("localhost").check(both.client.ssl_object)


def test_a_refusal_by_somebody_else() -> None:
    """A creator's own check may fail for any reason; it is told as it is."""
    error = refusal(LookupError("not on the list"))
    assert error.verify_code == 50
    assert error.verify_message == "LookupError: not on the list"
    assert refusal(CertificateError("what is this?"), "name").verify_message.endswith("for 'name': what is this?")
    assert "this host" in refusal(CertificateError("what is this?")).verify_message


def test_a_client_that_verifies_no_chain_checks_the_host() -> None:
    """That is what ``server_hostname`` asks for; without one nothing is checked."""
    context = SSL.Context(SSL.TLS_METHOD)
    strange = trustme.CA().issue_cert("localhost")
    server = server_context("stdlib", strange)
    assert pair(context, server, "localhost").outcomes()[0] is None
    assert isinstance(pair(context, server, "example.org").outcomes()[0], TLSVerificationError)
    assert pair(context, server, "").outcomes()[0] is None


# The chain


def self_signed() -> trustme.LeafCert:
    ca = trustme.CA()
    return trustme.LeafCert(ca.private_key_pem.bytes(), ca.cert_pem.bytes(), [])


def by_one_that_is_no_authority() -> trustme.LeafCert:
    key = ec.generate_private_key(ec.SECP256R1())
    between = issued(common_name="between", key=key, extensions=(x509.BasicConstraints(ca=False, path_length=None),))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "between")])
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(name)
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1))
        .not_valid_after(datetime.datetime(2100, 1, 1))
        .public_key(leaf_key.public_key())
        .add_extension(x509.SubjectAlternativeName(dns("localhost")), critical=True)
        .sign(key, hashes.SHA256())
    )
    return trustme.LeafCert(
        leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        leaf.public_bytes(serialization.Encoding.PEM),
        [between.cert_chain_pems[0].bytes()],
    )


def by_a_namesake() -> trustme.LeafCert:
    """Signed with another key than the authority's, of the same name."""

    class Namesake:
        private_key_pem = trustme.CA(key_type=trustme.KeyType.ECDSA).private_key_pem
        cert_pem = authority().cert_pem

    namesake: Any = Namesake()
    return issued(*dns("localhost"), by=namesake)


CHAINS: dict[str, tuple[Callable[[], trustme.LeafCert], int]] = {
    "expired": (lambda: issued(*dns("localhost"), after=datetime.datetime(2021, 1, 1)), 10),
    "not yet valid": (lambda: issued(*dns("localhost"), before=datetime.datetime(2099, 1, 1)), 9),
    "self-signed": (self_signed, 18),
    "unknown authority": (lambda: trustme.CA().issue_cert("localhost"), 20),
    "by one that is no authority": (by_one_that_is_no_authority, 79),
    "by a namesake": (by_a_namesake, 7),
    "for clients only": (
        lambda: issued(*dns("localhost"), extensions=(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),)),
        26,
    ),
}


@pytest.mark.parametrize(("make", "code"), CHAINS.values(), ids=CHAINS)
def test_chains_that_are_refused(make: Callable[[], trustme.LeafCert], code: int) -> None:
    """Every client refuses them, with OpenSSL's number and words, and its error as the cause."""
    server = server_context("stdlib", make())
    by_stdlib = verdict("stdlib", server)
    assert isinstance(by_stdlib, ssl.SSLCertVerificationError)
    assert by_stdlib.verify_code == code
    for kind in PYOPENSSL_KINDS:
        error = verdict(kind, server)
        assert isinstance(error, TLSVerificationError), kind
        assert error.verify_code == code
        # Newer versions of OpenSSL have a little more to say.
        assert error.verify_message.startswith(by_stdlib.verify_message)
        assert isinstance(error.__cause__, SSL.Error)


def test_a_key_that_is_too_weak() -> None:
    """What is too weak is OpenSSL's policy, or the context's."""
    key = rsa.generate_private_key(65537, 1024)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.set_ciphers("DEFAULT:@SECLEVEL=0")
    issued(*dns("localhost"), key=key).configure_cert(server)
    client: SSL.Context = client_context("context")
    client.set_cipher_list(b"DEFAULT:@SECLEVEL=2")
    error = pair(client, server).outcomes()[0]
    assert isinstance(error, TLSVerificationError)
    assert error.verify_code == 66 and "too" in error.verify_message


@each_kind
def test_a_client_whose_certificate_is_refused(client_kind: str, server_kind: str) -> None:
    """The server says why, the client gets an alert."""
    strange = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert("me", key_type=trustme.KeyType.ECDSA)
    both = pair(client_context(client_kind, leaf=strange), server_context(server_kind, clients_of=authority()))
    _, error = both.outcomes()
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert error.verify_code == 20
    error = explained(both.client, lambda: both.client.read(1))
    assert isinstance(error, ssl.SSLError) and "unknown ca" in str(error).replace("_", " ").lower()


# What callers do themselves


@pytest.mark.parametrize("verdict_of_callback", [False, None])
def test_a_callback_that_refuses(verdict_of_callback: bool | None) -> None:
    """A bare context's own callback has the last word on the chain."""
    context: SSL.Context = client_context("context")
    context.set_verify(SSL.VERIFY_PEER, lambda *_: verdict_of_callback)  # type: ignore[arg-type]
    error = pair(context, server_context("stdlib")).outcomes()[0]
    assert isinstance(error, TLSVerificationError)
    assert error.verify_code == 1


def test_a_callback_that_accepts_what_openssl_refuses() -> None:
    """The host is checked all the same."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    strange = trustme.CA().issue_cert("localhost")
    assert pair(context, server_context("stdlib", strange)).outcomes()[0] is None
    error = pair(context, server_context("stdlib", strange), "example.org").outcomes()[0]
    assert isinstance(error, TLSVerificationError) and error.verify_code == 62


def test_a_callback_that_raises() -> None:
    """Its error is the connection's."""

    def refuse(*_: Any) -> bool:
        raise LookupError("not on the list")

    context: SSL.Context = client_context("context")
    context.set_verify(SSL.VERIFY_PEER, refuse)
    error, of_server = pair(context, server_context("stdlib")).outcomes()
    assert isinstance(error, LookupError)
    assert isinstance(of_server, ssl.SSLError)


def test_many_names() -> None:
    """The right one may be the last."""
    leaf = certificate(*(f"n{number}.example" for number in range(300)))
    assert verdict("context", server_context("stdlib", leaf), "n299.example") is None
    assert isinstance(verdict("context", server_context("stdlib", leaf), "n300.example"), TLSVerificationError)
