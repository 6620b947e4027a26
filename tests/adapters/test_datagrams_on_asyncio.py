"""Twisted's datagram protocols on asyncio's endpoints: their traces are those on Twisted's own ports."""

from __future__ import annotations

import asyncio
import select
import socket
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, MulticastJoinError
from twisted.internet.interfaces import (
    IListeningPort,
    IMulticastTransport,
    ISystemHandle,
    IUNIXDatagramConnectedTransport,
    IUNIXDatagramTransport,
)
from twisted.internet.protocol import ConnectedDatagramProtocol, DatagramProtocol
from twisted.names import dns, server
from zope.interface.verify import verifyObject

from txasync import ReactorEventLoop, as_future
from txasync.adapters import LoopClock, as_asyncio_datagram_protocol

from ..conftest import Reports
from ..transports.datagrams import arrives, note_received, udp_peer
from ..transports.recorders import Boom
from .any_loop import Perform, host
from .any_loop import perform as on_any_loop
from .datagram_stage import SocketOfAPair
from .network import GROUP, LOOPBACK, group_interface_of_ipv6, link_local_address, needs_multicast
from .twisted_datagram_stage import PortScenarios, PortStage, RecordingPort, play_both

__all__ = ["host", "on_any_loop"]

scenario = PortScenarios()


def raises(*args: Any) -> None:
    """A callback that fails."""
    raise Boom


@scenario
async def echo_unconnected(stage: PortStage) -> None:
    """Datagrams come with the address of who sent them, and go where they are sent."""
    port = stage.port(datagramReceived=lambda data, addr: port.itransport.write(data[::-1], addr))
    await stage.start(port)
    for number in range(2):
        peer = udp_peer(stage)
        peer.sock.sendto(b"hello", port.address)
        await arrives(stage, peer)
        stage.note(f"peer {number}", port.log)


@scenario
async def echo_connected(stage: PortStage) -> None:
    """A port that is connected in the beginning needs no address to send to, and gets what comes from there only."""
    peer = udp_peer(stage)
    port = stage.port(
        startProtocol=lambda: port.itransport.connect(*peer.sock.getsockname()),
        datagramReceived=lambda data, addr: port.itransport.write(data[::-1]),
    )
    await stage.start(port)
    stranger = udp_peer(stage)
    stranger.sock.sendto(b"never seen", port.address)
    peer.sock.sendto(b"hello", port.address)
    await arrives(stage, peer)


@scenario
async def connected_later(stage: PortStage) -> None:
    """It may also be connected when it has heard of others; once."""
    peer = udp_peer(stage)
    stranger = udp_peer(stage)
    port = stage.port()
    await stage.start(port)
    stranger.sock.sendto(b"seen", port.address)
    await port.calls("datagramReceived")
    port.attempt("connect", "localhost", 1)
    port.attempt("connect", *peer.sock.getsockname())
    port.attempt("connect", *peer.sock.getsockname())
    stranger.sock.sendto(b"never seen", port.address)
    peer.sock.sendto(b"hello", port.address)
    await port.calls("datagramReceived", 2)
    port.attempt("write", b"welcome")
    await arrives(stage, peer)


@scenario
async def addresses_of_a_connected_port(stage: PortStage) -> None:
    """Its own peer may be named; anybody else is an AssertionError."""
    peer = udp_peer(stage)
    port = stage.port(startProtocol=lambda: port.itransport.connect(*peer.sock.getsockname()))
    await stage.start(port)
    address, number = peer.sock.getsockname()
    port.attempt("write", b"no address")
    port.attempt("write", b"the peer's", (address, number))
    port.attempt("write", b"None", None)
    port.attempt("writeSequence", [b"in ", b"pieces"], None)
    await arrives(stage, peer, 4)
    port.attempt("write", b"another port", (address, 1))
    port.attempt("write", b"another host", ("127.0.0.2", number))
    port.attempt("write", b"no address at all", "x")


@scenario
async def types(stage: PortStage) -> None:
    """What has bytes is sent; all else is a TypeError."""
    peer = udp_peer(stage)
    port = stage.port()
    await stage.start(port)
    for data in b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview"):
        port.attempt("write", data, peer.sock.getsockname())
    await arrives(stage, peer, 3)
    for wrong in "text", None, 5, [b"list"]:
        port.attempt("write", wrong, peer.sock.getsockname())


