"""Datagrams when something goes wrong: nobody there, no room, sockets that are taken away, callbacks that fail."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Any

import pytest

from ..conftest import Reports, Runner
from .datagrams import arrives, endpoint, on_a_pair, received, udp_peer, unix_pair
from .recorders import Boom
from .traces import Stage, play_on_ours, play_with


def test_an_unreachable_port_does_not_stop_the_flow(run: Runner) -> None:
    """ICMP's answer on a connected endpoint is error_received; what comes before and after it is delivered."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.datagram_protocol()
        peer = udp_peer(stage)
        address = peer.sock.getsockname()
        transport = await endpoint(stage, protocol, remote_addr=address)
        for number in range(3):
            peer.sock.close()
            protocol.transport.sendto(b"nobody is there")
            await stage.until(lambda: protocol.log.count("error_received") == number + 1)
            peer = udp_peer(stage, address)
            peer.sock.sendto(b"somebody is", transport.get_extra_info("sockname"))
            await received(stage, protocol, number + 1)

    flow = [
        "error_received ConnectionRefusedError(ECONNREFUSED)",
        "datagram_received b'somebody is' address 127.0.0.1 port N ()",
    ]
    assert play_with(run, scenario) == ["connection_made", *flow * 3]


def test_an_error_may_close_the_endpoint(run: Runner) -> None:
    """After close() in error_received, nothing comes any more."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.datagram_protocol(error_received=lambda exc: protocol.attempt("close"))
        peer = udp_peer(stage)
        transport = await endpoint(stage, protocol, remote_addr=peer.sock.getsockname())
        for _ in range(3):
            peer.sock.sendto(b"too late", transport.get_extra_info("sockname"))
        protocol.transport.sendto(bytes(70_000))
        await stage.quiet()
        protocol.transport.sendto(b"dropped")

    assert play_with(run, scenario) == [
        "connection_made",
        "error_received OSError(EMSGSIZE)",
        "close",
        "connection_lost None",
    ]


def test_a_datagram_that_is_too_large_amid_others_is_the_only_one_lost() -> None:
    """EMSGSIZE concerns that one; those in the buffer before and behind it are sent, in order."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.datagram_protocol(connection_made=lambda transport: transport.set_write_buffer_limits(10**7))
        ours, peer = unix_pair(stage, 100_000)
        protocol.hides_addresses = True
        await stage.loop.create_datagram_endpoint(lambda: protocol, sock=ours)
        while not protocol.transport.get_write_buffer_size():
            protocol.transport.sendto(b"before")
        protocol.transport.sendto(bytes(1_000_000))
        protocol.transport.sendto(b"behind")
        read: list[bytes] = []
        while b"behind" not in read:
            try:
                read.append(peer.sock.recv(2_000_000))
            except BlockingIOError:
                await stage.a_round()
        assert set(read[:-1]) == {b"before"}

    assert play_on_ours(scenario) == ["connection_made", "error_received OSError(EMSGSIZE)"]


