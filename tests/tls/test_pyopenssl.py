"""TLS by pyOpenSSL: what its engine makes of a connection's ways, and what a creator is given."""

from __future__ import annotations

import gc
import ssl
import weakref

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.interfaces import IProtocolNegotiationFactory
from twisted.python.failure import Failure

from txasync.tls import HandshakeInfo, TLSError, TLSVerificationError
from txasync.tls._pyopenssl import TAKE_SIZE, PyOpenSSLEngine, TLSProtocolStandIn
from txasync.tls._verification import Host

from .contexts import CLIENT_KINDS, authority, certificate, client_context, server_context
from .engine_pairs import at_most_1_2, explained, pair, pair_of, read_all, shake_on, usual_client


def engine_of(context: SSL.Context, stand_in: TLSProtocolStandIn | None = None, *hosts: Host) -> PyOpenSSLEngine:
    """A client's engine, made by hand."""
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    return PyOpenSSLEngine(connection, stand_in or TLSProtocolStandIn(), hosts)


# The stand-in


def test_the_stand_in_names_no_protocol() -> None:
    """Twisted's creators ask its factory for those of an application, which is none of theirs."""
    stand_in = TLSProtocolStandIn()
    assert stand_in.factory.wrappedFactory is None
    assert IProtocolNegotiationFactory(stand_in.factory.wrappedFactory, None) is None


def test_the_first_failure_of_a_check_counts() -> None:
    """What comes after it comes of it."""
    stand_in = TLSProtocolStandIn()
    assert stand_in.failure is None
    first, second = LookupError("first"), LookupError("second")
    stand_in.failVerification(Failure(first))
    stand_in.failVerification(Failure(second))
    assert stand_in.failure is first


def test_a_check_that_has_failed_is_the_reason_of_everything() -> None:
    """The connection fails by it, whatever OpenSSL says then, and even if that is satisfied."""
    stand_in = TLSProtocolStandIn()
    engine = engine_of(client_context("context"), stand_in)
    engine.check_peer()
    cause = LookupError("not on the list")
    stand_in.failVerification(Failure(cause))
    with pytest.raises(TLSVerificationError, match="not on the list") as caught:
        engine.check_peer()
    assert caught.value.__cause__ is cause
    error = engine.explained(SSL.Error([("SSL routines", "", "certificate verify failed")]))
    assert isinstance(error, TLSVerificationError)
    assert error.__cause__ is cause


def test_an_abort_is_an_error_of_the_handshake() -> None:
    """Whether that would go on, be done, or fail."""
    stand_in = TLSProtocolStandIn()
    engine = engine_of(client_context("context"), stand_in)
    with pytest.raises(engine.want_read):
        engine.do_handshake()
    assert not stand_in.aborted
    stand_in.abortConnection()
    with pytest.raises(ConnectionAbortedError) as caught:
        engine.do_handshake()
    assert engine.explained(caught.value) is caught.value


# The engine


def test_the_engine_is_what_it_is_made_of() -> None:
    """The context and the connection are the caller's own; there is no socket to be disconnected."""
    context = client_context("context")
    engine = engine_of(context)
    assert engine.context is context
    assert isinstance(engine.ssl_object, SSL.Connection)
    engine.disconnect()
    assert shake_on(engine) is engine


def test_before_the_handshake_nothing_is_settled() -> None:
    """There is no cipher yet."""
    info = engine_of(client_context("context")).handshake_info()
    assert isinstance(info, HandshakeInfo)
    assert info[:3] == (None, None, None)


@given(st.lists(st.integers(0, 3 * TAKE_SIZE), max_size=4))
def test_take_gives_all_there_is(sizes: list[int]) -> None:
    """At once, however much that is, and then nothing."""
    both = pair_of("context", "context")
    assert both.client.wire is not None and both.server.wire is not None
    read_all(both.client)
    assert both.client.wire.take() == b""
    message = b"".join(bytes([number]) * size for number, size in enumerate(sizes))
    written = 0
    while written < len(message):
        written += both.client.write(message[written:])
    taken = both.client.wire.take()
    assert bool(taken) == bool(message)
    if taken:
        both.server.wire.feed(taken)
    assert both.client.wire.take() == b""
    assert read_all(both.server) == message


