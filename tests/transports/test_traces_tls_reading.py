"""Traces of TLS transports: how data arrives, and how that is paused, resumed and handed to another protocol."""

from __future__ import annotations

from typing import Any

from ..conftest import Reports
from .recorders import PLACE, Boom
from .tls_stage import RECORD, Part, TLSScenarios, TLSStage, play_on_both
from .tls_traces import READING

scenario = TLSScenarios(READING)

MUCH = bytes(range(251)) * 400


def raises(*args: Any) -> None:
    """A callback that fails."""
    raise Boom


@scenario
async def echo(stage: TLSStage) -> None:
    """What comes is handed over, and what is written comes, in order."""
    protocol = stage.protocol(data_received=lambda data: protocol.transport.write(data))
    peer = await stage.connect(protocol)
    for data in b"a", b"bc" * 1000, MUCH:
        peer.send(data)
        await stage.drain(peer)
    peer.leave()
    await stage.quiet()


@scenario
async def echo_from_a_buffer(stage: TLSStage) -> None:
    """A BufferedProtocol gets the same, in its own buffer, however small or large that is."""
    for size in 1, 100, RECORD, 4 * RECORD:
        protocol = stage.buffered_protocol()
        protocol.buffer = bytearray(size)
        protocol.on["buffer_updated"] = lambda nbytes: protocol.transport.write(bytes(protocol.buffer[:nbytes]))
        peer = await stage.connect(protocol)
        for data in b"a", b"bc" * 100, *([] if size == 1 else [MUCH]):
            peer.send(data)
            await stage.drain(peer)
        peer.leave()
        await stage.quiet()


@scenario
async def echo_over_tcp(stage: TLSStage) -> None:
    """TCP is no different from a UNIX socket."""
    protocol = stage.protocol(data_received=lambda data: protocol.transport.write(data))
    peer = await stage.connect_tcp(protocol)
    peer.send(b"hello")
    await stage.expect(peer, 5)
    peer.send(MUCH)
    await stage.expect(peer, len(MUCH))
    peer.leave()
    await protocol.lost


@scenario
async def many_records_at_once(stage: TLSStage) -> None:
    """Records that come together, small, empty and full ones, are one piece, or several with nothing between them."""
    for buffered in False, True:
        protocol: Any = (stage.buffered_protocol if buffered else stage.protocol)()
        peer = await stage.connect(protocol)
        records = b"".join(peer.encrypted(bytes([size % 251]) * size) for size in (1, 100, 2000, RECORD, 1, RECORD, 7))
        peer.send_raw(records)
        await stage.quiet()
        peer.leave()
        await stage.quiet()


@scenario
async def a_record_byte_by_byte(stage: TLSStage) -> None:
    """Nothing is delivered before a record is complete."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    record = peer.encrypted(b"whole")
    for byte in record[:-1]:
        peer.send_raw(bytes([byte]))
        await stage.a_round()
    stage.note("all but the last")
    peer.send_raw(record[-1:])
    await stage.quiet()


@scenario
async def a_record_and_a_half(stage: TLSStage) -> None:
    """What is complete is delivered, though more is on its way."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    first, second = peer.encrypted(b"one"), peer.encrypted(b"two")
    peer.send_raw(first + second[:10])
    await stage.quiet()
    stage.note("the rest")
    peer.send_raw(second[10:])
    await stage.quiet()


@scenario
async def callbacks_scheduled_in_connection_made(stage: TLSStage) -> None:
    """What connection_made schedules runs before what comes later."""
    protocol = stage.protocol(connection_made=lambda transport: stage.note_soon("scheduled in connection_made"))
    peer = await stage.connect(protocol)
    peer.send(b"data")
    await stage.quiet()


@scenario
async def callbacks_scheduled_in_data_received(stage: TLSStage) -> None:
    """What data_received schedules runs after it, and before what comes later."""
    protocol = stage.protocol(data_received=lambda data: stage.note_soon("scheduled in data_received"))
    peer = await stage.connect(protocol)
    for data in b"one", b"two":
        peer.send(data)
        await stage.quiet()


# Pauses


