"""What every two engines do with each other, of whatever kind each of them is."""

from __future__ import annotations

import itertools
import ssl
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from txasync.tls import Engine, TLSError, TLSVerificationError

from .contexts import CLIENT_KINDS, authority, certificate, client_context, server_context
from .engine_pairs import (
    at_most_1_2,
    each_kind,
    each_library,
    each_pair,
    each_way,
    explained,
    names_seen_by,
    pair,
    pair_of,
    read_all,
    shake_on,
    usual_client,
)

# Bytes


@each_pair
def test_each_kind_speaks_with_each_other(client_kind: str, server_kind: str) -> None:
    """A handshake, bytes both ways, and a clean end both ways."""
    both = pair_of(client_kind, server_kind)
    assert both.client.handshake_info() == both.server.handshake_info()
    assert both.send(both.client, b"to the server") == b"to the server"
    assert both.send(both.server, b"to the client") == b"to the client"
    with pytest.raises(both.client.want_read):
        both.client.shut_down()
    both.carry()
    assert both.server.read(100) == b""
    both.server.shut_down()
    both.carry()
    both.client.shut_down()


@each_kind
def test_the_handshake_may_come_byte_by_byte(client_kind: str, server_kind: str) -> None:
    """An engine wants to read until it has enough, however little comes at a time."""
    both = pair(usual_client(client_kind), server_context(server_kind))
    assert both.outcomes(at_most=1) == (None, None)


@each_kind
def test_what_the_handshake_has_settled(client_kind: str, server_kind: str) -> None:
    """Both sides say the same, in the standard library's words."""
    client = usual_client(client_kind, alpn=("one", "two"))
    both = pair(client, server_context(server_kind, alpn=("two", "three"))).shake_hands()
    info = both.client.handshake_info()
    assert info == both.server.handshake_info()
    name, version, bits = info.cipher or ("", "", 0)
    assert name.startswith("TLS_") and version == "TLSv1.3" and bits in (128, 256)
    assert info[1:] == (None, "two", "TLSv1.3")


@each_kind
def test_alpn_takes_two(client_kind: str, server_kind: str) -> None:
    """A side that names no protocol gets none."""
    both = pair(usual_client(client_kind), server_context(server_kind, alpn=("one",))).shake_hands()
    assert both.client.handshake_info().alpn_protocol is both.server.handshake_info().alpn_protocol is None
    if server_kind == "options":
        return  # from Twisted 26 on, such a server refuses clients that name any
    both = pair(usual_client(client_kind, alpn=("one",)), server_context(server_kind)).shake_hands()
    assert both.client.handshake_info().alpn_protocol is both.server.handshake_info().alpn_protocol is None


@pytest.mark.parametrize("client_kind", CLIENT_KINDS)
def test_options_refuse_a_client_with_no_protocol_in_common(client_kind: str) -> None:
    """That is Twisted's rule, and an error on both sides."""
    for error in pair(usual_client(client_kind, alpn=("one",)), server_context("options", alpn=("two",))).outcomes():
        assert type(error) in (ssl.SSLError, TLSError)


@each_way
@given(
    messages=st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=40_000)), max_size=5),
    at_most=st.integers(50, 30_000),
)
def test_what_is_written_is_read(
    client_kind: str, server_kind: str, messages: list[tuple[bool, bytes]], at_most: int
) -> None:
    """Both ways, in turn, whatever the sizes of what is written and of what is carried at a time."""
    both = pair_of(client_kind, server_kind)
    for from_client, message in messages:
        assert both.send(both.client if from_client else both.server, message, at_most=at_most) == message


@each_way
@given(sizes=st.lists(st.integers(100, 20_000), min_size=1, max_size=10))
def test_read_returns_at_most_what_was_asked_for(client_kind: str, server_kind: str, sizes: list[int]) -> None:
    """And ``read_into`` at most what there is room for; what is left comes with the next call."""
    both = pair_of(client_kind, server_kind)
    message = bytes(range(256)) * 100
    both.write(both.client, message)
    received = bytearray()
    for number, size in enumerate(itertools.cycle(sizes)):
        if len(received) == len(message):
            break
        if number % 2:
            buffer = bytearray(size)
            count = both.server.read_into(memoryview(buffer))
            data = bytes(buffer[:count])
        else:
            data = both.server.read(size)
        assert 1 <= len(data) <= size
        received += data
    assert received == message


@each_library
def test_reading_finds_nothing_and_then_the_end(client_kind: str, server_kind: str) -> None:
    """``want_read`` while the peer may say more, an empty read after its close_notify, as often as one asks."""
    both = pair_of(client_kind, server_kind)
    engine = both.server
    buffer = memoryview(bytearray(10))
    for operation in (lambda: engine.read(10)), (lambda: engine.read_into(buffer)):
        with pytest.raises(engine.want_read):
            operation()
    both.client.write(b"the last")
    with pytest.raises(both.client.want_read):
        both.client.shut_down()
    both.carry()
    assert engine.read(100) == b"the last"
    for _ in range(2):
        assert engine.read(100) == b""
        assert engine.read_into(buffer) == 0


