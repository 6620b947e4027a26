"""asyncio's datagram protocols on Twisted's ports: their traces are those on asyncio's own transports."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import os
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from txasync import ReactorEventLoop
from txasync.adapters import as_asyncio_datagram_protocol, as_twisted_datagram_protocol

from ..conftest import Reports, Runner
from ..transports import test_traces_datagram
from ..transports.combinations import Combination
from ..transports.datagrams import arrives, endpoint, received, udp_peer, unix_pair
from ..transports.recorders import PLACE, Boom
from ..transports.traces import Scenario, Stage, play_on_stock
from .datagram_stage import DatagramStage, PortOfAPair, SocketOfAPair, play_on_twisted
from .network import GROUP, LOOPBACK, link_local_address, needs_multicast

# What of a line is not compared, and why.
DIFFERENCES = {
    "closed": ("connection_lost.*", "a port ends in an iteration of the reactor, not in the loop's next round"),
    "empty_datagrams_sent": ("connection_lost.*", "a port ends in an iteration of the reactor"),
    "contexts": ("in (the|set) .*", "the converter's context is that of every callback"),
    "information": ("<Transport.*", "a transport is shown by the port that it stands on"),
}

# These are about the arguments of create_datagram_endpoint(), or need a transport that nobody holds.
NOT_OF_PORTS = {"endpoints_that_cannot_be", "options", "forgotten"}

SCENARIOS = [
    scenario for scenario in test_traces_datagram.scenario.all if getattr(scenario, "__name__", "") not in NOT_OF_PORTS
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_trace_is_that_of_asyncio(scenario: Scenario, combination: Combination, reports: Reports) -> None:
    """What an asyncio protocol sees of a Twisted port is what it sees of asyncio's own transport."""
    expected = play_on_stock(scenario)
    traced = play_on_twisted(scenario, combination)
    reports.clear()  # they are part of the traces
    pattern, _reason = DIFFERENCES.get(getattr(scenario, "__name__", ""), ("$^", ""))
    assert shared(traced, pattern) == shared(expected, pattern)


def shared(trace: list[str], pattern: str) -> list[str]:
    """*trace* without what *pattern* matches."""
    return [kept for line in trace if (kept := re.sub(pattern, "", line))]


def play(run: Runner, scenario: Callable[[DatagramStage], Any]) -> list[str]:
    """The trace of *scenario* on Twisted's ports, on the loop, and in the mode, that *run* has."""
    played: Any = scenario
    return run(lambda: DatagramStage(run.loop).play(played))


# Beginnings


def test_wrong_arguments_are_refused_at_once() -> None:
    """A factory can be called; the address to connect to is one, and of IP."""
    wrong: Any
    for wrong in None, asyncio.DatagramProtocol(), "protocol":
        with pytest.raises(TypeError, match="callable that makes asyncio protocols"):
            as_twisted_datagram_protocol(wrong)
    for wrong in "127.0.0.1", ("127.0.0.1",), ("127.0.0.1", "1"), ("::1", 1, 0), ["127.0.0.1", 1]:
        with pytest.raises(TypeError, match="remote_addr is"):
            as_twisted_datagram_protocol(asyncio.DatagramProtocol, remote_addr=wrong)
    for wrong in ("localhost", 1), (None, 1), (b"127.0.0.1", 1):
        with pytest.raises(ValueError, match="must be an IP address"):
            as_twisted_datagram_protocol(asyncio.DatagramProtocol, remote_addr=wrong)


