"""Traces of TLS transports: what may be written, how it is buffered, and how the protocol is told to wait."""

from __future__ import annotations

import array
import asyncio
import io
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from ..conftest import Reports
from .recorders import Boom
from .tls_stage import Part, TLSRecorder, TLSScenarios, TLSStage, play_on_both
from .tls_traces import WRITING
from .traces import MUCH, SMALL

scenario = TLSScenarios(WRITING)

CONTENT = bytes(range(251)) * 1000


def raises(*args: Any) -> None:
    """A callback that fails."""
    raise Boom


@scenario
async def types(stage: TLSStage) -> None:
    """bytes, bytearray and memoryview are written; all else is a TypeError."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    for data in b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview"), memoryview(bytearray(b"another"))[1:]:
        protocol.attempt("write", data)
    for wrong in "text", None, 5, [b"list"], array.array("B", b"array"), "":
        protocol.attempt("write", wrong)
    await stage.drain(peer)


@scenario
async def empty_writes(stage: TLSStage) -> None:
    """Nothing is nothing, also when the transport is closing."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    for data in b"", bytearray(), memoryview(b""):
        protocol.attempt("write", data)
    protocol.attempt("close")
    protocol.attempt("write", b"")
    await stage.drain(peer)


@scenario
async def written_in_connection_made(stage: TLSStage) -> None:
    """connection_made may write, and pause and write some more."""
    protocol = stage.protocol(
        connection_made=lambda transport: [transport.write(b"hello"), transport.pause_reading(), transport.write(b"!")]
    )
    peer = await stage.connect(protocol)
    await stage.drain(peer)


@scenario
async def lines(stage: TLSStage) -> None:
    """writelines() takes any iterable of what write() takes."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)

    def generated() -> Iterator[bytes]:
        yield b"gene"
        yield b"rated "

    for pieces in [b"a ", b"list "], (b"a ", bytearray(b"tuple ")), generated(), [memoryview(b"one")], []:
        protocol.attempt("writelines", pieces)
    protocol.attempt("writelines", [b"%d," % number for number in range(5000)])
    await stage.drain(peer)


@scenario
async def more_than_the_kernel_takes(stage: TLSStage) -> None:
    """What the kernel does not take is buffered and sent as it can be, in order."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    for data in b"a", MUCH, bytearray(b"b" * 1000), memoryview(b"c" * 1000), b"d" * 100_000:
        protocol.attempt("write", data)
    await stage.drain(peer)
    protocol.attempt("get_write_buffer_size")


# Water marks: asyncio counts what its own TLS holds, ours all that is not sent; the callbacks are the same.


async def fill(protocol: TLSRecorder, stage: TLSStage) -> int:
    """Write until the protocol is paused; what was written, in bytes."""
    written = 0
    while not protocol.paused:
        protocol.transport.write(MUCH)
        written += len(MUCH)
        assert written < 100 * len(MUCH)
    return written


async def read_all(stage: TLSStage, peer: Any, size: int) -> None:
    """Have *peer* read *size* bytes, and note that it has."""
    read = 0
    while read < size:
        read += len(peer.receive())
        await stage.a_round()
    await stage.quiet()
    stage.note("the peer has read it all", read == size)


@scenario
async def marks(stage: TLSStage) -> None:
    """The protocol is paused once, above the high-water mark, and resumed once, when the buffer is down again."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.attempt("get_write_buffer_limits")
    for _ in range(2):
        written = await fill(protocol, stage)
        stage.note("buffers", protocol.transport.get_write_buffer_size() > 0)
        for _ in range(2):
            protocol.transport.write(MUCH)
        await read_all(stage, peer, written + 2 * len(MUCH))
        protocol.note_state()
        protocol.attempt("get_write_buffer_size")


@scenario
async def limits(stage: TLSStage) -> None:
    """The marks default to one another; wrong ones are refused and change nothing."""
    protocol = stage.protocol()
    await stage.connect(protocol)
    for kwargs in (
        {"high": 1000},
        {"low": 1000},
        {"high": 100, "low": 100},
        {},
        {"high": 10, "low": 11},
        {"high": -1},
        {"low": -1},
        {"high": 10, "low": -1},
    ):
        stage.attempt(f"limits {kwargs}", lambda kwargs=kwargs: protocol.transport.set_write_buffer_limits(**kwargs))
        protocol.note_state()
    protocol.attempt("set_write_buffer_limits", 20, 10)
    protocol.attempt("set_write_buffer_limits", "20")
    protocol.note_state()


def _in(callback: str, action: Callable[[TLSRecorder], object], name: str, **asyncios: Any) -> None:
    """Add the scenario of a protocol that does something in *callback*, the first time."""

    async def acting(stage: TLSStage) -> None:
        left = [1]
        protocol = stage.protocol()
        protocol.on[callback] = lambda *args: left and left.pop() and action(protocol)
        peer = await stage.connect(protocol, sndbuf=SMALL)
        await fill(protocol, stage)
        while peer.receive() or not (protocol.lost.done() or protocol.paused is False):
            await stage.a_round()
        await stage.quiet()
        stage.note("lost", protocol.lost.done())

    acting.__name__ = f"{name}_in_{callback}"
    scenario.that(**asyncios)(acting)


_in("pause_writing", lambda protocol: protocol.attempt("write", MUCH), "writes")
_in("pause_writing", lambda protocol: protocol.attempt("abort"), "aborts")
_in("pause_writing", raises, "fails")
_in("resume_writing", lambda protocol: protocol.attempt("write", b"little"), "writes_little")
_in("resume_writing", lambda protocol: protocol.attempt("pause_reading"), "pauses_reading")
_in("resume_writing", lambda protocol: protocol.attempt("abort"), "aborts", since=(3, 14))  # fails before
_in("resume_writing", raises, "fails")


# The end


@scenario
async def written_when_closed(stage: TLSStage) -> None:
    """What is written to a closed transport is dropped; there is a warning from the sixth time on."""
    for end in "close", "abort":
        protocol = stage.protocol()
        peer = await stage.connect(protocol)
        protocol.attempt(end)
        for _ in range(8):
            protocol.attempt("write", b"dropped")
        protocol.attempt("writelines", [b"dropped", b"as well"])
        await stage.drain(peer)


@scenario
async def written_when_the_peer_has_ended(stage: TLSStage) -> None:
    """So it is when the peer was the one to end the connection."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    peer.leave()
    await protocol.lost
    for _ in range(3):
        protocol.attempt("write", b"dropped")
    await stage.quiet()