@scenario.that(side="server")  # asyncio's clients do not finish the handshake then
async def paused_in_connection_made(stage: TLSStage) -> None:
    """A transport that is paused in connection_made delivers nothing until it is resumed."""
    protocol = stage.protocol(connection_made=lambda transport: transport.pause_reading())
    peer = await stage.connect(protocol)
    protocol.note_state()
    peer.send(b"early")
    await stage.quiet()
    protocol.attempt("resume_reading")
    protocol.note_state()
    await stage.quiet()


@scenario
async def paused_and_resumed_in_connection_made(stage: TLSStage) -> None:
    """Pausing and resuming before reading has begun leaves it to begin as usual."""
    protocol = stage.protocol(connection_made=lambda transport: [transport.pause_reading(), transport.resume_reading()])
    peer = await stage.connect(protocol)
    protocol.note_state()
    peer.send(b"data")
    await stage.quiet()


@scenario
async def paused_and_resumed_twice(stage: TLSStage) -> None:
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
async def paused_in_data_received(stage: TLSStage) -> None:
    """After a pause in data_received nothing comes, until reading is resumed."""
    protocol = stage.protocol(data_received=lambda data: protocol.transport.pause_reading())
    peer = await stage.connect(protocol)
    for data in b"one", b"two", b"three":
        peer.send(data)
        await stage.quiet()
        protocol.note_state()
        protocol.attempt("resume_reading")
        await stage.quiet()


@scenario
async def paused_with_decrypted_bytes_in_hand(stage: TLSStage) -> None:
    """A BufferedProtocol that pauses after each small buffer gets one buffer of a record for each resumption."""
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
async def paused_again_at_once(stage: TLSStage) -> None:
    """A pause counts from the moment it is made, whatever is in hand, or was scheduled, by then."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("pause_reading")
    peer.send(b"data")
    await stage.quiet()
    protocol.attempt("resume_reading")
    protocol.attempt("pause_reading")
    await stage.quiet()
    protocol.attempt("resume_reading")
    await stage.quiet()


@scenario
async def much_while_paused(stage: TLSStage) -> None:
    """However much waits for the end of a pause, it comes in order, and then the end."""
    for buffered in False, True:
        protocol: Any = (stage.buffered_protocol if buffered else stage.protocol)()
        protocol.buffer = bytearray(len(MUCH))  # more than one buffer before the end, and asyncio loses the second
        peer = await stage.connect(protocol)
        protocol.attempt("pause_reading")
        peer.send(MUCH)
        peer.leave()
        await stage.quiet()
        protocol.attempt("resume_reading")
        await stage.quiet()


@scenario
async def eof_while_paused(stage: TLSStage) -> None:
    """A paused transport hears of the peer's end when it is resumed, after the data, however the peer has ended."""
    for end in "say_goodbye", "hang_up", "leave":
        protocol = stage.protocol()
        peer = await stage.connect(protocol)
        protocol.attempt("pause_reading")
        peer.send(b"last words")
        getattr(peer, end)()
        await stage.quiet()
        stage.note("closing", protocol.transport.is_closing())
        protocol.attempt("resume_reading")
        await stage.quiet()
        peer.sock.close()
        await stage.quiet()


@scenario
async def resumed_after_it_was_paused_and_aborted(stage: TLSStage) -> None:
    """A paused transport that is aborted stays silent when it is resumed."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("pause_reading")
    peer.send(b"never seen")
    await stage.quiet()
    protocol.attempt("abort")
    protocol.attempt("resume_reading")
    await stage.quiet()


# Other protocols


@scenario
async def protocols_switched(stage: TLSStage) -> None:
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
    peer.leave()
    await stage.quiet()


@scenario
async def protocols_switched_while_paused(stage: TLSStage) -> None:
    """A switch leaves the transport paused, and what has come is the new protocol's."""
    first = stage.protocol("first")
    peer = await stage.connect(first)
    first.attempt("pause_reading")
    peer.send(b"hello")
    await stage.quiet()
    second = stage.buffered_protocol("second", state="open")
    second.transport = first.transport
    first.transport.set_protocol(second)
    await stage.quiet()
    second.note_state()
    second.attempt("resume_reading")
    await stage.quiet()


