"""TLS by the standard library: which contexts stand on a socket, what that is like, and what stays as it was."""

from __future__ import annotations

import errno
import gc
import os
import socket
import ssl
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txasync.tls._stdlib import SocketSSLObject, StdlibEngine, stdlib_engine

from .contexts import OwnSSLObject, authority, certificate, client_context, server_context
from .engine_pairs import Pair, explained, pair, read_all, shake_on, usual_client, usual_server

OP_IGNORE_UNEXPECTED_EOF: int = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)

Sockets = tuple[socket.socket, socket.socket]


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    """Both ends of a connection, not blocking."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


def on(sockets: Sockets, client: ssl.SSLContext | None = None, server: ssl.SSLContext | None = None) -> Pair:
    """Engines, on *sockets* where their contexts can be."""
    client = client or usual_client("stdlib")
    return Pair(
        stdlib_engine(client, False, "localhost", sockets[0]),
        stdlib_engine(server or usual_server("stdlib"), True, None, sockets[1]),
    )


# Where an engine stands


class Recorder(ssl.SSLContext):
    """It does something of its own in memory."""

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        assert isinstance(self.asked, list)
        self.asked.append(kwargs)
        return super().wrap_bio(*args, **kwargs)

    asked: list[Any] | None = None


class Plain(ssl.SSLContext):
    """It adds something that is not our business."""

    colour = "blue"


def with_own_wrap_bio() -> ssl.SSLContext:
    context = Recorder(ssl.PROTOCOL_TLS_CLIENT)
    context.asked = []
    return context


def with_wrap_bio_on_the_instance() -> ssl.SSLContext:
    context: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    wrap_bio = context.wrap_bio
    context.wrap_bio = lambda *args, **kwargs: wrap_bio(*args, **kwargs)
    assert isinstance(context, ssl.SSLContext)
    return context


def with_own_class_of_objects() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslobject_class = OwnSSLObject
    return context


@pytest.mark.parametrize(
    "make",
    [with_own_wrap_bio, with_wrap_bio_on_the_instance, with_own_class_of_objects],
    ids=lambda make: make.__name__,
)
def test_a_context_with_a_way_of_its_own_is_used_in_memory(
    make: Callable[[], ssl.SSLContext], sockets: Sockets
) -> None:
    """There it is asked as ever; on a socket it would not be."""
    context = make()
    authority().configure_trust(context)
    engine = stdlib_engine(context, False, "localhost", sockets[0])
    assert engine.wire is not None
    assert not isinstance(engine.ssl_object, SocketSSLObject)
    assert isinstance(engine.ssl_object, context.sslobject_class)
    if isinstance(context, Recorder):
        assert context.asked == [{"server_side": False, "server_hostname": "localhost"}]
    Pair(engine, stdlib_engine(server_context("stdlib"), True, None, None)).shake_hands()


@pytest.mark.parametrize(
    "make", [lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), lambda: Plain(ssl.PROTOCOL_TLS_CLIENT)]
)
def test_other_contexts_stand_on_the_socket(make: Callable[[], ssl.SSLContext], sockets: Sockets) -> None:
    """A subclass that leaves wrap_bio() as it is does so, too."""
    context = make()
    authority().configure_trust(context)
    both = on(sockets, context)
    assert both.client.wire is both.server.wire is None
    assert isinstance(both.client.ssl_object, SocketSSLObject)
    both.shake_hands()


def test_without_a_socket_it_is_memory(sockets: Sockets) -> None:
    """What is no ``socket.socket``, though it looks like one, is none either."""
    context = usual_client("stdlib")
    assert stdlib_engine(context, False, "localhost", None).wire is not None

    class Lookalike:
        def fileno(self) -> int:
            return sockets[0].fileno()

    lookalike: Any = Lookalike()
    assert stdlib_engine(context, False, "localhost", lookalike).wire is not None


@pytest.mark.parametrize("is_on_socket", [True, False])
@pytest.mark.parametrize(
    ("name", "error"), [("two..dots", UnicodeError), (".dot", UnicodeError), ("n\0l", TypeError), ("", ValueError)]
)
def test_names_that_are_none_are_refused_alike(
    sockets: Sockets, is_on_socket: bool, name: str, error: type[Exception]
) -> None:
    """On a socket and in memory, with the standard library's errors."""
    with pytest.raises(error):
        stdlib_engine(usual_client("stdlib"), False, name, sockets[0] if is_on_socket else None)