@scenario.that(since=(3, 13))  # before, OpenSSL's errno is not told: python/cpython#115627
async def written_when_the_peer_is_gone(stage: TLSStage) -> None:
    """The write that fails loses the connection."""
    protocol = stage.protocol(connection_made=lambda transport: transport.write(b"hello"))
    peer = await stage.connect(protocol)
    peer.receive()
    protocol.transport.pause_reading()
    peer.sock.close()
    for _ in range(3):
        protocol.attempt("write", b"dropped")
    await stage.quiet()
    stage.note("lost", protocol.lost.done())


# Files


def a_file() -> Any:
    """A regular file, positioned at its beginning."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # the caller's to close
    file.write(CONTENT)
    file.seek(0)
    return file


async def sent(stage: TLSStage, protocol: Any, peer: Any, file: Any, *args: Any, **kwargs: Any) -> None:
    """Send *file* while the peer reads, and note how that ends."""
    what = f"sent {args} {kwargs}"
    sending = stage.loop.create_task(
        stage.attempt_to_await(what, stage.loop.sendfile(protocol.transport, file, *args, **kwargs))
    )
    await stage.drain(peer, until=sending)
    if (count := await sending) is not None:
        stage.note("count", count)
        stage.note("position", file.tell())


@scenario
async def files(stage: TLSStage) -> None:
    """A file is read and written, as much as is asked for, and is left at the end of what was sent."""
    for make in a_file, lambda: io.BytesIO(CONTENT):
        protocol = stage.protocol()
        peer = await stage.connect(protocol)
        with make() as file:
            await sent(stage, protocol, peer, file)
            await sent(stage, protocol, peer, file, 100)
            await sent(stage, protocol, peer, file, 5, 10)
            await sent(stage, protocol, peer, file, len(CONTENT) + 5)
            await sent(stage, protocol, peer, file, 0, 10, fallback=False)
            protocol.attempt("write", b"after it")
            await stage.drain(peer)
            protocol.attempt("close")
            await sent(stage, protocol, peer, file)


@scenario
async def reading_while_a_file_is_sent(stage: TLSStage) -> None:
    """What arrives while a file is sent is delivered when it was sent."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    with a_file() as file:
        sending = stage.loop.create_task(stage.loop.sendfile(protocol.transport, file))
        await stage.until(lambda: not protocol.transport.is_reading())
        peer.send(b"hello")
        await stage.drain(peer, until=sending)
        stage.note("count", await sending)
    await stage.quiet()
    protocol.note_state()


@scenario
async def a_file_cancelled(stage: TLSStage) -> None:
    """A cancelled sendfile leaves a transport that works."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    with a_file() as file:
        sending = stage.loop.create_task(stage.loop.sendfile(protocol.transport, file))
        await stage.until(lambda: not protocol.transport.is_reading())
        sending.cancel()
        await asyncio.wait([sending])
        stage.note("cancelled", sending.cancelled())
    peer.send(b"hello")
    await stage.quiet()
    protocol.note_state()


@scenario.every
def test_the_trace_is_that_of_asyncio(part: Part, reports: Reports) -> None:
    """What writing does, raises and calls is what it does with asyncio's own loop."""
    traced, expected = play_on_both(scenario, part, reports)
    assert traced == expected
