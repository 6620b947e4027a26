"""Twisted's MemoryReactorClock, on which connections come about."""

from __future__ import annotations

import ipaddress
import itertools
import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, NotConnectingError, TimeoutError, UserError
from twisted.internet.interfaces import (
    IConnector,
    IHostnameResolver,
    IHostResolution,
    IListeningPort,
    IReactorPluggableNameResolver,
)
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer

from ..adapters._addresses import as_sockaddr
from ._memory_transport import MemoryPeer, MemoryTransport

__all__ = ["Connector", "MemoryNetworkReactor", "Port"]

# The turns that a clock takes at one instant until it is sure that there is no end to them.
MOST_TURNS = 100_000

FIRST_CLIENT_PORT = 32768
FIRST_FREE_PORT = 49152
_OWN_HOST = "127.0.0.1"
# Of TEST-NET-1, which is nobody's: the names that are asked for get these in turn.
_FIRST_FOREIGN_HOST = ipaddress.IPv4Address("192.0.2.1")


@implementer(IReactorPluggableNameResolver)
class MemoryNetworkReactor(MemoryReactorClock):
    """
    A fake reactor with a network of its own.

    A client that connects to this host - ``localhost``, a loopback address, or what the port listens on - is connected
    to the port that listens there. Every other one waits for the test to `accept` it.

    Attributes:
        ports: Those that listen, by what they listen on.
        connecting: The clients that wait, oldest first.
        transports: The program's ends of connections that are not lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self._names = self.nameResolver = _Names()
        self._client_ports = itertools.count(FIRST_CLIENT_PORT)
        self.ports: dict[Any, Port] = {}
        self.connecting: list[Connector] = []
        self.transports: list[MemoryTransport] = []

    # The clock

    def advance(self, amount: float) -> None:
        """
        Let *amount* seconds pass, and make each call that becomes due, at its time.

        Raises:
            RuntimeError: At one instant, calls bring about other calls without an end.
        """
        until = self.rightNow + amount
        turns = 0
        while (call := self.first_call()) is not None and call.getTime() <= until:
            turns = turns + 1 if call.getTime() <= self.rightNow else 0
            if turns > MOST_TURNS:
                raise RuntimeError(
                    f"after {MOST_TURNS} turns at the same instant there is still something to call, next {call}: "
                    f"something calls itself again and again without waiting for anything"
                )
            self.rightNow = max(self.rightNow, call.getTime())
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)
        self.rightNow = max(self.rightNow, until)

    def first_call(self) -> DelayedCall | None:
        """The call that is due first; None if there is none."""
        return min(self.calls, key=lambda call: call.getTime(), default=None)

    def callWhenRunning(self, callable: Callable[..., object], *args: Any, **kw: Any) -> None:
        callable(*args, **kw)

    # Names

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        before, self.nameResolver = self.nameResolver, resolver
        return before

    def address_of(self, host: str) -> str:
        """The address that *host*, which may be one, has in this network."""
        return self._names.address_of(host)

    def names_of(self, address: str) -> set[str]:
        """The hosts that were asked for and have *address*."""
        return self._names.names_of(address)

    # IReactorTCP, IReactorUNIX

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float | None = 30, bindAddress: Any = None
    ) -> Connector:
        self.tcpClients.append((host, port, factory, timeout, bindAddress))  # type: ignore[arg-type]
        return self._connect(Connector(self, host, tcp_address(self.address_of(host), port), factory, timeout))

    def connectUNIX(self, address: str, factory: Any, timeout: float | None = 30, checkPID: int = 0) -> Connector:
        self.unixClients.append((address, factory, timeout, checkPID))
        return self._connect(Connector(self, address, UNIXAddress(address), factory, timeout))

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Port:
        self.tcpServers.append((port, factory, backlog, interface))
        port = port or self._free_port()
        return self._listen(port, tcp_address(self.address_of(interface or "0.0.0.0"), port), factory)

    def listenUNIX(self, address: str, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0) -> Port:
        self.unixServers.append((address, factory, backlog, mode, wantPID))
        return self._listen(address, UNIXAddress(address), factory)

    def _connect(self, connector: Connector) -> Connector:
        self.connectors.append(connector)
        connector.connect()
        return connector

    def _listen(self, key: Any, address: Any, factory: Any) -> Port:
        if key in self.ports:
            raise CannotListenError(address, key, OSError(98, "Address already in use"))
        port = Port(self, key, address, factory)
        port.startListening()
        return port

    def _free_port(self) -> int:
        return next(number for number in range(FIRST_FREE_PORT, 2**16) if number not in self.ports)

    # Connections

    def port_for(self, connector: Connector) -> Port | None:
        """The port of this host that *connector* connects to, if one listens."""
        address = connector.address
        if isinstance(address, UNIXAddress):
            return self.ports.get(connector.host)
        port = self.ports.get(address.port)
        is_here = port is not None and (
            ipaddress.ip_address(address.host).is_loopback or address.host == port.address.host
        )
        return port if is_here else None

    def new_transport(self, host: Any, peer: Any) -> MemoryTransport:
        """A new end of a connection, in `transports` until it is lost."""
        transport = MemoryTransport(self, host, peer)
        self.transports.append(transport)
        transport.lost = lambda reason: self.transports.remove(transport)
        return transport

    def client_address(self, server: Any) -> Any:
        """An address for a client of *server*, at this host."""
        if isinstance(server, UNIXAddress):
            return UNIXAddress(None)
        return tcp_address("::1" if isinstance(server, IPv6Address) else _OWN_HOST, next(self._client_ports))


def tcp_address(host: str, port: int) -> IPv4Address | IPv6Address:
    """The address of TCP at *host*, an IP address."""
    if ipaddress.ip_address(host).version == 6:
        return IPv6Address("TCP", host, port)
    return IPv4Address("TCP", host, port)


@implementer(IHostnameResolver)
class _Names:
    """Each name that is asked for has an address, the same one each time; no thread is needed."""

    def __init__(self) -> None:
        self._addresses = {"localhost": _OWN_HOST, "": _OWN_HOST}

    def address_of(self, host: str) -> str:
        try:
            return str(ipaddress.ip_address(host))
        except ValueError:
            return self._addresses.setdefault(host, str(_FIRST_FOREIGN_HOST + len(self._addresses) - 2))

    def names_of(self, address: str) -> set[str]:
        return {name for name, its_address in self._addresses.items() if its_address == address}

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[Any] | None = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        resolutionReceiver.addressResolved(tcp_address(self.address_of(hostName), portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution


@implementer(IHostResolution)
class _Resolution:
    """Done when it begins."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        pass