@pytest.mark.parametrize("is_on_socket", [True, False])
def test_a_context_of_the_other_side_is_refused_alike(sockets: Sockets, is_on_socket: bool) -> None:
    """A server's for a client, and the reverse, are ``ssl.SSLError``."""
    sock = sockets[0] if is_on_socket else None
    with pytest.raises(ssl.SSLError, match="PROTOCOL_TLS_SERVER"):
        stdlib_engine(server_context("stdlib"), False, "localhost", sock)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False  # with it, the standard library's later releases want a name first
    with pytest.raises(ssl.SSLError, match="PROTOCOL_TLS_CLIENT"):
        stdlib_engine(client, True, None, sock)


# On a socket


def test_a_connection_on_sockets(sockets: Sockets) -> None:
    """A handshake, bytes both ways, and a clean end both ways, with nothing to carry."""
    both = on(sockets).shake_hands()
    assert both.client.handshake_info() == both.server.handshake_info()
    assert both.send(both.client, b"to the server") == b"to the server"
    assert both.send(both.server, b"to the client") == b"to the client"
    with pytest.raises(both.client.want_read):
        both.client.shut_down()
    assert both.server.read(100) == b""
    both.server.shut_down()
    both.client.shut_down()


def test_the_socket_has_tls_on_it(sockets: Sockets) -> None:
    """An engine on a socket speaks with one in memory, whose bytes go over that socket."""
    client = stdlib_engine(usual_client("stdlib"), False, "localhost", sockets[0])
    server = stdlib_engine(server_context("stdlib"), True, None, None)
    assert server.wire is not None
    waiting = {client, server}
    for _ in range(10):
        for engine in list(waiting):
            try:
                engine.do_handshake()
                waiting.discard(engine)
            except ssl.SSLWantReadError:
                pass
        if data := server.wire.take():
            sockets[1].sendall(data)
        try:
            server.wire.feed(sockets[1].recv(100_000))
        except BlockingIOError:
            pass
    assert not waiting
    client.write(b"from the socket")
    server.wire.feed(sockets[1].recv(100_000))
    assert server.read(100) == b"from the socket"


@given(sizes=st.lists(st.integers(1, 100_000), max_size=6))
def test_what_is_written_to_a_socket_is_read(sizes: list[int]) -> None:
    """However large it is: what the socket does not take is written again."""
    ends = socket.socketpair()
    try:
        for end in ends:
            end.setblocking(False)
        both = on(ends).shake_hands()
        for size in sizes:
            message = os.urandom(1) * size
            sent, received = 0, bytearray()
            while len(received) < size:
                try:
                    sent += both.client.write(message[sent:]) if sent < size else 0
                except both.client.want_write:
                    pass
                received += read_all(both.server)
            assert received == message
    finally:
        for end in ends:
            end.close()


def test_a_full_socket_wants_to_write(sockets: Sockets) -> None:
    """And goes on with the same bytes when there is room."""
    both = on(sockets).shake_hands()
    read_all(both.client)
    piece = b"x" * 16_000
    written = 0
    with pytest.raises(both.client.want_write):
        while True:
            written += both.client.write(piece)
    received = len(read_all(both.server))
    written += both.client.write(piece)
    received += len(read_all(both.server))
    assert received == written


def test_what_is_decrypted_already_is_pending(sockets: Sockets) -> None:
    """Of a record that was read in part; the socket does not announce it."""
    both = on(sockets).shake_hands()
    both.client.write(b"x" * 100)
    assert not both.server.pending()
    assert both.server.read(40) == b"x" * 40
    assert both.server.pending() == 60
    buffer = bytearray(100)
    assert both.server.read_into(memoryview(buffer)) == 60
    assert not both.server.pending()


def test_the_end_of_a_socket_is_an_end(sockets: Sockets) -> None:
    """What was sent before is read; then there is nothing, and no alert for it, so that the rest can still be sent."""
    both = on(sockets).shake_hands()
    read_all(both.client)  # what is not read is a reset
    both.client.write(b"before")
    sockets[0].shutdown(socket.SHUT_WR)
    assert both.server.read(100) == b"before"
    for _ in range(2):
        assert both.server.read(100) == b""
        assert both.server.read_into(memoryview(bytearray(10))) == 0
    assert both.send(both.server, b"the rest") == b"the rest"


@pytest.mark.parametrize("side", ["client", "server"])
def test_the_end_of_a_socket_during_the_handshake(sockets: Sockets, side: str) -> None:
    """It is an end there, too, and told from a failure of TLS."""
    both = on(sockets)
    engine = both.client if side == "client" else both.server
    assert shake_on(engine) is engine
    sockets[1 if side == "client" else 0].shutdown(socket.SHUT_WR)
    error = explained(engine, engine.do_handshake)
    assert isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError), error


