"""Traces of datagram transports."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

from ..conftest import Reports
from .combinations import Combination
from .datagrams import arrives, endpoint, note_received, on_a_pair, received, udp_peer, unix_pair
from .recorders import PLACE, Boom, describe, shape_of
from .traces import Peer, Scenarios, Stage, play_on_both

scenario = Scenarios()


def raises(*args: Any) -> None:
    """A callback that fails."""
    raise Boom


@scenario
async def echo_unconnected(stage: Stage) -> None:
    """Datagrams come with the address of who sent them, and go where they are sent."""
    protocol = stage.datagram_protocol(datagram_received=lambda data, addr: protocol.transport.sendto(data[::-1], addr))
    transport = await endpoint(stage, protocol)
    for number in range(2):
        peer = udp_peer(stage)
        peer.sock.sendto(b"hello", transport.get_extra_info("sockname"))
        await arrives(stage, peer)
        stage.note(f"peer {number}", protocol.log)


@scenario
async def echo_connected(stage: Stage) -> None:
    """A connected endpoint needs no address to send to, and gets what comes from its peer only."""
    protocol = stage.datagram_protocol(datagram_received=lambda data, addr: protocol.transport.sendto(data[::-1]))
    peer = udp_peer(stage)
    transport = await endpoint(stage, protocol, remote_addr=peer.sock.getsockname())
    stranger = udp_peer(stage)
    stranger.sock.sendto(b"never seen", transport.get_extra_info("sockname"))
    peer.sock.sendto(b"hello", transport.get_extra_info("sockname"))
    await arrives(stage, peer)
    stage.note("peername", transport.get_extra_info("peername") == peer.sock.getsockname())


@scenario
async def addresses_of_a_connected_endpoint(stage: Stage) -> None:
    """Its own peer may be named; anybody else is a ValueError."""
    protocol = stage.datagram_protocol()
    peer = udp_peer(stage)
    await endpoint(stage, protocol, remote_addr=peer.sock.getsockname())
    host, port = peer.sock.getsockname()
    protocol.attempt("sendto", b"no address")
    protocol.attempt("sendto", b"the peer's", (host, port))
    protocol.attempt("sendto", b"None", None)
    await arrives(stage, peer, 3)
    protocol.attempt("sendto", b"another port", (host, 1))
    protocol.attempt("sendto", b"another host", ("127.0.0.2", port))
    protocol.attempt("sendto", b"no address at all", "x")
    protocol.attempt("close")
    await stage.quiet()


@scenario
async def types(stage: Stage) -> None:
    """bytes, bytearray and memoryview are sent; all else is a TypeError."""
    protocol = stage.datagram_protocol()
    peer = await on_a_pair(stage, protocol)
    for data in b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview"):
        protocol.attempt("sendto", data)
    for wrong in "text", None, 5, [b"list"]:
        protocol.attempt("sendto", wrong)
    note_received(stage, peer)


@scenario
async def sent_in_connection_made(stage: Stage) -> None:
    """An endpoint may send from the first moment on, before whoever made it has it."""
    protocol = stage.datagram_protocol(connection_made=lambda transport: transport.sendto(b"hello"))
    peer = await on_a_pair(stage, protocol)
    note_received(stage, peer)


@scenario
async def waiting_before_the_endpoint_was_made(stage: Stage) -> None:
    """What has come already is delivered after connection_made, and after who made the endpoint has got it."""
    protocol = stage.datagram_protocol(connection_made=lambda transport: stage.note_soon("scheduled there"))
    protocol.hides_addresses = True
    ours, peer = unix_pair(stage)
    for data in b"one", b"two":
        peer.send(data)
    await stage.loop.create_datagram_endpoint(lambda: protocol, sock=ours)
    stage.note("made")
    await stage.quiet()


@scenario
async def empty_datagrams_received(stage: Stage) -> None:
    """A datagram may be empty, and is no end."""
    protocol = stage.datagram_protocol()
    transport = await endpoint(stage, protocol)
    peer = udp_peer(stage)
    for data in b"", b"not empty", b"":
        peer.sock.sendto(data, transport.get_extra_info("sockname"))
    await received(stage, protocol, 3)


@scenario
async def empty_datagrams_sent(stage: Stage) -> None:
    """From some version on, asyncio sends empty datagrams; before, it drops them."""
    protocol = stage.datagram_protocol()
    peer = udp_peer(stage)
    transport = await endpoint(stage, protocol)
    protocol.attempt("sendto", b"", peer.sock.getsockname())
    protocol.attempt("sendto", b"not empty", peer.sock.getsockname())
    while not note_received(stage, peer):
        await stage.a_round()
    await stage.quiet()
    note_received(stage, peer)
    transport.close()


@scenario
async def oversized(stage: Stage) -> None:
    """What no datagram can hold is told to error_received, and the flow goes on."""
    peer = udp_peer(stage)
    for remote_addr in None, peer.sock.getsockname():
        protocol = stage.datagram_protocol()
        await endpoint(stage, protocol, remote_addr=remote_addr)
        for data in bytes(70_000), b"fits":
            protocol.attempt("sendto", data, peer.sock.getsockname())
        await arrives(stage, peer)


@scenario
async def large(stage: Stage) -> None:
    """The largest datagrams arrive whole."""
    protocol = stage.datagram_protocol()
    transport = await endpoint(stage, protocol)
    peer = udp_peer(stage)
    peer.sock.sendto(bytes(65_507), transport.get_extra_info("sockname"))
    await received(stage, protocol, 1)
    protocol.attempt("sendto", bytes(65_507), peer.sock.getsockname())
    await arrives(stage, peer)


@scenario
async def larger_than_udp_allows(stage: Stage) -> None:
    """UNIX datagrams may be larger than 64 KiB, both ways."""
    protocol = stage.datagram_protocol()
    peer = await on_a_pair(stage, protocol)
    data = bytes(range(256)) * 400
    protocol.attempt("sendto", data)
    note_received(stage, peer)
    peer.send(data)
    await stage.quiet()


@scenario
async def port_unreachable(stage: Stage) -> None:
    """ICMP's answer to a connected endpoint is error_received, and the flow goes on."""
    protocol = stage.datagram_protocol()
    peer = udp_peer(stage)
    address = peer.sock.getsockname()
    transport = await endpoint(stage, protocol, remote_addr=address)
    peer.sock.close()
    protocol.attempt("sendto", b"nobody is there")
    await stage.until(lambda: "error_received" in protocol.log)
    stage.note("closing", transport.is_closing())
    peer = udp_peer(stage, address)
    peer.sock.sendto(b"here I am", transport.get_extra_info("sockname"))
    await received(stage, protocol, 1)
    protocol.attempt("sendto", b"welcome")
    await arrives(stage, peer)


