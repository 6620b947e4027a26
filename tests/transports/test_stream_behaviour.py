"""Streams: what is promised beyond asyncio's traces, and what asyncio promises but does not do in every version."""

from __future__ import annotations

import array
import asyncio
import io
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..conftest import Reports, Runner
from .recorders import describe
from .traces import MUCH, SMALL, Stage, play_on_ours, play_with


async def written(stage: Stage, *actions: Callable[[Any], object]) -> bytes:
    """What a peer reads of what *actions* do to a transport that has to buffer."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    for action in actions:
        action(protocol.transport)
    protocol.transport.close()
    read = b""
    while not peer.ending:
        read += peer.receive()
        await stage.a_round()
    return read


# What may be written


def test_a_bytearray_may_be_changed_when_write_has_returned() -> None:
    """What is sent is what was in it when it was written."""

    async def scenario(stage: Stage) -> None:
        writes: tuple[Callable[[Any, Any], object], ...] = (
            lambda transport, data: transport.write(data),
            lambda transport, data: transport.write(memoryview(data)),
            lambda transport, data: transport.writelines([b"", data]),
            lambda transport, data: transport.writelines([memoryview(data)[5:], data]),
        )
        for write in writes:
            data = bytearray(MUCH)
            read = await written(stage, lambda transport: write(transport, data), lambda transport: data.clear())
            assert read in (MUCH, MUCH[5:] + MUCH)
            data = bytearray(MUCH)
            read = await written(
                stage,
                lambda transport: transport.write(MUCH),
                lambda transport: write(transport, data),
                lambda transport: data.__setitem__(slice(None), bytes(len(data))),
            )
            assert read in (MUCH + MUCH, MUCH + MUCH[5:] + MUCH)

    play_on_ours(scenario)


VIEWS: dict[str, Callable[[], Any]] = {
    "integers": lambda: memoryview(array.array("I", range(100_000))),
    "doubles": lambda: memoryview(array.array("d", [0.5] * 50_000)),
    "characters": lambda: memoryview(MUCH).cast("c"),
    "rows": lambda: memoryview(MUCH).cast("B", [1000, 250]),
    "cells": lambda: memoryview(array.array("H", range(60_000))).cast("B").cast("H", [200, 30, 10]),
    "every other byte": lambda: memoryview(MUCH)[::2],
    "backwards": lambda: memoryview(MUCH)[::-1],
    "nothing": lambda: memoryview(array.array("I")),
    "a single integer": lambda: memoryview(array.array("I", [7])).cast("B").cast("I", []),
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_memoryview_of_any_shape_is_sent_whole(view: str) -> None:
    """Its bytes are what tobytes() says, however many there are to an element, and however they lie in memory."""

    async def scenario(stage: Stage) -> None:
        data = VIEWS[view]()
        assert await written(stage, lambda transport: transport.write(data)) == data.tobytes()
        assert await written(stage, lambda transport: transport.writelines([b"a", data])) == b"a" + data.tobytes()
        behind = await written(stage, lambda transport: transport.write(MUCH), lambda transport: transport.write(data))
        assert behind == MUCH + data.tobytes()

    play_on_ours(scenario)


def test_the_buffer_is_counted_in_bytes() -> None:
    """Elements that are larger count as what they are, for the water marks as well."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol(connection_made=lambda transport: transport.set_write_buffer_limits(len(MUCH) + 39))
        peer = await stage.connect(protocol, sndbuf=SMALL)
        protocol.transport.write(MUCH)
        before = protocol.transport.get_write_buffer_size()
        protocol.transport.write(memoryview(array.array("Q", [1, 2, 3, 4, 5])))
        assert protocol.transport.get_write_buffer_size() == before + 40
        await stage.drain(peer)

    assert "pause_writing" not in play_on_ours(scenario)


def test_a_subclass_of_bytes_is_bytes() -> None:
    """Whatever its class says of itself."""

    class Special(bytes):
        def __len__(self) -> int:
            return 3

    async def scenario(stage: Stage) -> None:
        assert await written(stage, lambda transport: transport.write(Special(b"12345"))) == b"12345"

    play_on_ours(scenario)


# Several pieces at once