class Listed(asyncio.DatagramProtocol):
    """
    Keeps what it is called with.

    Attributes:
        calls: That.
        loops: The loops that ran then.
    """

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.loops: set[asyncio.AbstractEventLoop] = set()
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._note("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._note(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._note(("lost", exc))

    def _note(self, call: Any) -> None:
        self.calls.append(call)
        self.loops.add(asyncio.get_running_loop())


def test_a_port_may_start_before_the_reactor_runs(run: Runner) -> None:
    """With loop=, the protocol is made at once, and called when its loop runs; nothing that comes is lost."""
    carrier = as_twisted_datagram_protocol(Listed, loop=run.loop)
    port = run.reactor.listenUDP(0, carrier, interface=LOOPBACK)
    protocol = carrier.protocol
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.sendto(b"early", (LOOPBACK, port.getHost().port))
    assert protocol.calls == []

    async def main() -> None:
        while len(protocol.calls) < 2:
            await asyncio.sleep(0)
        protocol.transport.close()
        while len(protocol.calls) < 3:
            await asyncio.sleep(0)

    run(lambda: asyncio.wait_for(main(), 10))
    assert protocol.calls == ["made", b"early", ("lost", None)]
    assert protocol.loops == {run.loop}


def test_a_port_may_stop_before_the_reactor_runs(run: Runner) -> None:
    """Then asyncio's protocol is called never, or twice: it depends on who is the first to have a turn."""
    carrier = as_twisted_datagram_protocol(Listed, loop=run.loop)
    port = run.reactor.listenUDP(0, carrier, interface=LOOPBACK)
    stopping = port.stopListening()

    async def main() -> None:
        while not stopping.called:
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(lambda: asyncio.wait_for(main(), 10))
    assert carrier.protocol.calls in ([], ["made", ("lost", None)])


def test_without_a_loop_a_port_is_refused(reactor: Any) -> None:
    """Who starts the port is told, and nothing stays open."""
    carrier = as_twisted_datagram_protocol(Listed)
    with pytest.raises(RuntimeError, match="no asyncio loop runs here"):
        reactor.listenUDP(0, carrier, interface=LOOPBACK)
    reactor.runUntilCurrent()
    assert carrier.protocol is None


def test_a_factory_that_fails_is_told_to_who_starts_the_port(run: Runner) -> None:
    """And nothing stays open; the carrier may be given to another port."""
    outcomes: list[Any] = [Boom("of the test"), Listed()]

    def factory() -> Any:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Boom):
            raise outcome
        return outcome

    async def scenario(stage: DatagramStage) -> None:
        carrier = as_twisted_datagram_protocol(factory)
        with pytest.raises(Boom, match="of the test"):
            stage.reactor.listenUDP(0, carrier, interface=LOOPBACK)
        await stage.until(lambda: carrier.transport is None)
        stage.reactor.listenUDP(0, carrier, interface=LOOPBACK)
        assert carrier.protocol.calls == ["made"]
        carrier.protocol.transport.abort()
        await stage.until(lambda: carrier.transport is None)
        assert carrier.protocol.calls == ["made", ("lost", None)]

    play(run, scenario)


def test_a_peer_that_cannot_be_connected_to_is_told_likewise(run: Runner) -> None:
    """The factory is not even called."""

    async def scenario(stage: DatagramStage) -> None:
        carrier = as_twisted_datagram_protocol(Listed, remote_addr=("::1", 9))
        with pytest.raises(OSError, match="family"):
            stage.reactor.listenUDP(0, carrier, interface=LOOPBACK)
        await stage.until(lambda: carrier.transport is None)
        assert carrier.protocol is None

    play(run, scenario)


def test_a_unix_port_that_cannot_be_connected_is_logged(run: Runner, reports: Reports, tmp_path: Any) -> None:
    """Twisted tells its protocol only, and asyncio's has no callback for it."""

    async def scenario(stage: DatagramStage) -> None:
        carrier = as_twisted_datagram_protocol(Listed)
        stage.reactor.connectUNIXDatagram(str(tmp_path / "nobody"), carrier)
        await stage.quiet()
        assert carrier.protocol is None

    play(run, scenario)
    assert [report.type for report in reports.twisted] == [FileNotFoundError]
    reports.clear()


def test_a_carrier_serves_one_port_after_another(run: Runner) -> None:
    """Each has a protocol of its own, in a context of its own; who owns the port may stop it."""
    seen: list[str] = []

    class Setting(Listed):
        def __init__(self) -> None:
            super().__init__()
            seen.append(PLACE.get())
            PLACE.set("a port's")

        def _note(self, call: Any) -> None:
            super()._note(call)
            seen.append(PLACE.get())

    async def scenario(stage: DatagramStage) -> None:
        PLACE.set("the converter's")
        carrier = as_twisted_datagram_protocol(Setting)
        PLACE.set("what came later")
        protocols = []
        for _ in range(2):
            port = stage.reactor.listenUDP(0, carrier, interface=LOOPBACK)
            protocols.append(carrier.protocol)
            stopping: Deferred[None] = port.stopListening()
            await stage.until(lambda stopping=stopping: stopping.called)
        assert protocols[0] is not protocols[1]
        assert [protocol.calls for protocol in protocols] == [["made", ("lost", None)]] * 2

    contextvars.copy_context().run(play, run, scenario)
    assert seen == ["the converter's", "a port's", "a port's"] * 2


