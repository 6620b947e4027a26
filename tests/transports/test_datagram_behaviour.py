"""Datagrams: many at once, fair shares, and who can be reached."""

from __future__ import annotations

import asyncio
import pathlib
import socket
import struct
from typing import Any

import pytest

from ..conftest import Runner
from .datagrams import endpoint, on_a_pair, received, udp_peer, unix_pair
from .traces import Peer, Stage, play_on_ours, play_with


def test_a_burst_arrives_whole_and_in_order(run: Runner) -> None:
    """200 datagrams that wait before reading begins are all delivered; others have their turn in between."""

    async def scenario(stage: Stage) -> None:
        received: list[int] = []
        at: dict[str, int] = {}

        def take(data: bytes, addr: Any) -> None:
            if not received:
                stage.loop.call_soon(lambda: at.setdefault("callback", len(received)))
                stage.loop.call_later(0, lambda: at.setdefault("timer", len(received)))
            received.append(int(data))

        protocol = stage.datagram_protocol(datagram_received=take)
        sock = stage.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_000_000)
        sock.bind(("127.0.0.1", 0))
        peer = udp_peer(stage)
        for number in range(200):
            peer.sock.sendto(b"%d" % number, sock.getsockname())
        await stage.loop.create_datagram_endpoint(lambda: protocol, sock=sock)
        await stage.until(lambda: len(received) == 200)
        assert received == list(range(200))
        assert at["callback"] < 200
        assert at["timer"] < 200

    play_with(run, scenario)


def test_endless_traffic_leaves_time_for_everything_else(run: Runner) -> None:
    """An endpoint that gets a new datagram for each that it takes starves neither timers, nor Twisted, nor others."""

    async def scenario(stage: Stage) -> None:
        class Endless(asyncio.DatagramProtocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport
                for _ in range(50):
                    transport.sendto(b"again", transport.get_extra_info("sockname"))

            def datagram_received(self, data: bytes, addr: Any) -> None:
                self.transport.sendto(data, addr)

        transport, _ = await stage.loop.create_datagram_endpoint(Endless, local_addr=("127.0.0.1", 0))
        protocol = stage.datagram_protocol()
        peer = await on_a_pair(stage, protocol)
        peer.send(b"hello")
        twisted = stage.loop.create_future()
        run.reactor.callLater(0.01, twisted.set_result, None)
        await asyncio.sleep(0.01)
        await twisted
        await received(stage, protocol, 1)
        transport.abort()

    play_with(run, scenario)


@pytest.mark.parametrize("method", ["close", "abort", "pause_reading"])
def test_nothing_comes_any_more_however_much_is_waiting(run: Runner, method: str) -> None:
    """A protocol that closes or pauses in datagram_received gets no second datagram."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.datagram_protocol(datagram_received=lambda *args: getattr(protocol.transport, method)())
        protocol.hides_addresses = True
        ours, peer = unix_pair(stage)
        for number in range(5):
            peer.send(b"%d" % number)
        await stage.loop.create_datagram_endpoint(lambda: protocol, sock=ours)
        await stage.quiet()
        if method == "pause_reading":
            for _ in range(2):
                protocol.attempt("resume_reading")
                await stage.quiet()

    rest = {
        "pause_reading": [
            "resume_reading",
            "datagram_received b'1'",
            "resume_reading",
            "datagram_received b'2'",
        ],
    }.get(method, ["connection_lost None"])
    assert play_with(run, scenario) == ["connection_made", "datagram_received b'0'", *rest]


def test_a_burst_that_grows_stops_when_it_must(run: Runner) -> None:
    """However many datagrams are taken at once by then, one that closes the endpoint is the last."""

    async def scenario(stage: Stage) -> None:
        taken: list[int] = []

        def take(data: bytes, addr: Any) -> None:
            taken.append(int(data))
            if len(taken) == 700:
                protocol.transport.close()

        protocol = stage.datagram_protocol(datagram_received=take)
        transport = await endpoint(stage, protocol)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_000_000)
        peer = udp_peer(stage)
        for number in range(1000):
            peer.sock.sendto(b"%d" % number, transport.get_extra_info("sockname"))
            if number % 100 == 99 and number < 600:
                await stage.until(lambda: len(taken) == number + 1)
        await protocol.lost
        assert taken == list(range(700))

    play_with(run, scenario)


def test_the_buffer_is_empty_when_all_is_sent() -> None:
    """Each datagram that was sent is taken off again, with all that it was counted with; low-water mark 0 works."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.datagram_protocol(connection_made=lambda transport: transport.set_write_buffer_limits(0))
        peer = await on_a_pair(stage, protocol)
        for _ in range(2):
            sent = 0
            while not protocol.paused:
                protocol.transport.sendto(b"%d" % sent)
                sent += 1
            protocol.transport.sendto(b"%d" % sent)
            read: list[int] = []
            while len(read) <= sent:
                try:
                    read.append(int(peer.sock.recv(100)))
                except BlockingIOError:
                    await stage.a_round()
            assert read == list(range(sent + 1))
            await stage.quiet()
            protocol.attempt("get_write_buffer_size")

    flow = ["pause_writing", "resume_writing", "get_write_buffer_size 0"]
    assert play_on_ours(scenario) == ["connection_made", *flow * 2]


def test_a_bytearray_may_be_changed_when_sendto_has_returned() -> None:
    """What waits in the buffer is a copy, and a memoryview is sent whole, whatever its shape."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.datagram_protocol(connection_made=lambda transport: transport.set_write_buffer_limits(0))
        peer = await on_a_pair(stage, protocol)
        while not protocol.paused:
            protocol.transport.sendto(b"full")
        data = bytearray(b"abcdefgh")
        protocol.transport.sendto(data)
        protocol.transport.sendto(memoryview(data)[::2])
        protocol.transport.sendto(memoryview(data).cast("I"))
        data[:] = bytes(8)
        read: list[bytes] = []
        while len(read) < 3:
            try:
                read += {b"full": []}.get(got := peer.sock.recv(100), [got])
            except BlockingIOError:
                await stage.a_round()
        assert read == [b"abcdefgh", b"aceg", b"abcdefgh"]

    play_on_ours(scenario)


def test_an_endpoint_is_a_datagram_transport() -> None:
    """Whoever asks isinstance() is told so, with every version of Python."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.datagram_protocol()
        await endpoint(stage, protocol)
        assert isinstance(protocol.transport, asyncio.DatagramTransport)

    play_on_ours(scenario)


# Who can be reached


def _raw_works(sender: socket.socket, receiver: socket.socket, address: tuple[str, int]) -> bool:
    """Whether a datagram of *sender*'s to *address* reaches *receiver* here, with no loop at all."""
    try:
        sender.sendto(b"test", address)
        receiver.settimeout(1)
        return receiver.recv(100) == b"test"
    except OSError:
        return False
    finally:
        receiver.setblocking(False)


def test_broadcasts_are_sent_if_that_was_allowed() -> None:
    """allow_broadcast= sends to everybody on the network; without it, that is an error."""

    async def scenario(stage: Stage) -> None:
        peer = udp_peer(stage, ("0.0.0.0", 0))
        everybody = "127.255.255.255", peer.sock.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if not _raw_works(sender, peer.sock, everybody):
                pytest.skip("broadcasts do not work on this machine's loopback interface")
        protocol = stage.datagram_protocol()
        transport = await endpoint(stage, protocol, local_addr=None, remote_addr=everybody, allow_broadcast=True)
        protocol.transport.sendto(b"hello")
        await _arrives(stage, peer, b"hello")
        # Nobody in particular is connected to: anybody may answer.
        answerer = udp_peer(stage)
        answerer.sock.sendto(b"welcome", ("127.0.0.1", transport.get_extra_info("socket").getsockname()[1]))
        await received(stage, protocol, 1)
        without = stage.datagram_protocol("without")
        await endpoint(stage, without)
        without.transport.sendto(b"hello", everybody)

    assert play_on_ours(scenario) == [
        "connection_made",
        "datagram_received b'welcome' address 127.0.0.1 port N ()",
        "without: connection_made",
        "without: error_received PermissionError(EACCES)",
    ]


async def _arrives(stage: Stage, peer: Peer, data: bytes) -> Any:
    while True:
        try:
            got, address = peer.sock.recvfrom(100)
        except BlockingIOError:
            await stage.a_round()
        else:
            assert got == data
            return address


def test_multicast_comes_to_a_socket_that_has_joined() -> None:
    """A socket that was prepared by hand, and given as sock=, gets what is sent to its group."""

    async def scenario(stage: Stage) -> None:
        sock = stage.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.setblocking(False)
        sock.bind(("0.0.0.0", 0))
        group = "239.255.77.77", sock.getsockname()[1]
        sender = stage.keep(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        interface = socket.inet_aton("127.0.0.1")
        try:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group[0]) + interface)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        except OSError as error:
            pytest.skip(f"no multicast on this machine's loopback interface: {error}")
        if not _raw_works(sender, sock, group):
            pytest.skip("multicast does not arrive on this machine's loopback interface")
        protocol = stage.datagram_protocol()
        await stage.loop.create_datagram_endpoint(lambda: protocol, sock=sock)
        sender.sendto(b"to the group", group)
        await received(stage, protocol, 1)

    assert play_on_ours(scenario) == [
        "connection_made",
        "datagram_received b'to the group' address 127.0.0.1 port N ()",
    ]


