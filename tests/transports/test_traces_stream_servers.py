"""Traces of stream transports: how connections come about, on both sides, and what a server does with them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import tempfile
from typing import Any

from ..conftest import Reports
from .combinations import Combination
from .recorders import PLACE
from .traces import Peer, Scenarios, Stage, play_on_both

scenario = Scenarios()


class Factory:
    """A protocol factory that numbers its protocols, which echo."""

    def __init__(self, stage: Stage, **on: Any) -> None:
        self.stage = stage
        self.on = on
        self.made: list[Any] = []

    def __call__(self) -> Any:
        name = f"number {len(self.made)}"
        self.stage.note(f"factory, {name}")
        protocol = self.stage.protocol(name, **self.on)
        protocol.on.setdefault("data_received", lambda data: protocol.transport.write(data))
        self.made.append(protocol)
        return protocol


@scenario
async def served(stage: Stage) -> None:
    """Each connection gets a protocol, a transport, and the address that accept() told."""
    factory = Factory(stage)
    server = await stage.serve(factory)
    for number in range(3):
        peer = stage.client_of(server)
        peer.send(b"hello")
        await stage.expect(peer, 5)
        transport = factory.made[number].transport
        stage.note("peername", transport.get_extra_info("peername") == peer.sock.getsockname())
        stage.note("sockname", transport.get_extra_info("sockname") == peer.sock.getpeername())
        peer.sock.close()
        await factory.made[number].lost


@scenario
async def served_all_at_once(stage: Stage) -> None:
    """Connections that wait in the backlog are all accepted, first come, first served."""
    stage.trace.by_actor = True
    factory = Factory(stage)
    server = await stage.serve(factory, backlog=2)
    peers = [stage.client_of(server) for _ in range(3)]
    await stage.until(lambda: len(factory.made) == 3 and factory.made[-1].transport)
    for number, peer in enumerate(peers):
        at = factory.made[number].transport.get_extra_info("peername")
        stage.note(f"in order {number}", at == peer.sock.getsockname())


@scenario
async def served_later(stage: Stage) -> None:
    """A server that was not started accepts nothing until it is."""
    factory = Factory(stage)
    server = await stage.serve(factory, start_serving=False)
    stage.note("serving", server.is_serving())
    await stage.quiet()
    for _ in range(2):
        await server.start_serving()
        stage.note("serving", server.is_serving())
    peer = stage.client_of(server)
    peer.send(b"hello")
    await stage.expect(peer, 5)


@scenario
async def served_until_cancelled(stage: Stage) -> None:
    """serve_forever() starts the server and, when it is cancelled, closes it; a second one is refused."""
    factory = Factory(stage)
    server = await stage.serve(factory, start_serving=False)
    task = stage.loop.create_task(server.serve_forever())
    await stage.quiet()
    stage.note("serving", server.is_serving())
    await stage.attempt_to_await("again", server.serve_forever())
    peer = stage.client_of(server)
    peer.send(b"hello")
    await stage.expect(peer, 5)
    peer.sock.close()
    await factory.made[0].lost
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    stage.note("serving", server.is_serving())
    stage.note("sockets", server.sockets)
    await stage.attempt_to_await("again", server.serve_forever())


@scenario
async def server_closed(stage: Stage) -> None:
    """A closed server accepts no more, and leaves its connections alone; when it counts as closed, the version says."""
    factory = Factory(stage)
    server = await stage.serve(factory)
    stage.note("sockets", *server.sockets)
    peer = stage.client_of(server)
    peer.send(b"before")
    await stage.expect(peer, 6)
    waiting = stage.loop.create_task(server.wait_closed())
    await stage.quiet()
    stage.note("waited", waiting.done())
    for _ in range(2):
        server.close()
        await stage.quiet()
        stage.note("serving", server.is_serving())
        stage.note("sockets", server.sockets)
        stage.note("waited", waiting.done())
    waiting_since_then = stage.loop.create_task(server.wait_closed())
    peer.send(b"after")
    await stage.expect(peer, 5)
    stage.note("waited", waiting_since_then.done())
    peer.sock.close()
    await factory.made[0].lost
    await waiting
    await stage.quiet()
    stage.note("waited", waiting_since_then.done())
    await server.wait_closed()


@scenario.since(3, 13)
async def clients_closed(stage: Stage) -> None:
    """close_clients() closes every connection, with what is in its buffer; abort_clients() does not wait for that."""
    stage.trace.by_actor = True
    if sys.version_info >= (3, 13):
        for method in "close_clients", "abort_clients":
            factory = Factory(stage)
            server = await stage.serve(factory)
            peers = [stage.client_of(server) for _ in range(2)]
            await stage.until(lambda: len(factory.made) == 2 and factory.made[-1].transport)
            factory.made[0].transport.write(bytes(10_000_000))
            server.close()
            stage.attempt(method, getattr(server, method))
            if method == "close_clients":
                await stage.expect(peers[0])
            for protocol in factory.made:
                await protocol.lost
            await server.wait_closed()


@scenario.since(3, 13)
async def clients_of_one_server_closed(stage: Stage) -> None:
    """Those of another server, those that had gone before, and those that come afterwards are left alone."""
    stage.trace.by_actor = True
    if sys.version_info >= (3, 13):
        factories = [Factory(stage), Factory(stage)]
        servers = [await stage.serve(factory) for factory in factories]
        for _ in range(2):
            stage.client_of(servers[0]).sock.close()
            await stage.until(lambda: factories[0].made and factories[0].made[-1].state == "lost")
        peers = [stage.client_of(server) for server in servers]
        await stage.until(lambda: all(factory.made and factory.made[-1].state == "open" for factory in factories))
        servers[0].close_clients()
        await factories[0].made[-1].lost
        peers[1].send(b"still here")
        await stage.expect(peers[1], 10)
        late = stage.client_of(servers[0])
        late.send(b"too")
        await stage.expect(late, 3)
        servers[1].close()
        waiting = stage.loop.create_task(servers[1].wait_closed())
        await stage.quiet()
        stage.note("waited", waiting.done())
        servers[1].abort_clients()
        await waiting
        await factories[1].made[-1].lost


@scenario
async def served_by_a_socket_that_was_given(stage: Stage) -> None:
    """create_server(sock=...) serves there, and closes it."""
    factory = Factory(stage)
    listening = socket.create_server(("127.0.0.1", 0))
    server = stage.keep_server(await stage.loop.create_server(factory, sock=listening))
    stage.note("the socket", server.sockets[0].getsockname() == listening.getsockname())
    peer = stage.client_of(server)
    peer.send(b"hello")
    await stage.expect(peer, 5)
    server.close()
    stage.note("closed", listening.fileno() == -1)


@scenario
async def served_on_a_path(stage: Stage) -> None:
    """UNIX sockets are no different."""
    stage.trace.by_actor = True
    factory = Factory(stage)
    client = stage.protocol("client")
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "socket")
        server = stage.keep_server(await stage.loop.create_unix_server(factory, path))
        await stage.loop.create_unix_connection(lambda: client, path)
        await stage.quiet()
        client.attempt("write", b"hello")
        await stage.quiet()
        for protocol in client, factory.made[0]:
            for name in "sockname", "peername":
                stage.note(name, protocol.transport.get_extra_info(name).replace(directory, "DIRECTORY"))
        client.attempt("close")
        await stage.quiet()
        server.close()
        await stage.quiet()
        stage.note("the file is there", os.path.exists(path))


@scenario
async def served_on_an_abstract_name(stage: Stage) -> None:
    """Names of Linux that are no paths are told as they are."""
    stage.trace.by_actor = True
    factory = Factory(stage)
    client = stage.protocol("client")
    name = f"\0txasync-{os.getpid()}-{id(stage)}"
    stage.keep_server(await stage.loop.create_unix_server(factory, name))
    await stage.loop.create_unix_connection(lambda: client, name)
    await stage.quiet()
    client.attempt("write", b"hello")
    await stage.quiet()
    stage.note("peername", client.transport.get_extra_info("peername") == name.encode())
    stage.note("sockname", factory.made[0].transport.get_extra_info("sockname") == name.encode())


@scenario
async def accepted_by_somebody_else(stage: Stage) -> None:
    """connect_accepted_socket() is a connection like others, with no server."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = Peer(stage.keep(socket.create_connection(listening.getsockname())))
        accepted, address = listening.accept()
    protocol = stage.protocol(data_received=lambda data: protocol.transport.write(data))
    transport, _ = await stage.loop.connect_accepted_socket(lambda: protocol, accepted)
    stage.note("peername", transport.get_extra_info("peername") == address)
    stage.note("timeout", accepted.gettimeout())
    peer.send(b"hello")
    await stage.expect(peer, 5)
    peer.sock.close()
    await protocol.lost


