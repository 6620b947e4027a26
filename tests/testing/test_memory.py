"""A loop on a fake reactor, clock and network."""

from __future__ import annotations

import asyncio
import runpy
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet import endpoints, error, interfaces, protocol, task
from twisted.internet.testing import AccumulatingProtocol, MemoryReactorClock
from zope.interface import implementer
from zope.interface.verify import verifyObject

import txasync
from txasync.testing import MemoryNetwork, MemoryPeer, memory_loop

EXAMPLES = Path(__file__).parents[2] / "examples"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def network() -> Iterator[MemoryNetwork]:
    """A network in memory, in which nothing may be left open."""
    with memory_loop() as network:
        yield network


def begun(network: MemoryNetwork, coroutine: Any) -> asyncio.Task[Any]:
    """A task of *coroutine*, that has come as far as it does without the test."""
    task: asyncio.Task[Any] = network.loop.create_task(coroutine)
    network.advance()
    return task


def connected(network: MemoryNetwork, host: str = "example.com", port: int = 80) -> tuple[Streams, MemoryPeer]:
    """asyncio's streams, and the peer that a test plays."""
    connecting = begun(network, asyncio.open_connection(host, port))
    peer = network.accept(port)
    network.advance()
    return connecting.result(), peer


def close(network: MemoryNetwork, writer: asyncio.StreamWriter) -> None:
    """Close, and wait for it."""
    writer.close()
    network.run(writer.wait_closed())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one client of an echo server."""
    while data := await reader.read(100):
        writer.write(data)
        await writer.drain()
    writer.close()


# Time


def test_time_passes_only_by_the_test(network: MemoryNetwork) -> None:
    """Each timer runs at its time, in order, and not before that; asyncio's and Twisted's have one clock."""
    came: list[tuple[str, float]] = []
    network.loop.call_later(10, lambda: came.append(("asyncio", network.loop.time())))
    network.reactor.callLater(5, lambda: came.append(("Twisted", network.loop.time())))
    network.advance(9.5)
    assert came == [("Twisted", 5.0)]
    network.advance(0.5)
    assert came == [("Twisted", 5.0), ("asyncio", 10.0)]
    assert network.loop.time() == network.reactor.seconds() == 10


def test_what_a_timer_begins_comes_in_the_same_advance(network: MemoryNetwork) -> None:
    """A chain of sleeps goes on as far as time passes."""
    times: list[float] = []

    async def tick() -> None:
        while True:
            await asyncio.sleep(1)
            times.append(network.loop.time())

    ticking = begun(network, tick())
    network.advance(3.5)
    assert times == [1.0, 2.0, 3.0]
    assert network.loop.time() == 3.5
    ticking.cancel()
    network.advance()


def test_running_a_coroutine_jumps_from_timer_to_timer(network: MemoryNetwork) -> None:
    """A day passes at once, for Deferreds as well."""

    async def main() -> float:
        await asyncio.sleep(3600)
        await task.deferLater(network.reactor, 3600)
        return asyncio.get_running_loop().time()

    assert network.run(main()) == 7200


def test_waiting_for_what_never_comes_is_an_error(network: MemoryNetwork) -> None:
    """With nothing left to happen, the coroutine is cancelled, and the error says what it waits for."""
    cancelled: list[bool] = []

    async def main() -> None:
        try:
            await asyncio.open_connection("example.com", 80)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(RuntimeError, match=r"main\(\) running.*never comes: no timer is set.*'example.com'"):
        network.run(main())
    assert cancelled == [True]


def test_running_a_coroutine_has_a_time_limit(network: MemoryNetwork) -> None:
    """Where timers go on for ever, a limit of the loop's time ends the run."""

    async def main() -> None:
        while True:
            await asyncio.sleep(1)

    with pytest.raises(RuntimeError, match=r"was not done after 60 s of the loop's time"):
        network.run(main(), time_limit=60)
    assert network.loop.time() == 60


