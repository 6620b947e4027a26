"""Traces of stream transports: how data arrives, and how that is paused, resumed and handed to another protocol."""

from __future__ import annotations

from typing import Any

from ..conftest import Reports
from .combinations import Combination
from .recorders import PLACE, Boom
from .traces import Scenarios, Stage, play_on_both

scenario = Scenarios()


def raises(*args: Any) -> None:
    """A callback that fails."""
    raise Boom


@scenario
async def echo(stage: Stage) -> None:
    """What comes is handed over, and what is written comes, in order."""
    protocol = stage.protocol(data_received=lambda data: protocol.transport.write(data))
    peer = await stage.connect(protocol)
    for data in b"a", b"bc" * 1000, bytes(100_000):
        peer.send(data)
        await stage.drain(peer)
    peer.sock.close()
    await stage.quiet()


@scenario
async def echo_from_a_buffer(stage: Stage) -> None:
    """A BufferedProtocol gets the same, in its own buffer, which may be smaller."""
    protocol = stage.buffered_protocol(
        buffer_updated=lambda nbytes: protocol.transport.write(bytes(protocol.buffer[:nbytes]))
    )
    peer = await stage.connect(protocol)
    for data in b"a", b"bc" * 1000, bytes(range(256)) * 300:
        peer.send(data)
        await stage.drain(peer)
    peer.sock.close()
    await stage.quiet()


@scenario
async def echo_over_tcp(stage: Stage) -> None:
    """TCP is no different from a UNIX socket."""
    protocol = stage.protocol(data_received=lambda data: protocol.transport.write(data))
    peer = await stage.connect_tcp(protocol)
    peer.send(b"hello")
    await stage.expect(peer, 5)
    peer.send(b"x" * 100_000)
    await stage.expect(peer, 100_000)
    peer.sock.close()
    await protocol.lost


@scenario
async def data_that_was_there_before_the_connection(stage: Stage) -> None:
    """Nothing is delivered before connection_made, nor before who called create_connection has got the transport."""
    protocol = stage.protocol()
    ours, peer = stage.pair()
    peer.send(b"early")
    await stage.loop.create_connection(lambda: protocol, sock=ours)
    stage.note("connected")
    await stage.quiet()


@scenario
async def callbacks_scheduled_in_connection_made(stage: Stage) -> None:
    """What connection_made schedules runs before the first data."""
    protocol = stage.protocol(connection_made=lambda transport: stage.note_soon("scheduled in connection_made"))
    ours, peer = stage.pair()
    peer.send(b"early")
    await stage.loop.create_connection(lambda: protocol, sock=ours)
    await stage.quiet()


@scenario
async def callbacks_scheduled_in_data_received(stage: Stage) -> None:
    """What data_received schedules runs after it, and before what comes later."""
    protocol = stage.protocol(data_received=lambda data: stage.note_soon("scheduled in data_received"))
    peer = await stage.connect(protocol)
    for data in b"one", b"two":
        peer.send(data)
        await stage.quiet()


@scenario.since(3, 11)
async def paused_in_connection_made(stage: Stage) -> None:
    """A transport that is paused in connection_made delivers nothing until it is resumed."""
    protocol = stage.protocol(connection_made=lambda transport: transport.pause_reading())
    ours, peer = stage.pair()
    peer.send(b"early")
    await stage.loop.create_connection(lambda: protocol, sock=ours)
    await stage.quiet()
    protocol.note_state()
    protocol.attempt("resume_reading")
    await stage.quiet()
    protocol.note_state()


@scenario
async def paused_and_resumed_in_connection_made(stage: Stage) -> None:
    """Pausing and resuming before reading has begun leaves it to begin as usual."""
    protocol = stage.protocol(
        connection_made=lambda transport: [transport.pause_reading(), transport.resume_reading()],
        data_received=lambda data: None,
    )
    ours, peer = stage.pair()
    peer.send(b"early")
    await stage.loop.create_connection(lambda: protocol, sock=ours)
    await stage.quiet()


@scenario
async def paused_and_resumed_twice(stage: Stage) -> None:
    """Pausing what is paused and resuming what is not does nothing."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("resume_reading")
    for _ in range(2):
        protocol.attempt("pause_reading")
        protocol.note_state()
    peer.send(b"while paused")
    await stage.quiet()
    for _ in range(2):
        protocol.attempt("resume_reading")
        protocol.note_state()
        await stage.quiet()


@scenario
async def pausing_and_resuming_when_closing(stage: Stage) -> None:
    """Both do nothing once the transport is closing, and nothing when it is closed."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    peer.send(b"too late")
    protocol.attempt("close")
    for _ in range(2):
        protocol.attempt("pause_reading")
        protocol.attempt("resume_reading")
        protocol.note_state()
        await stage.quiet()