@scenario
async def wrong_destinations(stage: Stage) -> None:
    """What the socket refuses as an OSError is error_received; what is no address at all is fatal."""
    for address in ("127.0.0.1", 0), ("255.255.255.255", 9), ("127.0.0.1", 70_000), ("localhost",), 5, None:
        protocol = stage.datagram_protocol()
        await endpoint(stage, protocol)
        stage.note(f"to {address}")
        protocol.attempt("sendto", b"hello", address)
        await stage.quiet()
        stage.note("closing", protocol.transport.is_closing())


@scenario
async def closed(stage: Stage) -> None:
    """connection_lost(None) comes once, after close() or abort(); later datagrams are dropped."""
    for method in "close", "abort":
        protocol = stage.datagram_protocol()
        peer = await on_a_pair(stage, protocol)
        peer.send(b"too late")
        stage.note_soon("scheduled before")
        for _ in range(2):
            protocol.attempt(method)
        stage.note_soon("scheduled after")
        stage.note("closing", protocol.transport.is_closing())
        await stage.quiet()
        protocol.attempt(method)
        await stage.quiet()
        note_received(stage, peer)


@scenario
async def sent_when_closed(stage: Stage) -> None:
    """A connected endpoint drops what is sent after its end, with a warning from the fifth time on."""
    protocol = stage.datagram_protocol()
    peer = udp_peer(stage)
    await endpoint(stage, protocol, remote_addr=peer.sock.getsockname())
    protocol.attempt("close")
    for _ in range(7):
        protocol.attempt("sendto", b"dropped")
    await stage.quiet()
    note_received(stage, peer)


