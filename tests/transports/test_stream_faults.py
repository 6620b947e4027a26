"""Streams when something goes wrong: peers that vanish, sockets that are taken away, callbacks that fail."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import time
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor

from txasync import ReactorEventLoop, _reactors

from ..conftest import Reports, Runner
from .recorders import Boom, StreamRecorder
from .traces import MUCH, SMALL, Stage, play_on_ours, play_with

# Peers that vanish


def test_a_reset_amid_a_write_is_the_end_with_the_error(run: Runner) -> None:
    """What the peer did not take is dropped, and connection_lost gets the ConnectionResetError."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect_tcp(protocol)
        protocol.attempt("write", MUCH * 40)
        peer.reset()
        await protocol.lost
        protocol.attempt("get_write_buffer_size")
        protocol.attempt("write", b"dropped")

    assert play_with(run, scenario) == [
        "connection_made",
        "pause_writing",
        "write",
        "connection_lost ConnectionResetError(ECONNRESET)",
        "get_write_buffer_size 0",
        "write",
    ]


def test_a_reset_amid_a_write_is_noticed_while_reading_is_paused(run: Runner) -> None:
    """Writing alone is enough to notice that the peer is gone."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect_tcp(protocol)
        protocol.attempt("pause_reading")
        protocol.attempt("write", MUCH * 40)
        peer.reset()
        await protocol.lost

    *_, last = play_with(run, scenario)
    assert last in ("connection_lost ConnectionResetError(ECONNRESET)", "connection_lost BrokenPipeError(EPIPE)")


def test_data_from_a_peer_that_is_gone_is_delivered(run: Runner) -> None:
    """A peer that closes while we are paused has not spoken in vain: the data comes first, when we resume."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect_tcp(protocol)
        protocol.attempt("pause_reading")
        peer.send(b"last words" * 10_000)
        peer.sock.close()
        await stage.quiet()
        protocol.attempt("resume_reading")
        await protocol.lost

    assert play_with(run, scenario) == [
        "connection_made",
        "pause_reading",
        "resume_reading",
        "data_received 100000 bytes, crc aa2354fb",
        "eof_received",
        "connection_lost None",
    ]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_paused_transport_whose_peer_is_gone_costs_nothing(run: Runner, how: str) -> None:
    """The kernel tells of a hang-up whether one asks or not; a transport that does not read must not spin on it."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect_tcp(protocol)
        protocol.transport.pause_reading()
        peer.reset() if how == "reset" else peer.sock.close()
        await _idle()

    play_with(run, scenario)


def test_a_transport_that_both_sides_have_shut_down_costs_nothing(run: Runner) -> None:
    """If the protocol keeps it open when both directions have ended, there is nothing to wait for."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol(eof_received=lambda: True)
        peer = await stage.connect(protocol)
        peer.sock.close()
        await stage.quiet()
        protocol.transport.write_eof()
        await _idle()

    play_with(run, scenario)


async def _idle() -> None:
    """Fail if the loop is busy while it waits."""
    before = time.process_time()
    await asyncio.sleep(0.1)
    assert time.process_time() - before < 0.05


def test_a_client_that_is_gone_before_it_is_accepted_is_one_that_is_reset(run: Runner) -> None:
    """Its protocol hears of a connection and of its end, knows the address, and the server serves on."""

    async def scenario(stage: Stage) -> None:
        made: list[StreamRecorder] = []

        def factory() -> StreamRecorder:
            made.append(stage.protocol(f"number {len(made)}"))
            return made[-1]

        listening = socket.create_server(("127.0.0.1", 0))
        server = stage.keep_server(await stage.loop.create_server(factory, sock=listening, start_serving=False))
        gone = stage.client_of(server)
        address = gone.sock.getsockname()
        gone.reset()
        await server.start_serving()
        await stage.until(lambda: made)
        await made[0].lost
        assert made[0].transport.get_extra_info("peername") == address
        stage.client_of(server).send(b"hello")
        await stage.until(lambda: len(made) == 2 and "data_received" in made[1].log)

    assert play_with(run, scenario) == [
        "number 0: connection_made",
        "number 0: connection_lost ConnectionResetError(ECONNRESET)",
        "number 1: connection_made",
        "number 1: data_received b'hello'",
    ]