@scenario
async def resumed_after_it_was_paused_and_closed(stage: Stage) -> None:
    """A paused transport that is closed stays silent when it is resumed."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("pause_reading")
    peer.send(b"never seen")
    protocol.attempt("close")
    protocol.attempt("resume_reading")
    protocol.note_state()
    await stage.quiet()


@scenario
async def paused_in_data_received(stage: Stage) -> None:
    """After a pause in data_received nothing comes, not even what the kernel has already."""
    protocol = stage.protocol(data_received=lambda data: protocol.transport.pause_reading())
    peer = await stage.connect(protocol)
    for data in b"one", b"two", b"three":
        peer.send(data)
        await stage.quiet()
    for _ in range(3):
        protocol.note_state()
        protocol.attempt("resume_reading")
        await stage.quiet()


@scenario
async def paused_in_buffer_updated(stage: Stage) -> None:
    """A BufferedProtocol that pauses after each small buffer gets one buffer for each resumption."""
    protocol = stage.buffered_protocol(buffer_updated=lambda nbytes: protocol.transport.pause_reading())
    protocol.buffer = bytearray(4)
    peer = await stage.connect(protocol)
    peer.send(b"abcdefghij")
    for _ in range(4):
        await stage.quiet()
        stage.note("resuming")
        protocol.transport.resume_reading()
    await stage.quiet()


@scenario
async def paused_by_a_callback_that_was_ready(stage: Stage) -> None:
    """A pause counts from the moment it is made, whatever the loop knows of the descriptor by then."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    peer.send(b"data")
    await stage.a_round()
    await stage.quiet()
    peer.send(b"more")
    protocol.attempt("pause_reading")
    await stage.quiet()
    protocol.attempt("resume_reading")
    protocol.attempt("pause_reading")
    await stage.quiet()
    protocol.attempt("resume_reading")
    await stage.quiet()