def test_callbacks_without_an_end_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What never comes to rest is told, not waited for."""
    monkeypatch.setattr("txasync.testing._memory_reactor.MOST_TURNS", 100)
    with memory_loop() as network:
        handles: list[asyncio.Handle] = []

        def again() -> None:
            handles[:] = [network.loop.call_soon(again)]

        again()
        with pytest.raises(RuntimeError, match=r"again and again without waiting"):
            network.advance()
        handles[0].cancel()


def test_time_does_not_pass_backwards_or_inside_a_task(network: MemoryNetwork) -> None:
    """Wrong uses say what is right."""
    with pytest.raises(ValueError, match=r"got -1"):
        network.advance(-1)

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"use asyncio.sleep\(\)"):
            network.advance(1)
        with pytest.raises(RuntimeError, match=r"run\(\) was called by"):
            network.run(asyncio.sleep(1))

    network.run(main())


def test_a_loop_that_runs_already_is_an_error() -> None:
    """A memory loop cannot run inside of another."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"memory_loop\(\) cannot be used while"):
            memory_loop().__enter__()

    asyncio.run(main())


def test_no_thread_is_needed(network: MemoryNetwork) -> None:
    """Names resolve, and what is for an executor runs, in the test's own thread."""

    async def main() -> None:
        assert await asyncio.to_thread(threading.current_thread) is threading.current_thread()
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo("no.such.name", 80)
        assert found == [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("192.0.2.1", 80))]
        assert await loop.getaddrinfo(b"no.such.name", "80") == found
        assert (await loop.getaddrinfo("another.name", 80))[0][4] == ("192.0.2.2", 80)
        assert (await loop.getaddrinfo("::1", 80))[0][4] == ("::1", 80, 0, 0)
        assert (await loop.getaddrinfo(None, None))[0][4] == ("127.0.0.1", 0)
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("no.such.name", 80, family=socket.AF_INET6)
        assert await loop.getnameinfo(("192.0.2.1", 80)) == ("192.0.2.1", "80")

    network.run(main())


def test_callbacks_of_other_threads_come_with_the_next_advance(network: MemoryNetwork) -> None:
    """A thread does not wake the loop, since nothing sleeps; what it has added runs all the same."""
    ran: list[str] = []
    thread = threading.Thread(target=network.loop.call_soon_threadsafe, args=(ran.append, "it"))
    thread.start()
    thread.join()
    network.advance()
    assert ran == ["it"]


