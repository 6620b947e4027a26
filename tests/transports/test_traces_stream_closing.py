"""Traces of stream transports: how a connection ends, and what its transport says of itself before and after."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any

from ..conftest import Reports
from .combinations import Combination
from .recorders import PLACE, StreamRecorder, shape_of
from .traces import MUCH, SMALL, Scenarios, Stage, play_on_both

scenario = Scenarios()


@scenario
async def closed(stage: Stage) -> None:
    """connection_lost(None) comes after close() has returned, once, and the peer sees the end."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    for _ in range(2):
        protocol.attempt("close")
        protocol.note_state()
    await stage.drain(peer)
    protocol.note_state()
    protocol.attempt("close")
    await stage.quiet()


@scenario
async def closed_amid_callbacks(stage: Stage) -> None:
    """connection_lost takes its turn among the callbacks that were scheduled."""
    for method in "close", "abort":
        protocol = stage.protocol(connection_lost=lambda exc: stage.note_soon("scheduled in connection_lost"))
        await stage.connect(protocol)
        stage.note_soon("scheduled before")
        protocol.attempt(method)
        stage.note_soon("scheduled after")
        await stage.quiet()


@scenario
async def closed_with_data_in_the_buffer(stage: Stage) -> None:
    """Everything arrives, and then the connection is lost."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.attempt("write", MUCH)
    protocol.attempt("write", b"the end")
    protocol.attempt("close")
    protocol.note_state()
    peer.send(b"not read any more")
    await stage.quiet()
    await stage.drain(peer)


@scenario
async def closed_with_data_in_the_buffer_over_tcp(stage: Stage) -> None:
    """Over TCP, too, and however much."""
    protocol = stage.protocol()
    peer = await stage.connect_tcp(protocol)
    for _ in range(20):
        protocol.transport.write(MUCH)
    protocol.attempt("close")
    await stage.expect(peer)
    await protocol.lost


@scenario
async def aborted(stage: Stage) -> None:
    """abort() ends without an error, once."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    for _ in range(2):
        protocol.attempt("abort")
        protocol.note_state()
    await stage.drain(peer)
    protocol.attempt("abort")
    await stage.quiet()


@scenario
async def aborted_with_data_in_the_buffer(stage: Stage) -> None:
    """The buffer is dropped, and nothing more is asked of the protocol."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.attempt("write", MUCH)
    protocol.attempt("abort")
    protocol.attempt("get_write_buffer_size")
    await stage.drain(peer)


@scenario
async def aborted_after_it_was_closed(stage: Stage) -> None:
    """A transport that still has to send can be aborted; one that is about to be lost is lost as it would have been."""
    for data in b"", MUCH:
        protocol = stage.protocol()
        peer = await stage.connect(protocol, sndbuf=SMALL)
        protocol.attempt("write", data)
        protocol.attempt("close")
        protocol.attempt("abort")
        protocol.attempt("get_write_buffer_size")
        await stage.drain(peer)


@scenario
async def closed_after_it_was_aborted(stage: Stage) -> None:
    """close() has nothing to add."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.attempt("write", MUCH)
    protocol.attempt("abort")
    protocol.attempt("close")
    await stage.drain(peer)


def _ended_in(callback: str, method: str, *, buffered: bool = False) -> None:
    """Add the scenario of a protocol that calls *method* in *callback*."""

    async def ending(stage: Stage) -> None:
        make: Any = stage.buffered_protocol if buffered else stage.protocol
        protocol = make()
        protocol.on[callback] = lambda *args: protocol.attempt(method) and None
        ours, peer = stage.pair()
        peer.send(b"some data")
        await stage.attempt_to_await("connected", stage.loop.create_connection(lambda: protocol, sock=ours))
        await stage.quiet()
        if not protocol.transport.is_closing():
            peer.sock.shutdown(1)
        await stage.drain(peer)
        protocol.note_state()

    ending.__name__ = f"{method}_in_{callback}" + ("_of_a_buffered_protocol" if buffered else "")
    scenario(ending)


for callback in "connection_made", "data_received", "eof_received", "connection_lost":
    for method in "close", "abort", "write_eof":
        _ended_in(callback, method)
for callback in "get_buffer", "buffer_updated", "eof_received":
    for method in "close", "abort":
        _ended_in(callback, method, buffered=True)


@scenario
async def ended_by_the_peer(stage: Stage) -> None:
    """The end of the peer is eof_received, and then, as that returned None, connection_lost(None)."""
    protocol = stage.protocol(eof_received=lambda: stage.note_soon("scheduled in eof_received"))
    peer = await stage.connect(protocol)
    peer.send(b"goodbye")
    peer.sock.close()
    await stage.quiet()
    protocol.note_state()


@scenario
async def ended_by_the_peer_over_tcp(stage: Stage) -> None:
    """So it is over TCP."""
    protocol = stage.protocol()
    peer = await stage.connect_tcp(protocol)
    peer.send(b"goodbye")
    peer.sock.close()
    await protocol.lost


@scenario
async def reset_by_the_peer(stage: Stage) -> None:
    """A reset is connection_lost with the error, and no eof_received."""
    for buffered in False, True:
        protocol = (stage.buffered_protocol if buffered else stage.protocol)()
        peer = await stage.connect_tcp(protocol)
        peer.reset()
        await protocol.lost
        protocol.note_state()