def into(engine: Engine, size: int) -> bytearray:
    """What is read into a buffer of *size* bytes."""
    buffer = bytearray(size)
    del buffer[engine.read_into(memoryview(buffer)) :]
    return buffer


@each_way
@given(
    sizes=st.lists(st.integers(1, 40_000), max_size=6),
    room=st.integers(100, 20_000) | st.just(16 * 1024),
    at_most=st.integers(100, 20_000),
)
def test_pending_is_true_while_there_is_something_to_read(
    client_kind: str, server_kind: str, sizes: list[int], room: int, at_most: int
) -> None:
    """It may be true for nothing, where only a read can tell, but it is never false for something."""
    both = pair_of(client_kind, server_kind)
    sent = received = 0
    for number, size in enumerate(sizes):
        both.write(both.client, b"x" * size, at_most=at_most)
        sent += size
        while number % 2 and received < sent:
            assert both.server.pending()
            received += len(both.server.read(room) if number % 4 == 1 else bytes(into(both.server, room)))
    received += len(read_all(both.server))
    assert received == sent


@each_library
def test_the_peer_may_end_during_the_handshake(client_kind: str, server_kind: str) -> None:
    """An engine that has half of what it needs waits for more; that there is none is the transport's business."""
    for size in 0, 1, 5, 60, 200:
        both = pair(usual_client(client_kind), server_context(server_kind))
        assert both.client.wire is not None and both.server.wire is not None
        assert shake_on(both.client) is both.client
        both.server.wire.feed(both.client.wire.take()[:size] or b"\x16")
        assert shake_on(both.server) is both.server
        assert both.server.wire.take() == b""


@each_library
def test_the_peer_may_end_the_handshake_by_close_notify(client_kind: str, server_kind: str) -> None:
    """To a client that is an end, and told as such; a server expects a hello first."""
    both = pair(usual_client(client_kind), server_context(server_kind))
    errors = []
    for engine in both.client, both.server:
        assert shake_on(engine) is engine
        assert engine.wire is not None
        engine.wire.feed(b"\x15\x03\x03\x00\x02\x01\x00")
        errors.append(explained(engine, engine.do_handshake))
    assert isinstance(errors[0], ssl.SSLZeroReturnError) and str(errors[0])
    assert isinstance(errors[1], ssl.SSLError) and "unexpected message" in str(errors[1])


@each_library
@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x00" * 100, b"\x16\x03\x01\xff\xff"])
def test_the_peer_may_not_speak_tls_at_all(client_kind: str, server_kind: str, data: bytes) -> None:
    """That is an ``ssl.SSLError`` on both sides, or one more byte is awaited."""
    both = pair(usual_client(client_kind), server_context(server_kind))
    for engine in both.client, both.server:
        assert shake_on(engine) is engine
        assert engine.wire is not None
        engine.wire.take()
        engine.wire.feed(data + b"x" * 70_000)
        error = explained(engine, engine.do_handshake)
        assert type(error) in (ssl.SSLError, TLSError), error
        assert str(error)


@each_library
def test_a_garbled_record_is_an_error_and_an_alert(client_kind: str, server_kind: str) -> None:
    """The side that finds it raises an ``ssl.SSLError`` and sends an alert, which is one on the other side."""
    both = pair_of(client_kind, server_kind)
    read_all(both.client)
    assert both.client.wire is not None and both.server.wire is not None
    both.client.write(b"x" * 100)
    record = bytearray(both.client.wire.take())
    record[-1] ^= 1
    both.server.wire.feed(bytes(record))
    error = explained(both.server, lambda: both.server.read(100))
    text = str(error).replace("_", " ").lower()
    # The second is what OpenSSL 3.6 and later say.
    assert isinstance(error, ssl.SSLError) and ("bad record mac" in text or "record layer failure" in text)
    both.carry()
    error = explained(both.client, lambda: both.client.read(100))
    assert isinstance(error, ssl.SSLError) and "bad record mac" in str(error).replace("_", " ").lower()


@each_library
def test_no_protocol_version_in_common(client_kind: str, server_kind: str) -> None:
    """Both sides fail with an ``ssl.SSLError``, the client by the server's alert."""
    client, server = client_context(client_kind), server_context(server_kind)
    at_most_1_2(client)
    at_least_1_3(server)
    for error in pair(client, server).outcomes():
        assert isinstance(error, ssl.SSLError)
        assert "protocol" in str(error).lower()


def at_least_1_3(context: Any) -> None:
    """*context* is not to speak TLS 1.2."""
    if isinstance(context, ssl.SSLContext):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    else:
        context.set_min_proto_version(SSL.TLS1_3_VERSION)


@each_library
def test_tls_1_2_is_spoken_as_well(client_kind: str, server_kind: str) -> None:
    """What the handshake has settled tells so, on both sides alike."""
    client, server = client_context(client_kind), server_context(server_kind)
    at_most_1_2(client)
    both = pair(client, server).shake_hands()
    info = both.client.handshake_info()
    assert info == both.server.handshake_info()
    assert info.tls_version == "TLSv1.2"
    assert info.cipher is not None and info.cipher[0].startswith("ECDHE-ECDSA-")
    assert both.send(both.client, b"bytes") == b"bytes"


