"""Two engines that talk to each other in memory, each of every kind that ``ssl=`` can make."""

from __future__ import annotations

import functools
import itertools
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLContextFactory,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.ssl import CertificateOptions, ContextFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from txasync.tls import Engine, TLSError, TLSVerificationError, engine_maker
from txasync.tls._creators import connection_maker, is_accepted, names_its_host
from txasync.tls._pyopenssl import PyOpenSSLEngine

from .contexts import CLIENT_KINDS, SERVER_KINDS, authority, certificate, client_context, server_context

PAIRS = list(itertools.product(CLIENT_KINDS, SERVER_KINDS))
# Each kind on each side, with one of the other library's.
FOREIGNERS = [
    ("stdlib", "options"),
    ("memory", "context"),
    ("options", "stdlib"),
    ("creator", "memory"),
    ("context", "stdlib"),
]
# Of each library one: what there is to see is the same with the others of it.
LIBRARIES = list(itertools.product(("stdlib", "context"), repeat=2))

each_pair = pytest.mark.parametrize(("client_kind", "server_kind"), PAIRS)
each_kind = pytest.mark.parametrize(("client_kind", "server_kind"), FOREIGNERS)
each_way = pytest.mark.parametrize(("client_kind", "server_kind"), [("stdlib", "context"), ("context", "stdlib")])
each_library = pytest.mark.parametrize(("client_kind", "server_kind"), LIBRARIES)


_client_made_once = functools.cache(client_context)
usual_server = functools.cache(server_context)
"""What `server_context` gives, made once, for tests that leave it as it is."""


def usual_client(kind: str, host: str = "localhost", **options: Any) -> Any:
    """What `client_context` gives, made once: to load what a system trusts takes longer than many handshakes."""
    return _client_made_once(kind, host if kind == "creator" else "localhost", **options)


class Pair:
    """
    Two engines, connected in memory, or each on its own end of a connection.

    They are driven as a transport drives them: what is to be sent is sent after each step, whether that failed or not;
    but not when the peer is refused by ``check_peer()``.
    """

    def __init__(self, client: Engine, server: Engine) -> None:
        self.client = client
        self.server = server

    def carry(self, *, at_most: int | None = None) -> bool:
        """Bring what is encrypted to the other side, in pieces of *at_most* bytes; whether there was anything."""
        carried = False
        for sender, receiver in (self.client, self.server), (self.server, self.client):
            if sender.wire is None or receiver.wire is None:
                continue
            data = sender.wire.take()
            carried = carried or bool(data)
            for start in range(0, len(data), at_most or len(data) or 1):
                receiver.wire.feed(data[start : start + (at_most or len(data))])
        return carried

    def outcomes(self, *, at_most: int | None = None) -> tuple[Exception | None, Exception | None]:
        """How the handshake ended, for the client and the server: who waits though the other failed, has a timeout."""
        ended: dict[Engine, Exception | None] = {}
        for _ in range(20):
            for engine in self.client, self.server:
                if engine not in ended and (end := shake_on(engine)) is not engine:
                    assert not isinstance(end, Engine)
                    ended[engine] = end
            self.carry(at_most=at_most)
        assert len(ended) == 2 or any(ended.values()), f"the handshake does not end; so far: {ended}"
        return ended.get(self.client, TimeoutError()), ended.get(self.server, TimeoutError())

    def shake_hands(self, *, at_most: int | None = None) -> Pair:
        """Do the whole handshake; what a side finds wrong is raised, the client's first."""
        for error in self.outcomes(at_most=at_most):
            if error is not None:
                raise error
        return self

    def send(self, sender: Engine, data: bytes, *, at_most: int | None = None) -> bytes:
        """Send *data* to the other side, and return what can be read there."""
        self.write(sender, data, at_most=at_most)
        return read_all(self.server if sender is self.client else self.client)

    def write(self, sender: Engine, data: bytes, *, at_most: int | None = None) -> None:
        """Write all of *data*, and carry it."""
        while data:
            data = data[sender.write(data) :]
            self.carry(at_most=at_most)