@pytest.mark.parametrize("size", [TAKE_SIZE - 1, TAKE_SIZE, TAKE_SIZE + 1])
def test_take_at_the_bounds_of_a_piece(size: int) -> None:
    """A piece that is full does not say that there is another one."""
    engine = engine_of(client_context("context"))
    assert engine.wire is not None
    # pyOpenSSL gives no way to put something there, and TLS has sizes of its own.
    assert SSL._lib.BIO_write(engine.ssl_object._from_ssl, b"x" * size, size) == size  # type: ignore[attr-defined]
    assert engine.wire.take() == b"x" * size
    assert engine.wire.take() == b""


def test_views_and_bytes_are_written_alike() -> None:
    """The transport has both."""
    both = pair_of("context", "context")
    data = b"some bytes"
    both.client.write(memoryview(data)[:4])
    both.client.write(data[4:])
    both.carry()
    assert read_all(both.server) == data


def test_read_into_fills_a_part_of_a_buffer() -> None:
    """What is behind it stays as it was."""
    both = pair_of("context", "context")
    both.client.write(b"abc")
    both.carry()
    buffer = bytearray(b"......")
    assert both.server.read_into(memoryview(buffer)[1:5]) == 3
    assert buffer == b".abc.."


def test_pending_knows_of_complete_records() -> None:
    """Part of one cannot be read, and once a read has found nothing, nothing is there."""
    both = pair_of("context", "context")
    assert both.client.wire is not None and both.server.wire is not None
    with pytest.raises(both.server.want_read):
        both.server.read(1)
    assert not both.server.pending()
    both.client.write(b"some bytes")
    record = both.client.wire.take()
    for number in range(len(record)):
        both.server.wire.feed(record[number : number + 1])
        assert bool(both.server.pending()) == (number == len(record) - 1)
    assert both.server.read(4) == b"some"
    assert both.server.pending()
    assert both.server.read(100) == b" bytes"
    assert not both.server.pending()


def test_the_end_of_the_peers_is_read_as_nothing() -> None:
    """As often as one asks, and into a buffer, too."""
    both = pair_of("context", "context")
    both.client.write(b"the last")
    with pytest.raises(both.client.want_read):
        both.client.shut_down()
    both.carry()
    assert both.server.read(8) == b"the last"
    for _ in range(2):
        assert both.server.read(8) == b""
        assert both.server.read_into(memoryview(bytearray(8))) == 0
    assert not both.server.pending()


def test_the_end_of_the_peers_during_the_handshake_is_none_of_tls() -> None:
    """It is an end, and told as such."""
    engine = engine_of(client_context("context"))
    assert shake_on(engine) is engine
    engine.wire.feed(b"\x15\x03\x03\x00\x02\x01\x00")
    error = explained(engine, engine.do_handshake)
    assert isinstance(error, ssl.SSLZeroReturnError) and "ended" in str(error)
    assert isinstance(error.__cause__, SSL.ZeroReturnError)


@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=5), st.integers(1, 20_000))
def test_buffers_of_any_size_lose_nothing(sizes: list[int], room: int) -> None:
    """What does not fit is pending."""
    both = pair_of("context", "context")
    sent, received = 0, bytearray()
    for size in sizes:
        both.write(both.client, b"x" * size)
        sent += size
    buffer = bytearray(max(room, 500))
    while len(received) < sent:
        assert both.server.pending()
        received += buffer[: both.server.read_into(memoryview(buffer))]
    assert received == b"x" * sent


def test_close_notify_is_sent_once() -> None:
    """And awaited then, each time one asks; what else comes is an error."""
    both = pair_of("context", "context")
    assert both.client.wire is not None
    for count in 1, 0, 0:
        with pytest.raises(both.client.want_read):
            both.client.shut_down()
        assert bool(both.client.wire.take()) == bool(count)
    both.server.write(b"something else")
    both.carry()
    error = explained(both.client, both.client.shut_down)
    assert type(error) is TLSError and "application data after close notify" in str(error)