def test_a_connection_that_was_aborted_in_the_backlog_is_passed_over(run: Runner) -> None:
    """ConnectionAbortedError from accept() concerns that connection only, and is not told."""

    class Listening(socket.socket):
        aborted = 2

        def accept(self) -> Any:
            if self.aborted:
                self.aborted -= 1
                super().accept()[0].close()
                raise ConnectionAbortedError(errno.ECONNABORTED, "software caused connection abort")
            return super().accept()

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()
        listening = Listening()
        listening.bind(("127.0.0.1", 0))
        server = stage.keep_server(await stage.loop.create_server(lambda: protocol, sock=listening))
        peers = [stage.client_of(server) for _ in range(3)]
        peers[2].send(b"hello")
        await stage.until(lambda: "data_received" in protocol.log)

    assert play_with(run, scenario) == ["connection_made", "data_received b'hello'"]


# Sockets that do little


class Stingy(socket.socket):
    """A socket that takes one byte, then none, then one..."""

    calls = 0

    def send(self, data: Any, *args: Any) -> int:
        """Send one byte."""
        self.calls += 1
        if self.calls % 2:
            return super().send(memoryview(data).cast("B")[:1], *args)
        raise BlockingIOError(errno.EAGAIN, "try again")

    def sendmsg(self, buffers: Any, *args: Any) -> int:
        """Send one byte."""
        return self.send(b"".join(buffers))


def test_a_socket_that_takes_one_byte_at_a_time_gets_all(run: Runner) -> None:
    """Short writes, and no write at all, leave the rest in the buffer, in order."""
    data = bytes(range(200))

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol(connection_made=lambda transport: transport.set_write_buffer_limits(50))
        ours, peer = stage.pair()
        stingy = Stingy(fileno=ours.detach())
        await stage.loop.create_connection(lambda: protocol, sock=stingy)
        protocol.transport.write(data[:50])
        protocol.transport.writelines([data[50:60], data[60:100]])
        protocol.transport.write(data[100:])
        protocol.attempt("get_write_buffer_size")
        protocol.transport.close()
        read = b""
        while not peer.ending:
            read += peer.receive()
            await stage.a_round()
        assert read == data

    trace = play_with(run, scenario)
    assert trace[0] == "connection_made"
    assert trace[1:] in (
        ["pause_writing", "get_write_buffer_size 199", "resume_writing", "connection_lost None"],
        # asyncio's writelines() tries to send what was kept before.
        ["pause_writing", "get_write_buffer_size 198", "resume_writing", "connection_lost None"],
    )


def test_a_slow_reader_gets_all(run: Runner) -> None:
    """However little the peer reads at a time, everything comes, in order."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect(protocol, sndbuf=SMALL)
        protocol.transport.write(MUCH)
        protocol.transport.writelines([b"x", MUCH, b"y"])
        protocol.transport.close()
        read = b""
        while not protocol.lost.done() or len(read) < 2 * len(MUCH) + 2:
            try:
                read += peer.sock.recv(5000)
            except BlockingIOError:
                await stage.a_round()
        assert read == MUCH + b"x" + MUCH + b"y"

    assert play_with(run, scenario) == ["connection_made", "pause_writing", "resume_writing", "connection_lost None"]


@pytest.mark.parametrize("buffered", [False, True])
def test_an_error_of_reading_is_the_end_with_the_error(buffered: bool, reports: Reports) -> None:
    """An OSError from the socket is fatal, and nothing to report: it is what connection_lost is told."""

    class Broken(socket.socket):
        def recv(self, *args: Any) -> bytes:
            raise OSError(errno.EIO, "input/output error")

        def recv_into(self, *args: Any) -> int:
            return len(self.recv(*args))

    async def scenario(stage: Stage) -> None:
        protocol = (stage.buffered_protocol if buffered else stage.protocol)()
        ours, peer = stage.pair()
        await stage.loop.create_connection(lambda: protocol, sock=Broken(fileno=ours.detach()))
        peer.send(b"hello")
        await stage.quiet()

    assert play_on_ours(scenario) == ["connection_made", "connection_lost OSError(EIO)"]


# Callbacks that fail


@pytest.mark.parametrize(
    ("callback", "lost_with"),
    [
        ("connection_made", None),
        ("data_received", Boom),
        ("get_buffer", Boom),
        ("buffer_updated", Boom),
        ("eof_received", Boom),
        ("pause_writing", None),
        ("resume_writing", None),
        ("connection_lost", None),
    ],
)
def test_an_error_in_a_callback_is_reported_with_its_transport(
    callback: str, lost_with: type[Exception] | None
) -> None:
    """The loop's exception handler gets it, once; what is fatal to a connection is told to connection_lost, too."""
    contexts: list[dict[str, Any]] = []
    lost: list[Exception | None] = []
    error = Boom("of the test")

    def fail(*args: Any) -> None:
        raise error

    async def scenario(stage: Stage) -> None:
        make: Any = stage.buffered_protocol if callback in ("get_buffer", "buffer_updated") else stage.protocol
        protocol = make(connection_lost=lost.append)
        protocol.on[callback] = (lambda exc: [lost.append(exc), fail()]) if callback == "connection_lost" else fail
        peer = await stage.connect(protocol, sndbuf=SMALL)
        stage.loop.set_exception_handler(lambda loop, context: contexts.append(context))
        if callback == "connection_made":
            contexts.append({"exception": error})  # it came before the handler was there; see the trace
        peer.send(b"data")
        protocol.transport.write(MUCH)
        await stage.drain(peer)
        if peer.ending == "":
            peer.sock.shutdown(socket.SHUT_WR)
        await protocol.lost
        assert [context["exception"] for context in contexts] == [error]
        if callback not in ("connection_made", "connection_lost"):
            assert contexts[0]["transport"] is protocol.transport
            assert contexts[0]["protocol"] is protocol
        contexts.clear()
        error.__traceback__ = None

    play_on_ours(scenario)
    assert [type(exc) if exc is not None else None for exc in lost] == [lost_with]


