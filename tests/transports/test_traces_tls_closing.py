"""Traces of TLS transports: how a connection ends, and what its transport says of itself before and after."""

from __future__ import annotations

import ssl
from typing import Any

from ..conftest import Reports
from .recorders import PLACE
from .tls_stage import Part, TLSScenarios, TLSStage, play_on_both
from .tls_traces import CLOSING
from .traces import MUCH, SMALL

scenario = TLSScenarios(CLOSING)


@scenario
async def closed(stage: TLSStage) -> None:
    """The peer gets a close_notify; when it has answered that, connection_lost(None) comes."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("write", b"all")
    protocol.attempt("close")
    protocol.note_state()
    await stage.drain(peer)
    peer.say_goodbye()
    await stage.drain(peer)
    protocol.note_state()


@scenario
async def closed_and_the_peer_hangs_up(stage: TLSStage) -> None:
    """A peer that answers with nothing but the end of the connection has answered."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("close")
    await stage.drain(peer)
    peer.hang_up()
    await stage.drain(peer)


@scenario
async def closed_and_the_peer_leaves(stage: TLSStage) -> None:
    """So has one that does both at once."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("close")
    await stage.drain(peer)
    peer.leave()
    await stage.drain(peer)


@scenario
async def closed_twice(stage: TLSStage) -> None:
    """The second time does nothing, at any time."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    for _ in range(2):
        protocol.attempt("close")
        protocol.note_state()
    await stage.drain(peer)
    protocol.attempt("close")
    peer.leave()
    await stage.drain(peer)
    protocol.attempt("close")
    await stage.quiet()


@scenario
async def closed_over_tcp(stage: TLSStage) -> None:
    """So it is over TCP."""
    protocol = stage.protocol()
    peer = await stage.connect_tcp(protocol)
    protocol.attempt("write", b"all")
    protocol.attempt("close")
    await stage.expect(peer)
    peer.leave()
    await protocol.lost


@scenario
async def closed_with_data_in_the_buffer(stage: TLSStage) -> None:
    """Everything arrives, and the close_notify behind it."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.transport.write(MUCH)
    protocol.transport.write(b"the end")
    protocol.attempt("close")
    await stage.drain(peer)
    peer.leave()
    await stage.drain(peer)


@scenario
async def closed_while_paused(stage: TLSStage) -> None:
    """A pause does not keep the end from coming."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("pause_reading")
    protocol.attempt("close")
    await stage.drain(peer)
    peer.leave()
    await stage.drain(peer)


@scenario
async def aborted(stage: TLSStage) -> None:
    """abort() ends without an error, once, and without a close_notify."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    for _ in range(2):
        protocol.attempt("abort")
        protocol.note_state()
    await stage.drain(peer)
    protocol.attempt("abort")
    await stage.quiet()


@scenario
async def aborted_with_data_in_the_buffer(stage: TLSStage) -> None:
    """The buffer is dropped, and nothing more is asked of the protocol."""
    protocol = stage.protocol()
    await stage.connect(protocol, sndbuf=SMALL)
    protocol.transport.write(MUCH)
    protocol.attempt("abort")
    await stage.quiet()
    stage.note("lost", protocol.lost.done())


@scenario
async def aborted_after_it_was_closed(stage: TLSStage) -> None:
    """A transport that waits for the peer's close_notify, or still has to send, need not wait."""
    for data in b"", MUCH:
        protocol = stage.protocol()
        await stage.connect(protocol, sndbuf=SMALL)
        protocol.transport.write(data)
        protocol.attempt("close")
        await stage.quiet()
        protocol.attempt("abort")
        await stage.quiet()