def test_close_notify_before_the_handshake_is_an_error() -> None:
    """OpenSSL has nothing to end."""
    engine = engine_of(client_context("context"))
    assert type(explained(engine, engine.shut_down)) is TLSError


@pytest.mark.parametrize("client_kind", ["options", "creator", "context"])
def test_an_engine_leaves_no_reference_cycle(client_kind: str) -> None:
    """A connection is gone when the last one drops it, not when the garbage is collected next."""
    both = pair_of(client_kind, "context")
    both.send(both.client, b"bytes")
    gone = [weakref.ref(engine.ssl_object) for engine in (both.client, both.server)]
    gc.disable()
    try:
        del both
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


# What it says of errors


def test_an_error_that_openssl_does_not_explain() -> None:
    """There is a text nevertheless."""
    engine = engine_of(client_context("context"))
    for empty in SSL.Error([]), SSL.Error():
        error = engine.explained(empty)
        assert type(error) is TLSError and "does not say why" in str(error)
        assert error.__cause__ is empty


def test_an_error_with_several_reasons() -> None:
    """All of them are told, the first one first."""
    engine = engine_of(client_context("context"))
    error = engine.explained(SSL.Error([("lib", "function", "no shared cipher"), ("lib", "function", "another")]))
    assert str(error) == "no shared cipher; another"
    assert isinstance(error, TLSError) and error.reason == "NO_SHARED_CIPHER"


def test_an_error_that_is_none_of_openssls() -> None:
    """It stays what it is: a callback's, or one of our own."""
    engine = engine_of(client_context("context"))
    for error in LookupError("callback"), ConnectionResetError():
        assert engine.explained(error) is error


def test_a_chain_that_is_refused() -> None:
    """OpenSSL's own error only says that it is; ours says why."""
    strange = trustme.CA().issue_cert("localhost")
    error, _ = pair(usual_client("context"), server_context("context", strange)).outcomes()
    assert isinstance(error, TLSVerificationError) and error.verify_code == 20


def test_no_cipher_in_common() -> None:
    """The server finds out, the client gets an alert."""
    client, server = client_context("context"), server_context("context")
    for context, ciphers in (client, b"ECDHE-ECDSA-AES128-GCM-SHA256"), (server, b"ECDHE-ECDSA-AES256-GCM-SHA384"):
        at_most_1_2(context)
        context.set_cipher_list(ciphers)
    of_client, of_server = pair(client, server).outcomes()
    assert isinstance(of_server, TLSError) and of_server.reason == "NO_SHARED_CIPHER"
    assert isinstance(of_client, TLSError) and "handshake failure" in str(of_client)
    assert isinstance(of_client.__cause__, SSL.Error)


def test_a_callback_for_alpn_that_fails() -> None:
    """Its error is the server's."""

    def choose(_connection: SSL.Connection, _offered: list[bytes]) -> bytes:
        raise LookupError("no such protocol")

    server = server_context("context")
    server.set_alpn_select_callback(choose)
    of_client, of_server = pair(client_context("context", alpn=("one",)), server).outcomes()
    assert isinstance(of_server, LookupError)
    assert isinstance(of_client, TLSError)


def test_protocols_that_are_no_ascii() -> None:
    """ALPN is bytes, and the standard library's form of it is text: what does not fit is replaced."""
    client, server = client_context("context"), server_context("context")
    client.set_alpn_protos([b"\xffone"])
    server.set_alpn_select_callback(lambda _connection, offered: offered[0])
    both = pair(client, server).shake_hands()
    assert both.client.handshake_info().alpn_protocol == "\N{REPLACEMENT CHARACTER}one"


# Certificates


def test_a_certificate_that_was_not_verified_is_not_shown() -> None:
    """As the standard library has it: an empty dictionary says that there is one. Its binary form is shown."""
    strange = trustme.CA().issue_cert("localhost")
    der = ssl.PEM_cert_to_DER_cert(strange.cert_chain_pems[0].bytes().decode())
    stdlib = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stdlib.check_hostname = False
    stdlib.verify_mode = ssl.CERT_NONE
    for client in SSL.Context(SSL.TLS_METHOD), stdlib:
        both = pair(client, server_context("stdlib", strange)).shake_hands()
        assert both.client.peer_certificate() == {}
        assert both.client.peer_certificate_der() == der


