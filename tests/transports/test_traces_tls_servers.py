"""Traces of TLS transports: how they come about, by servers, clients and upgrades, and what else ends them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

from ..conftest import Reports
from .recorders import PLACE
from .test_traces_stream_servers import Factory
from .tls_stage import Part, TLSPeer, TLSScenarios, TLSStage, client_context, play_on_both, server_context
from .tls_traces import SERVERS
from .traces import MUCH, SMALL, Peer

scenario = TLSScenarios(SERVERS)


async def serve(stage: TLSStage, factory: Any, **options: Any) -> asyncio.Server:
    """Serve by TLS on a port that the kernel picks."""
    return await stage.serve(factory, ssl=stage.context, **options)


async def client_of(stage: TLSStage, server: asyncio.Server) -> TLSPeer:
    """A connection to *server*, with the handshake done, as far as the client can tell."""
    peer = TLSPeer(stage.client_of(server).sock, server_side=False)
    while not peer.greeted:
        peer.go_on()
        await stage.a_round()
    return peer


# Servers


@scenario.on("server")
async def served(stage: TLSStage) -> None:
    """Each connection gets a protocol at once, and a transport after the handshake."""
    factory = Factory(stage)
    server = await serve(stage, factory)
    for number in range(3):
        peer = await client_of(stage, server)
        peer.send(b"hello")
        await stage.expect(peer, 5)
        transport = factory.made[number].transport
        stage.note("peername", transport.get_extra_info("peername") == peer.sock.getsockname())
        stage.note("sockname", transport.get_extra_info("sockname") == peer.sock.getpeername())
        peer.leave()
        await factory.made[number].lost


@scenario.on("server")
async def served_without_a_handshake(stage: TLSStage) -> None:
    """Whoever does not get through the handshake is not told of, neither to the protocol nor to anybody else."""
    factory = Factory(stage)
    server = await serve(stage, factory)
    for number, what in enumerate([b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"]):
        peer = stage.client_of(server)
        peer.send(what) if what else None
        await stage.until(lambda number=number: len(factory.made) > number)
        peer.sock.close()
        await stage.quiet()
    peer = await client_of(stage, server)
    peer.send(b"hello")
    await stage.expect(peer, 5)


@scenario.on("server")
async def server_closed(stage: TLSStage) -> None:
    """A closed server accepts no more, and leaves its connections alone; at the end of the last it counts as closed."""
    factory = Factory(stage)
    server = await serve(stage, factory)
    peer = await client_of(stage, server)
    peer.send(b"before")
    await stage.expect(peer, 6)
    server.close()
    waiting = stage.loop.create_task(server.wait_closed())
    peer.send(b"after")
    await stage.expect(peer, 5)
    peer.leave()
    await factory.made[0].lost
    await waiting
    await stage.quiet()


if sys.version_info >= (3, 13):

    @scenario.on("server")
    async def clients_closed(stage: TLSStage) -> None:
        """close_clients() ends every connection after what is in its buffer; abort_clients() does not wait for that."""
        for method in "close_clients", "abort_clients":
            factory = Factory(stage)
            server = await serve(stage, factory)
            peer = await client_of(stage, server)
            peer.send(b"hello")
            await stage.expect(peer, 5)
            server.close()
            stage.attempt(method, getattr(server, method))
            await stage.until(lambda: [peer.receive(), peer.ending][-1])
            peer.sock.close()
            await factory.made[0].lost
            await server.wait_closed()


@scenario
async def both_ends_in_one_loop(stage: TLSStage) -> None:
    """A client and a server of the same loop talk to each other."""
    stage.trace.by_actor = True
    kind = stage.kind if stage.kind in ("stdlib", "memory") else "context"
    factory = Factory(stage)
    server = await stage.serve(factory, ssl=server_context(kind))
    client = stage.protocol("client")
    transport, protocol = await stage.loop.create_connection(
        lambda: client, *server.sockets[0].getsockname(), ssl=client_context(kind), server_hostname="localhost"
    )
    stage.note("the protocol", protocol is client)
    stage.note("the transport", transport is client.transport)
    transport.write(b"hello")
    await stage.until(lambda: "data_received" in client.log)
    transport.close()
    await client.lost
    await factory.made[0].lost


@scenario
async def handshake_refused(stage: TLSStage) -> None:
    """A peer that does not speak TLS, or ends before the handshake is done, is an error, and no connection is made."""
    for what in b"GET / HTTP/1.1\r\n\r\n", b"":
        protocol = stage.protocol()
        ours, peer = stage.pair()
        if what:
            peer.send(what)
        else:
            peer.sock.shutdown(1)
        with contextlib.suppress(OSError):
            await stage.secured(protocol, ours)
        stage.note("called", *protocol.log)


@scenario.on("client")
async def wrong_arguments(stage: TLSStage) -> None:
    """What is refused with TLS, and without."""
    loop: Any = stage.loop
    for options in (
        {"ssl": stage.context, "ssl_handshake_timeout": 0},
        {"ssl": stage.context, "ssl_handshake_timeout": -1},
        {"ssl": None, "ssl_handshake_timeout": 1},
        {"ssl": None, "server_hostname": "localhost"},
        {"ssl": stage.context},
    ):
        ours, peer = stage.pair()
        what = f"connected, {', '.join(options)}"
        await stage.attempt_to_await(what, loop.create_connection(stage.protocol, sock=ours, **options))
        ours.close()
    await stage.attempt_to_await("served", loop.create_server(stage.protocol, "127.0.0.1", 0, ssl=True))


# Upgrades


async def upgrade(stage: TLSStage, protocol: Any, plain: Peer, **options: Any) -> TLSPeer:
    """Upgrade *protocol*'s transport; it has the new one then."""
    peer = stage.tls_peer(plain)
    task = stage.loop.create_task(stage.attempt_to_await("upgraded", stage.upgraded(protocol, **options)))
    await stage.greet(peer, task)
    protocol.transport = await task or protocol.transport
    return peer