@scenario
async def closed_after_it_was_aborted(stage: TLSStage) -> None:
    """close() has nothing to add."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("abort")
    protocol.attempt("close")
    await stage.drain(peer)


def _ended_in(callback: str, method: str, *, buffered: bool = False) -> None:
    """Add the scenario of a protocol that calls *method* in *callback*."""

    async def ending(stage: TLSStage) -> None:
        stage.trace.by_actor = True  # ours are lost before anybody hears that they are connected
        make: Any = stage.buffered_protocol if buffered else stage.protocol
        protocol = make("it")
        protocol.on[callback] = lambda *args: protocol.attempt(method) and None
        peer = await stage.connect(protocol)
        if not protocol.transport.is_closing():
            peer.send(b"some data")
            await stage.quiet()
        if not protocol.lost.done():
            peer.leave()
        await stage.quiet()
        stage.note("lost", protocol.lost.done())
        if method != "abort":
            await stage.drain(peer)

    ending.__name__ = f"{method}_in_{callback}" + ("_of_a_buffered_protocol" if buffered else "")
    scenario(ending)


for callback in "connection_made", "data_received", "eof_received", "connection_lost":
    for method in "close", "abort", "write_eof":
        _ended_in(callback, method)
for callback in "buffer_updated", "eof_received":
    for method in "close", "abort":
        _ended_in(callback, method, buffered=True)


# The peer's end


@scenario
async def ended_by_the_peer(stage: TLSStage) -> None:
    """The peer's close_notify is eof_received; it is answered, and connection_lost(None) comes."""
    for buffered in False, True:
        protocol: Any = (stage.buffered_protocol if buffered else stage.protocol)()
        peer = await stage.connect(protocol)
        peer.send(b"goodbye")
        await stage.quiet()
        peer.say_goodbye()
        await stage.drain(peer)
        stage.note("closing", protocol.transport.is_closing())


@scenario
async def ended_by_a_peer_that_leaves(stage: TLSStage) -> None:
    """That the peer has hung up as well makes no difference."""
    for buffered in False, True:
        protocol: Any = (stage.buffered_protocol if buffered else stage.protocol)()
        peer = await stage.connect(protocol)
        peer.send_raw(peer.encrypted(b"goodbye") + peer.goodbye())
        peer.hang_up()
        await stage.quiet()
        stage.note("lost", protocol.lost.done())


@scenario
async def ended_by_a_peer_that_hangs_up(stage: TLSStage) -> None:
    """To protocols, the end of the connection without close_notify is no different."""
    for buffered in False, True:
        protocol: Any = (stage.buffered_protocol if buffered else stage.protocol)()
        peer = await stage.connect(protocol)
        peer.send(b"goodbye")
        peer.hang_up()
        await stage.quiet()
        stage.note("lost", protocol.lost.done())


@scenario
async def ended_by_a_peer_in_mid_record(stage: TLSStage) -> None:
    """What cannot be decrypted is dropped."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    peer.send_raw(peer.encrypted(b"whole") + peer.encrypted(b"half")[:12])
    await stage.quiet()
    peer.hang_up()
    await stage.quiet()
    stage.note("lost", protocol.lost.done())


@scenario
async def ended_by_the_peer_over_tcp(stage: TLSStage) -> None:
    """So it is over TCP."""
    protocol = stage.protocol()
    peer = await stage.connect_tcp(protocol)
    peer.send(b"goodbye")
    peer.leave()
    await protocol.lost


@scenario
async def ended_by_the_peer_with_data_in_the_buffer(stage: TLSStage) -> None:
    """The peer gets everything that was written before its end came, and a close_notify."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.transport.write(MUCH)
    peer.say_goodbye()
    await stage.quiet()
    stage.note("closing", protocol.transport.is_closing())
    await stage.drain(peer)


@scenario
async def written_in_eof_received(stage: TLSStage) -> None:
    """What eof_received() writes is sent, too, if the peer has said goodbye."""
    protocol = stage.protocol(eof_received=lambda: protocol.attempt("write", b"last words"))
    peer = await stage.connect(protocol)
    peer.say_goodbye()
    await stage.drain(peer)


@scenario
async def eof_received_that_wants_to_go_on(stage: TLSStage) -> None:
    """Returning true has no effect but a warning."""
    for end in "say_goodbye", "hang_up":
        protocol = stage.protocol(eof_received=lambda: True)
        peer = await stage.connect(protocol)
        getattr(peer, end)()
        await stage.quiet()
        stage.note("lost", protocol.lost.done())


@scenario
async def closed_at_the_same_time(stage: TLSStage) -> None:
    """If both sides close, there is no error."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    peer.leave()
    protocol.transport.close()
    await stage.drain(peer)


# Errors


@scenario
async def reset_by_the_peer(stage: TLSStage) -> None:
    """A reset is connection_lost with the error, and no eof_received."""
    for buffered in False, True:
        protocol: Any = (stage.buffered_protocol if buffered else stage.protocol)()
        peer = await stage.connect_tcp(protocol)
        peer.reset()
        await protocol.lost
        stage.note("closing", protocol.transport.is_closing())


@scenario
async def reset_while_paused(stage: TLSStage) -> None:
    """A paused transport hears of it when it is resumed, at the latest."""
    protocol = stage.protocol()
    peer = await stage.connect_tcp(protocol)
    protocol.attempt("pause_reading")
    peer.reset()
    await stage.quiet()
    protocol.transport.resume_reading()
    await protocol.lost


@scenario
async def reset_when_closing(stage: TLSStage) -> None:
    """A reset instead of a close_notify is an error, too."""
    protocol = stage.protocol()
    peer = await stage.connect_tcp(protocol)
    protocol.attempt("close")
    await stage.until(lambda: [peer.receive(), peer.ending][-1])
    peer.reset()
    await protocol.lost


@scenario
async def left_by_a_peer_that_did_not_read(stage: TLSStage) -> None:
    """A UNIX peer that goes without having read is a reset."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("write", b"never read")
    peer.sock.close()
    await stage.quiet()