@scenario
async def accepted_by_somebody_else_and_no_stream(stage: Stage) -> None:
    """A datagram socket is refused, and left to its owner."""
    sock = stage.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    await stage.attempt_to_await("accepted", stage.loop.connect_accepted_socket(stage.protocol, sock))
    await stage.attempt_to_await("connected", stage.loop.create_connection(stage.protocol, sock=sock))
    await stage.attempt_to_await("served", stage.loop.create_server(stage.protocol, sock=sock))
    stage.note("left open", sock.fileno() != -1)


@scenario
async def both_ends_in_one_loop(stage: Stage) -> None:
    """A client and a server of the same loop talk to each other."""
    stage.trace.by_actor = True
    factory = Factory(stage)
    server = await stage.serve(factory)
    client = stage.protocol("client")
    transport, protocol = await stage.loop.create_connection(lambda: client, *server.sockets[0].getsockname())
    stage.note("the protocol", protocol is client)
    stage.note("the transport", transport is client.transport)
    transport.write(b"hello")
    await stage.until(lambda: "data_received" in client.log)
    transport.write_eof()
    await client.lost


@scenario
async def refused(stage: Stage) -> None:
    """Nobody listens: a ConnectionRefusedError, and no protocol."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
    await stage.attempt_to_await("connected", stage.loop.create_connection(Factory(stage), *address))
    path = f"/tmp/{os.getpid()}/nobody"
    await stage.attempt_to_await("connected", stage.loop.create_unix_connection(Factory(stage), path))


@scenario
async def wrong_arguments(stage: Stage) -> None:
    """What create_connection() and create_server() refuse, they refuse as asyncio does."""
    for arguments, keywords in (
        ((), {}),
        (("127.0.0.1", 70_000), {}),
        (("127.0.0.1", 80), {"server_hostname": "a"}),
        (("127.0.0.1", 80), {"ssl_handshake_timeout": 1}),
    ):
        what = f"connected {arguments} {keywords}"
        await stage.attempt_to_await(what, stage.loop.create_connection(stage.protocol, *arguments, **keywords))
    sock = stage.keep(socket.socket())
    loop: Any = stage.loop
    connected = loop.create_connection(stage.protocol, "127.0.0.1", 80, sock=sock)
    await stage.attempt_to_await("connected with both", connected)
    await stage.attempt_to_await("served", loop.create_server(stage.protocol))
    await stage.attempt_to_await("served", loop.create_server(stage.protocol, "127.0.0.1", 70_000))


@scenario
async def bound_to_a_local_address(stage: Stage) -> None:
    """local_addr= is where the connection comes from."""
    protocol = stage.protocol()
    peer = await stage.connect_tcp(protocol, local_addr=("127.0.0.2", 0))
    stage.note("from", peer.sock.getpeername())
    stage.note("same", protocol.transport.get_extra_info("sockname") == peer.sock.getpeername())


@scenario
async def over_ipv6(stage: Stage) -> None:
    """Addresses of IPv6 have four parts."""
    factory = Factory(stage)
    server = await stage.attempt_to_await("served", stage.loop.create_server(factory, "::1", 0))
    if server is None:
        return  # There is no IPv6 here.
    stage.keep_server(server)
    peer = stage.client_of(server)
    peer.send(b"hello")
    await stage.expect(peer, 5)
    for name in "sockname", "peername":
        stage.note(name, factory.made[0].transport.get_extra_info(name))


@scenario
async def without_delay(stage: Stage) -> None:
    """Small writes are sent at once, on both sides."""
    stage.trace.by_actor = True
    factory = Factory(stage)
    server = await stage.serve(factory)
    client = stage.protocol("client")
    transport, _ = await stage.loop.create_connection(lambda: client, *server.sockets[0].getsockname())
    await stage.until(lambda: factory.made and factory.made[0].transport)
    for end in transport, factory.made[0].transport:
        sock = end.get_extra_info("socket")
        stage.note("nodelay", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0)
        stage.note("timeout", sock.gettimeout())


@scenario
async def contexts_of_a_server(stage: Stage) -> None:
    """In which context a server's protocols are called depends on the version of Python."""
    stage.watches_contexts = True
    PLACE.set("the server's")
    factory = Factory(
        stage,
        connection_made=lambda transport: PLACE.set("set in connection_made"),
        eof_received=lambda: PLACE.set("set in eof_received") and None,
    )
    factory.on["data_received"] = lambda data: PLACE.set("set in data_received")
    server = await stage.serve(factory)
    PLACE.set("what came later")
    for number in range(2):
        peer = stage.client_of(server)
        await stage.until(lambda: len(factory.made) > number and factory.made[number].transport)
        for _ in range(2):
            before = len(factory.made[number].log)
            peer.send(b"hello")
            await stage.until(lambda: len(factory.made[number].log) > before)
            stage.note("one more")
        peer.sock.close()
        await factory.made[number].lost


@scenario
async def contexts_after_a_pause_on_a_server(stage: Stage) -> None:
    """So does what becomes of it when somebody else pauses and resumes, or writes and closes."""
    stage.watches_contexts = True
    PLACE.set("the server's")
    factory = Factory(stage, connection_made=lambda transport: transport.set_write_buffer_limits(0))
    factory.on["data_received"] = lambda data: None
    server = await stage.serve(factory)
    peer = stage.client_of(server)
    await stage.until(lambda: factory.made and factory.made[0].transport)
    protocol = factory.made[0]
    PLACE.set("the one who resumed")
    protocol.transport.pause_reading()
    protocol.transport.resume_reading()
    peer.send(b"hello")
    await stage.until(lambda: "data_received" in protocol.log)
    PLACE.set("the one who writes")
    protocol.transport.write(bytes(10_000_000))
    PLACE.set("the one who closes")
    protocol.transport.close()
    await stage.expect(peer)
    await protocol.lost


@scenario.every
def test_the_trace_is_that_of_asyncio(scenario: Any, combination: Combination, reports: Reports) -> None:
    """Connections are made and served as they are by asyncio's own loop of this version."""
    traced, expected = play_on_both(scenario, combination, reports)
    assert traced == expected
