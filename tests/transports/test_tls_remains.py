"""TLS transports: what is left of them, when they fail, are dropped, cancelled, or the loop ends."""

from __future__ import annotations

import asyncio
import gc
import pathlib
import socket
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import txasync
from txasync import ReactorEventLoop

from ..conftest import disposable_reactor
from ..tls import contexts
from .conftest import RunIntoExit
from .recorders import Boom
from .tls_stage import (
    TLSPeer,
    TLSStage,
    Way,
    client_context,
    every_kind,
    play_on_ours,
    server_context,
)
from .traces import MUCH, SMALL


class Nobody(asyncio.Protocol):
    """A protocol that does nothing, but can be referred to weakly."""


# Failures


@every_kind
@pytest.mark.parametrize("callback", ["data_received", "buffer_updated", "eof_received", "pause_writing"])
def test_the_exception_handler_is_told_who_failed(way: Way, callback: str) -> None:
    """It is given the transport that the protocol knows, and the protocol, beside the exception and a message."""

    def fail(*args: Any) -> None:
        raise Boom

    async def scenario(stage: TLSStage) -> None:
        told: list[dict[str, Any]] = []
        stage.loop.set_exception_handler(lambda loop, context: told.append(context))
        protocol: Any = (stage.buffered_protocol if callback == "buffer_updated" else stage.protocol)()
        protocol.on[callback] = fail
        peer = await stage.connect(protocol, sndbuf=SMALL)
        if callback == "pause_writing":
            while not protocol.paused:
                protocol.transport.write(MUCH)
        elif callback == "eof_received":
            peer.leave()
        else:
            peer.send(b"data")
        await stage.quiet()
        (context,) = told
        assert context["transport"] is protocol.transport
        assert context["protocol"] is protocol
        assert isinstance(context["exception"], Boom)
        assert callback in context["message"]
        assert protocol.lost.done() is (callback != "pause_writing")

    play_on_ours(scenario, way)


def _close(transport: asyncio.Transport, peer: TLSPeer) -> None:
    transport.close()
    peer.leave()


def _leave(transport: asyncio.Transport, peer: TLSPeer) -> None:
    peer.leave()


def _hang_up(transport: asyncio.Transport, peer: TLSPeer) -> None:
    peer.hang_up()


def _abort(transport: asyncio.Transport, peer: TLSPeer) -> None:
    transport.abort()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing is collected but what nobody refers to."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@every_kind