def test_the_context_stays_as_it_was(sockets: Sockets) -> None:
    """What an engine on a socket does about the end, others of the same context do not, whether it could be made."""
    context = server_context("stdlib")
    before = context.options
    stdlib_engine(context, True, None, sockets[0])
    with pytest.raises(ssl.SSLError):
        stdlib_engine(context, False, "localhost", sockets[0])
    assert context.options == before
    if OP_IGNORE_UNEXPECTED_EOF:
        context.options |= OP_IGNORE_UNEXPECTED_EOF
        before = context.options
        stdlib_engine(context, True, None, sockets[0])
        assert context.options == before


def test_a_socket_may_be_reset() -> None:
    """By then it is an OSError like any other."""
    listener = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(listener.getsockname())
    theirs, _ = listener.accept()
    listener.close()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        both = on((ours, theirs)).shake_hands()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        error = explained(both.client, lambda: [both.client.read(100) for _ in range(3)])
        assert isinstance(error, ConnectionResetError) and error.errno == errno.ECONNRESET


def test_a_failure_on_a_socket_is_told_to_the_peer(sockets: Sockets) -> None:
    """The alert is on its way when the error is raised."""
    client = ssl.create_default_context()
    both = on(sockets, client)
    mine, theirs = both.outcomes()
    assert isinstance(mine, ssl.SSLCertVerificationError) and mine.verify_code == 20
    assert isinstance(theirs, ssl.SSLError) and "alert unknown ca" in str(theirs).replace("_", " ").lower()


def test_the_sni_callback_gets_the_object_of_the_socket(sockets: Sockets) -> None:
    """It is the one that ``get_extra_info()`` gives, and it can change the context."""
    seen: list[Any] = []
    server, reserve = server_context("stdlib"), server_context("stdlib", certificate("localhost", "reserve"))

    def switch(ssl_object: Any, name: str, context: ssl.SSLContext) -> None:
        seen.append((ssl_object, name, context))
        ssl_object.context = reserve

    server.sni_callback = switch
    both = on(sockets, server=server).shake_hands()
    assert seen == [(both.server.ssl_object, "localhost", server)]
    assert both.server.ssl_object.context is reserve
    assert both.server.context is server
    certificate_seen = both.client.peer_certificate()
    assert certificate_seen is not None and ("DNS", "reserve") in certificate_seen["subjectAltName"]


def test_the_object_of_a_socket_tells_what_any_other_tells(sockets: Sockets) -> None:
    """To users it is an ``ssl.SSLObject``."""
    client = client_context("stdlib", leaf=certificate("me"))
    server = server_context("stdlib", clients_of=authority())
    told = []
    for both in on(sockets, client, server), pair(client, server):
        ssl_object: Any = both.shake_hands().server.ssl_object
        assert isinstance(ssl_object, ssl.SSLObject)
        read_all(both.client)
        told.append(
            (
                ssl_object.server_side,
                ssl_object.server_hostname,
                ssl_object.session_reused,
                ssl_object.context,
                ssl_object.getpeercert(),
                ssl_object.getpeercert(binary_form=True),
                ssl_object.selected_alpn_protocol(),
                ssl_object.cipher(),
                ssl_object.shared_ciphers(),
                ssl_object.compression(),
                ssl_object.pending(),
                ssl_object.version(),
                type(ssl_object.get_channel_binding("tls-unique")),
                both.client.ssl_object.server_hostname,
                type(both.client.ssl_object.session),
            )
        )
    assert told[0] == told[1]
    assert "me" in str(told[0][4])


def test_users_of_the_object_read_and_write_as_ever(sockets: Sockets) -> None:
    """As long as the connection is there."""
    both = on(sockets)
    for ssl_object in both.client.ssl_object, both.server.ssl_object:
        with pytest.raises(ssl.SSLWantReadError):
            ssl_object.do_handshake()
    both.shake_hands()
    assert both.client.ssl_object.write(b"some bytes") == 10
    assert both.server.ssl_object.read(4) == b"some"
    buffer = bytearray(10)
    assert both.server.ssl_object.read(10, buffer) == 6
    assert buffer[:6] == b" bytes"
    with pytest.raises(ssl.SSLWantReadError):
        both.client.ssl_object.unwrap()