async def plainly(stage: TLSStage, protocol: Any, **options: Any) -> Peer:
    """Connect *protocol* without TLS."""
    ours, peer = stage.pair(**options)
    await stage.loop.create_connection(lambda: protocol, sock=ours)
    return peer


@scenario
async def upgraded(stage: TLSStage) -> None:
    """What comes before start_tls() is plain, what comes after it is not; connection_made is not called again."""
    protocol = stage.protocol()
    plain = await plainly(stage, protocol)
    protocol.attempt("write", b"plain")
    await stage.drain(plain)
    plain.send(b"plain, too")
    await stage.quiet()
    raw = protocol.transport
    peer = await upgrade(stage, protocol, plain)
    stage.note("another transport", protocol.transport is not raw)
    stage.note("its protocol", protocol.transport.get_protocol() is protocol)
    stage.note("secured", bool(protocol.transport.get_extra_info("cipher")))
    stage.note("peername", protocol.transport.get_extra_info("peername") == raw.get_extra_info("peername"))
    protocol.note_state()
    protocol.attempt("write", b"secret")
    await stage.drain(peer)
    peer.send(b"secret, too")
    await stage.quiet()
    protocol.attempt("close")
    await stage.drain(peer)
    peer.leave()
    await stage.quiet()


@scenario
async def upgraded_for_a_buffered_protocol(stage: TLSStage) -> None:
    """A BufferedProtocol can be upgraded as well."""
    protocol = stage.buffered_protocol()
    plain = await plainly(stage, protocol)
    plain.send(b"plain")
    await stage.quiet()
    peer = await upgrade(stage, protocol, plain)
    peer.send(b"secret")
    await stage.quiet()
    peer.leave()
    await stage.quiet()