@scenario
async def left_by_a_peer_that_did_not_read(stage: Stage) -> None:
    """A UNIX peer that goes without having read is a reset, too."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    protocol.attempt("write", b"never read")
    peer.send(b"goodbye")
    peer.sock.close()
    await stage.quiet()


@scenario
async def closed_at_the_same_time(stage: Stage) -> None:
    """If both sides close, there is no eof_received, and no error."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    peer.sock.close()
    protocol.attempt("close")
    await stage.quiet()


# What a transport says of itself

NAMES = "socket", "sockname", "peername", "sslcontext", "nothing of the kind"


def note_all(stage: Stage, protocol: StreamRecorder, when: str) -> None:
    """Note everything that the protocol's transport says."""
    transport = protocol.transport
    for name in NAMES:
        stage.note(f"{when}: {name}", transport.get_extra_info(name))
    stage.note(f"{when}: default", transport.get_extra_info("nothing of the kind", "a default"))
    stage.note(f"{when}: {shape_of(transport)}")
    stage.note(f"{when}: protocol", type(transport.get_protocol()).__name__)
    stage.note(f"{when}: buffer", bool(transport.get_write_buffer_size()))
    protocol.note_state()


@scenario
async def information(stage: Stage) -> None:
    """Everything that a transport tells outlives the connection; its repr() tells the state."""
    for over_tcp in False, True:
        protocol = stage.protocol()
        protocol.on["connection_made"] = lambda transport: note_all(stage, protocol, "in connection_made")
        protocol.on["connection_lost"] = lambda exc: note_all(stage, protocol, "in connection_lost")
        peer = await (stage.connect_tcp(protocol) if over_tcp else stage.connect(protocol))
        note_all(stage, protocol, "open")
        protocol.attempt("pause_reading")
        note_all(stage, protocol, "paused")
        protocol.attempt("close")
        note_all(stage, protocol, "closing")
        await protocol.lost
        await stage.quiet()
        note_all(stage, protocol, "closed")
        peer.sock.close()


@scenario
async def information_with_data_in_the_buffer(stage: Stage) -> None:
    """A transport that has something to send shows it."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    protocol.attempt("write", MUCH)
    note_all(stage, protocol, "buffering")
    protocol.attempt("close")
    note_all(stage, protocol, "closing")
    await stage.drain(peer)
    note_all(stage, protocol, "closed")


@scenario
async def kinds(stage: Stage) -> None:
    """Transports are what asyncio calls a Transport, whatever else they are."""
    protocol = stage.protocol()
    await stage.connect(protocol)
    for kind in asyncio.Transport, asyncio.ReadTransport, asyncio.WriteTransport, asyncio.DatagramTransport:
        stage.note(f"{kind.__name__}", isinstance(protocol.transport, kind))


@scenario
async def changed_when_closed(stage: Stage) -> None:
    """The marks and the protocol of a closed transport can still be set and asked for."""
    protocol = stage.protocol()
    await stage.connect(protocol)
    transport = protocol.transport
    protocol.attempt("close")
    await stage.quiet()
    protocol.attempt("set_write_buffer_limits", 10)
    protocol.attempt("get_write_buffer_limits")
    protocol.attempt("get_protocol")
    another = stage.protocol("another", state="open")
    stage.attempt("set_protocol", transport.set_protocol, another)
    stage.note("is another", transport.get_protocol() is another)
    await stage.quiet()


@scenario
async def forgotten(stage: Stage) -> None:
    """A transport that is collected without having been closed warns, and closes its socket."""
    ours, peer = stage.pair()
    transport, protocol = await stage.loop.create_connection(asyncio.Protocol, sock=ours)
    transport.pause_reading()
    await stage.quiet()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport, protocol
        gc.collect()
    for warning in caught:
        text = str(warning.message)
        stage.note(f"{warning.category.__name__}: {text.partition('<')[0]}")
    caught.clear()
    stage.note("closed", ours.fileno() == -1)
    await stage.drain(peer)


@scenario
async def descriptors_that_are_taken(stage: Stage) -> None:
    """The loop refuses to watch a descriptor that a transport has, until the transport closes."""
    protocol = stage.protocol()
    await stage.connect(protocol)
    sock = protocol.transport.get_extra_info("socket")
    for by in sock, sock.fileno():
        for method in "add_reader", "add_writer":
            stage.attempt(method, getattr(stage.loop, method), by, print)
        for method in "remove_reader", "remove_writer":
            stage.attempt(method, getattr(stage.loop, method), by)
    protocol.attempt("close")
    for method in "remove_reader", "remove_writer":
        stage.attempt(method, getattr(stage.loop, method), sock)
    await stage.quiet()


@scenario
async def contexts(stage: Stage) -> None:
    """connection_lost and the callbacks of writing run in the context of who caused them, or made the connection."""
    stage.watches_contexts = True
    for end in "close", "abort", "nothing":
        PLACE.set("the creator's")
        protocol = stage.protocol(connection_made=lambda transport: transport.set_write_buffer_limits(0))
        peer = await stage.connect(protocol, sndbuf=SMALL)
        PLACE.set("the writer's")
        protocol.attempt("write", MUCH)
        PLACE.set("the one who ends it")
        if end != "nothing":
            protocol.attempt(end)
        await stage.drain(peer)
        peer.sock.close()
        await stage.quiet()


@scenario.every
def test_the_trace_is_that_of_asyncio(scenario: Any, combination: Combination, reports: Reports) -> None:
    """A connection ends as it does on asyncio's own loop of this version."""
    traced, expected = play_on_both(scenario, combination, reports)
    assert traced == expected