@pytest.mark.parametrize("end", [_close, _leave, _hang_up, _abort])
def test_a_connection_leaves_no_reference_cycle(way: Way, end: Callable[..., None], no_collector: None) -> None:
    """When it is lost and nobody refers to it any more, the transport and the context are gone at once."""

    async def use(stage: TLSStage) -> list[weakref.ref[Any]]:
        class Echo(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                self.transport.write(data)

            def connection_lost(self, exc: Exception | None) -> None:
                lost.set_result(None)

        lost = stage.loop.create_future()
        make = contexts.server_context if way.side == "server" else contexts.client_context
        context = make(way.kind)
        ours, plain = stage.pair()
        peer = stage.tls_peer(plain)
        connecting = stage.loop.create_task(stage.secured(Echo(), ours, ssl=context))
        await stage.greet(peer, connecting)
        transport, protocol = connecting.result()
        peer.send(bytes(40_000))
        await stage.quiet()
        assert peer.receive() == bytes(40_000)
        transport.get_extra_info("peercert")
        references = [
            weakref.ref(thing) for thing in (transport, protocol, context, transport.get_extra_info("ssl_object"))
        ]
        end(transport, peer)
        await lost
        return references

    async def scenario(stage: TLSStage) -> None:
        references = await use(stage)
        await stage.quiet()
        assert [reference() for reference in references] == [None] * 4

    play_on_ours(scenario, way)


@every_kind
def test_a_transport_that_is_dropped_without_close_warns_and_closes_its_socket(way: Way) -> None:
    """The warning is a ResourceWarning, and the peer sees the end."""

    async def scenario(stage: TLSStage) -> None:
        ours, plain = stage.pair()
        peer = stage.tls_peer(plain)
        connecting = stage.loop.create_task(stage.secured(asyncio.Protocol(), ours))
        await stage.greet(peer, connecting)
        connecting.result()[0].pause_reading()
        del connecting
        await stage.quiet()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            gc.collect()
        assert {warning.category for warning in caught} == {ResourceWarning}
        assert "unclosed transport" in str(caught[0].message)
        caught.clear()
        assert ours.fileno() == -1
        peer.receive()
        assert peer.ending.endswith("eof")

    play_on_ours(scenario, way)


@pytest.mark.parametrize("side", ["server", "client"])
@pytest.mark.parametrize("kind", ["stdlib", "memory"])
@pytest.mark.parametrize("end", ["close", "nothing"])
def test_a_loop_may_be_closed_while_a_transport_is_open(side: str, kind: str, end: str) -> None:
    """The transport is collected then, with a warning, and its socket is closed; nothing else happens."""
    with disposable_reactor("epoll") as reactor:
        loop = ReactorEventLoop(reactor)
        ours, plain = socket.socketpair()
        ours.setblocking(False)
        peer = TLSPeer(plain, server_side=side == "client")
        context = (server_context if side == "server" else client_context)(kind)

        async def connect() -> None:
            connecting: asyncio.Task[Any] = loop.create_task(
                loop.connect_accepted_socket(asyncio.Protocol, ours, ssl=context)
                if side == "server"
                else loop.create_connection(asyncio.Protocol, sock=ours, ssl=context, server_hostname="localhost")
            )
            while not connecting.done():
                peer.go_on()
                await asyncio.sleep(0)
            transport, _ = connecting.result()
            if end == "close":
                transport.close()

        loop.run_until_complete(connect())
        loop.close()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            gc.collect()
        assert {warning.category for warning in caught} == {ResourceWarning}
        caught.clear()
        assert ours.fileno() == -1
        peer.receive()
        assert peer.ending.endswith("eof")
        plain.close()


@every_kind
def test_a_cancelled_connection_gives_its_socket_back(way: Way) -> None:
    """At whatever point of the handshake, no descriptor, no timer and no task is left, and nobody is told anything."""

    async def scenario(stage: TLSStage) -> None:
        for steps in range(1, 6):
            ours, plain = stage.pair()
            peer = stage.tls_peer(plain)
            protocol = Nobody()
            reference = weakref.ref(protocol)
            task = stage.loop.create_task(stage.secured(protocol, ours))
            del protocol
            for step in range(steps):
                if step > 1:
                    peer.go_on()
                await stage.a_round()
            was_done = task.done()
            task.cancel()
            await asyncio.wait([task])
            if was_done:
                task.result()[0].abort()
            else:
                assert task.cancelled()
            del task
            await stage.quiet()
            if ours.fileno() != -1:
                # There was a connection, which nobody has got to see, and which ends as any other.
                peer.go_on()
                assert peer.greeted
                peer.leave()
                await stage.quiet()
            assert ours.fileno() == -1
            gc.collect()
            assert reference() is None

    assert play_on_ours(scenario, way) == []


@every_kind
def test_a_cancelled_upgrade_ends_the_connection(way: Way) -> None:
    """At whatever point of the handshake: nothing plain can be said any more; the protocol is told of the loss."""

    async def scenario(stage: TLSStage) -> None:
        for steps in range(1, 6):
            ours, plain = stage.pair()
            protocol = stage.protocol()
            await stage.loop.create_connection(lambda protocol=protocol: protocol, sock=ours)
            peer = stage.tls_peer(plain)
            task = stage.loop.create_task(stage.upgraded(protocol))
            for step in range(steps):
                if step > 1:
                    peer.go_on()
                await stage.a_round()
            was_done = task.done()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() is not was_done
            if was_done:
                task.result().abort()
            await stage.quiet()
            assert ours.fileno() == -1

    assert play_on_ours(scenario, way) == ["connection_made", "connection_lost None"] * 5


@pytest.mark.parametrize("limit", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_a_server_with_a_wrong_time_limit_leaves_nothing_open(limit: str, tmp_path: pathlib.Path) -> None:
    """It is a ValueError before anything is bound."""
    if sys.version_info < (3, 11) and limit == "ssl_shutdown_timeout":
        return  # which servers do not take

    async def scenario(stage: TLSStage) -> None:
        loop: Any = stage.loop
        for wrong in 0, -1:
            options: dict[str, Any] = {"ssl": stage.context, limit: wrong}
            with pytest.raises(ValueError, match=limit):
                await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, **options)
            with pytest.raises(ValueError, match=limit):
                await loop.create_unix_server(asyncio.Protocol, tmp_path / "socket", **options)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        play_on_ours(scenario, Way("server", "stdlib"))
        gc.collect()
    assert [str(warning.message) for warning in caught] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", contexts.SERVER_KINDS)
def test_a_server_that_is_closed_during_a_handshake_lets_it_go_on(kind: str) -> None:
    """As its other connections; it counts as closed when that has ended."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol(data_received=lambda data: protocol.transport.write(data))
        server = await stage.serve(lambda: protocol, ssl=stage.context)
        peer = TLSPeer(stage.client_of(server).sock, server_side=False)
        await stage.quiet()
        server.close()
        await stage.quiet()
        while not peer.greeted:
            peer.go_on()
            await stage.a_round()
        peer.send(b"hello")
        await stage.expect(peer, 5)
        peer.leave()
        await protocol.lost
        await server.wait_closed()

    assert play_on_ours(scenario, Way("server", kind)) == [
        "connection_made",
        "data_received b'hello'",
        "the peer has read b'hello' ''",
        "eof_received",
        "connection_lost None",
    ]


if sys.version_info >= (3, 13):

    @pytest.mark.parametrize("kind", contexts.SERVER_KINDS)
    @pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
    def test_a_server_that_ends_its_clients_ends_handshakes(kind: str, method: str) -> None:
        """No protocol hears of them, and the server counts as closed."""

        async def scenario(stage: TLSStage) -> None:
            server = await stage.serve(stage.protocol, ssl=stage.context)
            peer = stage.client_of(server)
            await stage.quiet()
            server.close()
            getattr(server, method)()
            await server.wait_closed()
            await stage.until(lambda: [peer.receive(), peer.ending][-1])
            stage.note("the peer has seen", peer.ending)

        assert play_on_ours(scenario, Way("server", kind)) == ["the peer has seen 'eof'"]


@every_kind
def test_debug_mode_changes_nothing(way: Way) -> None:
    """It logs more, and that is all."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol(data_received=lambda data: protocol.transport.write(data))
        peer = await stage.connect(protocol, sndbuf=SMALL)
        repr(protocol.transport)
        peer.send(MUCH[:50_000])
        await stage.drain(peer)
        protocol.attempt("pause_reading")
        protocol.attempt("resume_reading")
        peer.leave()
        await stage.drain(peer)
        failing = stage.protocol()
        peer = await stage.connect(failing)
        peer.send_raw(b"no record at all")
        await failing.lost
        ours, plain = stage.pair()
        plain.send(b"no handshake at all")
        with pytest.raises(OSError):
            await stage.secured(stage.protocol(), ours)

    async def debugged(stage: TLSStage) -> None:
        stage.loop.set_debug(True)
        stage.loop.slow_callback_duration = 60.0
        await scenario(stage)

    assert play_on_ours(debugged, way) == play_on_ours(scenario, way)


# The end of the loop


@pytest.mark.parametrize("kind", ["stdlib", "memory"])
@pytest.mark.parametrize(
    "callback", ["data_received", "buffer_updated", "eof_received", "resume_writing", "connection_lost"]
)
def test_system_exit_in_a_callback_leaves_the_run(
    loop: ReactorEventLoop, run_into_exit: RunIntoExit, kind: str, callback: str
) -> None:
    """It is not the protocol's failure: the connection goes on when the loop does."""
    on: dict[str, Callable[..., Any]] = {}
    log: list[str] = []

    async def scenario(stage: TLSStage) -> None:
        protocol: Any = (stage.buffered_protocol if callback == "buffer_updated" else stage.protocol)()
        protocol.on[callback] = lambda *args: on[callback]() if callback in on else None
        protocol.log = log
        peer = await stage.connect(protocol, sndbuf=SMALL)
        peer.send(b"data")
        written = 0
        while not protocol.paused:
            protocol.transport.write(MUCH)
            written += len(MUCH)
        read = 0
        while read < written:
            read += len(peer.receive())
            await stage.a_round()
        peer.leave()
        await protocol.lost

    stage: Any = TLSStage(loop, "server", kind)
    loop.run_until_complete(run_into_exit(stage.play(scenario), on, callback))
    assert sorted(log) == sorted(
        [
            "connection_made",
            "buffer_updated" if callback == "buffer_updated" else "data_received",
            "pause_writing",
            "resume_writing",
            "eof_received",
            "connection_lost",
        ]
    )


@pytest.fixture
def installed(reactor: Any) -> Iterator[ReactorEventLoop]:
    """The loop of a reactor that is to be run by ``reactor.run()``."""
    loop = txasync.install(reactor)
    assert isinstance(loop, ReactorEventLoop)
    yield loop
    assert loop.is_closed()


@pytest.mark.parametrize("kind", ["stdlib", "memory", "options"])
def test_a_reactor_that_stops_ends_its_connections(installed: ReactorEventLoop, kind: str) -> None:
    """A peer that reads gets all that was written, and a close_notify; one that does not holds nothing up."""
    size = 3_000_000
    lost: list[Any] = []
    received: list[int] = []
    keep: list[Any] = []
    installed.shutdown_timeout_s = 1.0

    class Writer(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(bytes(size))
            keep.append(transport)
            if len(keep) == 3:
                installed.reactor.callLater(0, installed.reactor.stop)

        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(exc)

    context = client_context("stdlib")

    def read_all(address: Any) -> None:
        with socket.create_connection(address) as sock:
            with context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False) as secured:
                total = 0
                while data := secured.recv(1 << 16):
                    total += len(data)
                received.append(total)

    lazy: list[Any] = []

    def read_nothing(address: Any) -> None:
        lazy.append(context.wrap_socket(socket.create_connection(address), server_hostname="localhost"))

    async def main() -> None:
        server = await installed.create_server(Writer, "127.0.0.1", 0, ssl=server_context(kind))
        keep.append(server)
        for read in read_all, read_nothing:
            threads.append(threading.Thread(target=read, args=[server.sockets[0].getsockname()]))
            threads[-1].start()

    threads: list[threading.Thread] = []
    tasks: list[Any] = []
    installed.reactor.callWhenRunning(lambda: tasks.append(installed.create_task(main())))
    installed.reactor.run()
    for thread in threads:
        thread.join(30)
    assert received == [size]
    assert len(lost) == 2
    for sock in lazy:
        sock.close()
