"""Streams when there are no descriptors, or the wrong ones, and connections that do not come about."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from asyncio import constants
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..conftest import Runner
from .recorders import Boom, StreamRecorder
from .traces import MUCH, SMALL, Peer, Stage, play_with

# Descriptors


@pytest.fixture
def soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have servers try again sooner than in a second."""
    monkeypatch.setattr(constants, "ACCEPT_RETRY_DELAY", 0.02)


@pytest.fixture
def no_more_descriptors() -> Iterator[Callable[[bool], None]]:
    """Call it to forbid any further descriptor, or to allow them again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def forbid(forbidden: bool) -> None:
        if forbidden:
            first_free = os.dup(0)
            os.close(first_free)
            # All below it are in use; and those above it that are in use stay so.
            resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))
        else:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    yield forbid
    forbid(False)


@pytest.mark.usefixtures("soon_again")
def test_a_server_without_descriptors_waits_for_better_times(
    run: Runner, no_more_descriptors: Callable[[bool], None]
) -> None:
    """It tells, loses no connection that it has, and accepts those that wait when there are descriptors again."""

    async def scenario(stage: Stage) -> None:
        made: list[StreamRecorder] = []

        def factory() -> StreamRecorder:
            protocol = stage.protocol(f"number {len(made)}")
            protocol.on["data_received"] = lambda data: protocol.transport.write(data)
            made.append(protocol)
            return protocol

        told: list[dict[str, Any]] = []
        stage.loop.set_exception_handler(lambda loop, context: told.append(context))
        server = await stage.serve(factory)
        first = stage.client_of(server)
        first.send(b"first")
        await stage.expect(first, 5)
        second = stage.client_of(server)
        no_more_descriptors(True)
        await stage.until(lambda: told)
        first.send(b"still here")
        await stage.expect(first, 10)
        no_more_descriptors(False)
        second.send(b"second")
        await stage.expect(second, 6)
        for context in told:
            assert context["message"] == "socket.accept() out of system resource"
            assert context["exception"].errno == errno.EMFILE
            assert context["socket"].fileno() == server.sockets[0].fileno()
        told.clear()

    assert play_with(run, scenario) == [
        "number 0: connection_made",
        "number 0: data_received b'first'",
        "the peer has read b'first' ''",
        "number 0: data_received b'still here'",
        "the peer has read b'still here' ''",
        "number 1: connection_made",
        "number 1: data_received b'second'",
        "the peer has read b'second' ''",
    ]


@pytest.mark.usefixtures("soon_again")
def test_a_server_without_descriptors_tells_once_for_each_attempt(
    run: Runner, no_more_descriptors: Callable[[bool], None]
) -> None:
    """asyncio tells it up to backlog times at once, and would try again as often."""

    async def scenario(stage: Stage) -> None:
        server = await stage.serve(stage.protocol)
        await stage.quiet()
        stage.client_of(server)
        no_more_descriptors(True)
        await stage.quiet()
        no_more_descriptors(False)
        server.close()
        await stage.quiet()

    assert play_with(run, scenario) == ["reported, from None: OSError(EMFILE)"]


@pytest.mark.usefixtures("soon_again")
def test_a_server_that_is_closed_while_it_waits_for_descriptors_does_not_try_again(
    run: Runner, no_more_descriptors: Callable[[bool], None]
) -> None:
    """Its time comes, and there is nothing to do; also if another has its descriptor's number by then."""

    async def scenario(stage: Stage) -> None:
        server = await stage.serve(stage.protocol)
        number = server.sockets[0].fileno()
        stage.client_of(server)
        no_more_descriptors(True)
        await stage.until(lambda: stage.trace.changes)
        no_more_descriptors(False)
        server.close()
        protocol = stage.protocol()
        ours, peer = _pair_with_number(stage, number)
        await stage.loop.create_connection(lambda: protocol, sock=ours)
        await asyncio.sleep(2 * constants.ACCEPT_RETRY_DELAY)
        peer.send(b"hello")
        await stage.quiet()

    assert play_with(run, scenario) == [
        "reported, from None: OSError(EMFILE)",
        "connection_made",
        "data_received b'hello'",
    ]


def _pair_with_number(stage: Stage, number: int) -> tuple[socket.socket, Peer]:
    """A pair of sockets, of which one has the descriptor *number*, which is free."""
    ours, peer = stage.pair()
    if ours.fileno() != number:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)
        os.dup2(ours.fileno(), number)
        ours.close()
        ours = socket.socket(fileno=number)
        ours.setblocking(False)
    return stage.keep(ours), peer