def test_sockets_children_and_tls_are_refused(network: MemoryNetwork) -> None:
    """What cannot be in memory says so, rather than open a socket."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        for call in (
            lambda: loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0)),
            lambda: loop.connect_accepted_socket(asyncio.Protocol, None),
            lambda: loop.subprocess_exec(asyncio.SubprocessProtocol, "true"),
            lambda: loop.subprocess_shell(asyncio.SubprocessProtocol, "true"),
            lambda: loop.create_connection(asyncio.Protocol, "example.com", 443, ssl=True),
            lambda: loop.create_connection(asyncio.Protocol, sock=object()),
            lambda: loop.create_unix_connection(asyncio.Protocol, sock=object()),
            lambda: loop.create_server(asyncio.Protocol, sock=object()),
            lambda: loop.create_server(asyncio.Protocol, ["a", "b"], 80),
            lambda: loop.create_unix_server(asyncio.Protocol, sock=object()),
        ):
            with pytest.raises(NotImplementedError):
                await call()

    network.run(main())


# Clients of the program's, and the peers that tests play


def test_a_test_plays_the_server(network: MemoryNetwork) -> None:
    """What each side writes, the other reads; the names of both ends are known."""
    (reader, writer), peer = connected(network)
    writer.write(b"GET /\r\n")
    assert peer.read() == b"GET /\r\n"
    assert peer.read() == b""
    peer.write(b"one line\nand ")
    peer.write(b"the rest")
    peer.write_eof()
    assert network.run(reader.readline()) == b"one line\n"
    assert network.run(reader.read()) == b"and the rest"
    assert writer.get_extra_info("peername") == ("192.0.2.1", 80)
    assert writer.get_extra_info("sockname") == ("127.0.0.1", 32768)
    assert not peer.at_eof()
    writer.write(b"bye")
    close(network, writer)
    assert (peer.read(), peer.at_eof(), peer.is_lost()) == (b"bye", True, True)
    assert peer.transport.value() == b"GET /\r\nbye"


def test_a_half_close_is_seen_by_the_peer(network: MemoryNetwork) -> None:
    """After ``write_eof()`` the program can still read."""
    (reader, writer), peer = connected(network)
    writer.write_eof()
    network.advance()
    assert peer.at_eof()
    assert not peer.is_lost()
    peer.write(b"still here")
    peer.close()
    assert network.run(reader.read()) == b"still here"
    close(network, writer)


def test_a_peer_that_has_closed_breaks_the_connection_that_is_written_to(network: MemoryNetwork) -> None:
    """As with sockets: the program reads an end of file, and what it writes then is answered by a reset."""
    (reader, writer), peer = connected(network)
    peer.close()
    assert network.run(reader.read()) == b""
    writer.write(b"too late")
    network.advance()
    with pytest.raises(ConnectionResetError):
        network.run(writer.wait_closed())
    with pytest.raises(RuntimeError, match=r"cannot write any more"):
        peer.write(b"x")


@pytest.mark.parametrize(
    ("broken_by", "seen"),
    [(None, ConnectionResetError), (error.TimeoutError(), TimeoutError), (OSError(5, "EIO"), OSError)],
)
def test_a_peer_breaks_the_connection(
    network: MemoryNetwork, broken_by: BaseException | None, seen: type[BaseException]
) -> None:
    """The program's end is lost with the error."""
    (reader, writer), peer = connected(network)
    peer.reset(broken_by)
    with pytest.raises(seen):
        network.run(reader.read())
    assert peer.is_lost()
    with pytest.raises(seen):
        network.run(writer.wait_closed())


def test_an_abort_is_seen_by_the_peer(network: MemoryNetwork) -> None:
    """The program drops the connection."""
    (_, writer), peer = connected(network)
    writer.transport.abort()
    network.advance()
    assert peer.at_eof()
    assert peer.is_lost()


def test_a_slow_peer_makes_the_program_wait(network: MemoryNetwork) -> None:
    """While the peer does not read, ``drain()`` waits, and the bytes stay with the transport."""
    (_, writer), peer = connected(network)
    peer.pause_reading()
    writer.write(b"x" * 200_000)
    draining = begun(network, writer.drain())
    assert not draining.done()
    assert peer.read() == b""
    assert writer.transport.get_write_buffer_size() > 65536
    peer.resume_reading()
    network.advance()
    assert draining.done()
    assert peer.read() == b"x" * 200_000
    close(network, writer)


def test_a_close_waits_for_a_slow_peer(network: MemoryNetwork) -> None:
    """What was written before ``close()`` arrives before the end."""
    (_, writer), peer = connected(network)
    peer.pause_reading()
    writer.write(b"all of it")
    writer.close()
    network.advance(3600)
    assert not peer.at_eof()
    peer.resume_reading()
    network.advance()
    assert (peer.read(), peer.at_eof()) == (b"all of it", True)


def test_a_program_that_does_not_read_gets_its_data_later(network: MemoryNetwork) -> None:
    """While reading is paused nothing is delivered, nor is the end."""
    (reader, writer), peer = connected(network)
    transport: Any = writer.transport
    transport.pause_reading()
    peer.write(b"later")
    peer.close()
    network.advance(60)
    reading = begun(network, reader.read())
    assert not reading.done()
    transport.resume_reading()
    assert network.run(asyncio.wait_for(reading, 1)) == b"later"
    close(network, writer)


def test_a_connection_is_refused(network: MemoryNetwork) -> None:
    """By default as the kernel refuses it; or with another error."""
    connecting = begun(network, asyncio.open_connection("example.com", 80))
    network.refuse()
    with pytest.raises(ConnectionRefusedError):
        network.run(asyncio.wait_for(connecting, 1))
    connecting = begun(network, asyncio.open_connection("example.com", 80))
    network.refuse("example.com", error.TimeoutError())
    with pytest.raises(TimeoutError):
        network.run(asyncio.wait_for(connecting, 1))