def shake_on(engine: Engine) -> Engine | Exception | None:
    """Go on with the handshake: the engine itself if it waits, None if it is done, else what went wrong."""
    try:
        engine.do_handshake()
    except engine.want_read:
        return engine
    except Exception as error:
        return engine.explained(error)
    try:
        engine.check_peer()
    except Exception as error:
        if engine.wire is not None:
            engine.wire.take()
        return error
    return None


def read_all(engine: Engine) -> bytes:
    """What can be read now; the end is not told from nothing."""
    received = bytearray()
    while True:
        try:
            data = engine.read(16384)
        except engine.want_read:
            return bytes(received)
        if not data:
            return bytes(received)
        received += data


def explained(engine: Engine, operation: Callable[[], object]) -> Exception:
    """What *operation* of *engine* raises, as its users see it."""
    try:
        operation()
    except Exception as error:
        return engine.explained(error)
    raise AssertionError("nothing was raised")


def pair(client: Any, server: Any, server_hostname: str | None = "localhost") -> Pair:
    """Engines in memory, of what ``ssl=`` is on each side."""
    return Pair(
        engine_maker(client, server_side=False, server_hostname=server_hostname)(None),
        engine_maker(server, server_side=True, server_hostname=None)(None),
    )


def pair_of(client_kind: str, server_kind: str) -> Pair:
    """Engines of these kinds, after the handshake."""
    return pair(usual_client(client_kind), usual_server(server_kind)).shake_hands()


# All kinds with all others


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


def at_most_1_2(context: Any) -> None:
    """*context* is not to speak TLS 1.3."""
    if isinstance(context, ssl.SSLContext):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    else:
        context.set_max_proto_version(SSL.TLS1_2_VERSION)


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


def names_seen_by(server: Engine) -> Callable[[], str | None]:
    """What tells, after the handshake, which name the client has sent."""
    if isinstance(server, PyOpenSSLEngine):
        connection = server.ssl_object
        return lambda: (connection.get_servername() or b"").decode("ascii") or None
    seen: list[str | None] = []
    server.context.sni_callback = lambda _ssl_object, name, _context: seen.append(name)
    return lambda: seen[-1]


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


# Contexts that change during the handshake


@pytest.mark.parametrize("server", ["stdlib", "bare", "options"])
def test_a_server_may_change_its_context_by_the_name(server: str) -> None:
    """The client gets the certificate of the other context; ``sslcontext`` stays what was given."""
    given = SWITCHING[server](certificate("other.example"))
    for client_kind in CLIENT_KINDS:
        for name in "other.example", "localhost":
            both = pair(usual_client(client_kind, name), given, name)
            before = both.server.context
            both.shake_hands()
            assert both.server.context is before
            seen = both.client.peer_certificate()
            assert seen is not None and seen["subjectAltName"][0] == ("DNS", name)
            assert both.send(both.server, b"bytes") == b"bytes"


def switching_stdlib(other: Any) -> ssl.SSLContext:
    """A context of the standard library with *other*'s certificate in reserve."""
    context, reserve = server_context("stdlib"), server_context("stdlib", other)

    def switch(ssl_object: Any, name: str, _context: ssl.SSLContext) -> None:
        if name == "other.example":
            ssl_object.context = reserve

    context.sni_callback = switch
    assert isinstance(context, ssl.SSLContext)
    return context


def switching_bare(other: Any) -> SSL.Context:
    """A context of pyOpenSSL with *other*'s certificate in reserve."""
    context, reserve = server_context("context"), server_context("context", other)

    def switch(connection: SSL.Connection) -> None:
        if connection.get_servername() == b"other.example":
            connection.set_context(reserve)

    context.set_tlsext_servername_callback(switch)
    assert isinstance(context, SSL.Context)
    return context


