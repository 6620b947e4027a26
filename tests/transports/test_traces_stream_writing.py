"""Traces of stream transports: what may be written, how it is buffered, and how the protocol is told to wait."""

from __future__ import annotations

import array
from collections.abc import Callable, Iterator
from typing import Any

from ..conftest import Reports
from .combinations import Combination
from .recorders import Boom, StreamRecorder
from .traces import MUCH, SMALL, Scenarios, Stage, play_on_both

scenario = Scenarios()


def raises(*args: Any) -> None:
    """A callback that fails."""
    raise Boom


@scenario
async def types(stage: Stage) -> None:
    """bytes, bytearray and memoryview are written; all else is a TypeError."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    for data in b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview"), memoryview(bytearray(b"another"))[1:]:
        protocol.attempt("write", data)
    for wrong in "text", None, 5, [b"list"], array.array("B", b"array"), "":
        protocol.attempt("write", wrong)
    await stage.drain(peer)


@scenario
async def empty_writes(stage: Stage) -> None:
    """Nothing is nothing, also when the transport is closing."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    for data in b"", bytearray(), memoryview(b""):
        protocol.attempt("write", data)
    protocol.attempt("close")
    protocol.attempt("write", b"")
    await stage.drain(peer)


@scenario
async def written_in_connection_made(stage: Stage) -> None:
    """connection_made may write, and pause and write some more."""
    protocol = stage.protocol(
        connection_made=lambda transport: [transport.write(b"hello"), transport.pause_reading(), transport.write(b"!")]
    )
    peer = await stage.connect(protocol)
    await stage.drain(peer)


@scenario
async def more_than_the_kernel_takes(stage: Stage) -> None:
    """What the kernel does not take is buffered and sent as it can be, in order."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    for data in b"a", MUCH, bytearray(b"b" * 1000), memoryview(b"c" * 1000), b"d" * 300_000:
        protocol.attempt("write", data)
    stage.note("buffers something", protocol.transport.get_write_buffer_size() > 300_000)
    await stage.drain(peer)
    stage.note("buffers", protocol.transport.get_write_buffer_size())


@scenario
async def size_of_the_buffer(stage: Stage) -> None:
    """The buffer holds what was written less what the kernel took."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    for data in MUCH, b"x", b"", b"yz":
        protocol.attempt("write", data)
        protocol.attempt("get_write_buffer_size")
    await stage.drain(peer)
    protocol.attempt("get_write_buffer_size")