@scenario
async def written_in_the_beginning(stage: PortStage) -> None:
    """A protocol may write when it is started, before whoever started it goes on."""
    peer = udp_peer(stage)
    port = stage.port(startProtocol=lambda: port.attempt("write", b"hello", peer.sock.getsockname()))
    await stage.start(port)
    await arrives(stage, peer)


@scenario
async def empty_datagrams_written(stage: PortStage) -> None:
    """A datagram may be empty, whatever asyncio makes of that."""
    peer = udp_peer(stage)
    for name in "unconnected", "connected":
        port = stage.port(name)
        await stage.start(port)
        if name == "connected":
            port.itransport.connect(*peer.sock.getsockname())
        port.attempt("write", b"", peer.sock.getsockname())
        port.attempt("writeSequence", [], peer.sock.getsockname())
        port.attempt("write", b"not empty", peer.sock.getsockname())
        await arrives(stage, peer, 3)


@scenario
async def oversized(stage: PortStage) -> None:
    """What no datagram can hold is a MessageLengthError, and the flow goes on."""
    peer = udp_peer(stage)
    for name in "unconnected", "connected":
        port = stage.port(name)
        await stage.start(port)
        if name == "connected":
            port.itransport.connect(*peer.sock.getsockname())
        for data in bytes(70_000), b"fits":
            port.attempt("write", data, peer.sock.getsockname())
        await arrives(stage, peer)


@scenario
async def large(stage: PortStage) -> None:
    """The largest datagrams arrive whole."""
    port = stage.port()
    await stage.start(port)
    peer = udp_peer(stage)
    for number, size in enumerate((60_000, 65_507)):
        peer.sock.sendto(bytes(size), port.address)
        await port.calls("datagramReceived", number + 1)
        port.attempt("write", bytes(size), peer.sock.getsockname())
        await arrives(stage, peer)


@scenario
async def port_unreachable(stage: PortStage) -> None:
    """ICMP's answer to a connected port is connectionRefused, and the flow goes on."""
    port = stage.port()
    peer = udp_peer(stage)
    address = peer.sock.getsockname()
    await stage.start(port)
    port.itransport.connect(*address)
    peer.sock.close()
    port.attempt("write", b"nobody is there")
    await port.calls("connectionRefused")
    peer = udp_peer(stage, address)
    peer.sock.sendto(b"here I am", port.address)
    await port.calls("datagramReceived")
    port.attempt("write", b"welcome")
    await arrives(stage, peer)


@scenario
async def port_unreachable_when_it_writes_again(stage: PortStage) -> None:
    """The second write may be what hears of it; a protocol that writes there is told once."""
    port = stage.port(
        connectionRefused=lambda: port.log.count("connectionRefused") > 1 or port.attempt("stopListening")
    )
    peer = udp_peer(stage)
    await stage.start(port)
    port.itransport.connect(*peer.sock.getsockname())
    peer.sock.close()
    port.attempt("write", b"nobody is there")
    await_error(port)
    port.attempt("write", b"nobody is there")
    await port.calls("stopProtocol")


def await_error(port: RecordingPort) -> None:
    """Wait, and let nothing else happen, until ICMP's answer has come."""
    poll = select.poll()
    poll.register(port.itransport.getHandle().fileno(), 0)
    assert poll.poll(10_000)


@scenario
async def port_unreachable_unconnected(stage: PortStage) -> None:
    """A port that is not connected hears nothing."""
    port = stage.port()
    await stage.start(port)
    nobody = udp_peer(stage)
    peer = udp_peer(stage)
    nobody.sock.close()
    for address in (nowhere := _unused(), nowhere, peer.sock.getsockname()):
        port.attempt("write", b"hello", address)
    await arrives(stage, peer)
    await stage.quiet()


def _unused() -> Any:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()


@scenario
async def wrong_destinations(stage: PortStage) -> None:
    """What cannot be sent to is raised, and costs nothing else."""
    peer = udp_peer(stage)
    port = stage.port()
    await stage.start(port)
    for address in (
        None,
        ("localhost", 1),
        ("::1", 1),
        ("127.0.0.1", 0),
        ("127.0.0.1", 70_000),
        ("127.0.0.1", "1"),
        ("127.0.0.1", 1, 0, 0),
        ("255.255.255.255", 9),
        ("<broadcast>", 9),
        peer.sock.getsockname(),
    ):
        port.attempt("write", b"hello", address)
    await arrives(stage, peer)