def test_writelines_obeys_the_water_marks() -> None:
    """pause_writing() comes when what several pieces leave in the buffer is too much."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect(protocol, sndbuf=SMALL)
        for _ in range(2):
            protocol.attempt("writelines", [MUCH, b"and", MUCH])
        await stage.drain(peer)

    assert play_on_ours(scenario) == [
        "connection_made",
        "pause_writing",
        "writelines",
        "writelines",
        "resume_writing",
        f"the peer has read {describe(2 * (MUCH + b'and' + MUCH))} ''",
    ]


def test_writelines_drops_what_comes_too_late(reports: Reports) -> None:
    """After the connection is lost it is as quiet as write(), and warns as often."""

    async def scenario(stage: Stage) -> None:
        for end in "close", "abort":
            protocol = stage.protocol()
            peer = await stage.connect(protocol)
            protocol.attempt(end)
            for _ in range(5):
                protocol.attempt("writelines", [b"drop", b"ped"])
            await stage.quiet()
            protocol.attempt("writelines", [b"drop", b"ped"])
            protocol.attempt("writelines", [])
            assert peer.receive() == b""

    ending = [
        *["writelines"] * 4,
        "logged as WARNING: socket.send() raised exception.",
        "writelines",
        "connection_lost None",
        "logged as WARNING: socket.send() raised exception.",
        "writelines",
        "writelines",
    ]
    assert play_on_ours(scenario) == ["connection_made", "close", *ending, "connection_made", "abort", *ending]
    reports.asyncio.clear()


def test_writelines_of_nothing_writes_nothing() -> None:
    """Empty pieces, and a generator that yields none, leave nothing in the buffer, and do not disturb what is there."""

    def nothing() -> Iterator[bytes]:
        yield from ()

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol(connection_made=lambda transport: transport.set_write_buffer_limits(0))
        peer = await stage.connect(protocol, sndbuf=SMALL)
        for pieces in nothing(), [b""], [b"", bytearray(), memoryview(b"")], iter([b"", b"a", b""]):
            protocol.attempt("writelines", pieces)
            protocol.attempt("get_write_buffer_size")
        protocol.attempt("write", MUCH)
        for pieces in nothing(), [b""], [b"", b"b", b""]:
            protocol.attempt("writelines", pieces)
        await stage.drain(peer)

    assert play_on_ours(scenario) == [
        "connection_made",
        *["writelines", "get_write_buffer_size 0"] * 4,
        "pause_writing",
        "write",
        *["writelines"] * 3,
        "resume_writing",
        f"the peer has read {describe(b'a' + MUCH + b'b')} ''",
    ]


# Closing at odd moments


@pytest.mark.parametrize("end", ["close", "abort"])
@pytest.mark.parametrize("closing", [False, True])
def test_the_connection_is_lost_once_if_resume_writing_ends_it(run: Runner, end: str, closing: bool) -> None:
    """Whatever resume_writing() does when the last of the buffer was sent, connection_lost() comes once, and later."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol(
            connection_made=lambda transport: transport.set_write_buffer_limits(0),
            resume_writing=lambda: protocol.attempt(end),
        )
        peer = await stage.connect(protocol, sndbuf=SMALL)
        protocol.transport.write(MUCH)
        if closing:
            protocol.transport.close()
        await stage.drain(peer)

    assert play_with(run, scenario) == [
        "connection_made",
        "pause_writing",
        "resume_writing",
        end,
        "connection_lost None",
        "the peer has read 250000 bytes, crc c074be05 'eof'",
    ]


def test_a_transport_that_has_sent_its_last_is_like_any_closed_one(reports: Reports) -> None:
    """After close() with data in the buffer, when all is sent, everything may still be called, and does nothing."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol(connection_lost=lambda exc: protocol.attempt("write", b"too late"))
        peer = await stage.connect(protocol, sndbuf=SMALL)
        protocol.transport.write(MUCH)
        protocol.transport.close()
        await stage.drain(peer)
        for method in "close", "abort", "pause_reading", "resume_reading", "write_eof", "get_write_buffer_size":
            protocol.attempt(method)
        for _ in range(4):
            protocol.attempt("write", b"dropped")
        protocol.attempt("writelines", [b"dropped"])
        protocol.attempt("set_write_buffer_limits", 10)
        await stage.quiet()

    assert play_on_ours(scenario) == [
        "connection_made",
        "pause_writing",
        "resume_writing",
        "connection_lost None",
        "write",
        "the peer has read 250000 bytes, crc c074be05 'eof'",
        "close",
        "abort",
        "pause_reading",
        "resume_reading",
        "write_eof",
        "get_write_buffer_size 0",
        *["write"] * 3,
        "logged as WARNING: socket.send() raised exception.",
        "write",
        "logged as WARNING: socket.send() raised exception.",
        "writelines",
        "set_write_buffer_limits",
    ]
    reports.asyncio.clear()


def test_a_pause_in_connection_made_holds(run: Runner) -> None:
    """Nothing is delivered until the protocol resumes, however long the data has waited."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol(connection_made=lambda transport: transport.pause_reading())
        ours, peer = stage.pair()
        peer.send(b"early")
        peer.sock.shutdown(socket.SHUT_WR)
        await stage.loop.create_connection(lambda: protocol, sock=ours)
        await stage.quiet()
        protocol.attempt("resume_reading")
        await stage.quiet()

    assert play_with(run, scenario) == [
        "connection_made",
        "resume_reading",
        "data_received b'early'",
        "eof_received",
        "connection_lost None",
    ]