@scenario
async def marks(stage: Stage) -> None:
    """The protocol is paused once, above the high-water mark, and resumed once, when the buffer is down again."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    for _ in range(3):
        for _ in range(3):
            protocol.attempt("write", MUCH)
        await stage.drain(peer)
        protocol.note_state()


@scenario
async def limits(stage: Stage) -> None:
    """The marks default to one another; wrong ones are refused and change nothing."""
    protocol = stage.protocol()
    await stage.connect(protocol)
    for kwargs in (
        {"high": 1000},
        {"low": 1000},
        {"high": 100, "low": 100},
        {"high": 0},
        {"low": 0},
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


@scenario
async def limits_of_nothing(stage: Stage) -> None:
    """With both marks at 0 the protocol is paused by the first byte that is buffered and resumed when all is sent."""
    protocol = stage.protocol(connection_made=lambda transport: transport.set_write_buffer_limits(0))
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.attempt("write", b"fits")
    protocol.attempt("write", MUCH)
    await stage.drain(peer)
    protocol.attempt("write", MUCH)
    await stage.drain(peer)


@scenario
async def limits_lowered_below_the_buffer(stage: Stage) -> None:
    """Limits that the buffer is over pause the protocol at once; raised ones do not resume it by themselves."""
    protocol = stage.protocol(connection_made=lambda transport: transport.set_write_buffer_limits(10_000_000))
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.attempt("write", MUCH)
    protocol.attempt("set_write_buffer_limits", 1000)
    protocol.attempt("set_write_buffer_limits", 500)
    protocol.attempt("set_write_buffer_limits", 10_000_000)
    await stage.quiet()
    await stage.drain(peer)


def _in(callback: str, action: Callable[[StreamRecorder], object], name: str) -> None:
    """Add the scenario of a protocol that does something in *callback*, the first three times."""

    async def acting(stage: Stage) -> None:
        left = [1, 2, 3]
        protocol = stage.protocol(connection_made=lambda transport: transport.set_write_buffer_limits(0))
        protocol.on[callback] = lambda *args: left and left.pop() and action(protocol)
        peer = await stage.connect(protocol, sndbuf=SMALL)
        protocol.attempt("write", MUCH)
        protocol.note_state()
        await stage.drain(peer)
        protocol.note_state()

    acting.__name__ = f"{name}_in_{callback}"
    scenario(acting)


_in("pause_writing", lambda protocol: protocol.attempt("write", MUCH), "writes")
_in("pause_writing", lambda protocol: protocol.attempt("write_eof"), "writes_eof")
_in("pause_writing", lambda protocol: protocol.attempt("close"), "closes")
_in("pause_writing", lambda protocol: protocol.attempt("abort"), "aborts")
_in("pause_writing", raises, "fails")
_in("resume_writing", lambda protocol: protocol.attempt("write", MUCH), "writes")
_in("resume_writing", lambda protocol: protocol.attempt("write", b"little"), "writes_little")
_in("resume_writing", lambda protocol: protocol.attempt("pause_reading"), "pauses_reading")
_in("resume_writing", raises, "fails")


@scenario
async def resumed_in_time(stage: Stage) -> None:
    """resume_writing and what it schedules come before anything that happens later."""
    protocol = stage.protocol(
        connection_made=lambda transport: transport.set_write_buffer_limits(0),
        resume_writing=lambda: stage.note_soon("scheduled in resume_writing"),
    )
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.attempt("write", MUCH)
    await stage.drain(peer)
    peer.send(b"later")
    await stage.quiet()


@scenario
async def another_transport_in_resume_writing(stage: Stage) -> None:
    """resume_writing may close another transport, and write to it."""
    other = stage.protocol("other")
    others_peer = await stage.connect(other)
    protocol = stage.protocol(resume_writing=lambda: [other.attempt("write", b"goodbye"), other.attempt("close")])
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.attempt("write", MUCH)
    await stage.drain(peer)
    await stage.drain(others_peer)


@scenario
async def bridged(stage: Stage) -> None:
    """Two transports that pause each other when the one that is written to is full pass everything on."""
    reader = stage.protocol("reader", data_received=lambda data: writer.transport.write(data))
    writer = stage.protocol(
        "writer",
        pause_writing=lambda: reader.transport.pause_reading(),
        resume_writing=lambda: reader.transport.resume_reading(),
        connection_made=lambda transport: transport.set_write_buffer_limits(0),
    )
    source = await stage.connect(reader)
    drain = await stage.connect(writer, sndbuf=SMALL)
    source.send(bytes(60_000))
    await stage.quiet()
    stage.note("the reader reads", reader.transport.is_reading())
    await stage.drain(drain)
    stage.note("the reader reads", reader.transport.is_reading())


# The end of writing


@scenario
async def half_closed(stage: Stage) -> None:
    """After write_eof() the peer sees the end, and we still get what it sends; writing any more is an error."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("can_write_eof")
    protocol.attempt("write", b"all of it")
    for _ in range(2):
        protocol.attempt("write_eof")
        protocol.note_state()
    for data in b"more", b"", "text":
        protocol.attempt("write", data)
    protocol.attempt("writelines", [b"more"])
    await stage.drain(peer)
    peer.send(b"answer")
    await stage.quiet()
    peer.sock.close()
    await stage.quiet()


@scenario
async def half_closed_with_data_in_the_buffer(stage: Stage) -> None:
    """The end comes after the data."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.attempt("write", MUCH)
    protocol.attempt("write_eof")
    protocol.attempt("write", b"more")
    protocol.note_state()
    await stage.drain(peer)
    peer.send(b"answer")
    await stage.quiet()
    protocol.note_state()
    protocol.attempt("close")
    await stage.quiet()


@scenario
async def half_closed_and_closed(stage: Stage) -> None:
    """close() after write_eof() still sends what is in the buffer."""
    for size in 10, 1_000_000:
        protocol = stage.protocol()
        peer = await stage.connect(protocol, sndbuf=SMALL)
        protocol.attempt("write", bytes(size))
        protocol.attempt("write_eof")
        protocol.attempt("close")
        await stage.drain(peer)


@scenario
async def half_closed_when_closing(stage: Stage) -> None:
    """write_eof() does nothing when the transport is closing, or closed."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("close")
    for _ in range(2):
        protocol.attempt("write_eof")
        protocol.attempt("can_write_eof")
        await stage.drain(peer)


@scenario
async def half_closed_by_both(stage: Stage) -> None:
    """Each side ends by itself; a protocol that keeps its side open is asked nothing more until it closes."""
    protocol = stage.protocol(eof_received=lambda: True)
    peer = await stage.connect(protocol)
    peer.send(b"question")
    peer.sock.shutdown(1)
    await stage.quiet()
    protocol.note_state()
    protocol.attempt("write", b"answer")
    protocol.attempt("write_eof")
    await stage.drain(peer)
    protocol.note_state()
    protocol.attempt("pause_reading")
    protocol.attempt("close")
    await stage.quiet()