def switching(stage: TLSStage, callback: str, buffered: bool) -> Any:
    """A protocol that puts another in its place in *callback*."""

    def switch(*args: Any) -> None:
        second: Any = (stage.protocol if buffered else stage.buffered_protocol)("second", state="open")
        second.transport = first.transport
        first.transport.set_protocol(second)

    make: Any = stage.buffered_protocol if buffered else stage.protocol
    first = make("first", **{callback: switch})
    return first


@scenario
async def protocol_switched_in_connection_made(stage: TLSStage) -> None:
    """A protocol that hands over in connection_made gets nothing more."""
    for buffered in False, True:
        peer = await stage.connect(switching(stage, "connection_made", buffered))
        peer.send(b"hello")
        await stage.quiet()
        peer.leave()
        await stage.quiet()


@scenario
async def protocol_switched_when_data_comes(stage: TLSStage) -> None:
    """A protocol that hands over in data_received, or buffer_updated, gets nothing more."""
    for buffered in False, True:
        peer = await stage.connect(switching(stage, "buffer_updated" if buffered else "data_received", buffered))
        for data in b"one", b"two":
            peer.send(data)
            await stage.quiet()
        peer.leave()
        await stage.quiet()


@scenario
async def protocol_switched_in_mid_record(stage: TLSStage) -> None:
    """The rest of a record of which the first has got a part is the second one's."""
    first = switching(stage, "buffer_updated", True)
    first.buffer = bytearray(4)
    peer = await stage.connect(first)
    peer.send(b"abcdefghij")
    await stage.quiet()


@scenario
async def protocol_switched_in_eof_received(stage: TLSStage) -> None:
    """A protocol that hands over in eof_received leaves connection_lost to its successor."""
    for buffered in False, True:
        peer = await stage.connect(switching(stage, "eof_received", buffered))
        peer.leave()
        await stage.quiet()


# Buffers


@scenario
async def another_view_each_time(stage: TLSStage) -> None:
    """get_buffer() may give part of its memory, and another each time."""
    protocol = stage.buffered_protocol()
    views = [memoryview(protocol.buffer)[:3], memoryview(protocol.buffer)[:5]] * 10
    protocol.on["get_buffer"] = lambda hint: views.pop()
    peer = await stage.connect(protocol)
    peer.send(b"abcdefghijklmnop")
    await stage.quiet()


@scenario
async def a_buffer_that_cannot_be_written(stage: TLSStage) -> None:
    """Bytes, which do not change, are an error, which is fatal to the connection."""
    protocol = stage.buffered_protocol()
    peer = await stage.connect(protocol)
    protocol.on["get_buffer"] = lambda hint: b"12345"
    peer.send(b"hello")
    await stage.quiet()


# Failures


def failing_in(callback: str, *, buffered: bool = False) -> None:
    """Add the scenario of a protocol that fails in *callback*."""

    async def failing(stage: TLSStage) -> None:
        make: Any = stage.buffered_protocol if buffered else stage.protocol
        protocol = make()
        protocol.on[callback] = raises if callback != "get_buffer" else None
        peer = await stage.connect(protocol)
        protocol.on[callback] = raises
        if not [peer.receive(), peer.ending][-1]:
            stage.attempt("the peer sends", peer.send, b"data")
        await stage.quiet()
        if not protocol.lost.done():
            peer.leave()
            await stage.quiet()
        stage.note("lost", protocol.lost.done())

    failing.__name__ = f"failing_in_{callback}" + ("_of_a_buffered_protocol" if buffered else "")
    scenario(failing)


for name in "connection_made", "data_received", "eof_received", "connection_lost":
    failing_in(name)
for name in "connection_made", "get_buffer", "buffer_updated", "eof_received", "connection_lost":
    failing_in(name, buffered=True)


@scenario
async def contexts(stage: TLSStage) -> None:
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
    peer.leave()
    await stage.quiet()


@scenario.every
def test_the_trace_is_that_of_asyncio(part: Part, reports: Reports) -> None:
    """What a protocol is called with, and when, is what asyncio's own loop calls it with, and when."""
    traced, expected = play_on_both(scenario, part, reports)
    assert traced == expected