@scenario
async def upgraded_with_data_in_the_buffer(stage: TLSStage) -> None:
    """What was written before is sent before, as it is."""
    protocol = stage.protocol()
    ours, plain = stage.pair(SMALL)
    await stage.loop.create_connection(lambda: protocol, sock=ours)
    data = MUCH[:60_000]  # more, and asyncio forgets that it has paused the protocol: see test_tls_flow
    protocol.transport.write(data)
    task = stage.loop.create_task(stage.attempt_to_await("upgraded", stage.upgraded(protocol)))
    read = b""
    while len(read) < len(data):
        with contextlib.suppress(BlockingIOError):
            read += plain.sock.recv(len(data) - len(read))
        await stage.a_round()
    stage.note("plain", read)
    peer = stage.tls_peer(plain)
    await stage.greet(peer, task)
    protocol.transport = await task
    protocol.attempt("write", b"secret")
    await stage.drain(peer)


@scenario
async def upgraded_and_refused(stage: TLSStage) -> None:
    """A handshake that fails is the end of the connection; who called start_tls() gets the error."""
    protocol = stage.protocol()
    plain = await plainly(stage, protocol)
    plain.send(b"GET / HTTP/1.1\r\n\r\n")
    with contextlib.suppress(OSError):
        await stage.upgraded(protocol)
    await stage.quiet()
    stage.note("closing", protocol.transport.is_closing())


@scenario
async def lower_transport_ended(stage: TLSStage) -> None:
    """Whoever closes the transport below TLS ends the connection, without a close_notify."""
    for end in "close", "abort":
        protocol = stage.protocol()
        plain = await plainly(stage, protocol)
        raw = protocol.transport
        peer = await upgrade(stage, protocol, plain)
        stage.attempt(f"{end} below", getattr(raw, end))
        await stage.drain(peer)
        stage.note("closing", protocol.transport.is_closing())


@scenario
async def upgraded_wrongly(stage: TLSStage) -> None:
    """start_tls() wants a context, a transport that it can upgrade, and a time that is positive."""
    protocol = stage.protocol()
    await plainly(stage, protocol)
    loop: Any = stage.loop
    for context in None, "context":
        await stage.attempt_to_await("upgraded", loop.start_tls(protocol.transport, protocol, context))
    wrong: Any = asyncio.BaseTransport()
    options = {"server_side": stage.side == "server"} | ({} if stage.side == "server" else {"server_hostname": "a"})
    await stage.attempt_to_await("upgraded", loop.start_tls(wrong, protocol, stage.context, **options))
    await stage.attempt_to_await("upgraded", stage.upgraded(protocol, ssl_handshake_timeout=0))
    protocol.note_state()


@scenario.that(since=(3, 11))
async def contexts(stage: TLSStage) -> None:
    """Callbacks after an upgrade run in the context of who upgraded, or in one that came before that."""
    stage.watches_contexts = True
    PLACE.set("the creator's")
    protocol = stage.protocol()
    plain = await plainly(stage, protocol)
    PLACE.set("the one who upgrades")
    peer = await upgrade(stage, protocol, plain)
    PLACE.set("what came later")
    peer.send(b"data")
    await stage.quiet()
    peer.leave()
    await stage.quiet()


@scenario.on("server")
async def contexts_of_a_server(stage: TLSStage) -> None:
    """In which context a server's protocols are called depends on the version of Python."""
    stage.watches_contexts = True
    PLACE.set("the server's")
    factory = Factory(stage, connection_made=lambda transport: PLACE.set("set in connection_made"))
    factory.on["data_received"] = lambda data: PLACE.set("set in data_received")
    server = await serve(stage, factory)
    PLACE.set("what came later")
    for number in range(2):
        peer = await client_of(stage, server)
        await stage.until(lambda number=number: len(factory.made) > number and factory.made[number].transport)
        for _ in range(2):
            before = len(factory.made[number].log)
            peer.send(b"hello")
            await stage.until(lambda number=number, before=before: len(factory.made[number].log) > before)
            stage.note("one more")
        factory.made[number].transport.abort()
        await factory.made[number].lost


@scenario.every
def test_the_trace_is_that_of_asyncio(part: Part, reports: Reports) -> None:
    """TLS connections are made, served and upgraded to as they are by asyncio's own loop."""
    traced, expected = play_on_both(scenario, part, reports)
    assert traced == expected