@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize("method", ["close", "abort", "pause_reading"])
def test_nothing_comes_any_more_however_much_is_waiting(method: str, buffered: bool) -> None:
    """A protocol that closes or pauses when data comes gets no second piece."""

    async def scenario(stage: Stage) -> None:
        callback = "buffer_updated" if buffered else "data_received"
        protocol: Any = (stage.buffered_protocol if buffered else stage.protocol)()
        protocol.on[callback] = lambda what: getattr(protocol.transport, method)()
        peer = await stage.connect(protocol)
        for _ in range(4):
            peer.send(bytes(40_000))
        await stage.quiet()
        assert protocol.log.count(callback) == 1
        assert "eof_received" not in protocol.log

    play_on_ours(scenario)


def test_a_new_protocol_gets_all_that_is_waiting() -> None:
    """set_protocol() when data comes: the rest is the new protocol's, in order, in whichever way it takes it."""
    data = bytes(range(256)) * 600

    async def scenario(stage: Stage) -> None:
        taken = bytearray()

        def take(data: bytes) -> None:
            taken.extend(data)
            second = stage.buffered_protocol("second", state="open")
            second.transport = first.transport
            second.on["buffer_updated"] = lambda nbytes: taken.extend(second.buffer[:nbytes])
            first.transport.set_protocol(second)

        first = stage.protocol("first", data_received=take)
        peer = await stage.connect(first)
        peer.send(data[:100_000])
        peer.send(data[100_000:])
        await stage.quiet()
        assert taken == data
        assert first.log == ["connection_made", "data_received"]

    play_on_ours(scenario)


def test_pieces_are_of_a_bounded_size() -> None:
    """However much has arrived, one data_received() is at most 256 KiB."""

    async def scenario(stage: Stage) -> None:
        sizes: list[int] = []
        protocol = stage.protocol(
            connection_made=lambda transport: transport.pause_reading(),
            data_received=lambda data: sizes.append(len(data)),
        )
        peer = await stage.connect_tcp(protocol)
        sent = 0
        for _ in range(100):
            try:
                sent += peer.sock.send(bytes(1_000_000))
            except BlockingIOError:
                break
        protocol.transport.resume_reading()
        await stage.until(lambda: sum(sizes) == sent)
        assert max(sizes) <= 256 * 1024 < sent

    play_on_ours(scenario)


# Keeping within bounds


def test_a_slow_reader_does_not_make_the_buffer_grow(run: Runner) -> None:
    """A writer that obeys pause_writing() never has more in the buffer than the high-water mark and one write."""
    high, piece = 50_000, bytes(range(256)) * 40

    async def scenario(stage: Stage) -> None:
        total = sent = read = 0
        may_write = asyncio.Event()
        may_write.set()
        protocol = stage.protocol(
            connection_made=lambda transport: transport.set_write_buffer_limits(high),
            pause_writing=may_write.clear,
            resume_writing=may_write.set,
        )
        peer = await stage.connect(protocol, sndbuf=SMALL)
        total = 200 * len(piece)

        async def write() -> None:
            nonlocal sent
            while sent < total:
                await may_write.wait()
                protocol.transport.write(piece)
                sent += len(piece)
                assert protocol.transport.get_write_buffer_size() <= high + len(piece)

        writing = stage.loop.create_task(write())
        while read < total:
            assert protocol.transport.get_write_buffer_size() <= high + len(piece)
            # The kernel holds some of it, too, but nobody holds what was not written yet.
            assert sent - read <= high + len(piece) + 100_000
            try:
                read += len(peer.sock.recv(7000))
            except BlockingIOError:
                await stage.a_round()
        await writing
        assert protocol.log.count("pause_writing") > 5

    play_with(run, scenario)