@scenario
async def closed_and_paused_in_callbacks(stage: Stage) -> None:
    """After close() or abort() in a callback, nothing comes any more."""
    for method in "close", "abort":
        for callback in "connection_made", "datagram_received", "connection_lost":
            protocol = stage.datagram_protocol(f"{method} in {callback}")
            protocol.on[callback] = lambda *args: protocol.attempt(method)
            protocol.hides_addresses = True
            ours, peer = unix_pair(stage)
            for data in b"one", b"two", b"three":
                peer.send(data)
            await stage.loop.create_datagram_endpoint(lambda: protocol, sock=ours)
            await stage.quiet()
            protocol.transport.abort() if protocol.state != "lost" else None
            await stage.quiet()


@scenario
async def failing_callbacks(stage: Stage) -> None:
    """Errors in callbacks are reported; none but connection_lost is the last."""
    for callback in "connection_made", "datagram_received", "error_received", "connection_lost":
        protocol = stage.datagram_protocol(f"failing in {callback}")
        if callback == "connection_made":
            protocol.on[callback] = raises
        peer = udp_peer(stage)
        address = peer.sock.getsockname()
        transport = await endpoint(stage, protocol, remote_addr=address)
        protocol.on[callback] = raises
        peer.sock.sendto(b"one", transport.get_extra_info("sockname"))
        await received(stage, protocol, 1)
        peer.sock.close()
        protocol.transport.sendto(b"nobody is there")
        await stage.until(lambda: "error_received" in protocol.log)
        peer = udp_peer(stage, address)
        peer.sock.sendto(b"two", transport.get_extra_info("sockname"))
        await received(stage, protocol, 2)
        protocol.attempt("close")
        await protocol.lost
        await stage.quiet()


@scenario
async def limits(stage: Stage) -> None:
    """The marks are those of streams."""
    protocol = stage.datagram_protocol()
    await on_a_pair(stage, protocol)
    for kwargs in {}, {"high": 1000}, {"low": 1000}, {"high": 0}, {"high": 10, "low": 11}, {"low": -1}:
        stage.attempt(f"limits {kwargs}", lambda kwargs=kwargs: protocol.transport.set_write_buffer_limits(**kwargs))
        protocol.attempt("get_write_buffer_limits")


def sequence(peer: Peer) -> Iterator[int]:
    """The numbers that have come to *peer*."""
    while True:
        try:
            yield int(peer.sock.recv(1000)[:5])
        except BlockingIOError:
            return


MANY = 3000


@scenario
async def flow_control(stage: Stage) -> None:
    """A peer that does not read pauses the protocol; when it reads, everything comes, in order, and it is resumed."""
    protocol = stage.datagram_protocol(
        # From version to version, asyncio counts different headers, and does not forget them all.
        connection_made=lambda transport: transport.set_write_buffer_limits(60_000, 40_000)
    )
    peer = await on_a_pair(stage, protocol)
    for number in range(MANY):
        protocol.transport.sendto(b"%05d" % number * 20)
    stage.note("paused", protocol.paused)
    await stage.quiet()
    numbers: list[int] = []
    while (before := len(numbers)) < MANY:
        numbers += sequence(peer)
        if len(numbers) == before:
            break
        await stage.a_round()
        await stage.a_round()
    stage.note("in order", numbers == list(range(MANY)))