class _ListeningSocket:
    """What programs ask of a server's ``sockets``: where it listens."""

    type = socket.SOCK_STREAM
    proto = 0

    def __init__(self, address: Any) -> None:
        self._name = as_sockaddr(address)
        is_unix = isinstance(address, UNIXAddress)
        self.family = socket.AF_UNIX if is_unix else socket.AF_INET6 if len(self._name) == 4 else socket.AF_INET

    def getsockname(self) -> Any:
        return self._name

    def fileno(self) -> int:
        return -1


@implementer(IListeningPort)
class Port:
    """A port that listens, until it is stopped."""

    def __init__(self, reactor: MemoryNetworkReactor, key: Any, address: Any, factory: Any) -> None:
        self._reactor = reactor
        self._key = key
        self.address = address
        self.socket = _ListeningSocket(address)
        self.factory = factory

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.factory!r} at {self.address}>"

    def startListening(self) -> None:
        self.factory.doStart()
        self._reactor.ports[self._key] = self

    def stopListening(self) -> Deferred[None]:
        if self._reactor.ports.pop(self._key, None) is not None:
            self.factory.doStop()
        return succeed(None)

    def getHost(self) -> Any:
        return self.address

    def accept(self, peer: Any) -> MemoryTransport | None:
        """The program's end of a new connection from *peer*, whose `MemoryTransport.far` is missing; None: refused."""
        protocol = self.factory.buildProtocol(peer)
        if protocol is None:
            return None
        transport = self._reactor.new_transport(self.address, peer)
        transport.protocol = protocol
        return transport


@implementer(IConnector)
class Connector:
    """
    A client of the program's, that connects or is connected.

    Attributes:
        host: What it was told to connect to: a name, an address or a path.
        address: The address of that.
        destinations: All that a test may call that by.
    """

    def __init__(self, reactor: MemoryNetworkReactor, host: str, address: Any, factory: Any, timeout: Any) -> None:
        self._reactor = reactor
        self.host = host
        self.address = address
        self.destinations: set[Any] = {host}
        if not isinstance(address, UNIXAddress):
            # Many a library looks up the name by itself, and connects to the address.
            self.destinations |= {address.port, address.host, *reactor.names_of(address.host)}
        self._factory = factory
        self._timeout_s = timeout
        self._calls: list[Any] = []
        self._transport: MemoryTransport | None = None
        self._is_started = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._factory!r} to {self.host!r}, {self.address}>"

    def connect(self) -> None:
        if not self._is_started:
            self._is_started = True
            self._factory.doStart()
        self._reactor.connecting.append(self)
        self._calls = [self._reactor.callLater(0, self._look_for_port)]
        if self._timeout_s is not None:
            self._calls.append(self._reactor.callLater(self._timeout_s, self.fail, TimeoutError()))
        self._factory.startedConnecting(self)

    def _look_for_port(self) -> None:
        port = self._reactor.port_for(self)
        if port is None:
            return
        here = self._reactor.client_address(port.address)
        there = port.accept(here)
        transport = self.succeed(here)
        if transport is not None and there is not None:
            transport.far, there.far = there, transport
        for end in (there, transport):
            if end is not None:
                # What has refused its protocol has closed the connection.
                peer = None if transport is not None and there is not None else MemoryPeer(end)
                end.connect(end.protocol)
                if peer is not None:
                    peer.close()

    def stopConnecting(self) -> None:
        self.fail(UserError())

    def disconnect(self) -> None:
        if self._transport is not None:
            self._transport.loseConnection()
        elif self in self._reactor.connecting:
            self.stopConnecting()

    def getDestination(self) -> Any:
        return self.address

    def _is_decided(self) -> None:
        self._reactor.connecting.remove(self)
        for call in self._calls:
            if call.active():
                call.cancel()

    def succeed(self, here: Any) -> MemoryTransport | None:
        """The program's end of the connection, as in `Port.accept`."""
        self._is_decided()
        protocol = self._factory.buildProtocol(self.address)
        if protocol is None:
            return None
        transport = self._reactor.new_transport(here, self.address)
        transport.protocol = protocol
        forget, self._transport = transport.lost, transport

        def lost(reason: Failure) -> None:
            forget(reason)
            self._transport = None
            self._end(self._factory.clientConnectionLost, reason)

        transport.lost = lost
        return transport

    def fail(self, error: BaseException) -> None:
        """The connection does not come about."""
        if self not in self._reactor.connecting:
            raise NotConnectingError()
        self._is_decided()
        self._end(self._factory.clientConnectionFailed, Failure(error))

    def _end(self, tell: Any, reason: Failure) -> None:
        tell(self, reason)
        if self not in self._reactor.connecting and self._is_started:  # else it connects again
            self._is_started = False
            self._factory.doStop()