def test_clients_are_told_apart_by_where_they_connect_to(network: MemoryNetwork) -> None:
    """By name, by address, by port; without one of these, the oldest comes first."""
    for host, port in ("a.example", 1), ("b.example", 2), ("c.example", 3), ("d.example", 4):
        begun(network, network.loop.create_connection(asyncio.Protocol, host, port))
    peers = [network.accept("192.0.2.3"), network.accept(2), network.accept("d.example"), network.accept()]
    assert [peer.transport.getPeer().port for peer in peers] == [3, 2, 4, 1]
    with pytest.raises(LookupError, match=r"no client connects; there are: \[\]"):
        network.accept()
    for peer in peers:
        peer.close()
    network.advance()
    assert all(peer.is_lost() for peer in peers)


def test_a_client_that_looks_up_the_name_itself_is_known_by_it(network: MemoryNetwork) -> None:
    """As Twisted's endpoints do, and libraries with a resolver of their own."""
    connecting = begun(network, txasync.open_connection("tcp:www.example:80"))
    peer = network.accept("www.example")
    network.advance()
    close(network, connecting.result()[1])
    assert peer.at_eof()


def test_a_time_limit_of_the_program_ends_its_attempt(network: MemoryNetwork) -> None:
    """A client that nobody accepts is cancelled by ``wait_for()``, at its time, and waits no more."""
    with pytest.raises(asyncio.TimeoutError):
        network.run(asyncio.wait_for(asyncio.open_connection("example.com", 80), 30))
    assert network.loop.time() == 30
    with pytest.raises(LookupError):
        network.accept()


# Servers of the program's


def test_a_test_plays_the_client(network: MemoryNetwork) -> None:
    """A server is connected to by its port, and sees an address."""
    server = network.run(asyncio.start_server(echo, port=8080))
    peer = network.connect(8080)
    peer.write(b"hello")
    network.advance()
    assert peer.read() == b"hello"
    peer.write_eof()
    network.advance()
    assert peer.is_lost()
    server.close()
    network.run(server.wait_closed())
    with pytest.raises(ConnectionRefusedError, match=r"no server takes a connection to 8080"):
        network.connect(8080)


def test_a_client_of_the_program_reaches_its_server(network: MemoryNetwork) -> None:
    """At ``localhost``, on a port that was found free; other hosts are the test's to play."""

    async def main() -> None:
        server = await asyncio.start_server(echo, "localhost", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("localhost", port)
            assert writer.get_extra_info("peername") == ("127.0.0.1", port)
            writer.write(b"x" * 1_000_000)
            writer.write_eof()
            assert await reader.read() == b"x" * 1_000_000
            writer.close()
            await writer.wait_closed()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.open_connection("example.com", port), 1)
            with pytest.raises(OSError, match=r"in use"):
                await asyncio.start_server(echo, "localhost", port)

    network.run(main())


def test_unix_sockets_are_in_memory_too(network: MemoryNetwork) -> None:
    """A path is not one of the file system's."""

    async def main() -> None:
        server = await asyncio.start_unix_server(echo, "/no/such/directory/socket")
        reader, writer = await asyncio.open_unix_connection("/no/such/directory/socket")
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"hello"
        writer.close()
        await writer.wait_closed()
        server.close()

    network.run(main())