@implementer(IOpenSSLServerConnectionCreator)
class Switching:
    """A context of Twisted's options with *other*'s certificate in reserve, as it is done in every version."""

    def __init__(self, other: Any) -> None:
        self._options = server_context("options")
        reserve = server_context("options", other).getContext()

        def switch(connection: SSL.Connection) -> None:
            if connection.get_servername() == b"other.example":
                connection.set_context(reserve)

        self._options.getContext().set_tlsext_servername_callback(switch)

    def serverConnectionForTLS(self, _protocol: Any) -> SSL.Connection:
        return SSL.Connection(self._options.getContext(), None)


SWITCHING: dict[str, Callable[[Any], Any]] = {
    "stdlib": switching_stdlib,
    "bare": switching_bare,
    "options": Switching,
}


def has_context_for_server_name() -> bool:
    """Whether this version of Twisted has that parameter."""
    try:
        CertificateOptions(contextForServerName=None)
    except TypeError:
        return False
    return True


needs_context_for_server_name = pytest.mark.skipif(
    not has_context_for_server_name(), reason="this Twisted's CertificateOptions have no contextForServerName"
)


def options_with(choose: Callable[[bytes | None], SSL.Context | None]) -> CertificateOptions:
    """A server's options that choose the context by the name."""
    own = server_context("options")
    return CertificateOptions(privateKey=own.privateKey, certificate=own.certificate, contextForServerName=choose)


@needs_context_for_server_name
def test_context_for_server_name() -> None:
    """Twisted's own way to choose the context works, as far as its choice."""
    reserve = server_context("options", certificate("other.example")).getContext()
    options = options_with(lambda name: reserve if name == b"other.example" else None)
    for name in "other.example", "localhost":
        both = pair(usual_client("stdlib"), options, name).shake_hands()
        seen = both.client.peer_certificate()
        assert seen is not None and ("DNS", name) in seen["subjectAltName"]


@needs_context_for_server_name
def test_a_choice_of_context_that_fails_ends_the_connection(reports: Any) -> None:
    """Twisted logs the error and calls abortConnection(): the handshake fails, though OpenSSL would go on."""

    def choose(_name: bytes | None) -> SSL.Context | None:
        raise LookupError("no such name")

    _, error = pair(usual_client("stdlib"), options_with(choose)).outcomes()
    assert isinstance(error, ConnectionAbortedError)
    assert [report.type for report in reports.twisted] == [LookupError]
    reports.clear()


# Creators of somebody else's


@implementer(IOpenSSLContextFactory)
class ClientFactory:
    """The oldest interface, on both sides."""

    def getContext(self) -> SSL.Context:
        context = client_context("context")
        assert isinstance(context, SSL.Context)
        return context


class LegacyFactory(ContextFactory):
    """As it was written before there was the interface."""

    def getContext(self) -> SSL.Context:
        context = server_context("context")
        assert isinstance(context, SSL.Context)
        return context


class Undeclared:
    """It has the method, and that is all."""

    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def getContext(self) -> SSL.Context:
        return self.context


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class Creator:
    """
    Makes connections of a context, and does something more to each.

    Attributes:
        stand_ins: What it was called with.
    """

    def __init__(self, context: SSL.Context, more: Callable[[SSL.Connection, Any], object] | None = None) -> None:
        self._context = context
        self._more = more
        self.stand_ins: list[Any] = []

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        self.stand_ins.append(protocol)
        if self._more is not None:
            self._more(connection, protocol)
        return connection

    serverConnectionForTLS = clientConnectionForTLS


def test_context_factories_of_every_age() -> None:
    """Those with the interface, those with the base class, and those with the method alone."""
    for client, server in (
        (ClientFactory(), LegacyFactory()),
        (Undeclared(client_context("context")), Undeclared(server_context("context"))),
    ):
        both = pair(client, server).shake_hands()
        assert both.send(both.client, b"bytes") == b"bytes"