def test_the_scope_of_an_ipv6_address_is_kept() -> None:
    """A link-local address is nothing without its interface: four parts come, and four can be sent to."""
    address = _link_local_address()
    if address is None:
        pytest.skip("this machine has no interface with a link-local IPv6 address")

    async def scenario(stage: Stage) -> None:
        peer = Peer(stage.keep(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)))
        peer.sock.bind((address[0], 0, 0, address[1]))
        sock = stage.keep(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        sock.bind((address[0], 0, 0, address[1]))
        senders: list[Any] = []
        protocol = stage.datagram_protocol(datagram_received=lambda data, addr: senders.append(addr))
        await stage.loop.create_datagram_endpoint(lambda: protocol, sock=sock)
        assert protocol.transport.get_extra_info("sockname")[3] == address[1]
        peer.sock.sendto(b"hello", sock.getsockname())
        await received(stage, protocol, 1)
        assert senders == [peer.sock.getsockname()]
        protocol.transport.sendto(b"welcome", senders[0])
        assert await _arrives(stage, peer, b"welcome") == sock.getsockname()

    play_on_ours(scenario)


def _link_local_address() -> tuple[str, int] | None:
    """A link-local address of this machine, and the number of its interface."""
    table = pathlib.Path("/proc/net/if_inet6")
    for line in table.read_text().splitlines() if table.exists() else ():
        address, index, _, scope, flags, _ = line.split()
        tentative_or_failed = int(flags, 16) & 0x48
        if scope == "20" and not tentative_or_failed:
            packed = struct.pack("!QQ", int(address[:16], 16), int(address[16:], 16))
            return socket.inet_ntop(socket.AF_INET6, packed), int(index, 16)
    return None