def test_a_paused_protocol_is_resumed_after_an_error(run: Runner) -> None:
    """A buffer that empties because its datagrams fail is empty, and the protocol may go on."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.datagram_protocol(connection_made=lambda transport: transport.set_write_buffer_limits(100))
        peer = await on_a_pair(stage, protocol)
        while not protocol.paused:
            protocol.transport.sendto(bytes(50))
        peer.sock.close()
        await stage.until(lambda: "resume_writing" in protocol.log)
        assert protocol.transport.get_write_buffer_size() == 0
        assert set(protocol.log) == {"connection_made", "pause_writing", "error_received", "resume_writing"}

    play_with(run, scenario)


def test_an_error_in_a_callback_is_reported_and_the_flow_goes_on(run: Runner) -> None:
    """datagram_received and error_received may fail; that costs no datagram."""
    told: list[Any] = []

    def fail(*args: Any) -> None:
        raise Boom

    async def scenario(stage: Stage) -> None:
        protocol = stage.datagram_protocol(datagram_received=fail, error_received=fail)
        protocol.hides_addresses = True
        ours, peer = unix_pair(stage)
        for number in range(3):
            peer.send(b"%d" % number)
        await stage.loop.create_datagram_endpoint(lambda: protocol, sock=ours)
        stage.loop.set_exception_handler(lambda loop, context: told.append(type(context["exception"])))
        await stage.quiet()
        peer.send(b"one more")
        await stage.quiet()
        peer.sock.close()
        try:
            protocol.transport.sendto(b"nobody is there")
        except Boom:
            told.append(Boom)  # asyncio lets what error_received raises out of sendto()
        await stage.quiet()

    assert play_with(run, scenario) == [
        "connection_made",
        *[f"datagram_received b'{number}'" for number in range(3)],
        "datagram_received b'one more'",
        "error_received ConnectionRefusedError(ECONNREFUSED)",
    ]
    assert told == [Boom] * 5


def test_an_error_of_receiving_is_told_and_nothing_else(run: Runner) -> None:
    """Any OSError from the socket goes to error_received."""

    class Broken(socket.socket):
        failures = 2

        def recvfrom(self, *args: Any) -> Any:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.ENOBUFS, "no buffer space available")
            return super().recvfrom(*args)

    async def scenario(stage: Stage) -> None:
        protocol = stage.datagram_protocol()
        protocol.hides_addresses = True
        ours, peer = unix_pair(stage)
        await stage.loop.create_datagram_endpoint(lambda: protocol, sock=Broken(fileno=ours.detach()))
        peer.send(b"hello")
        await stage.quiet()

    assert play_with(run, scenario) == [
        "connection_made",
        *["error_received OSError(ENOBUFS)"] * 2,
        "datagram_received b'hello'",
    ]


def test_what_is_sent_after_the_end_is_dropped(reports: Reports) -> None:
    """On an unconnected endpoint, too, where asyncio fails with an AttributeError."""

    async def scenario(stage: Stage) -> None:
        peer = udp_peer(stage)
        protocol = stage.datagram_protocol()
        await endpoint(stage, protocol)
        protocol.transport.abort()
        await protocol.lost
        await stage.quiet()
        for _ in range(3):
            protocol.attempt("sendto", b"dropped", peer.sock.getsockname())
        assert peer.receive() == b""

    assert play_on_ours(scenario) == ["connection_made", "connection_lost None", *["sendto"] * 3]


def test_a_socket_that_its_owner_closes_is_not_the_end_of_the_world() -> None:
    """An endpoint whose socket was closed behind its back can be closed."""
    for use in "close", "abort", "sendto":

        async def scenario(stage: Stage) -> None:
            protocol = stage.datagram_protocol()
            ours, _ = unix_pair(stage)
            await stage.loop.create_datagram_endpoint(lambda: protocol, sock=ours)
            ours.close()
            await stage.quiet()
            if use == "sendto":
                protocol.transport.sendto(b"into the void")
                await stage.quiet()
                protocol.transport.abort()
            else:
                getattr(protocol.transport, use)()
            await protocol.lost

        trace = play_on_ours(scenario)
        assert trace[0] == "connection_made"
        assert trace[-1] == "connection_lost None"
        assert trace[1:-1] in ([], ["error_received OSError(EBADF)"])


def test_a_reused_number_is_another_socket(run: Runner) -> None:
    """If a socket is closed behind an endpoint's back, and its number reused, the new one is not taken for the old."""

    async def scenario(stage: Stage) -> None:
        old = stage.datagram_protocol("old")
        ours, _ = unix_pair(stage)
        number = ours.fileno()
        await stage.loop.create_datagram_endpoint(lambda: old, sock=ours)
        ours.close()
        new = stage.datagram_protocol("new")
        new.hides_addresses = True
        ours, peer = unix_pair(stage)
        if ours.fileno() != number:
            os.dup2(ours.fileno(), number)
            ours.close()
            ours = socket.socket(fileno=number)
        stage.keep(ours)
        await stage.loop.create_datagram_endpoint(lambda: new, sock=ours)
        old.transport.abort()
        await stage.until(old.lost.done)
        peer.send(b"hello")
        await stage.quiet()

    assert [line for line in play_with(run, scenario) if "old" not in line] == [
        "new: connection_made",
        "new: datagram_received b'hello'",
    ]


def test_a_cancelled_endpoint_leaves_nothing(run: Runner) -> None:
    """Whenever create_datagram_endpoint() is cancelled, its socket is closed."""
    for rounds in (0, 1, 2, 3) if run.mode == "asyncio-first" else (1,):

        async def scenario(stage: Stage) -> None:
            making = stage.loop.create_task(
                stage.loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
            )
            for _ in range(rounds):
                await asyncio.sleep(0)
            making.cancel()
            await asyncio.wait([making])
            if not making.cancelled():
                making.result()[0].close()
            await stage.quiet()

        assert play_with(run, scenario) == []


@pytest.mark.parametrize("interruption", [SystemExit, KeyboardInterrupt])
def test_an_interruption_in_a_callback_leaves_the_run(loop: Any, interruption: type[BaseException]) -> None:
    """SystemExit and KeyboardInterrupt leave run_until_complete(); the endpoint lives on."""
    seen: list[bytes] = []
    done: asyncio.Future[None] = loop.create_future()

    class Interrupting(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            seen.append(data)
            if len(seen) == 1:
                raise interruption("of the test")
            done.set_result(None)

    async def main() -> None:
        transport, _ = await loop.create_datagram_endpoint(Interrupting, local_addr=("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for data in b"one", b"two":
                peer.sendto(data, transport.get_extra_info("sockname"))
        await done
        transport.close()

    task = loop.create_task(main())
    with pytest.raises(interruption, match="of the test"):
        loop.run_until_complete(task)
    loop.run_until_complete(task)
    loop.run_until_complete(asyncio.sleep(0))
    assert seen == [b"one", b"two"]


def test_the_peers_answer_comes_after_an_error(run: Runner) -> None:
    """A datagram that was sent too large, and then one that fits: the endpoint and its peer still talk."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.datagram_protocol()
        peer = udp_peer(stage)
        await endpoint(stage, protocol, remote_addr=peer.sock.getsockname())
        for data in bytes(70_000), b"fits":
            protocol.transport.sendto(data)
        await arrives(stage, peer)

    assert play_with(run, scenario) == [
        "connection_made",
        "error_received OSError(EMSGSIZE)",
        "the peer got b'fits'",
    ]