@scenario
async def broadcast(stage: PortStage) -> None:
    """Who wants to send to everybody has to say so."""
    port = stage.port()
    await stage.start(port)
    port.attempt("getBroadcastAllowed")
    port.attempt("write", b"hello", ("127.255.255.255", 9))
    port.attempt("setBroadcastAllowed", True)
    port.attempt("getBroadcastAllowed")
    port.attempt("write", b"hello", ("127.255.255.255", 9))
    port.attempt("setBroadcastAllowed", False)
    port.attempt("getBroadcastAllowed")


@scenario
async def stopped(stage: PortStage) -> None:
    """What was written is sent, stopProtocol comes once, and then the Deferred fires; later, nothing is left to do."""
    peer = udp_peer(stage)
    port = stage.port()
    await stage.start(port)
    port.attempt("write", b"before", peer.sock.getsockname())
    port.attempt("stopListening")
    port.attempt("write", b"in the same turn", peer.sock.getsockname())
    await port.calls("stopProtocol")
    stage.note("transport", port.transport)
    port.attempt("stopListening")
    port.attempt("write", b"after", peer.sock.getsockname())
    await stage.quiet()
    note_received(stage, peer)


@scenario
async def stopped_in_callbacks(stage: PortStage) -> None:
    """A protocol may stop its port in any callback."""
    for callback in "startProtocol", "datagramReceived", "connectionRefused", "stopProtocol":
        port = stage.port(callback)
        port.on[callback] = lambda *args, port=port: port.attempt("stopListening")
        peer = udp_peer(stage)
        await stage.start(port)
        if callback == "startProtocol":
            await port.calls("stopProtocol")
            continue
        port.itransport.connect(*peer.sock.getsockname())
        peer.sock.sendto(b"one", port.address)
        await port.calls("datagramReceived")
        if callback != "datagramReceived":
            peer.sock.close()
            port.attempt("write", b"nobody is there")
            await port.calls("connectionRefused")
        if callback == "stopProtocol":
            port.itransport.stopListening()
        await port.calls("stopProtocol")


@scenario
async def loses_its_connection(stage: PortStage) -> None:
    """loseConnection() is an old name, and says so."""
    port = stage.port()
    await stage.start(port)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        port.attempt("loseConnection")
    stage.note("warned", [(warning.category, str(warning.message)) for warning in caught])
    await port.calls("stopProtocol")


@scenario
async def failing_callbacks(stage: PortStage) -> None:
    """What datagramReceived raises is logged, and the flow goes on; after connectionRefused, it does not."""
    for callback in "datagramReceived", "connectionRefused":
        port = stage.port(f"failing in {callback}")
        peer = udp_peer(stage)
        address = peer.sock.getsockname()
        await stage.start(port)
        port.itransport.connect(*address)
        port.on[callback] = raises
        for data in b"one", b"two":
            peer.sock.sendto(data, port.address)
        await port.calls("datagramReceived", 2)
        peer.sock.close()
        port.attempt("write", b"nobody is there")
        await port.calls("connectionRefused")


@scenario
async def failing_in_write(stage: PortStage) -> None:
    """What connectionRefused raises in write() comes out of that."""
    port = stage.port(connectionRefused=raises)
    peer = udp_peer(stage)
    await stage.start(port)
    port.itransport.connect(*peer.sock.getsockname())
    peer.sock.close()
    port.attempt("write", b"nobody is there")
    await_error(port)
    port.attempt("write", b"nobody is there")
    await stage.quiet()


@scenario
async def options_of_multicast(stage: PortStage) -> None:
    """What goes to groups can be told how; names and numbers are checked."""
    port = stage.port()
    await stage.start(port)
    for name, value in ("TTL", 5), ("LoopbackMode", False), ("LoopbackMode", True):
        port.attempt(f"set{name}", value)
        port.attempt(f"get{name}")
    port.attempt("getOutgoingInterface")
    port.attempt("setOutgoingInterface", "127.0.0.1")
    port.attempt("getOutgoingInterface")


@scenario
async def groups_that_cannot_be_joined(stage: PortStage) -> None:
    """A MulticastJoinError is what their Deferreds fail with."""
    port = stage.port()
    await stage.start(port)
    port.attempt("joinGroup", "127.0.0.1", "127.0.0.1")
    port.attempt("leaveGroup", "239.255.77.78", "127.0.0.1")
    port.attempt("joinGroup", "239.255.77.78", "127.0.0.1")
    port.attempt("joinGroup", "239.255.77.78", "127.0.0.1")
    port.attempt("leaveGroup", "239.255.77.78", "127.0.0.1")