def test_a_socket_that_its_owner_closes_is_not_the_end_of_the_world(run: Runner) -> None:
    """A transport whose socket was closed behind its back says nothing, or that it is lost, and can be closed."""
    for use in "nothing", "close", "abort", "write":
        for paused in False, True:

            async def scenario(stage: Stage) -> None:
                protocol = stage.protocol()
                ours, _ = stage.pair()
                await stage.loop.create_connection(lambda: protocol, sock=ours)
                if paused:
                    protocol.transport.pause_reading()
                ours.close()
                await stage.quiet()
                if use == "write":
                    protocol.transport.write(b"into the void")
                elif use != "nothing":
                    getattr(protocol.transport, use)()
                await stage.quiet()
                protocol.transport.abort()
                await protocol.lost

            assert play_with(run, scenario) in (
                ["connection_made", "connection_lost None"],
                ["connection_made", "connection_lost OSError(EBADF)"],
            )
            if run.mode == "reactor-first":
                return  # such a reactor runs once


@pytest.mark.parametrize("paused", [False, True])
def test_a_reused_number_is_another_socket(run: Runner, paused: bool) -> None:
    """If a socket is closed behind a transport's back, and its number reused, the new one is not taken for the old."""

    async def scenario(stage: Stage) -> None:
        old = stage.protocol("old")
        ours, _ = stage.pair()
        number = ours.fileno()
        await stage.loop.create_connection(lambda: old, sock=ours)
        if paused:
            old.transport.pause_reading()
        ours.close()
        ours, peer = _pair_with_number(stage, number)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        new = stage.protocol("new", data_received=lambda data: new.transport.write(data))
        await stage.loop.create_connection(lambda: new, sock=ours)
        assert new.transport.get_extra_info("socket").fileno() == number
        old.transport.abort()
        await old.lost
        peer.send(b"hello")
        await stage.drain(peer)
        new.transport.write(MUCH)
        await stage.drain(peer)
        assert new.transport.get_extra_info("socket").fileno() == number

    trace = play_with(run, scenario)
    assert [line for line in trace if "old" not in line] == [
        "new: connection_made",
        "new: data_received b'hello'",
        "the peer has read b'hello' ''",
        "new: pause_writing",
        "new: resume_writing",
        "the peer has read 250000 bytes, crc c074be05 ''",
    ]
    assert len([line for line in trace if line.startswith("old: connection_lost")]) == 1


def test_a_reused_number_does_not_suffer_from_a_transport_that_closes(run: Runner) -> None:
    """Nor if the old transport was closing already, and still had to send."""

    async def scenario(stage: Stage) -> None:
        old = stage.protocol("old")
        ours, _ = stage.pair(SMALL)
        number = ours.fileno()
        await stage.loop.create_connection(lambda: old, sock=ours)
        old.transport.write(MUCH)
        old.transport.close()
        ours.close()
        ours, peer = _pair_with_number(stage, number)
        new = stage.protocol("new")
        await stage.loop.create_connection(lambda: new, sock=ours)
        peer.send(b"one")
        await stage.quiet()
        old.transport.abort()
        await stage.quiet()
        peer.send(b"two")
        await stage.quiet()
        assert old.lost.done()

    trace = play_with(run, scenario)
    received = "".join(line.partition("data_received ")[2] for line in trace if line.startswith("new: data"))
    assert received.replace("'b'", "") == "b'onetwo'"


def test_a_transport_that_is_closed_amid_a_batch_hears_no_more(run: Runner) -> None:
    """What the kernel has told already of one that another's callback closes, or pauses, is not told any more."""
    for method in ("close", "abort", "pause_reading") if run.mode == "asyncio-first" else ("close",):

        async def scenario(stage: Stage) -> None:
            protocols: list[StreamRecorder] = []

            def silence(data: bytes) -> None:
                for protocol in protocols:
                    getattr(protocol.transport, method)()

            peers = []
            for number in range(5):
                protocols.append(stage.protocol(f"number {number}", data_received=silence))
                peers.append(await stage.connect(protocols[-1]))
            for peer in peers:
                peer.send(b"hello")
            await stage.quiet()
            assert sum("data_received" in protocol.log for protocol in protocols) == 1

        play_with(run, scenario)


def test_a_transport_that_comes_amid_a_batch_hears_of_its_own_socket_only(run: Runner) -> None:
    """A number that is closed and reused while a batch is dispatched is not taken for the one that was ready."""

    async def scenario(stage: Stage) -> None:
        old = [stage.protocol(f"old {number}") for number in range(4)]
        sockets = []
        peers = []
        for protocol in old:
            ours, peer = stage.pair()
            sockets.append(ours)
            peers.append(peer)
            await stage.loop.create_connection(lambda protocol=protocol: protocol, sock=ours)
        new = stage.protocol("new")
        replacing: list[asyncio.Task[Any]] = []

        def replace(data: bytes) -> None:
            for protocol in old:
                if protocol.log.count("data_received") == 0 and not replacing:
                    number = protocol.transport.get_extra_info("socket").fileno()
                    protocol.transport.abort()
                    replacing.append(stage.loop.create_task(reuse(number, protocol)))

        async def reuse(number: int, protocol: StreamRecorder) -> None:
            await protocol.lost
            ours, peer = _pair_with_number(stage, number)
            await stage.loop.create_connection(lambda: new, sock=ours)

        for protocol in old:
            protocol.on["data_received"] = replace
        for peer in peers:
            peer.send(b"for the old ones")
        await stage.quiet()
        await asyncio.wait(replacing)
        await stage.quiet()
        assert new.log == ["connection_made"]

    play_with(run, scenario)