def test_endless_traffic_leaves_time_for_everything_else(run: Runner) -> None:
    """Two transports that never stop talking starve neither timers, nor callbacks, nor Twisted, nor a third one."""

    async def scenario(stage: Stage) -> None:
        ends: list[asyncio.Transport] = []

        class PingPong(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport
                ends.append(transport)

            def data_received(self, data: bytes) -> None:
                self.transport.write(data)

        for sock in socket.socketpair():
            await stage.loop.create_connection(PingPong, sock=sock)
        ends[0].write(b"x" * 1000)
        protocol = stage.protocol()
        peer = await stage.connect(protocol)
        seen: list[str] = []
        everything = stage.loop.create_future()

        def see(what: str) -> None:
            seen.append(what)
            if len(seen) == 4:
                everything.set_result(None)

        stage.loop.call_soon(see, "callback")
        stage.loop.call_later(0.01, see, "timer")
        run.reactor.callLater(0.01, see, "Twisted")
        protocol.on["data_received"] = lambda data: see("data")
        peer.send(b"hello")
        await everything
        for end in ends:
            end.close()
        await stage.quiet()

    play_with(run, scenario)


# Files


def test_a_file_that_has_no_descriptor_arrives_whole() -> None:
    """asyncio 3.12 and later read the next block into memory that they still have to send."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect(protocol, sndbuf=SMALL)
        sending = stage.loop.create_task(stage.loop.sendfile(protocol.transport, io.BytesIO(MUCH)))
        await stage.drain(peer, until=sending)
        assert await sending == len(MUCH)

    assert play_on_ours(scenario)[-1] == "the peer has read 250000 bytes, crc c074be05 ''"


def test_a_second_file_waits_for_nobody(tmp_path: Any) -> None:
    """While one file is sent, a second sendfile() is a RuntimeError, and does no harm."""
    path = tmp_path / "file"
    path.write_bytes(MUCH)

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect(protocol, sndbuf=SMALL)
        with path.open("rb") as file, path.open("rb") as another:
            sending = stage.loop.create_task(stage.loop.sendfile(protocol.transport, file))
            await stage.quiet()
            with pytest.raises(RuntimeError):
                await stage.loop.sendfile(protocol.transport, another)
            await stage.drain(peer, until=sending)
            assert await sending == len(MUCH)
        protocol.transport.write(b"after it")
        await stage.drain(peer)

    assert play_on_ours(scenario)[-2:] == [
        "the peer has read 250000 bytes, crc c074be05 ''",
        "the peer has read b'after it' ''",
    ]


def test_a_file_without_a_descriptor_does_not_mix_with_what_arrives() -> None:
    """Nothing is delivered while it is sent; then everything is, to the protocol that was there."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect(protocol, sndbuf=SMALL)
        sending = stage.loop.create_task(stage.loop.sendfile(protocol.transport, io.BytesIO(MUCH)))
        await stage.until(lambda: not protocol.transport.is_reading())
        peer.send(b"hello")
        await stage.quiet()
        assert "data_received" not in protocol.log
        await stage.drain(peer, until=sending)
        await stage.until(lambda: "data_received" in protocol.log)
        assert protocol.transport.get_protocol() is protocol

    play_on_ours(scenario)


def test_a_file_without_a_descriptor_fails_with_its_connection() -> None:
    """If the peer goes, sendfile() raises, and the protocol hears connection_lost() once."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect(protocol, sndbuf=SMALL)
        sending = stage.loop.create_task(stage.loop.sendfile(protocol.transport, io.BytesIO(MUCH)))
        await stage.until(lambda: protocol.transport.get_write_buffer_size())
        peer.sock.close()
        with pytest.raises(ConnectionError):
            await sending
        await protocol.lost

    play_on_ours(scenario)


def test_a_file_without_a_descriptor_can_be_cancelled() -> None:
    """The transport goes on with its protocol, and reads again."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect(protocol, sndbuf=SMALL)
        sending = stage.loop.create_task(stage.loop.sendfile(protocol.transport, io.BytesIO(MUCH)))
        await stage.until(lambda: protocol.transport.get_write_buffer_size())
        sending.cancel()
        await asyncio.wait([sending])
        assert sending.cancelled()
        peer.send(b"hello")
        await stage.until(lambda: "data_received" in protocol.log)
        while peer.receive():
            await stage.quiet()

    play_on_ours(scenario)