@scenario
async def closed_with_datagrams_in_the_buffer(stage: Stage) -> None:
    """close() sends what is in the buffer first; abort() drops it."""
    for method in "close", "abort":
        protocol = stage.datagram_protocol(connection_made=lambda transport: transport.set_write_buffer_limits(10**6))
        peer = await on_a_pair(stage, protocol)
        for number in range(MANY):
            protocol.transport.sendto(b"%05d" % number)
        protocol.attempt(method)
        await stage.quiet()
        numbers: list[int] = []
        while not protocol.lost.done() or len(numbers) < MANY:
            before = len(numbers)
            numbers += sequence(peer)
            if len(numbers) == before:
                break
            await stage.a_round()
            await stage.a_round()
        await protocol.lost
        stage.note("in order", numbers == list(range(len(numbers))))
        stage.note("all", len(numbers) == MANY)


@scenario
async def peer_gone(stage: Stage) -> None:
    """A UNIX peer that is gone is told to error_received with each datagram."""
    protocol = stage.datagram_protocol()
    peer = await on_a_pair(stage, protocol)
    peer.sock.close()
    await stage.quiet()
    for _ in range(2):
        protocol.attempt("sendto", b"hello")
        await stage.quiet()


@scenario
async def unix_by_path(stage: Stage) -> None:
    """UNIX endpoints are bound to paths, or to nothing at all."""
    with tempfile.TemporaryDirectory() as directory:
        paths = [os.path.join(directory, name) for name in ("first", "second")]

        first = stage.datagram_protocol("first")
        # Not the address itself, in which the directory stands.
        first.hides_addresses = True
        second = stage.datagram_protocol("second")
        third = stage.datagram_protocol("third")
        await endpoint(stage, first, local_addr=paths[0], family=socket.AF_UNIX)
        # A stale file of a socket is no obstacle.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
            stale.bind(paths[1])
        await endpoint(stage, second, local_addr=paths[1], family=socket.AF_UNIX)
        await endpoint(stage, third, local_addr=None, remote_addr=paths[0], family=socket.AF_UNIX)
        first.on["datagram_received"] = lambda data, addr: stage.note("by the second", addr == paths[1])
        second.attempt("sendto", b"from the second", paths[0])
        await stage.quiet()
        first.on["datagram_received"] = lambda data, addr: stage.note("by", addr)
        third.attempt("sendto", b"from the third")
        await stage.quiet()
        second.attempt("sendto", b"to nobody", os.path.join(directory, "nobody"))
        await stage.quiet()


@scenario
async def information(stage: Stage) -> None:
    """What an endpoint says of itself, in every state."""
    peer = udp_peer(stage)
    for remote_addr in None, peer.sock.getsockname():
        protocol = stage.datagram_protocol()
        transport = await endpoint(stage, protocol, remote_addr=remote_addr)
        for state in "open", "closing", "closed":
            for name in "socket", "sockname", "peername", "nothing of the kind":
                stage.note(f"{state}: {name}", transport.get_extra_info(name))
            stage.note(f"{state}: default", transport.get_extra_info("nothing of the kind", "a default"))
            stage.note(f"{state}: {shape_of(transport)}")
            stage.note(f"{state}: protocol", type(transport.get_protocol()).__name__)
            stage.note(f"{state}: buffer", transport.get_write_buffer_size())
            if state == "open":
                transport.close()
            else:
                await stage.quiet()


@scenario.since(3, 11)
async def forgotten(stage: Stage) -> None:
    """An endpoint that is collected without having been closed warns, if nothing keeps it."""
    ours, _ = unix_pair(stage)
    transport, protocol = await stage.loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=ours)
    paused: Any = transport
    paused.pause_reading()  # as in asyncio, where it is not documented for datagrams
    await stage.quiet()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport, protocol, paused
        gc.collect()
    for warning in caught:
        stage.note(f"{warning.category.__name__}: {str(warning.message).partition('<')[0]}")
    caught.clear()
    stage.note("closed", ours.fileno() == -1)