@scenario
async def eof_that_closes_with_data_in_the_buffer(stage: Stage) -> None:
    """If eof_received() lets the transport close, the peer still gets everything."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.attempt("write", MUCH)
    peer.sock.shutdown(1)
    await stage.quiet()
    protocol.note_state()
    await stage.drain(peer)


@scenario
async def eof_that_keeps_open_with_data_in_the_buffer(stage: Stage) -> None:
    """A connection whose peer has ended goes on writing."""
    protocol = stage.protocol(eof_received=lambda: protocol.attempt("write", b"so soon?") or True)
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.attempt("write", MUCH)
    peer.sock.shutdown(1)
    await stage.drain(peer)
    protocol.attempt("write", b"more")
    await stage.drain(peer)
    peer.sock.close()
    protocol.attempt("write", b"even more")
    await stage.quiet()


@scenario
async def paused_and_resumed_after_eof(stage: Stage) -> None:
    """A protocol that has kept the connection open after the peer's end, and that pauses and resumes."""
    protocol = stage.protocol(eof_received=lambda: protocol.log.count("eof_received") == 1)
    peer = await stage.connect(protocol)
    peer.sock.shutdown(1)
    await stage.quiet()
    protocol.note_state()
    protocol.attempt("pause_reading")
    await stage.quiet()
    protocol.note_state()


# Lost and gone


@scenario
async def written_when_closed(stage: Stage) -> None:
    """What is written to a closed transport is dropped; there is a warning from the fifth time on."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("close")
    for number in range(8):
        protocol.attempt("write", b"dropped")
        if number in (2, 6):
            await stage.quiet()
    await stage.drain(peer)


@scenario
async def written_when_closing_with_data_in_the_buffer(stage: Stage) -> None:
    """What asyncio does with data that is written while a closed transport still sends."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.attempt("write", MUCH)
    protocol.attempt("close")
    protocol.attempt("write", b"late")
    await stage.drain(peer)


@scenario
async def written_when_aborted(stage: Stage) -> None:
    """abort() is no different from close() there."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("abort")
    for _ in range(7):
        protocol.attempt("write", b"dropped")
    await stage.drain(peer)


@scenario
async def written_when_the_peer_is_gone(stage: Stage) -> None:
    """The write that fails loses the connection; those after it are dropped, with a warning from the fifth on."""
    protocol = stage.protocol(connection_made=lambda transport: transport.pause_reading())
    peer = await stage.connect(protocol)
    peer.sock.close()
    for number in range(8):
        protocol.attempt("write", b"dropped")
        stage.note("closing", protocol.transport.is_closing())
        if number in (2, 6):
            await stage.quiet()


@scenario
async def peer_gone_with_data_in_the_buffer(stage: Stage) -> None:
    """A peer that goes without reading loses the connection, and the data."""
    for paused in False, True:
        protocol = stage.protocol()
        peer = await stage.connect(protocol, sndbuf=SMALL)
        if paused:
            protocol.attempt("pause_reading")
        protocol.attempt("write", MUCH)
        peer.sock.close()
        await stage.quiet()
        protocol.attempt("get_write_buffer_size")


@scenario
async def peer_gone_with_data_in_the_buffer_when_closing(stage: Stage) -> None:
    """A transport that cannot send the rest is lost with the error."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.attempt("write", MUCH)
    protocol.attempt("close")
    await stage.quiet()
    peer.sock.close()
    await stage.quiet()


# Several at once


@scenario
async def lines(stage: Stage) -> None:
    """writelines() takes any iterable of what write() takes."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)

    def generated() -> Iterator[bytes]:
        yield b"gene"
        yield b"rated "

    for pieces in [b"a ", b"list "], (b"a ", bytearray(b"tuple ")), generated(), [memoryview(b"one")], []:
        protocol.attempt("writelines", pieces)
    await stage.drain(peer)


@scenario
async def lines_of_the_wrong_type(stage: Stage) -> None:
    """Pieces that are not bytes-like are a TypeError."""
    protocol = stage.protocol()
    await stage.connect(protocol)
    for wrong in ["text"], [b"bytes", "text"], 5, [5]:
        protocol.attempt("writelines", wrong)


@scenario
async def more_lines_than_one_call_takes(stage: Stage) -> None:
    """The kernel takes so many pieces in one call; more are no problem."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("writelines", [b"%d," % number for number in range(5000)])
    await stage.drain(peer)
    protocol.attempt("get_write_buffer_size")


@scenario
async def lines_that_the_kernel_does_not_take(stage: Stage) -> None:
    """The rest is buffered, in order with what was and will be written."""
    protocol = stage.protocol(connection_made=lambda transport: transport.set_write_buffer_limits(100_000_000))
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.attempt("writelines", [b"%d," % number for number in range(5000)])
    protocol.attempt("write", b"written")
    protocol.attempt("writelines", [MUCH, b"x", MUCH])
    protocol.attempt("write", MUCH)
    await stage.drain(peer)
    protocol.attempt("get_write_buffer_size")


@scenario.every
def test_the_trace_is_that_of_asyncio(scenario: Any, combination: Combination, reports: Reports) -> None:
    """What writing does, raises and calls is what it does with asyncio's own loop of this version."""
    traced, expected = play_on_both(scenario, combination, reports)
    assert traced == expected