@scenario
async def over_ipv6(stage: PortStage) -> None:
    """A protocol sees addresses of two parts, and may name one, two or four."""
    port = stage.port(datagramReceived=lambda data, addr: port.attempt("write", data[::-1], addr))
    try:
        peer = udp_peer(stage, ("::1", 0))
    except OSError:
        return  # There is no IPv6 here.
    await stage.start(port, "::1")
    stage.note("family", port.itransport.getHost().host)
    peer.sock.sendto(b"hello", port.address)
    await arrives(stage, peer)
    port.attempt("write", b"by four", peer.sock.getsockname())
    await arrives(stage, peer)
    for address in ("127.0.0.1", 1), ("<broadcast>", 1), ("localhost", 1):
        port.attempt("write", b"hello", address)
    port.attempt("connect", "::1", peer.sock.getsockname()[1])
    port.attempt("write", b"by none")
    port.attempt("write", b"by two", ("::1", peer.sock.getsockname()[1]))
    await arrives(stage, peer, 2)


@scenario.every
def test_the_trace_is_that_of_twisted(scenario: Any, host: Any, reports: Reports) -> None:
    """What a Twisted protocol sees of an asyncio endpoint is what it sees of Twisted's own port."""
    played, expected = play_both(scenario, host, reports)
    assert played == expected


# Beginnings and ends


class Kept(DatagramProtocol):
    """
    Keeps what it is called with.

    Attributes:
        calls: That.
        itransport: The transport, also when Twisted has taken it away.
    """

    noisy = False
    itransport: Any = None

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self._news = asyncio.Event()

    def note(self, call: Any) -> None:
        """Keep *call*."""
        self.calls.append(call)
        self._news.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until *condition* holds, which a call changes."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    def startProtocol(self) -> None:
        self.itransport = self.transport
        self.note("start")

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.note((datagram, addr))

    def connectionRefused(self) -> None:
        self.note("refused")

    def stopProtocol(self) -> None:
        self.note("stop")


async def start(protocol: Any, **options: Any) -> Any:
    """Start *protocol* on an endpoint of the running loop; returns its transport, a Twisted one."""
    if not {"sock", "remote_addr", "local_addr"} & set(options):
        options["local_addr"] = (LOOPBACK, 0)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: as_asyncio_datagram_protocol(protocol), **options)
    STARTED.append(transport)
    return protocol.transport


STARTED: list[asyncio.DatagramTransport] = []


@pytest.fixture
def perform(on_any_loop: Perform) -> Perform:
    """As `any_loop`'s; but uvloop's loops hang if they are closed before their endpoints, and warnings are errors."""

    async def guarded(main: Callable[[], Awaitable[None]]) -> None:
        try:
            await main()
        except BaseException:
            for transport in STARTED:
                transport.abort()
            await asyncio.sleep(0.1)
            raise
        finally:
            STARTED.clear()

    return lambda main: on_any_loop(lambda: guarded(main))


def peer_at(address: Any = (LOOPBACK, 0), family: int = socket.AF_INET) -> socket.socket:
    """A socket that is worked by hand."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(address)
    return sock


async def comes_to(sock: socket.socket) -> bytes:
    """The next datagram."""
    loop = asyncio.get_running_loop()
    readable = loop.create_future()
    loop.add_reader(sock, lambda: readable.done() or readable.set_result(None))
    try:
        await readable
    finally:
        loop.remove_reader(sock)
    return sock.recv(1 << 20)


def test_wrong_arguments_are_refused_at_once() -> None:
    """A protocol of asyncio's is none of Twisted's."""
    wrong: Any
    for wrong in None, asyncio.DatagramProtocol(), object():
        with pytest.raises(TypeError, match="takes a DatagramProtocol of Twisted's"):
            as_asyncio_datagram_protocol(wrong)


def test_the_transport_is_what_twisted_calls_so(perform: Perform) -> None:
    """It provides the interfaces, with every method that they have, and tells its address at any time."""

    async def main() -> None:
        protocol = Kept()
        itransport = await start(protocol)
        for interface in IMulticastTransport, IListeningPort, ISystemHandle:
            verifyObject(interface, itransport)
        itransport.startListening()
        address = itransport.getHost()
        assert isinstance(address, IPv4Address)
        assert address == IPv4Address("UDP", LOOPBACK, itransport.getHandle().getsockname()[1])
        assert "UDPTransport over" in repr(itransport)
        await as_future(itransport.stopListening())
        assert itransport.getHost() == address
        with pytest.raises(CannotListenError):
            itransport.startListening()
        with pytest.raises(AttributeError, match="closed"):
            itransport.write(b"too late", (LOOPBACK, 9))

    perform(main)


def test_the_address_is_free_when_the_port_has_stopped(perform: Perform) -> None:
    """stopListening()'s Deferred fires when another port may have it; however often it was called."""

    async def main() -> None:
        protocol = Kept()
        itransport = await start(protocol)
        address = LOOPBACK, itransport.getHost().port
        for _ in range(3):
            bound: list[socket.socket] = []
            fired: list[list[Any]] = []
            for _ in range(2):
                itransport.stopListening().addCallback(lambda result: fired.append(list(protocol.calls)))
            stopping = itransport.stopListening()
            stopping.addCallback(lambda result: bound.append(peer_at(address)))
            await as_future(stopping)
            bound[0].close()
            assert fired == [["start", "stop"]] * 2
            assert itransport.stopListening() is None
            protocol.calls.clear()
            itransport = await start(protocol, local_addr=address)
        await as_future(itransport.stopListening())

    perform(main)


