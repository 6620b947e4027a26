"""Datagram endpoints, and who is at their other end."""

from __future__ import annotations

import socket
from typing import Any

from .recorders import DatagramRecorder
from .traces import Peer, Stage


def unix_pair(stage: Stage, sndbuf: int | None = None) -> tuple[socket.socket, Peer]:
    """Two UNIX datagram sockets that are connected to each other, by names that the kernel picks."""
    ours, theirs = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    for sock in ours, theirs:
        sock.bind("")
    ours.connect(theirs.getsockname())
    theirs.connect(ours.getsockname())
    if sndbuf is not None:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
    return ours, Peer(stage.keep(theirs))


def note_received(stage: Stage, peer: Peer) -> int:
    """Note each datagram that has come to *peer*; tell how many."""
    count = 0
    while True:
        try:
            data = peer.sock.recv(1 << 20)
        except BlockingIOError:
            return count
        except OSError as error:
            stage.note("the peer got", error)
            return count
        count += 1
        stage.note("the peer got", data)


async def endpoint(stage: Stage, protocol: DatagramRecorder, **kwargs: Any) -> Any:
    """A datagram endpoint on loopback."""
    kwargs.setdefault("local_addr", ("127.0.0.1", 0))
    transport, _ = await stage.loop.create_datagram_endpoint(lambda: protocol, **kwargs)
    return transport


def udp_peer(stage: Stage, address: tuple[str, int] = ("127.0.0.1", 0)) -> Peer:
    """A UDP socket that is worked by hand."""
    sock = stage.keep(socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM))
    sock.bind(address)
    return Peer(sock)


async def on_a_pair(stage: Stage, protocol: DatagramRecorder, sndbuf: int | None = None) -> Peer:
    """Connect *protocol* to a UNIX peer."""
    ours, peer = unix_pair(stage, sndbuf)
    protocol.hides_addresses = True
    await stage.loop.create_datagram_endpoint(lambda: protocol, sock=ours)
    return peer


async def received(stage: Stage, protocol: DatagramRecorder, count: int) -> None:
    """Wait until *protocol* has got so many datagrams."""
    await stage.until(lambda: protocol.log.count("datagram_received") >= count)


async def arrives(stage: Stage, peer: Peer, count: int = 1) -> None:
    """Wait until *peer* has got so many datagrams, and note them."""
    while count > 0:
        count -= note_received(stage, peer)
        await stage.a_round()