@pytest.mark.parametrize("interruption", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("callback", ["connection_made", "data_received", "eof_received", "connection_lost"])
def test_an_interruption_in_a_callback_leaves_the_run(
    callback: str, interruption: type[BaseException], loop: ReactorEventLoop
) -> None:
    """SystemExit and KeyboardInterrupt leave run_until_complete(), as in asyncio; the loop can be run again."""

    class Interrupting(asyncio.Protocol):
        """Raises, once, in one callback."""

        calls: list[str] = []

        def _called(self, name: str) -> None:
            self.calls.append(name)
            if name == callback and self.calls.count(name) == 1:
                raise interruption("of the test")

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self._called("connection_made")

        def data_received(self, data: bytes) -> None:
            self._called("data_received")

        def eof_received(self) -> None:
            self._called("eof_received")

        def connection_lost(self, exc: Exception | None) -> None:
            self._called("connection_lost")
            lost.set_result(None)

    lost: asyncio.Future[None] = loop.create_future()
    protocol = Interrupting()
    protocol.calls = []
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.send(b"hello")
        theirs.shutdown(socket.SHUT_WR)

        async def main() -> None:
            await loop.create_connection(lambda: protocol, sock=ours)
            await lost

        task = loop.create_task(main())
        with pytest.raises(interruption, match="of the test"):
            loop.run_until_complete(task)
        if callback == "connection_lost":
            lost.set_result(None) if not lost.done() else None
        if callback != "connection_made":
            loop.run_until_complete(task)
            assert protocol.calls.count("data_received") in (1, 2)
        else:
            # Nobody watches the socket yet, in asyncio; here, perhaps.
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                loop.run_until_complete(task)
        protocol.transport.abort()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))


def test_an_interruption_in_a_callback_does_not_end_somebody_elses_run(loop: ReactorEventLoop) -> None:
    """Under reactor.run() it is reported, and the run goes on, with the connection."""

    async def scenario(stage: Stage) -> None:
        left = [1]

        def leave(data: bytes) -> None:
            if left:
                left.pop()
                raise SystemExit

        protocol = stage.protocol(data_received=leave)
        peer = await stage.connect(protocol)
        peer.send(b"one")
        await stage.quiet()
        peer.send(b"two")
        await stage.quiet()

    assert Runner("reactor-first", loop.reactor, loop)(lambda: Stage(loop).play(scenario)) == [
        "connection_made",
        "data_received b'one'",
        "reported, from data_received: SystemExit",
        "data_received b'two'",
    ]


# Loops and transports that are forgotten


def test_a_transport_that_outlives_its_loop_warns_and_closes_its_socket(reports: Reports) -> None:
    """It touches nothing of the loop, which is closed."""
    reactor = EPollReactor()
    loop = ReactorEventLoop(reactor)
    ours, theirs = socket.socketpair()
    transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
    loop.close()
    _reactors.dispose_private_reactor(reactor)
    assert "fd=" in repr(transport)
    forgotten = [transport, loop, reactor]
    del transport, _, loop, reactor
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        _forget(forgotten)
    assert ours.fileno() == -1
    theirs.close()


def test_a_forgotten_connection_keeps_no_server_waiting(run: Runner) -> None:
    """A paused transport that nobody refers to is collected, with a warning, and counted no more."""

    class Paused(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            made.set()

    async def collected() -> None:
        await made.wait()
        gc.collect()

    async def main() -> None:
        server = await run.loop.create_server(Paused, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            with pytest.warns(ResourceWarning, match="unclosed transport"):
                await collected()
            server.close()
            await server.wait_closed()

    made = asyncio.Event()
    run(main)


def _forget(what: list[Any]) -> None:
    what.clear()
    gc.collect()