# Names


@each_kind
def test_the_client_sends_the_name_by_sni(client_kind: str, server_kind: str) -> None:
    """The server can choose a certificate by it."""
    both = pair(usual_client(client_kind), server_context(server_kind))
    seen = names_seen_by(both.server)
    both.shake_hands()
    assert seen() == "localhost"


@pytest.mark.parametrize("client_kind", CLIENT_KINDS)
def test_names_go_by_sni_in_ascii_and_addresses_not_at_all(client_kind: str) -> None:
    """That is RFC 6066, section 3; and the certificate is for the name, all the same."""
    leaf = certificate("localhost", "xn--mller-kva.example", "127.0.0.1", "::1")
    for name, sent in (
        ("localhost", "localhost"),
        ("müller.example", "xn--mller-kva.example"),
        ("127.0.0.1", None),
        ("::1", None),
    ):
        both = pair(usual_client(client_kind, name), server_context("stdlib", leaf), name)
        seen = names_seen_by(both.server)
        both.shake_hands()
        assert seen() == sent


@pytest.mark.parametrize("client_kind", CLIENT_KINDS)
def test_a_client_with_no_name_sends_none(client_kind: str) -> None:
    """Except the creator that has one of its own."""
    context = client_context(client_kind)
    if isinstance(context, ssl.SSLContext):
        context.check_hostname = False  # with it, the standard library's later releases want a name
    both = pair(context, server_context("stdlib"), "")
    seen = names_seen_by(both.server)
    both.shake_hands()
    assert seen() == ("localhost" if client_kind == "creator" else None)


@each_kind
def test_the_certificate_must_be_for_the_name(client_kind: str, server_kind: str) -> None:
    """A certificate that anybody trusts, but that is for somebody else, is refused by every kind of client."""
    error, _ = pair(usual_client(client_kind, "example.org"), server_context(server_kind), "example.org").outcomes()
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert error.verify_code == 62


def test_a_creator_checks_its_own_name_and_the_one_that_is_given() -> None:
    """A certificate must be for both."""
    leaf = certificate("one.example", "two.example")
    for own, named, accepted in (
        ("one.example", "", True),
        ("one.example", "two.example", True),
        ("one.example", "three.example", False),
        ("three.example", "one.example", False),
        ("three.example", "", False),
    ):
        error, _ = pair(client_context("creator", own), server_context("stdlib", leaf), named).outcomes()
        assert (error is None) == accepted, (own, named)
        assert accepted or isinstance(error, TLSVerificationError)


def test_a_creators_own_name_is_spelled_as_it_spells_it() -> None:
    """Twisted has the newer IDNA, which keeps letters that the standard library's takes for others."""
    for name, is_accepted_ in ("xn--strae-oqa.example", True), ("strasse.example", False):
        server = server_context("stdlib", certificate(name))
        error, _ = pair(client_context("creator", "straße.example"), server, "").outcomes()
        assert (error is None) == is_accepted_


@pytest.mark.parametrize("kind", ["options", "context"])
def test_an_empty_name_asks_for_no_check_of_the_host(kind: str) -> None:
    """The chain is checked nevertheless."""
    pair(usual_client(kind), server_context("stdlib", certificate("example.org")), "").shake_hands()
    strange = trustme.CA().issue_cert("localhost")
    error, _ = pair(usual_client(kind), server_context("stdlib", strange), "").outcomes()
    assert isinstance(error, TLSVerificationError)


# Client certificates


@each_kind
def test_clients_may_have_to_have_a_certificate(client_kind: str, server_kind: str) -> None:
    """With the right one both see the other's; without any the server refuses, and the client is told."""
    server = server_context(server_kind, clients_of=authority())
    both = pair(usual_client(client_kind, leaf=certificate("me")), server).shake_hands()
    seen = both.server.peer_certificate()
    assert seen is not None and seen["subjectAltName"] == (("DNS", "me"),)
    assert both.send(both.client, b"bytes") == b"bytes"

    both = pair(usual_client(client_kind), server)
    _, error = both.outcomes()
    assert isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLCertVerificationError)
    assert "peer did not return a certificate" in str(error).replace("_", " ").lower()
    error = explained(both.client, lambda: both.client.read(1))
    assert isinstance(error, ssl.SSLError) and "alert" in str(error).lower()


@each_kind
def test_both_sides_show_the_same_certificates(client_kind: str, server_kind: str) -> None:
    """As a dictionary, and in binary form; and nothing where the peer has none."""
    server = server_context(server_kind)
    both = pair(usual_client(client_kind), server).shake_hands()
    seen, der = both.client.peer_certificate(), both.client.peer_certificate_der()
    assert seen is not None and seen["subjectAltName"][0] == ("DNS", "localhost")
    assert der == ssl.PEM_cert_to_DER_cert(certificate().cert_chain_pems[0].bytes().decode())
    assert both.server.peer_certificate() is None
    assert both.server.peer_certificate_der() is None