def test_after_disconnect_nothing_touches_the_socket(sockets: Sockets) -> None:
    """Its number may be another file's by then; what the handshake has settled is told as ever."""
    both = on(sockets).shake_hands()
    read_all(both.client)
    ssl_object = both.client.ssl_object
    before = ssl_object.cipher(), ssl_object.version(), ssl_object.getpeercert()
    number = sockets[0].fileno()
    both.client.disconnect()
    other, peer = socket.socketpair()
    with other, peer:
        sockets[0].close()
        os.dup2(other.fileno(), number)
        try:
            peer.send(b"not for us")
            for operation in (
                lambda: ssl_object.read(1),
                lambda: ssl_object.read(1, bytearray(1)),
                lambda: ssl_object.write(b"x"),
                ssl_object.do_handshake,
                ssl_object.unwrap,
            ):
                with pytest.raises(ValueError, match="connection of this ssl_object is lost"):
                    operation()
            peer.setblocking(False)
            with pytest.raises(BlockingIOError):
                peer.recv(1)
            assert other.recv(100) == b"not for us"
        finally:
            os.close(number)
    assert (ssl_object.cipher(), ssl_object.version(), ssl_object.getpeercert()) == before
    assert ssl_object.pending() == 0


def test_in_memory_disconnect_leaves_the_object_alone() -> None:
    """It has nothing that could be somebody else's."""
    both = pair(usual_client("stdlib"), server_context("stdlib")).shake_hands()
    both.client.disconnect()
    assert both.client.ssl_object.write(b"x") == 1


# In memory


def test_pending_counts_what_is_encrypted_yet() -> None:
    """In memory, nobody else tells that there is something to read."""
    both = pair(usual_client("stdlib"), server_context("stdlib")).shake_hands()
    assert not both.server.pending()
    both.client.write(b"x" * 100)
    both.carry()
    assert both.server.pending() > 100
    assert both.server.read(99) == b"x" * 99
    assert both.server.pending() == 1
    both.server.read(1)
    assert not both.server.pending()


def test_errors_are_the_standard_librarys() -> None:
    """They are explained already, but for one, of a socket, that says less than it could."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        on_socket, in_memory = (
            stdlib_engine(usual_client("stdlib"), False, "localhost", sock) for sock in (ours, None)
        )
        for error in ssl.SSLError(1, "words"), ssl.SSLZeroReturnError(6, "words"), ConnectionResetError():
            assert on_socket.explained(error) is error
        end, failure = ssl.SSLEOFError(8, "words"), ssl.SSLEOFError(8, "words")
        end.reason, failure.reason = "UNEXPECTED_EOF_WHILE_READING", None  # type: ignore[assignment]
        assert on_socket.explained(end) is end
        assert in_memory.explained(failure) is failure
        if ssl.OPENSSL_VERSION_INFO >= (3,):
            assert isinstance(on_socket.explained(failure), ConnectionResetError)
    in_memory.check_peer()


def test_a_certificate_is_shown_in_both_forms() -> None:
    """That is the object's business."""
    both = pair(usual_client("stdlib"), usual_server("stdlib")).shake_hands()
    ssl_object = both.client.ssl_object
    assert both.client.peer_certificate() == ssl_object.getpeercert()
    assert both.client.peer_certificate_der() == ssl_object.getpeercert(binary_form=True)
    assert both.server.peer_certificate() is None
    assert both.server.peer_certificate_der() is None


def test_post_handshake_authentication() -> None:
    """A server of TLS 1.3 may ask for the client's certificate later, in the middle of the conversation."""
    client = client_context("stdlib", leaf=certificate("me"))
    client.post_handshake_auth = True
    server = server_context("stdlib", clients_of=authority())
    server.post_handshake_auth = True
    both = pair(client, server).shake_hands()
    assert both.server.peer_certificate() is None
    both.server.ssl_object.verify_client_post_handshake()
    assert both.send(both.server, b"who are you?") == b"who are you?"
    assert both.send(both.client, b"me") == b"me"
    seen = both.server.peer_certificate()
    assert seen is not None and seen["subjectAltName"] == (("DNS", "me"),)


@pytest.mark.parametrize("is_on_socket", [True, False])
def test_an_engine_leaves_no_reference_cycle(sockets: Sockets, is_on_socket: bool) -> None:
    """A connection is gone when the last one drops it, not when the garbage is collected next."""
    both = on(sockets) if is_on_socket else pair(usual_client("stdlib"), server_context("stdlib"))
    both.shake_hands()
    gone = [weakref.ref(engine.ssl_object) for engine in (both.client, both.server)]
    gc.disable()
    try:
        del both
        assert [ref() for ref in gone] == [None, None]
    finally:
        gc.enable()


def test_the_engine_is_what_it_is_made_of() -> None:
    """The context and the object are the caller's own."""
    context = usual_client("stdlib")
    engine = stdlib_engine(context, False, "localhost", None)
    assert isinstance(engine, StdlibEngine)
    assert engine.context is context
    assert engine.ssl_object.context is context
