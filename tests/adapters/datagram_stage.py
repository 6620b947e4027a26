"""A stage whose datagram endpoints are Twisted's ports: there, asyncio's scenarios play on those."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import udp

from txasync import ReactorEventLoop, _reactors
from txasync.adapters import as_twisted_datagram_protocol

from ..conftest import POLLERS, REACTORS, Runner
from ..transports.combinations import COMBINATIONS, Combination
from ..transports.traces import Scenario, Stage

__all__ = ["DatagramStage", "SocketOfAPair", "play_on_twisted"]


class SocketOfAPair(socket.socket):
    """
    A UNIX socket that says it is a UDP socket.

    The kernel refuses what such a pair has no room for, which it never does to UDP on loopback.
    """

    family = socket.AF_INET

    def bind(self, address: Any) -> None:
        """It is bound."""

    def connect(self, address: Any) -> None:
        """It is connected."""

    def getsockname(self) -> Any:
        """An address like those of UDP."""
        return "127.0.0.1", 1

    def getpeername(self) -> Any:
        """Another one."""
        return "127.0.0.1", 2

    def recvfrom(self, *args: Any) -> Any:
        """A datagram, from that one."""
        return self.recv(*args), self.getpeername()


class PortOfAPair(udp.Port):
    """Twisted's own UDP port, over one end of a pair of UNIX sockets."""

    addressFamily = socket.AF_UNIX

    def __init__(
        self,
        sock: socket.socket,
        protocol: Any,
        reactor: Any,
        kind: type[SocketOfAPair] = SocketOfAPair,
    ) -> None:
        super().__init__(0, protocol, reactor=reactor)  # type: ignore[no-untyped-call]
        self._ours = kind(socket.AF_UNIX, socket.SOCK_DGRAM, fileno=sock.detach())

    def start(self) -> None:
        """Begin to receive."""
        self.startListening()  # type: ignore[no-untyped-call]

    def createInternetSocket(self) -> socket.socket:
        """It is there."""
        self._ours.setblocking(False)
        return self._ours


class LoopByTwistedPorts:
    """Makes datagram endpoints of Twisted's ports; everything else is the loop's own."""

    def __init__(self, loop: ReactorEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_datagram_endpoint(
        self,
        protocol_factory: Callable[[], Any],
        local_addr: Any = None,
        remote_addr: Any = None,
        *,
        family: int = 0,
        sock: socket.socket | None = None,
    ) -> Any:
        """As the loop's."""
        reactor = self._loop.reactor
        carrier = as_twisted_datagram_protocol(protocol_factory, remote_addr=None if family else remote_addr)
        if sock is not None and sock.family == socket.AF_UNIX:
            PortOfAPair(sock, carrier, reactor).start()
        elif sock is not None:
            with sock:  # Twisted has a duplicate
                sock.setblocking(False)
                reactor.adoptDatagramPort(sock.fileno(), sock.family, carrier)
        elif family == socket.AF_UNIX and remote_addr is not None:
            reactor.connectUNIXDatagram(remote_addr, carrier, bindAddress=local_addr)
        elif family == socket.AF_UNIX:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(local_addr)  # asyncio's loop does that
            reactor.listenUNIXDatagram(local_addr, carrier)
        else:
            host, port = local_addr or ("", 0)
            reactor.listenUDP(port, carrier, interface=host)
        await asyncio.sleep(0)
        return carrier.protocol.transport, carrier.protocol


class DatagramStage(Stage):
    """Where a scenario plays on Twisted's ports."""

    def __init__(self, loop: ReactorEventLoop) -> None:
        super().__init__(loop)
        self.reactor: Any = loop.reactor
        self.loop: Any = LoopByTwistedPorts(loop)


def play_on_twisted(scenario: Scenario, combination: Combination = COMBINATIONS[0]) -> list[str]:
    """The trace of *scenario* on Twisted's ports."""
    reactor: Any = REACTORS[combination.reactor]()
    loop = ReactorEventLoop(reactor, poller_factory=POLLERS[combination.poller])
    try:
        return Runner(combination.mode, reactor, loop)(lambda: DatagramStage(loop).play(scenario))
    finally:
        loop.close()
        _reactors.release_threads(reactor)
        _reactors.dispose_private_reactor(reactor)