# Who talks to whom


class AsyncioEcho(asyncio.DatagramProtocol):
    """Sends back what it gets, but for what was sent back."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.heard.append(data)
        if not data.startswith(b"back"):
            self.transport.sendto(b"back " + data, addr)

    def send(self, data: bytes, port: int) -> None:
        self.transport.sendto(data, (LOOPBACK, port))


class TwistedEcho(DatagramProtocol):
    """The same, by Twisted."""

    noisy = False

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.heard.append(datagram)
        if not datagram.startswith(b"back"):
            self.send(b"back " + datagram, addr[1])

    def send(self, data: bytes, port: int) -> None:
        self.transport.write(data, (LOOPBACK, port))  # type: ignore[union-attr]


def test_everybody_talks_to_everybody(run: Runner) -> None:
    """Either world's protocol, on its own transport and on the other's, is a server and a client to each other one."""

    async def main() -> None:
        loop, reactor = run.loop, run.reactor
        echoes: list[Any] = [AsyncioEcho(), AsyncioEcho(), TwistedEcho(), TwistedEcho()]
        await loop.create_datagram_endpoint(lambda: echoes[0], local_addr=(LOOPBACK, 0))
        reactor.listenUDP(0, as_twisted_datagram_protocol(lambda: echoes[1]), interface=LOOPBACK)
        reactor.listenUDP(0, echoes[2], interface=LOOPBACK)
        await loop.create_datagram_endpoint(lambda: as_asyncio_datagram_protocol(echoes[3]), local_addr=(LOOPBACK, 0))
        ports = [echo.transport.get_extra_info("sockname")[1] for echo in echoes[:2]]
        ports += [echo.transport.getHost().port for echo in echoes[2:]]
        for number, echo in enumerate(echoes):
            for port in ports:
                echo.send(b"from %d to %d" % (number, port), port)
        while any(len(echo.heard) < 8 for echo in echoes):
            await asyncio.sleep(0)
        for number, (echo, own) in enumerate(zip(echoes, ports, strict=True)):
            asked = [b"from %d to %d" % (other, own) for other in range(4)]
            answered = [b"back from %d to %d" % (number, port) for port in ports]
            assert sorted(echo.heard) == sorted(asked + answered)
        for echo in echoes[:2]:
            echo.transport.close()
        for stopping in [echo.transport.stopListening() for echo in echoes[2:]]:
            await stopping

    run(lambda: asyncio.wait_for(main(), 10))


def test_multicast_comes_to_a_port_that_has_joined(run: Runner) -> None:
    """The port of listenMulticast() is get_extra_info("twisted_transport"), which joins groups."""
    needs_multicast()

    async def scenario(stage: DatagramStage) -> None:
        protocol = stage.datagram_protocol()
        stage.reactor.listenMulticast(0, as_twisted_datagram_protocol(lambda: protocol))
        port = protocol.transport.get_extra_info("twisted_transport")
        await port.joinGroup(GROUP, LOOPBACK)
        sender = udp_peer(stage)
        sender.sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK))
        sender.sock.sendto(b"to the group", (GROUP, port.getHost().port))
        await received(stage, protocol, 1)

    assert play(run, scenario) == [
        "connection_made",
        "datagram_received b'to the group' address 127.0.0.1 port N ()",
    ]


def test_broadcasts_are_sent_if_the_port_allows_it(run: Runner) -> None:
    """Without that, the kernel's refusal is error_received."""

    async def scenario(stage: DatagramStage) -> None:
        protocol = stage.datagram_protocol()
        transport = await endpoint(stage, protocol)
        transport.sendto(b"hello", ("127.255.255.255", 9))
        transport.get_extra_info("twisted_transport").setBroadcastAllowed(True)
        transport.sendto(b"hello", ("127.255.255.255", 9))

    assert play(run, scenario) == ["connection_made", "error_received PermissionError(EACCES)"]