@scenario
async def eof_while_paused(stage: Stage) -> None:
    """A paused transport hears of the peer's end when it is resumed, after the data."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("pause_reading")
    peer.send(b"last words")
    peer.sock.close()
    await stage.quiet()
    protocol.note_state()
    protocol.attempt("resume_reading")
    await stage.quiet()


@scenario
async def protocols_switched(stage: Stage) -> None:
    """set_protocol() switches between Protocol and BufferedProtocol, both ways, at once."""
    first = stage.protocol("first")
    peer = await stage.connect(first)
    transport: Any = first.transport
    protocol: Any = first
    for name, make in ("second", stage.buffered_protocol), ("third", stage.protocol), ("fourth", stage.protocol):
        peer.send(b"for the one before " + name.encode())
        await stage.quiet()
        protocol = make(name, state="open")
        protocol.transport = transport
        transport.set_protocol(protocol)
        stage.note(f"is the {name} {transport.get_protocol() is protocol}")
    peer.send(b"for the last")
    await stage.quiet()
    peer.sock.close()
    await stage.quiet()


@scenario
async def protocols_switched_while_paused(stage: Stage) -> None:
    """A switch leaves the transport paused."""
    first = stage.protocol("first")
    peer = await stage.connect(first)
    first.attempt("pause_reading")
    second = stage.buffered_protocol("second", state="open")
    second.transport = first.transport
    first.transport.set_protocol(second)
    peer.send(b"hello")
    await stage.quiet()
    second.note_state()
    second.attempt("resume_reading")
    await stage.quiet()


def switching(stage: Stage, callback: str, buffered: bool) -> Any:
    """A protocol that puts another in its place in *callback*."""

    def switch(*args: Any) -> None:
        second: Any = (stage.protocol if buffered else stage.buffered_protocol)("second", state="open")
        second.transport = first.transport
        first.transport.set_protocol(second)

    make: Any = stage.buffered_protocol if buffered else stage.protocol
    first = make("first", **{callback: switch})
    return first


@scenario
async def protocol_switched_in_connection_made(stage: Stage) -> None:
    """A protocol that hands over in connection_made gets nothing more."""
    for buffered in False, True:
        peer = await stage.connect(switching(stage, "connection_made", buffered))
        peer.send(b"hello")
        await stage.quiet()
        peer.sock.close()
        await stage.quiet()


@scenario
async def protocol_switched_when_data_comes(stage: Stage) -> None:
    """A protocol that hands over in data_received, or buffer_updated, gets nothing more."""
    for buffered in False, True:
        peer = await stage.connect(switching(stage, "buffer_updated" if buffered else "data_received", buffered))
        for data in b"one", b"two":
            peer.send(data)
            await stage.quiet()
        peer.sock.close()
        await stage.quiet()


@scenario
async def protocol_switched_in_eof_received(stage: Stage) -> None:
    """A protocol that hands over in eof_received leaves connection_lost to its successor."""
    for buffered in False, True:
        peer = await stage.connect(switching(stage, "eof_received", buffered))
        peer.sock.close()
        await stage.quiet()


@scenario
async def size_hint(stage: Stage) -> None:
    """get_buffer() is asked for any size."""
    protocol = stage.buffered_protocol(get_buffer=lambda hint: stage.note("hint", hint) if hint != -1 else None)
    peer = await stage.connect(protocol)
    peer.send(b"hello")
    await stage.quiet()


@scenario
async def a_memoryview_as_the_buffer(stage: Stage) -> None:
    """get_buffer() may give part of a bytearray, and another each time."""
    protocol = stage.buffered_protocol()
    views = [memoryview(protocol.buffer)[:3], memoryview(protocol.buffer)[:5]] * 10
    protocol.on["get_buffer"] = lambda hint: views.pop()
    peer = await stage.connect(protocol)
    peer.send(b"abcdefghijklmnop")
    await stage.quiet()


@scenario
async def an_empty_buffer(stage: Stage) -> None:
    """An empty buffer is an error, which is fatal to the connection."""
    protocol = stage.buffered_protocol(get_buffer=lambda hint: bytearray())
    peer = await stage.connect(protocol)
    peer.send(b"hello")
    await stage.quiet()
    await stage.drain(peer)


@scenario
async def no_buffer_at_all(stage: Stage) -> None:
    """What is no buffer is an error, too."""
    protocol = stage.buffered_protocol(get_buffer=lambda hint: 5)
    peer = await stage.connect(protocol)
    peer.send(b"hello")
    await stage.quiet()
    await stage.drain(peer)


@scenario
async def a_buffer_that_cannot_be_written(stage: Stage) -> None:
    """Nor will bytes do."""
    protocol = stage.buffered_protocol(get_buffer=lambda hint: b"12345")
    peer = await stage.connect(protocol)
    peer.send(b"hello")
    await stage.quiet()
    await stage.drain(peer)


def failing_in(callback: str, *, buffered: bool = False) -> None:
    """Add the scenario of a protocol that fails in *callback*."""

    async def failing(stage: Stage) -> None:
        make: Any = stage.buffered_protocol if buffered else stage.protocol
        protocol = make(**{callback: raises})
        peer = await stage.connect(protocol)
        protocol.transport.write(b"written before")
        peer.send(b"data")
        await stage.drain(peer)
        if not peer.ending:
            peer.sock.shutdown(1)
        await stage.quiet()
        protocol.note_state()
        await stage.drain(peer)

    failing.__name__ = f"failing_in_{callback}" + ("_of_a_buffered_protocol" if buffered else "")
    scenario(failing)


for name in "connection_made", "data_received", "eof_received", "connection_lost":
    failing_in(name)
for name in "connection_made", "get_buffer", "buffer_updated", "eof_received", "connection_lost":
    failing_in(name, buffered=True)


@scenario
async def contexts(stage: Stage) -> None:
    """Callbacks run in the context of who made the connection; what they set stays with the kind of callback."""
    stage.watches_contexts = True
    PLACE.set("the creator's")
    protocol = stage.protocol(
        connection_made=lambda transport: PLACE.set("connection_made's"),
        data_received=lambda data: PLACE.set(f"{data!r}'s"),
    )
    peer = await stage.connect(protocol)
    PLACE.set("what came later")
    for data in b"one", b"two":
        peer.send(data)
        await stage.quiet()
    peer.sock.close()
    await stage.quiet()


@scenario
async def contexts_after_a_pause(stage: Stage) -> None:
    """Reading that was resumed goes on in a context, too."""
    stage.watches_contexts = True
    PLACE.set("the creator's")
    protocol = stage.protocol(data_received=lambda data: PLACE.set(f"{data!r}'s"))
    peer = await stage.connect(protocol)
    PLACE.set("the one who paused")
    protocol.transport.pause_reading()
    PLACE.set("the one who resumed")
    protocol.transport.resume_reading()
    PLACE.set("what came later")
    for data in b"one", b"two":
        peer.send(data)
        await stage.quiet()
    protocol.transport.close()
    await stage.quiet()


@scenario.every
def test_the_trace_is_that_of_asyncio(scenario: Any, combination: Combination, reports: Reports) -> None:
    """What a protocol is called with, and when, is what asyncio's own loop of this version calls it with, and when."""
    traced, expected = play_on_both(scenario, combination, reports)
    assert traced == expected