def test_who_has_no_certificate_shows_none() -> None:
    """A client, mostly."""
    both = pair_of("context", "context")
    assert both.server.peer_certificate() is None
    assert both.server.peer_certificate_der() is None


def test_both_libraries_show_the_same() -> None:
    """Of the same peer, but for the cipher, of which each library prefers another."""
    server = server_context("stdlib", clients_of=authority())
    shown = []
    for kind in CLIENT_KINDS:
        engine = pair(client_context(kind, leaf=certificate("me")), server).shake_hands().client
        shown.append((engine.peer_certificate(), engine.peer_certificate_der(), engine.handshake_info()[1:]))
    assert all(each == shown[0] for each in shown)
    shown = []
    client = client_context("stdlib", leaf=certificate("me"))
    for kind in "stdlib", "options", "context":
        engine = pair(client, server_context(kind, clients_of=authority())).shake_hands().server
        shown.append((engine.peer_certificate(), engine.peer_certificate_der(), engine.handshake_info()[1:]))
    assert all(each == shown[0] for each in shown)


# In the middle of a conversation


@pytest.mark.parametrize("client_kind", ["stdlib", "options", "context"])
def test_renegotiation(client_kind: str) -> None:
    """A server of TLS 1.2 may shake hands again, while the client speaks: nothing is lost."""
    server = server_context("context")
    at_most_1_2(server)
    both = pair(usual_client(client_kind), server).shake_hands()
    connection = both.server.ssl_object
    assert connection.renegotiate() and connection.renegotiate_pending()
    both.server.do_handshake()
    both.client.write(b"crossing")
    received = bytearray()
    for _ in range(4):
        both.carry()
        received += read_all(both.server)
        assert read_all(both.client) == b""
    assert connection.total_renegotiations() == 1 and not connection.renegotiate_pending()
    assert received == b"crossing"
    assert both.send(both.client, b"after") == b"after"
    assert both.send(both.server, b"after") == b"after"


def test_what_is_written_during_renegotiation_waits() -> None:
    """By *want_read* if it must, and then goes on with the same bytes."""
    client, server = client_context("context"), server_context("context")
    at_most_1_2(server)
    both = pair(client, server).shake_hands()
    both.server.ssl_object.renegotiate()
    both.server.do_handshake()
    both.carry()
    read_all(both.client)  # and its hello is on its way
    received, written = bytearray(), False
    for _ in range(6):
        if not written:
            try:
                both.client.write(b"during")
                written = True
            except both.client.want_read:
                pass
        both.carry()
        received += read_all(both.server)
        read_all(both.client)
    assert written and received == b"during"


def test_session_tickets_are_no_bytes() -> None:
    """They come after the handshake of TLS 1.3, and are read with nothing."""
    both = pair(usual_client("context"), server_context("context")).shake_hands()
    assert both.client.wire is not None
    with pytest.raises(both.client.want_read):
        both.client.read(100)
    with pytest.raises(both.client.want_read):
        both.client.read_into(memoryview(bytearray(100)))


# Who is asked


def test_all_hosts_must_be_in_the_certificate() -> None:
    """In their order: the first that is not is the error."""
    leaf = certificate("one.example", "two.example")
    for names, refused in (
        (("one.example", "two.example"), None),
        (("one.example", "three.example"), "three.example"),
        (("four.example", "three.example"), "four.example"),
    ):
        both = pair(usual_client("context"), server_context("context", leaf))
        both.client = engine_of(client_context("context"), None, *map(Host, names))
        error, _ = both.outcomes()
        assert (error is None) == (refused is None)
        assert refused is None or repr(refused) in str(error)


def test_a_wrong_host_is_found_before_the_server_takes_the_client_for_connected() -> None:
    """The end of the client's handshake is not sent until the peer is checked."""
    of_client, of_server = pair(usual_client("context"), server_context("context"), "example.org").outcomes()
    assert isinstance(of_client, TLSVerificationError)
    assert isinstance(of_server, TimeoutError)