def test_a_client_of_a_context_factory_checks_the_host() -> None:
    """Though the factory knows nothing of it."""
    error, _ = pair(ClientFactory(), LegacyFactory(), "example.org").outcomes()
    assert isinstance(error, TLSVerificationError)


def test_a_creator_is_asked_for_each_connection() -> None:
    """With a stand-in of its own, which is the connection's app data, too, if that is not the creator's."""
    client, server = Creator(client_context("context")), Creator(server_context("context"))
    makers = (
        engine_maker(client, server_side=False, server_hostname="localhost"),
        engine_maker(server, server_side=True, server_hostname=None),
    )
    for count in 1, 2:
        both = Pair(makers[0](None), makers[1](None)).shake_hands()
        assert len(client.stand_ins) == len(server.stand_ins) == count
        assert both.client.ssl_object.get_app_data() is client.stand_ins[-1]
        assert both.server.ssl_object.get_app_data() is server.stand_ins[-1]
    assert client.stand_ins[0] is not client.stand_ins[1]


def test_a_creator_that_raises() -> None:
    """Its error is the caller's, from where the engine is made."""

    def refuse(_connection: SSL.Connection, _protocol: Any) -> None:
        raise LookupError("no settings for this connection")

    maker = engine_maker(Creator(client_context("context"), refuse), server_side=False, server_hostname=None)
    with pytest.raises(LookupError, match="no settings"):
        maker(None)


def test_a_creator_that_has_set_a_name_is_left_alone() -> None:
    """The name that is given is checked, but not sent."""
    creator = Creator(
        client_context("context"), lambda connection, _: connection.set_tlsext_host_name(b"front.example")
    )
    both = pair(creator, server_context("stdlib"))
    seen = names_seen_by(both.server)
    both.shake_hands()
    assert seen() == "front.example"
    error, _ = pair(creator, server_context("stdlib"), "front.example").outcomes()
    assert isinstance(error, TLSVerificationError)


def test_a_creator_that_sets_no_name_sends_the_one_that_is_given() -> None:
    """If there is one."""
    for name, expected in ("localhost", "localhost"), ("", None), (None, None):
        both = pair(Creator(client_context("context")), server_context("stdlib"), name)
        seen = names_seen_by(both.server)
        both.shake_hands()
        assert seen() == expected


def failing_at(what: str) -> Creator:
    """A creator that refuses its peer: in OpenSSL's verification, or when the handshake is done."""

    def more(connection: SSL.Connection, protocol: Any) -> None:
        def fail() -> None:
            try:
                raise LookupError("not on the list")
            except LookupError:
                protocol.failVerification(Failure())

        def verify(_connection: SSL.Connection, _x509: Any, _error: int, depth: int, ok: int) -> bool:
            if depth == 0 and what == "verification":
                fail()
                return False
            return bool(ok)

        connection.set_verify(SSL.VERIFY_PEER, verify)
        if what == "afterwards":
            done.append(fail)

    done: list[Callable[[], None]] = []
    context = client_context("context")
    context.set_info_callback(
        lambda _connection, where, _code: done and where & SSL.SSL_CB_HANDSHAKE_DONE and done.pop()()
    )
    return Creator(context, more)


@pytest.mark.parametrize("what", ["verification", "afterwards"])
def test_a_creator_that_calls_fail_verification(what: str) -> None:
    """The connection fails with a TLSVerificationError, whose cause is the creator's."""
    error, _ = pair(failing_at(what), server_context("stdlib")).outcomes()
    assert isinstance(error, TLSVerificationError)
    assert isinstance(error.__cause__, LookupError)
    assert "LookupError: not on the list" in str(error)


def test_a_creator_that_calls_abort_connection() -> None:
    """The handshake fails, and what OpenSSL makes of it is not waited for."""
    creator = Creator(client_context("context"), lambda _connection, protocol: protocol.abortConnection())
    both = pair(creator, server_context("stdlib"))
    with pytest.raises(ConnectionAbortedError, match="callback"):
        both.client.do_handshake()