def test_a_protocol_that_cannot_be_started_is_reported(perform: Perform) -> None:
    """To the loop, where asyncio reports what connection_made() raises; the endpoint is closed, nothing is stopped."""

    class Failing(Kept):
        def startProtocol(self) -> None:
            super().startProtocol()
            raise Boom("of the test")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reported: list[Any] = []
        loop.set_exception_handler(lambda loop, context: reported.append(context.get("exception")))
        protocol = Failing()
        await start(protocol)
        while not (reported and protocol.itransport._lost):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop.set_exception_handler(None)
        assert [type(error) for error in reported] == [Boom]
        assert protocol.calls == ["start"]

    perform(main)


def test_a_protocol_that_fails_to_stop_is_logged(perform: Perform, reports: Reports) -> None:
    """The socket is closed all the same, and the Deferred fires; on Twisted's own ports it would not."""

    class Failing(Kept):
        def stopProtocol(self) -> None:
            raise Boom("of the test")

    async def main() -> None:
        itransport = await start(Failing())
        await as_future(itransport.stopListening())

    perform(main)
    assert [report.type for report in reports.twisted] == [Boom]
    assert reports.asyncio == []
    reports.clear()


@pytest.mark.parametrize("interruption", [SystemExit, KeyboardInterrupt])
def test_an_interruption_in_a_callback_leaves_the_run(
    loop: ReactorEventLoop, interruption: type[BaseException]
) -> None:
    """SystemExit and KeyboardInterrupt leave run_until_complete(), as in asyncio; Twisted's ports log them."""

    class Interrupting(Kept):
        def datagramReceived(self, datagram: bytes, addr: Any) -> None:
            super().datagramReceived(datagram, addr)
            if len(self.calls) == 2:
                raise interruption("of the test")

    async def main() -> None:
        protocol = Interrupting()
        itransport = await start(protocol)
        with peer_at() as peer:
            for data in b"one", b"two":
                peer.sendto(data, (LOOPBACK, itransport.getHost().port))
        await protocol.until(lambda: len(protocol.calls) == 3)
        await as_future(itransport.stopListening())

    stock: asyncio.AbstractEventLoop = asyncio.SelectorEventLoop()
    for one in stock, loop:
        task = one.create_task(main())
        with pytest.raises(interruption, match="of the test"):
            one.run_until_complete(task)
        one.run_until_complete(task)
    stock.close()


# Who talks to whom


def test_an_endpoint_that_was_made_connected_is_a_connected_port(perform: Perform) -> None:
    """With remote_addr=, a protocol needs no address, and hears it if nobody is there."""

    async def main() -> None:
        protocol = Kept()
        peer = peer_at()
        itransport = await start(protocol, local_addr=(LOOPBACK, 0), remote_addr=peer.getsockname())
        itransport.write(b"hello")
        assert await comes_to(peer) == b"hello"
        itransport.write(b"", peer.getsockname())
        assert await comes_to(peer) == b""
        with pytest.raises(AssertionError, match="connected to"):
            itransport.write(b"hello", (LOOPBACK, 1))
        with pytest.raises(RuntimeError, match="already connected"):
            itransport.connect(LOOPBACK, 1)
        peer.close()
        itransport.write(b"nobody is there")
        await protocol.until(lambda: "refused" in protocol.calls)
        await as_future(itransport.stopListening())

    perform(main)