# Connections that do not come about


def test_a_connection_that_is_refused_leaves_nothing(run: Runner) -> None:
    """A ConnectionRefusedError, and the factory is not called."""

    async def scenario(stage: Stage) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            address = listening.getsockname()
        with pytest.raises(ConnectionRefusedError):
            await stage.loop.create_connection(lambda: pytest.fail("no protocol is needed"), *address)

    play_with(run, scenario)


def test_a_connection_attempt_that_is_cancelled_leaves_nothing(run: Runner) -> None:
    """Neither a descriptor, nor the loop's interest in it."""

    async def scenario(stage: Stage) -> None:
        # A listening socket whose backlog is full lets clients wait.
        listening = stage.keep(socket.create_server(("127.0.0.1", 0), backlog=0))
        waiting: list[asyncio.Task[None]] = []
        while not waiting or waiting[-1].done():
            sock = stage.keep(socket.socket())
            sock.setblocking(False)
            waiting.append(stage.loop.create_task(stage.loop.sock_connect(sock, listening.getsockname())))
            await stage.quiet()
        connecting = stage.loop.create_task(
            stage.loop.create_connection(lambda: pytest.fail("there is no connection"), *listening.getsockname())
        )
        await stage.quiet()
        assert not connecting.done()
        for task in connecting, waiting[-1]:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    play_with(run, scenario)


@pytest.mark.parametrize("rounds", [0, 1, 2, 3, 4])
def test_a_socket_that_was_handed_over_is_closed_once_if_that_is_cancelled(run: Runner, rounds: int) -> None:
    """Whenever create_connection(sock=...) is cancelled, it closes the socket, or has not begun, or has succeeded."""

    class Counted(socket.socket):
        closed = 0

        def close(self) -> None:
            if self.fileno() != -1:
                self.closed += 1
            super().close()

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()
        ours, peer = stage.pair()
        counted = Counted(fileno=ours.detach())
        connecting = stage.loop.create_task(stage.loop.create_connection(lambda: protocol, sock=counted))
        for _ in range(rounds):
            await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.wait([connecting])
        await stage.quiet()
        stage.note("cancelled", connecting.cancelled())
        if not connecting.cancelled():
            connecting.result()[0].close()
            await stage.quiet()
        elif not protocol.log:
            counted.close()  # it never began
        assert counted.closed == 1
        peer.receive()
        assert peer.ending == "eof"

    assert play_with(run, scenario) in (
        ["cancelled True"],
        ["connection_made", "connection_lost None", "cancelled True"],
        ["connection_made", "cancelled False", "connection_lost None"],
    )


def test_a_factory_that_fails_leaves_no_socket(run: Runner) -> None:
    """create_connection() raises what the factory raised, and closes the socket: its own, or the one handed over."""

    def factory() -> asyncio.Protocol:
        raise Boom

    async def scenario(stage: Stage) -> None:
        ours, peer = stage.pair()
        with pytest.raises(Boom):
            await stage.loop.create_connection(factory, sock=ours)
        assert ours.fileno() == -1
        with socket.create_server(("127.0.0.1", 0)) as listening:
            with pytest.raises(Boom):
                await stage.loop.create_connection(factory, *listening.getsockname())
            peer = Peer(stage.keep(listening.accept()[0]))
            await stage.expect(peer)

    assert play_with(run, scenario) == ["the peer has read b'' 'eof'"]


def test_a_factory_that_fails_for_a_client_is_reported(run: Runner) -> None:
    """asyncio tells of it in debug mode only; we always do. The client is hung up on, and others are served."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()
        factories: list[Callable[[], Any]] = [lambda: protocol, _raise_boom]
        server = await stage.serve(lambda: factories.pop()())
        peer = stage.client_of(server)
        await stage.expect(peer)
        another = stage.client_of(server)
        another.send(b"hello")
        await stage.until(lambda: "data_received" in protocol.log)

    assert play_with(run, scenario) == [
        "reported, from None: Boom",
        "the peer has read b'' 'eof'",
        "connection_made",
        "data_received b'hello'",
    ]


def _raise_boom() -> Any:
    raise Boom


def test_a_factory_that_closes_its_server_breaks_nothing(run: Runner) -> None:
    """The connection that was being made is made, or hung up on; nothing is left of it either way."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()

        def factory() -> Any:
            server.close()
            return protocol

        server = await stage.serve(factory)
        peer = stage.client_of(server)
        await stage.until(lambda: not server.is_serving())
        if protocol.transport is not None:
            protocol.transport.close()
        await stage.expect(peer)
        await server.wait_closed()

    trace = play_with(run, scenario)
    assert trace[-1] == "the peer has read b'' 'eof'"