def test_tls_can_be_started(network: MemoryNetwork) -> None:
    """``start_tls()`` shakes hands in memory."""
    authority = trustme.CA()
    here, there = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(here)
    authority.issue_cert("localhost").configure_cert(there)

    class Secret(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(b"secret")
            transport.close()

    async def upgrade(transport: Any, context: ssl.SSLContext, **how: Any) -> Any:
        return await asyncio.get_running_loop().start_tls(transport, transport.get_protocol(), context, **how)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        accepted = loop.create_future()

        class Plain(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                accepted.set_result(transport)

        server = await loop.create_server(Plain, "localhost", 443)
        received = bytearray()

        class Client(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                received.extend(data)

        transport, _ = await loop.create_connection(Client, "localhost", 443)
        served = loop.create_task(upgrade(await accepted, there, server_side=True))
        secure = await upgrade(transport, here, server_hostname="localhost")
        assert secure.get_extra_info("cipher")
        (await served).write(b"secret")
        await asyncio.sleep(1)
        assert received == b"secret"
        secure.close()
        await asyncio.sleep(1)
        server.close()

    network.run(main())


# Twisted's side of it


def test_the_reactor_is_a_memory_reactor(network: MemoryNetwork) -> None:
    """What tests read from Twisted's double is there; and it, and what it makes, provides the interfaces it names."""
    reactor = network.reactor
    assert isinstance(reactor, MemoryReactorClock)
    assert txasync.get_event_loop(reactor) is txasync.install(reactor) is network.loop
    factory = protocol.ClientFactory()
    factory.protocol = protocol.Protocol
    connector = reactor.connectTCP("example.com", 80, factory)
    port = reactor.listenTCP(80, factory)
    assert reactor.tcpClients == [("example.com", 80, factory, 30, None)]
    assert reactor.tcpServers == [(80, factory, 50, "")]
    peer = network.accept()
    verifyObject(interfaces.IReactorTCP, reactor)
    verifyObject(interfaces.IReactorUNIX, reactor)
    verifyObject(interfaces.IReactorPluggableNameResolver, reactor)
    verifyObject(interfaces.IHostnameResolver, reactor.nameResolver)
    verifyObject(interfaces.IConnector, connector)
    verifyObject(interfaces.IListeningPort, port)
    verifyObject(interfaces.ITCPTransport, peer.transport)
    verifyObject(interfaces.IPushProducer, peer.transport)
    verifyObject(interfaces.IConsumer, peer.transport)
    port.stopListening()
    connector.disconnect()
    network.advance()
    assert peer.at_eof()


def test_twisteds_clients_and_servers_are_connected(network: MemoryNetwork) -> None:
    """``connectTCP()`` and ``listenTCP()`` tell factories and protocols what a real reactor tells them, in order."""
    calls: list[str] = []

    class Recording(protocol.Protocol):
        def connectionMade(self) -> None:
            calls.append("made")

        def dataReceived(self, data: bytes) -> None:
            calls.append(data.decode())

        def connectionLost(self, reason: Any = None) -> None:
            calls.append(f"lost: {reason.type.__name__}")

    class RecordingFactory(protocol.ClientFactory):
        protocol = Recording

        def doStart(self) -> None:
            calls.append("start")

        def doStop(self) -> None:
            calls.append("stop")

        def clientConnectionLost(self, connector: Any, reason: Any) -> None:
            calls.append("told")

        def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
            calls.append(f"failed: {reason.type.__name__}")

    network.reactor.connectTCP("example.com", 80, RecordingFactory())
    peer = network.accept()
    peer.write(b"hello")
    peer.close()
    network.advance()
    assert calls == ["start", "made", "hello", "lost: ConnectionDone", "told", "stop"]
    calls.clear()
    connector = network.reactor.connectTCP("example.com", 80, RecordingFactory(), timeout=30)
    network.advance(30)
    assert calls == ["start", "failed: TimeoutError", "stop"]
    with pytest.raises(error.NotConnectingError):
        connector.stopConnecting()
    calls.clear()
    network.reactor.connectTCP("example.com", 80, RecordingFactory()).disconnect()
    assert calls == ["start", "failed: UserError", "stop"]


def test_twisteds_endpoints_are_connected(network: MemoryNetwork) -> None:
    """Descriptions, and names, are of this network."""
    received = AccumulatingProtocol()

    async def main() -> None:
        factory = protocol.Factory()
        factory.protocol = AccumulatingProtocol  # type: ignore[assignment]  # Twisted's type wants another factory
        factory.protocolConnectionMade = None  # type: ignore[attr-defined]  # which AccumulatingProtocol looks at
        port = await endpoints.serverFromString(network.reactor, "tcp:80").listen(factory)
        endpoint = endpoints.clientFromString(network.reactor, "tcp:localhost:80")
        received.factory = None
        client: Any = await endpoints.connectProtocol(endpoint, received)
        client.transport.write(b"hello")
        client.transport.loseConnection()
        await asyncio.sleep(0)
        reader, writer = await txasync.open_connection("tcp:localhost:80")
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await port.stopListening()

    network.run(main())
    assert received.closed == 1


@implementer(interfaces.IPullProducer)
class Countdown:
    """A pull producer of a few bytes."""

    def __init__(self, consumer: Any, count: int) -> None:
        self._consumer = consumer
        self._count = count

    def resumeProducing(self) -> None:
        self._consumer.write(b"%d" % self._count)
        self._count -= 1
        if not self._count:
            self._consumer.unregisterProducer()

    def stopProducing(self) -> None:
        raise AssertionError("it had ended")


def test_a_pull_producer_is_asked_until_it_has_ended(network: MemoryNetwork) -> None:
    """Each time that all is sent; and the close waits for it."""
    factory = protocol.ClientFactory()
    factory.protocol = protocol.Protocol
    network.reactor.connectTCP("example.com", 80, factory)
    peer = network.accept()
    peer.transport.registerProducer(Countdown(peer.transport, 3), False)
    peer.transport.loseConnection()
    network.advance()
    assert (peer.read(), peer.at_eof()) == (b"321", True)


def test_a_protocol_that_raises_loses_its_connection(network: MemoryNetwork, reports: Any) -> None:
    """As on a reactor: the error is logged, and is the reason."""

    class Failing(protocol.Protocol):
        def dataReceived(self, data: bytes) -> None:
            raise ZeroDivisionError(data)

    factory = protocol.ClientFactory()
    factory.protocol = Failing
    network.reactor.connectTCP("example.com", 80, factory)
    peer = network.accept()
    peer.write(b"x")
    network.advance()
    assert peer.is_lost()
    assert peer.at_eof()
    assert [report.type for report in reports.twisted] == [ZeroDivisionError]
    reports.clear()


# The end


def test_what_is_left_is_ended_and_told() -> None:
    """Servers, clients, connections, tasks and Twisted's calls: all of them end, and a warning names them."""
    ended: list[str] = []

    async def wait(reader: asyncio.StreamReader) -> None:
        try:
            await reader.read()
        finally:
            await asyncio.sleep(1)
            ended.append("task")

    def leave_much() -> tuple[MemoryNetwork, MemoryPeer]:
        with memory_loop() as network:
            network.run(asyncio.start_server(echo, port=8080))
            (reader, _), peer = connected(network)
            begun(network, wait(reader))
            begun(network, asyncio.open_connection("nobody.example", 81))
            network.reactor.callLater(5000, print)
        return network, peer

    with pytest.warns(ResourceWarning, match=r"memory_loop\(\) had to end") as warned:
        network, peer = leave_much()
    message = str(warned[0].message)
    for part in "port=8080", "192.0.2.1", "wait() running", "'nobody.example'", "print":
        assert part in message
    assert warned[0].filename == __file__
    assert ended == ["task"]
    assert peer.is_lost()
    assert network.loop.is_closed()


def test_nothing_is_told_beside_an_error() -> None:
    """A block that fails has left things as they were when it failed; what is told is the error."""
    with pytest.raises(ZeroDivisionError):
        with memory_loop() as network:
            network.run(asyncio.start_server(echo, port=8080))
            raise ZeroDivisionError
    assert network.loop.is_closed()


def example() -> dict[str, Any]:
    """The tests of the example that the documentation shows."""
    names = runpy.run_path(str(EXAMPLES / "retries_in_memory.py"))
    return {name: test for name, test in names.items() if name.startswith("test_")}


@pytest.mark.parametrize("name", example())
def test_the_example_passes(name: str) -> None:
    """The tests that the documentation shows are true."""
    example()[name]()