@scenario
async def gone_with_data_in_the_buffer(stage: TLSStage) -> None:
    """A peer that goes without reading loses the connection, and the data."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.transport.write(MUCH)
    await stage.quiet()
    peer.sock.close()
    await stage.quiet()
    protocol.attempt("get_write_buffer_size")


@scenario
async def a_corrupted_record(stage: TLSStage) -> None:
    """A record that somebody has changed is the end, with an SSLError; what came before it is delivered."""
    for buffered in False, True:
        protocol: Any = (stage.buffered_protocol if buffered else stage.protocol)()
        peer = await stage.connect(protocol)
        peer.send(b"right")
        await stage.quiet()
        record = bytearray(peer.encrypted(b"wrong"))
        record[-1] ^= 1
        peer.send_raw(bytes(record))
        await stage.quiet()
        stage.note("lost", protocol.lost.done())


@scenario
async def garbage(stage: TLSStage) -> None:
    """So is what is no record at all."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    peer.send_raw(b"GET / HTTP/1.1\r\n\r\n")
    await stage.quiet()
    stage.note("lost", protocol.lost.done())


# What a transport says of itself

OF_TLS = "cipher", "compression", "peercert"
OF_ALL = "socket", "sockname", "peername", "nothing of the kind"


def note_all(stage: TLSStage, protocol: Any, when: str, names: tuple[str, ...] = OF_TLS + OF_ALL) -> None:
    """Note everything that the protocol's transport says, but for what is pyOpenSSL's."""
    transport = protocol.transport
    for name in names:
        value = transport.get_extra_info(name)
        # Names and numbers in a certificate are others each time.
        stage.note(f"{when}: {name}", value and value["subjectAltName"] if name == "peercert" else value)
    stage.note(f"{when}: default", transport.get_extra_info("nothing of the kind", "a default"))
    if stage.kind in ("stdlib", "memory"):
        assert transport.get_extra_info("sslcontext") is stage.context
        assert isinstance(transport.get_extra_info("ssl_object"), ssl.SSLObject)


@scenario
async def information(stage: TLSStage) -> None:
    """What the handshake has settled is told from connection_made on."""
    for over_tcp in False, True:
        protocol = stage.protocol()
        protocol.on["connection_made"] = lambda transport: note_all(stage, protocol, "in connection_made")
        await (stage.connect_tcp(protocol) if over_tcp else stage.connect(protocol))
        note_all(stage, protocol, "open")
        protocol.attempt("get_write_buffer_size")
        protocol.attempt("can_write_eof")
        protocol.attempt("write_eof")
        protocol.attempt("pause_reading")
        note_all(stage, protocol, "paused")
        protocol.attempt("resume_reading")
        protocol.attempt("close")
        note_all(stage, protocol, "closing")
        protocol.attempt("abort")
        await protocol.lost
        note_all(stage, protocol, "closed", OF_TLS)


@scenario.that(since=(3, 11))
async def contexts(stage: TLSStage) -> None:
    """connection_lost runs in the context of who ended the connection, or made it."""
    stage.watches_contexts = True
    for end in "close", "abort", "nothing":
        PLACE.set("the creator's")
        protocol = stage.protocol()
        peer = await stage.connect(protocol)
        PLACE.set("the one who ends it")
        if end != "nothing":
            protocol.attempt(end)
        await stage.drain(peer)
        if not peer.ending.endswith("eof"):
            peer.leave()
        await stage.quiet()


@scenario.every
def test_the_trace_is_that_of_asyncio(part: Part, reports: Reports) -> None:
    """A connection by TLS ends as it does on asyncio's own loop."""
    traced, expected = play_on_both(scenario, part, reports)
    assert traced == expected