def test_the_scope_of_an_ipv6_address_is_kept(run: Runner) -> None:
    """Where a port is bound to a link-local address, or connected to one, its peers have its scope."""
    host, scope = link_local_address()

    async def scenario(stage: DatagramStage) -> None:
        peer = stage.keep(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        peer.setblocking(False)
        peer.bind((host, 0, 0, scope))
        for remote_addr in None, peer.getsockname():
            senders: list[Any] = []
            protocol = stage.datagram_protocol(datagram_received=lambda data, addr, to=senders: to.append(addr))
            sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            sock.bind((host, 0, 0, scope))  # which Twisted itself cannot do
            await stage.loop.create_datagram_endpoint(lambda: protocol, remote_addr=remote_addr, sock=sock)
            peer.sendto(b"hello", protocol.transport.get_extra_info("sockname"))
            await received(stage, protocol, 1)
            assert senders == [peer.getsockname()]
            assert protocol.transport.get_extra_info("peername") == remote_addr
            protocol.transport.sendto(b"welcome", senders[0])
            await _readable(stage, peer)
            assert peer.recvfrom(100) == (b"welcome", protocol.transport.get_extra_info("sockname"))

    play(run, scenario)


async def _readable(stage: Stage, sock: socket.socket) -> None:
    while True:
        try:
            sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            await stage.a_round()
        else:
            return


def test_names_and_other_families_are_not_sent_to(run: Runner) -> None:
    """A host name is not looked up: error_received is told what asyncio tells of one that nobody has."""
    told: list[Any] = []

    async def scenario(stage: DatagramStage) -> None:
        for host, address in (LOOPBACK, ("localhost", 9)), (LOOPBACK, ("::1", 9)), ("::1", (LOOPBACK, 9)):
            protocol = stage.datagram_protocol(error_received=told.append)
            try:
                await endpoint(stage, protocol, local_addr=(host, 0))
            except OSError:
                continue  # There is no IPv6 here.
            protocol.transport.sendto(b"hello", address)
            assert not protocol.transport.is_closing()

    play(run, scenario)
    assert {type(error) for error in told} == {socket.gaierror}
    assert [error.errno for error in told][:2] == [socket.EAI_NONAME, socket.EAI_ADDRFAMILY]
    assert all(isinstance(error.__cause__, ValueError) for error in told)


def test_a_socket_that_was_adopted_may_be_connected(run: Runner) -> None:
    """It needs no address to send to, and hears that nobody is there."""

    async def scenario(stage: DatagramStage) -> None:
        peer = udp_peer(stage)
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(peer.sock.getsockname())
        protocol = stage.datagram_protocol()
        await stage.loop.create_datagram_endpoint(lambda: protocol, sock=sock)
        protocol.transport.sendto(b"hello")
        await arrives(stage, peer)
        protocol.transport.sendto(b"any address", ("127.0.0.2", 1))
        await arrives(stage, peer)
        peer.sock.close()
        protocol.transport.sendto(b"nobody is there")
        await stage.until(lambda: "error_received" in protocol.log)

    assert play(run, scenario) == [
        "connection_made",
        "the peer got b'hello'",
        "the peer got b'any address'",
        "error_received ConnectionRefusedError(ECONNREFUSED)",
    ]


def test_who_owns_the_port_may_connect_it_later(run: Runner) -> None:
    """Then no address is needed, either; before, that is fatal, as in asyncio."""

    async def scenario(stage: DatagramStage) -> None:
        peer = udp_peer(stage)
        protocol = stage.datagram_protocol()
        port = stage.reactor.listenUDP(0, as_twisted_datagram_protocol(lambda: protocol), interface=LOOPBACK)
        port.connect(*peer.sock.getsockname())
        protocol.transport.sendto(b"hello")
        await arrives(stage, peer)
        protocol.transport.sendto(b"to another", ("127.0.0.2", 1))
        await protocol.lost

    assert play(run, scenario) == [
        "connection_made",
        "the peer got b'hello'",
        "reported, from None: TypeError",
        "connection_lost TypeError",
    ]


# Faults


class Failing(SocketOfAPair):
    """Does not receive for a while."""

    failures = 2

    def recvfrom(self, *args: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.ENOBUFS, "no buffer space available")
        return super().recvfrom(*args)


def test_an_error_of_receiving_is_told_and_nothing_else(run: Runner) -> None:
    """On a connected port, any OSError from the socket goes to error_received, and the flow goes on."""

    async def scenario(stage: DatagramStage) -> None:
        protocol = stage.datagram_protocol()
        protocol.hides_addresses = True
        ours, peer = unix_pair(stage)
        carrier = as_twisted_datagram_protocol(lambda: protocol)
        PortOfAPair(ours, carrier, stage.reactor, Failing).start()
        await stage.quiet()
        peer.send(b"hello")
        await stage.quiet()

    assert play(run, scenario) == [
        "connection_made",
        *["error_received OSError(ENOBUFS)"] * 2,
        "datagram_received b'hello'",
    ]


def test_an_unreachable_port_does_not_stop_the_flow(run: Runner) -> None:
    """However often nobody is there; Twisted's own protocols lose their port then, on most reactors."""

    async def scenario(stage: DatagramStage) -> None:
        protocol = stage.datagram_protocol()
        peer = udp_peer(stage)
        address = peer.sock.getsockname()
        transport = await endpoint(stage, protocol, remote_addr=address)
        for number in range(3):
            peer.sock.close()
            protocol.transport.sendto(b"nobody is there")
            await stage.until(lambda number=number: protocol.log.count("error_received") == number + 1)
            peer = udp_peer(stage, address)
            peer.sock.sendto(b"somebody is", transport.get_extra_info("sockname"))
            await received(stage, protocol, number + 1)

    flow = [
        "error_received ConnectionRefusedError(ECONNREFUSED)",
        "datagram_received b'somebody is' address 127.0.0.1 port N ()",
    ]
    assert play(run, scenario) == ["connection_made", *flow * 3]


@pytest.mark.parametrize("is_connected", [False, True], ids=["unconnected", "connected"])
def test_nothing_comes_while_reading_is_paused(run: Runner, is_connected: bool) -> None:
    """Not even what the port had received by then; it comes later, one by one if need be."""

    async def scenario(stage: DatagramStage) -> None:
        protocol = stage.datagram_protocol(datagram_received=lambda *args: protocol.transport.pause_reading())
        protocol.hides_addresses = True
        peer = udp_peer(stage)
        await endpoint(stage, protocol, remote_addr=peer.sock.getsockname() if is_connected else None)
        for number in range(3):
            peer.sock.sendto(b"%d" % number, protocol.transport.get_extra_info("sockname"))
        await received(stage, protocol, 1)
        for _ in range(3):
            stage.note("is_reading", protocol.transport.is_reading())
            protocol.attempt("resume_reading")
            await stage.quiet()
        protocol.transport.resume_reading()
        protocol.transport.pause_reading()
        protocol.transport.close()
        for method in "pause_reading", "resume_reading":
            protocol.attempt(method)
        await protocol.lost

    rest = [line for n in (1, 2) for line in ("is_reading False", "resume_reading", f"datagram_received b'{n}'")]
    assert play(run, scenario) == [
        "connection_made",
        "datagram_received b'0'",
        *rest,
        "is_reading False",
        "resume_reading",
        "pause_reading",
        "resume_reading",
        "connection_lost None",
    ]


@pytest.mark.parametrize("method", ["close", "abort"])
def test_what_waits_in_a_pause_is_dropped_at_the_end(run: Runner, method: str) -> None:
    """And so is what the port receives after that."""

    async def scenario(stage: DatagramStage) -> None:
        protocol = stage.datagram_protocol(datagram_received=lambda *args: protocol.transport.pause_reading())
        protocol.hides_addresses = True
        transport = await endpoint(stage, protocol)
        peer = udp_peer(stage)
        for number in range(3):
            peer.sock.sendto(b"%d" % number, transport.get_extra_info("sockname"))
        await received(stage, protocol, 1)
        transport.resume_reading()
        getattr(transport, method)()
        await protocol.lost
        assert transport.is_lost()

    assert play(run, scenario) == ["connection_made", "datagram_received b'0'", "connection_lost None"]


@pytest.mark.parametrize("interruption", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("callback", ["connection_made", "datagram_received", "error_received", "connection_lost"])
def test_an_interruption_in_a_callback_leaves_the_run(
    loop: ReactorEventLoop, interruption: type[BaseException], callback: str
) -> None:
    """SystemExit and KeyboardInterrupt, which a reactor would log, leave run_until_complete(); the port lives on."""
    calls: list[str] = []

    class Interrupting(asyncio.DatagramProtocol):
        def __getattribute__(self, name: str) -> Any:
            if name not in ("connection_made", "datagram_received", "error_received", "connection_lost"):
                return super().__getattribute__(name)
            return lambda *args: self._called(name, *args)

        def _called(self, name: str, *args: Any) -> None:
            calls.append(name)
            if name == "connection_made":
                self.transport = args[0]
            if name == callback and calls.count(name) == 1:
                raise interruption("of the test")

    async def main() -> None:
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with peer:
            peer.bind((LOOPBACK, 0))
            carrier = as_twisted_datagram_protocol(Interrupting, remote_addr=peer.getsockname())
            loop.reactor.listenUDP(0, carrier, interface=LOOPBACK)
            transport = carrier.protocol.transport
            peer.sendto(b"hello", transport.get_extra_info("sockname"))
            while "datagram_received" not in calls:
                await asyncio.sleep(0)
        transport.sendto(b"nobody is there")
        while "error_received" not in calls:
            await asyncio.sleep(0)
        transport.close()
        while "connection_lost" not in calls:
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    task = loop.create_task(main())
    with pytest.raises(interruption, match="of the test"):
        loop.run_until_complete(task)
    loop.run_until_complete(task)
    assert calls == ["connection_made", "datagram_received", "error_received", "connection_lost"]


def test_the_end_of_the_reactor_is_that_of_its_ports(run: Runner) -> None:
    """connection_lost(None) comes when the reactor disconnects all, connected or not; nothing stays open."""

    async def scenario(stage: DatagramStage) -> None:
        peer = udp_peer(stage)
        protocols = [stage.datagram_protocol(name) for name in ("unconnected", "connected")]
        for protocol, remote_addr in zip(protocols, (None, peer.sock.getsockname()), strict=True):
            await endpoint(stage, protocol, remote_addr=remote_addr)
        await stage.quiet()
        for reader in stage.reactor.getReaders():
            if "datagram" in repr(reader).lower() or "PortReader" in repr(reader):
                stage.reactor.removeReader(reader)
                reader.connectionLost(_lost())
        await stage.quiet()

    lines = play(run, scenario)
    assert lines[:2] == ["unconnected: connection_made", "connected: connection_made"]
    assert sorted(lines[2:]) == ["connected: connection_lost None", "unconnected: connection_lost None"]


def _lost() -> Any:
    from twisted.internet.error import ConnectionLost
    from twisted.python.failure import Failure

    return Failure(ConnectionLost())


# Ports without a socket


@implementer(IUDPTransport)
class MemoryPort:
    """
    A port that keeps what it sends, and ends at once when it is stopped.

    Attributes:
        has_room: Whether it sends.
        sent: That.
    """

    has_room = True

    def __init__(self, protocol: Any) -> None:
        self.sent: list[tuple[bytes, Any]] = []
        self._protocol = protocol
        protocol.makeConnection(self)

    def write(self, packet: bytes, addr: Any = None) -> None:
        if not self.has_room:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.sent.append((packet, addr))

    def writeSequence(self, packets: list[bytes], addr: Any = None) -> None:
        self.write(b"".join(packets), addr)

    def connect(self, host: str, port: int) -> None:
        """Nothing has to be done."""

    def getHost(self) -> Any:
        return IPv4Address("UDP", "192.0.2.1", 53)

    def stopListening(self) -> None:
        self._protocol.doStop()

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """Nothing has to be done."""

    def getBroadcastAllowed(self) -> bool:
        return False


def test_any_udp_transport_will_do(run: Runner) -> None:
    """Without a socket, a full port is tried again after a while; connection_lost is never inside close()."""

    async def scenario(stage: DatagramStage) -> None:
        for remote_addr in None, ("192.0.2.2", 9):
            protocol = stage.datagram_protocol()
            carrier = as_twisted_datagram_protocol(lambda: protocol, remote_addr=remote_addr)
            port = MemoryPort(carrier)
            transport = protocol.transport
            stage.note("sockname", transport.get_extra_info("sockname"))
            stage.note("peername", transport.get_extra_info("peername"))
            stage.note("socket", transport.get_extra_info("socket"))
            carrier.datagramReceived(b"hello", ("192.0.2.2", 9))
            transport.set_write_buffer_limits(0)
            transport.sendto(b"one", ("192.0.2.2", 9))
            port.has_room = False
            transport.sendto(b"two", ("192.0.2.2", 9))
            stage.loop.call_later(0.02, setattr, port, "has_room", True)
            await stage.until(lambda: "resume_writing" in protocol.log)
            assert [data for data, _ in port.sent] == [b"one", b"two"]
            port.has_room = False
            transport.sendto(b"dropped", ("192.0.2.2", 9))
            protocol.attempt("close")
            protocol.attempt("abort")
            await protocol.lost

    traces = play(run, scenario)
    once = [
        "connection_made",
        "sockname address 192.0.2.1 port N ()",
        "peername None",
        "socket None",
        "datagram_received b'hello' address 192.0.2.2 port N ()",
        "pause_writing",
        "resume_writing",
        "pause_writing",
        "close",
        "abort",
        "connection_lost None",
    ]
    assert traces == [*once, *(line.replace("peername None", "peername address 192.0.2.2 port N ()") for line in once)]


def test_when_no_descriptor_is_left_a_full_port_is_tried_again(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the way to know when there is room is another one."""

    def no_more(fd: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def scenario(stage: DatagramStage) -> None:
        protocol = stage.datagram_protocol(connection_made=lambda transport: transport.set_write_buffer_limits(0))
        ours, peer = unix_pair(stage)
        await stage.loop.create_datagram_endpoint(lambda: protocol, sock=ours)
        monkeypatch.setattr(os, "dup", no_more)
        sent = 0
        while not protocol.paused:
            protocol.transport.sendto(b"%d" % sent)
            sent += 1
        read: list[int] = []
        while len(read) < sent:
            await _readable(stage, peer.sock)
            read.append(int(peer.sock.recv(100)))
        assert read == list(range(sent))
        await stage.until(lambda: not protocol.paused)

    assert play(run, scenario) == ["connection_made", "pause_writing", "resume_writing"]


# Errors of what waited


def test_a_paused_protocol_is_resumed_after_an_error(run: Runner) -> None:
    """A buffer that empties because its datagrams fail is empty, and the protocol may go on."""

    async def scenario(stage: DatagramStage) -> None:
        protocol = stage.datagram_protocol(connection_made=lambda transport: transport.set_write_buffer_limits(100))
        ours, peer = unix_pair(stage)
        await stage.loop.create_datagram_endpoint(lambda: protocol, sock=ours)
        while not protocol.paused:
            protocol.transport.sendto(bytes(50))
        peer.sock.close()
        await stage.until(lambda: "resume_writing" in protocol.log)
        assert protocol.transport.get_write_buffer_size() == 0
        assert set(protocol.log) == {"connection_made", "pause_writing", "error_received", "resume_writing"}

    play(run, scenario)


def test_an_address_that_is_none_amid_others_is_fatal(run: Runner) -> None:
    """It is found out when its turn comes; what waits behind it is dropped."""

    async def scenario(stage: DatagramStage) -> None:
        protocol = stage.datagram_protocol()
        carrier = as_twisted_datagram_protocol(lambda: protocol)
        port = MemoryPort(carrier)
        port.has_room = False
        for address in ("192.0.2.2", 9), "no address", ("192.0.2.2", 9):
            protocol.transport.sendto(b"hello", address)
        port.has_room = True
        await protocol.lost
        assert port.sent == [(b"hello", ("192.0.2.2", 9))]

    assert play(run, scenario) == ["connection_made", "reported, from None: TypeError", "connection_lost TypeError"]