def test_both_worlds_talk(perform: Perform) -> None:
    """A Twisted protocol on the loop is a server and a client to an asyncio protocol there."""

    class Answers(Kept):
        def datagramReceived(self, datagram: bytes, addr: Any) -> None:
            super().datagramReceived(datagram, addr)
            if not datagram.startswith(b"back"):
                self.itransport.write(b"back " + datagram, addr)

    class AsyncioAnswers(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.heard: asyncio.Queue[bytes] = asyncio.Queue()

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.heard.put_nowait(data)
            if not data.startswith(b"back"):
                self.transport.sendto(b"back " + data, addr)

    async def main() -> None:
        protocol = Answers()
        itransport = await start(protocol)
        loop = asyncio.get_running_loop()
        transport, other = await loop.create_datagram_endpoint(AsyncioAnswers, local_addr=(LOOPBACK, 0))
        address = transport.get_extra_info("sockname")
        own = LOOPBACK, itransport.getHost().port
        transport.sendto(b"from asyncio", own)
        assert await other.heard.get() == b"back from asyncio"
        itransport.write(b"from Twisted", address)
        assert await other.heard.get() == b"from Twisted"
        await protocol.until(lambda: len(protocol.calls) == 3)
        assert protocol.calls[1:] == [(b"from asyncio", address), (b"back from Twisted", address)]
        transport.close()
        await as_future(itransport.stopListening())

    perform(main)


class Addresses:
    """A resolver that knows one name."""

    def query(self, query: dns.Query, timeout: Any = None) -> Deferred[Any]:
        """The answer to *query*."""
        return succeed(([dns.RRHeader(str(query.name), payload=dns.Record_A("192.0.2.7"))], [], []))


def test_twisteds_own_dns_works(perform: Perform) -> None:
    """A server and a client of twisted.names, with timeouts by a LoopClock."""

    async def main() -> None:
        clock = LoopClock()
        factory = server.DNSServerFactory(authorities=[Addresses()])
        factory.noisy = False
        serving = await start(dns.DNSDatagramProtocol(factory, reactor=clock))
        client = dns.DNSDatagramProtocol(server.DNSServerFactory(), reactor=clock)
        asking = await start(client)
        address = LOOPBACK, serving.getHost().port
        answer = await as_future(client.query(address, [dns.Query(b"example.org", dns.A)]))
        address_record: Any = answer.answers[0].payload
        assert address_record.dottedQuad() == "192.0.2.7"
        assert clock.getDelayedCalls() == []
        await as_future(asking.stopListening())
        await as_future(serving.stopListening())

    perform(main)


def test_an_empty_datagram_is_received(perform: Perform) -> None:
    """It is no end."""

    async def main() -> None:
        protocol = Kept()
        itransport = await start(protocol)
        with peer_at() as peer:
            for data in b"", b"not empty":
                peer.sendto(data, (LOOPBACK, itransport.getHost().port))
            await protocol.until(lambda: (b"not empty", peer.getsockname()) in protocol.calls)
        assert [call[0] for call in protocol.calls[1:]] == [b"", b"not empty"]
        await as_future(itransport.stopListening())

    perform(main)


def test_multicast_comes_to_a_port_that_has_joined(perform: Perform) -> None:
    """A protocol joins a group on an interface, sends to it by that, and is told what comes, until it leaves."""
    needs_multicast()

    async def main() -> None:
        protocol = Kept()
        itransport = await start(protocol, local_addr=("0.0.0.0", 0))
        await as_future(itransport.setOutgoingInterface(LOOPBACK))
        assert itransport.getOutgoingInterface() == LOOPBACK
        await as_future(itransport.joinGroup(GROUP, LOOPBACK))
        group = GROUP, itransport.getHost().port
        own = LOOPBACK, itransport.getHost().port
        itransport.write(b"to the group", group)
        await protocol.until(lambda: protocol.calls[1:] == [(b"to the group", own)])
        await as_future(itransport.leaveGroup(GROUP, LOOPBACK))
        with pytest.raises(MulticastJoinError):
            await as_future(itransport.leaveGroup(GROUP, LOOPBACK))
        itransport.write(b"to a group without us", group)
        itransport.write(b"to ourselves", own)
        await protocol.until(lambda: protocol.calls[2:] == [(b"to ourselves", own)])
        await as_future(itransport.stopListening())

    perform(main)


def test_multicast_with_ipv6(perform: Perform) -> None:
    """Interfaces have numbers and names there; Twisted's own ports take neither to join."""
    group = "ff02::7777"
    number = group_interface_of_ipv6(group)

    async def main() -> None:
        protocol = Kept()
        itransport = await start(protocol, local_addr=("::", 0))
        assert await as_future(itransport.setOutgoingInterface(number)) == 1
        assert itransport.getOutgoingInterface() == number
        itransport.setTTL(3)
        assert itransport.getTTL() == 3
        assert itransport.getLoopbackMode()
        port = itransport.getHost().port
        for interface in str(number), socket.if_indextoname(number):
            protocol.calls.clear()
            await as_future(itransport.joinGroup(group, interface))
            itransport.write(b"to the group", (group, port))
            await protocol.until(lambda: protocol.calls)
            assert protocol.calls[0][0] == b"to the group"
            await as_future(itransport.leaveGroup(group, interface))
        for wrong in "no such interface", "::1":
            with pytest.raises(MulticastJoinError):
                await as_future(itransport.joinGroup(group, wrong))
        with pytest.raises(MulticastJoinError, match="invalid address literal for AF_INET6"):
            await as_future(itransport.joinGroup(GROUP))
        await as_future(itransport.stopListening())

    perform(main)


def test_names_of_groups_are_looked_up_by_the_loop(perform: Perform) -> None:
    """A group and an interface may have names; the Deferred fires later, then."""

    async def main() -> None:
        itransport = await start(Kept())
        setting = itransport.setOutgoingInterface("localhost")
        assert not setting.called
        assert await as_future(setting) == 1
        assert itransport.getOutgoingInterface() == LOOPBACK
        with pytest.raises(MulticastJoinError):  # it is no group
            await as_future(itransport.joinGroup("localhost"))
        await as_future(itransport.stopListening())

    perform(main)


def test_the_scope_of_an_ipv6_address_can_be_given(perform: Perform) -> None:
    """A link-local address is nothing without its interface: it may be part of the host, or of an address of four."""
    host, scope = link_local_address()

    async def main() -> None:
        with peer_at((host, 0, 0, scope), socket.AF_INET6) as peer:
            sock = peer_at((host, 0, 0, scope), socket.AF_INET6)
            protocol = Kept()
            itransport = await start(protocol, sock=sock)
            assert itransport.getHost().scopeID == scope
            itransport.write(b"by four", peer.getsockname())
            assert await comes_to(peer) == b"by four"
            itransport.connect(host, peer.getsockname()[1])
            itransport.write(b"connected")
            assert await comes_to(peer) == b"connected"
            peer.sendto(b"back", sock_name(itransport))
            await protocol.until(lambda: protocol.calls[1:] == [(b"back", peer.getsockname()[:2])])
            await as_future(itransport.stopListening())

    perform(main)


def sock_name(itransport: Any) -> Any:
    """What the socket of *itransport* calls itself."""
    return itransport.getHandle().getsockname()


# UNIX datagrams


class KeptConnected(Kept, ConnectedDatagramProtocol):
    """The same, connected."""

    def datagramReceived(self, datagram: bytes) -> None:  # type: ignore[override]
        self.note(datagram)


def test_unix_datagrams(tmp_path: Path, perform: Perform, host: Any) -> None:
    """A protocol is told paths, and names them; one that is connected does neither."""
    if getattr(host, "__module__", "") == "uvloop":
        pytest.skip("uvloop has no endpoints for UNIX datagrams")
    first_path, second_path = str(tmp_path / "first"), str(tmp_path / "second")

    async def main() -> None:
        first, second = Kept(), KeptConnected()
        itransport = await start(first, local_addr=first_path, family=socket.AF_UNIX)
        verifyObject(IUNIXDatagramTransport, itransport)
        assert not IMulticastTransport.providedBy(itransport)
        connected = await start(second, local_addr=second_path, remote_addr=first_path, family=socket.AF_UNIX)
        verifyObject(IUNIXDatagramConnectedTransport, connected)
        assert itransport.getHost() == connected.getPeer() == UNIXAddress(first_path)
        assert connected.getHost() == UNIXAddress(second_path)
        connected.write(b"hello")
        await first.until(lambda: first.calls == ["start", (b"hello", second_path)])
        itransport.write(b"welcome", second_path)
        itransport.writeSequence([b"", b"in ", b"pieces"], second_path)
        await second.until(lambda: second.calls == ["start", b"welcome", b"in pieces"])
        await as_future(itransport.stopListening())
        connected.write(b"nobody is there")  # which UNIX sockets tell at once
        assert second.calls[3:] == ["refused"]
        await as_future(connected.stopListening())

    perform(main)


def pair_of_sockets(kind: type[socket.socket]) -> tuple[socket.socket, socket.socket]:
    """Two UNIX datagram sockets, of which the first, of *kind*, can send little that the other one has not read."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.setblocking(False)
    return kind(socket.AF_UNIX, socket.SOCK_DGRAM, fileno=ours.detach()), theirs


def test_a_writer_that_is_too_fast_is_told_so(perform: Perform, host: Any) -> None:
    """Twisted's ports raise BlockingIOError when the kernel takes no more; here that comes at the high-water mark."""
    if getattr(host, "__module__", "") == "uvloop":
        pytest.skip("uvloop sends by the descriptor, and knows of what family that is")

    async def main() -> None:
        ours, theirs = pair_of_sockets(SocketOfAPair)
        protocol = Kept()
        itransport = await start(protocol, sock=ours)
        sent, read = 0, 0
        for _ in range(2):
            with pytest.raises(BlockingIOError):
                while True:
                    itransport.write(b"%05d" % sent * 200)
                    sent += 1
            assert sent - read < 500  # the mark is 64 KiB, and the kernel takes some datagrams
            while read < sent:
                assert int((await comes_to(theirs))[:5]) == read
                read += 1
            itransport.write(b"%05d" % sent)
            sent += 1
        theirs.close()
        itransport.abort()
        await protocol.until(lambda: "stop" in protocol.calls)

    perform(main)


def test_unix_datagrams_for_which_there_is_no_room_are_dropped(tmp_path: Path, perform: Perform, host: Any) -> None:
    """Without a word, as by Twisted's ports; those that are sent come in order."""
    if getattr(host, "__module__", "") == "uvloop":
        pytest.skip("uvloop has no endpoints for UNIX datagrams")

    async def main() -> None:
        for protocol in Kept(), KeptConnected():
            path = str(tmp_path / type(protocol).__name__)
            theirs = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            theirs.setblocking(False)
            theirs.bind(path)
            if isinstance(protocol, KeptConnected):
                itransport = await start(protocol, remote_addr=path, family=socket.AF_UNIX)
                address: list[str] = []
            else:
                itransport = await start(protocol, local_addr=path + " too", family=socket.AF_UNIX)
                address = [path]
            for number in range(2000):
                itransport.write(b"%05d" % number * 200, *address)
            stopping = itransport.stopListening()
            numbers = []
            while not stopping.called:
                try:
                    numbers.append(int(theirs.recv(1000)[:5]))
                except BlockingIOError:
                    await asyncio.sleep(0)
            assert numbers == list(range(len(numbers)))
            assert 0 < len(numbers) < 500
            theirs.close()

    perform(main)


# Without a reactor

PROGRAM = """
    import asyncio, sys
    from twisted.internet.protocol import DatagramProtocol
    from txasync import as_future
    from txasync.adapters import as_asyncio_datagram_protocol

    class Echo(DatagramProtocol):
        noisy = False

        def datagramReceived(self, datagram, addr):
            self.transport.write(datagram, addr)

    class Asks(DatagramProtocol):
        noisy = False

        def startProtocol(self):
            self.answer = asyncio.get_running_loop().create_future()
            self.transport.connect("127.0.0.1", echo.transport.getHost().port)
            self.transport.write(b"hello")

        def datagramReceived(self, datagram, addr):
            self.answer.set_result(datagram)

    echo, asks = Echo(), Asks()

    async def main():
        loop = asyncio.get_running_loop()
        for protocol in echo, asks:
            await loop.create_datagram_endpoint(
                lambda: as_asyncio_datagram_protocol(protocol), local_addr=("127.0.0.1", 0)
            )
        print(await asyncio.wait_for(asks.answer, 20))
        assert asks.transport.joinGroup("239.255.77.77", "127.0.0.1").called
        for protocol in echo, asks:
            await as_future(protocol.transport.stopListening())
        assert "twisted.internet.reactor" not in sys.modules

    loop = {new_loop}
    loop.run_until_complete(main())
    loop.close()
"""


@pytest.mark.parametrize("new_loop", ["asyncio.SelectorEventLoop()", "__import__('uvloop').new_event_loop()"])
def test_no_reactor_is_imported(new_loop: str) -> None:
    """A program of asyncio's, or of uvloop's, has none before and none after."""
    if "uvloop" in new_loop:
        pytest.importorskip("uvloop", reason="uvloop is not installed: the test extra has it")
    program = textwrap.dedent(PROGRAM).replace("{new_loop}", new_loop)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("b'hello'\n", "", 0)