def test_a_creator_may_make_a_server_that_fails() -> None:
    """It is the same on that side."""
    creator = Creator(server_context("context"), lambda _connection, protocol: protocol.abortConnection())
    _, error = pair(usual_client("stdlib"), creator).outcomes()
    assert isinstance(error, ConnectionAbortedError)


@pytest.mark.parametrize("server_kind", ["stdlib", "context"])
@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_a_creator_may_resume_a_session(version: int, server_kind: str) -> None:
    """The second connection is a resumed one, and its certificate is seen and checked as before."""
    context = client_context("context")
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    sessions: list[SSL.Session] = []
    creator = Creator(context, lambda connection, _: sessions and connection.set_session(sessions[-1]))
    server = server_context(server_kind)
    resumed = []
    for _ in range(2):
        both = pair(creator, server).shake_hands()
        # A ticket of TLS 1.3 comes after the handshake.
        both.send(both.server, b"x")
        sessions.append(both.client.ssl_object.get_session())
        resumed.append(_is_resumed(both.server))
        seen = both.client.peer_certificate()
        assert seen is not None and seen["subjectAltName"][0] == ("DNS", "localhost")
    assert resumed == [False, True]
    error, _ = pair(creator, server, "example.org").outcomes()
    assert isinstance(error, TLSVerificationError)


def _is_resumed(server: Engine) -> bool:
    if isinstance(server, PyOpenSSLEngine):
        return bool(SSL._lib.SSL_session_reused(server.ssl_object._ssl))  # type: ignore[attr-defined]
    return bool(server.ssl_object.session_reused)


# What there is of it


def test_what_is_accepted_on_each_side() -> None:
    """Creators on their own side only; contexts, and what has or makes one, on both."""
    both_sides = (
        server_context("options"),
        server_context("context"),
        ClientFactory(),
        LegacyFactory(),
        Creator(server_context("context")),
    )
    for given_ in both_sides:
        assert is_accepted(given_, True) and is_accepted(given_, False)
    assert is_accepted(client_context("creator"), False) and not is_accepted(client_context("creator"), True)
    assert is_accepted(Switching(certificate()), True) and not is_accepted(Switching(certificate()), False)
    for given_ in None, True, 1, "tls", object(), ssl.create_default_context():
        assert not is_accepted(given_, True) and not is_accepted(given_, False)
        assert connection_maker(given_, False, "localhost") is connection_maker(given_, True, None) is None


def test_who_names_its_host() -> None:
    """Creators do; CertificateOptions, which have become creators, do not, nor what makes contexts."""
    assert names_its_host(client_context("creator"))
    assert names_its_host(Creator(client_context("context")))
    for given_ in client_context("options"), client_context("context"), ClientFactory(), None, "localhost":
        assert not names_its_host(given_)


def test_a_client_that_names_no_host_needs_a_name() -> None:
    """Without one nothing would be checked: the error says how to ask for that."""
    for given_ in usual_client("options"), usual_client("context"), ClientFactory():
        with pytest.raises(ValueError, match="server_hostname is needed .* or '' for no such check"):
            connection_maker(given_, False, None)
        assert connection_maker(given_, True, None) is not None


def test_what_is_no_name_is_refused_before_anything_is_connected() -> None:
    """A name that IDNA cannot spell is an error of the call."""
    with pytest.raises(UnicodeError):
        connection_maker(usual_client("options"), False, "two..dots")


def test_errors_of_openssl_are_explained_once() -> None:
    """The cause of a TLSError is pyOpenSSL's; an error that is none of its kind stays what it is."""
    both = pair(client_context("context"), server_context("context"))
    assert both.server.wire is not None
    both.server.wire.feed(b"GET / HTTP/1.1\r\n\r\n" * 10)
    error = explained(both.server, both.server.do_handshake)
    assert type(error) is TLSError
    assert isinstance(error.__cause__, SSL.Error)
    assert "http request" in str(error)
    own = LookupError("none of OpenSSL's")
    assert both.server.explained(own) is own