@scenario
async def endpoints_that_cannot_be(stage: Stage) -> None:
    """What create_datagram_endpoint() refuses, it refuses as asyncio does."""
    loop: Any = stage.loop
    stream = stage.keep(socket.socket())
    taken = udp_peer(stage).sock.getsockname()
    for kwargs in (
        {},
        {"sock": stream},
        {"local_addr": "127.0.0.1"},
        {"local_addr": ("127.0.0.1",)},
        {"local_addr": taken},
        {"local_addr": ("127.0.0.1", 0), "remote_addr": ("::1", 9)},
        {"local_addr": ("127.0.0.1", 0), "sock": udp_peer(stage).sock},
    ):
        what = " ".join(f"{name} {describe(value)}" for name, value in kwargs.items())
        await stage.attempt_to_await(f"with {what}", loop.create_datagram_endpoint(stage.datagram_protocol, **kwargs))


@scenario
async def options(stage: Stage) -> None:
    """reuse_port and allow_broadcast are set on the socket, and off without."""
    for kwargs in {}, {"reuse_port": True}, {"allow_broadcast": True}:
        protocol = stage.datagram_protocol()
        transport = await endpoint(stage, protocol, **kwargs)
        sock = transport.get_extra_info("socket")
        for option in socket.SO_REUSEPORT, socket.SO_BROADCAST, socket.SO_REUSEADDR:
            stage.note(f"{kwargs} {option}", sock.getsockopt(socket.SOL_SOCKET, option) != 0)
    transports = []
    port = 0
    for _ in range(2):
        protocol = stage.datagram_protocol()
        transports.append(await endpoint(stage, protocol, local_addr=("127.0.0.1", port), reuse_port=True))
        port = transports[0].get_extra_info("sockname")[1]
    stage.note("shared", transports[1].get_extra_info("sockname")[1] == port)


@scenario
async def over_ipv6(stage: Stage) -> None:
    """Addresses of IPv6 have four parts, coming and going."""
    protocol = stage.datagram_protocol(datagram_received=lambda data, addr: protocol.transport.sendto(data[::-1], addr))
    what = stage.loop.create_datagram_endpoint(lambda: protocol, local_addr=("::1", 0))
    if await stage.attempt_to_await("made", what) is None:
        return  # There is no IPv6 here.
    peer = udp_peer(stage, ("::1", 0))
    peer.sock.sendto(b"hello", protocol.transport.get_extra_info("sockname"))
    await arrives(stage, peer)
    connected = stage.datagram_protocol("connected")
    await endpoint(stage, connected, local_addr=("::1", 0), remote_addr=peer.sock.getsockname()[:2])
    stage.note("peername", connected.transport.get_extra_info("peername"))
    connected.attempt("sendto", b"by four", peer.sock.getsockname())
    connected.attempt("sendto", b"by two", peer.sock.getsockname()[:2])
    connected.attempt("sendto", b"by none")
    connected.attempt("close")
    await stage.quiet()


@scenario
async def contexts(stage: Stage) -> None:
    """Callbacks run in the context of who made the endpoint, or of who caused them."""
    stage.watches_contexts = True
    PLACE.set("the creator's")
    protocol = stage.datagram_protocol(
        connection_made=lambda transport: PLACE.set("set in connection_made"),
        datagram_received=lambda data, addr: PLACE.set("set in datagram_received"),
    )
    peer = udp_peer(stage)
    transport = await endpoint(stage, protocol, remote_addr=peer.sock.getsockname())
    PLACE.set("what came later")
    for number in 1, 2:
        peer.sock.sendto(b"hello", transport.get_extra_info("sockname"))
        await received(stage, protocol, number)
    protocol.transport.sendto(bytes(70_000))
    PLACE.set("the one who closes")
    protocol.transport.close()
    await stage.quiet()


@scenario.every
def test_the_trace_is_that_of_asyncio(scenario: Any, combination: Combination, reports: Reports) -> None:
    """Datagrams are sent and received as by asyncio's own loop of this version."""
    traced, expected = play_on_both(scenario, combination, reports)
    assert traced == expected
