"""Twisted's protocols, connected and served by any loop's connections and servers, by way of Twisted's endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import socket
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.application.internet import ClientService, StreamServerEndpointService
from twisted.internet import endpoints, error
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from txasync import ReactorEventLoop, as_future
from txasync.adapters import LoopClientEndpoint, LoopClock, LoopServerEndpoint

from ..conftest import Reports
from ..tls.contexts import certificate, client_context, server_context
from .any_loop import Perform, host, perform

__all__ = ["host", "perform"]

THIS_HOST = "127.0.0.1"


class End(Protocol):
    """
    One end of a connection.

    Attributes:
        received: What has come.
        news: Set when something has.
        lost: Done when the connection is lost, with the reason.
    """

    def __init__(self) -> None:
        self.received = b""
        self.news = asyncio.Event()
        self.lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.news.set()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert isinstance(reason.value, Exception)
        self.lost.set_result(reason.value)

    def send(self, data: bytes) -> None:
        """Write *data*."""
        assert self.transport is not None
        self.transport.write(data)

    async def receives(self, count: int) -> bytes:
        """So many bytes, when they are there."""
        while len(self.received) < count:
            self.news.clear()
            await self.news.wait()
        data, self.received = self.received[:count], self.received[count:]
        return data

    async def close(self) -> None:
        """Close the connection, and wait for the end of it."""
        assert self.transport is not None
        self.transport.loseConnection()
        await self.lost


class Echo(End):
    """Sends back what it is sent."""

    def dataReceived(self, data: bytes) -> None:
        self.send(data)


class Counting(Factory):
    """
    A factory of *protocol* that counts.

    Attributes:
        starts: How often it was started.
        stops: How often it was stopped.
        made: The protocols that it has made.
    """

    noisy = False

    def __init__(self, protocol: Callable[[], Any] = End) -> None:
        self._make = protocol
        self.starts = self.stops = 0
        self.made: list[Any] = []

    def startFactory(self) -> None:
        self.starts += 1

    def stopFactory(self) -> None:
        self.stops += 1

    def buildProtocol(self, addr: Any) -> Any:
        protocol = self._make()
        self.made.append(protocol)
        return protocol

    @property
    def is_idle(self) -> bool:
        """Whether it was started, and stopped as often."""
        return self.starts == self.stops > 0 and self.numPorts == 0


def client(*args: Any, **options: Any) -> LoopClientEndpoint:
    """A client endpoint of the running loop."""
    return LoopClientEndpoint(asyncio.get_running_loop(), *args, **options)


def server(*args: Any, **options: Any) -> LoopServerEndpoint:
    """A server endpoint of the running loop."""
    return LoopServerEndpoint(asyncio.get_running_loop(), *args, **options)


def is_ours() -> bool:
    """Whether the running loop is one of ours."""
    return isinstance(asyncio.get_running_loop(), ReactorEventLoop)


def is_uvloop() -> bool:
    """Whether the running loop is uvloop's."""
    return type(asyncio.get_running_loop()).__module__.startswith("uvloop")


@contextlib.asynccontextmanager
async def listening(endpoint: LoopServerEndpoint, factory: Factory | None = None) -> AsyncIterator[Any]:
    """The port of *endpoint*, at first; at the end, nothing listens, and there are no connections."""
    port: Any = await as_future(endpoint.listen(factory or Counting(Echo)))
    try:
        yield port
    finally:
        await as_future(port.stopListening())
        await port.server.wait_closed()


async def connected(endpoint: LoopClientEndpoint) -> End:
    """A protocol that *endpoint* has connected."""
    end: End = await as_future(endpoint.connect(Counting()))
    return end


async def is_echoed(endpoint: LoopClientEndpoint) -> Any:
    """Check that a server at *endpoint* echoes; the transport's addresses."""
    end: Any = await connected(endpoint)
    end.send(b"to and fro")
    assert await end.receives(10) == b"to and fro"
    addresses = end.transport.getHost(), end.transport.getPeer()
    await end.close()
    return addresses


async def failure_of(deferred: Any) -> Any:
    """What *deferred* fails with: not by a Future, which would make a cancellation of asyncio's of one of Twisted's."""
    outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    deferred.addBoth(outcome.set_result)
    failure = await outcome
    assert isinstance(failure, Failure), failure
    return failure.value


# Connections


def test_the_interfaces(perform: Perform) -> None:
    """All that they promise is there."""

    async def main() -> None:
        assert verifyObject(IStreamClientEndpoint, client(THIS_HOST, 1))
        assert verifyObject(IStreamServerEndpoint, endpoint := server(THIS_HOST, 0))
        async with listening(endpoint) as port:
            assert verifyObject(IListeningPort, port)

    perform(main)


def test_tcp(perform: Perform) -> None:
    """Each side knows its address, and the other's."""

    async def main() -> None:
        async with listening(server(THIS_HOST, 0)) as port:
            assert isinstance(port.getHost(), IPv4Address)
            for _ in range(3):
                host, peer = await is_echoed(client(THIS_HOST, port.getHost().port))
                assert peer == port.getHost()
                assert isinstance(host, IPv4Address)
        async with listening(server("::1", 0)) as port:
            _, peer = await is_echoed(client("::1", port.getHost().port))
            assert peer == port.getHost()
            assert isinstance(peer, IPv6Address)

    perform(main)


def test_what_asyncio_can_do_besides(perform: Perform) -> None:
    """Names, happy eyeballs, a local address."""

    async def main() -> None:
        async with listening(server("localhost", 0, family=socket.AF_INET)) as port:
            number = port.getHost().port
            await is_echoed(client("localhost", number))
            if not is_uvloop():
                await is_echoed(client("localhost", number, happy_eyeballs_delay=0.25))
            host, _ = await is_echoed(client(THIS_HOST, number, local_addr=("127.0.0.2", 0)))
            assert host.host == "127.0.0.2"

    perform(main)


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_paths(perform: Perform, tmp_path: Path, kind: Callable[[str], Any]) -> None:
    """UNIX sockets, by paths of each kind."""

    async def main() -> None:
        path = kind(str(tmp_path / "socket"))
        async with listening(server(path=path)) as port:
            assert port.getHost() == UNIXAddress(os.fsencode(path))
            host, peer = await is_echoed(client(path=path))
            assert peer == port.getHost()
            assert host == UNIXAddress(None)

    perform(main)


def test_abstract_names(perform: Perform) -> None:
    """Linux has names that are no paths; asyncio takes them as bytes, too."""
    name = b"\0txasync-" + os.urandom(8).hex().encode()

    async def main() -> None:
        if is_uvloop():
            pytest.skip("uvloop does not connect to such names")
        paths: tuple[Any, ...] = name, name.decode()
        for path in paths:
            async with listening(server(path=path)) as port:
                assert port.getHost().name == name
                _, peer = await is_echoed(client(path=path))
                assert peer.name == name

    perform(main)


def test_sockets_that_are_there_already(perform: Perform) -> None:
    """``sock=``, on both sides."""

    async def main() -> None:
        listener = socket.create_server((THIS_HOST, 0))
        name = listener.getsockname()
        async with listening(server(sock=listener)) as port:
            assert (port.getHost().host, port.getHost().port) == name
            sock = socket.create_connection(name)
            sock.setblocking(False)
            await is_echoed(client(sock=sock))

    perform(main)


@pytest.mark.parametrize("kind", ["stdlib", "options"])
def test_tls(perform: Perform, kind: str) -> None:
    """``ssl=``, which may be a context of Twisted's if the loop is ours; the handshake is done."""

    async def main() -> None:
        if kind != "stdlib" and not is_ours():
            pytest.skip("other loops do not take Twisted's contexts")
        async with listening(server(THIS_HOST, 0, ssl=server_context(kind))) as port:
            context = client_context("stdlib" if kind == "stdlib" else "creator")
            endpoint = client(THIS_HOST, port.getHost().port, ssl=context, server_hostname="localhost")
            end: Any = await connected(endpoint)
            assert "localhost" in str(end.transport.getPeerCertificate().to_cryptography().extensions)
            end.send(b"secret")
            assert await end.receives(6) == b"secret"
            await end.close()

    perform(main)


def test_connect_protocol(perform: Perform) -> None:
    """Twisted's own function, with a protocol instead of a factory."""

    async def main() -> None:
        async with listening(server(THIS_HOST, 0)) as port:
            end = End()
            connecting = endpoints.connectProtocol(client(THIS_HOST, port.getHost().port), end)
            assert await as_future(connecting) is end
            await end.close()

    perform(main)


def test_the_connection_is_made_when_the_deferred_fires(perform: Perform) -> None:
    """And ``connectionMade()`` was called, once."""
    calls = []

    class Noting(End):
        def connectionMade(self) -> None:
            calls.append("connectionMade")

    def fired(end: Any) -> Any:
        calls.append("fired")
        return end

    async def main() -> None:
        async with listening(server(THIS_HOST, 0)) as port:
            deferred = client(THIS_HOST, port.getHost().port).connect(Counting(Noting))
            deferred.addCallback(fired)
            await (await as_future(deferred)).close()

    perform(main)
    assert calls == ["connectionMade", "fired"]


def test_representations(perform: Perform, tmp_path: Path) -> None:
    """They tell the address."""

    async def main() -> None:
        assert "HostnameAddress(hostname=b'localhost', port=80)" in repr(client("localhost", 80))
        assert str(tmp_path) in repr(server(path=tmp_path))
        assert "no address" in repr(client(sock=None))
        assert "example.com" in repr(client(b"example.com", 80))
        assert "bad" in repr(client("bad" * 30 + "..test", 80))
        async with listening(server(THIS_HOST, 0)) as port:
            assert "listening=True" in repr(port)
        assert "listening=False" in repr(port)

    perform(main)


def test_a_loop_that_is_started_later() -> None:
    """``connect()`` and ``listen()`` may be called before: it is then that something happens."""
    outcomes: list[Any] = []
    loop = asyncio.SelectorEventLoop()
    factory = Counting(lambda: Protocol())
    with socket.create_server((THIS_HOST, 0)) as accepting:
        LoopClientEndpoint(loop, *accepting.getsockname()).connect(factory).addBoth(outcomes.append)
        LoopServerEndpoint(loop, THIS_HOST, 0).listen(factory).addBoth(outcomes.append)
        assert not outcomes
        assert factory.starts == 0

        async def main() -> None:
            while len(outcomes) < 2:
                await asyncio.sleep(0)
            for outcome in outcomes:
                if isinstance(outcome, Protocol):
                    itransport: Any = outcome.transport
                    itransport.abortConnection()
                else:
                    outcome.stopListening()
            while factory.numPorts:
                await asyncio.sleep(0)

        try:
            loop.run_until_complete(asyncio.wait_for(main(), 30))
        finally:
            loop.close()
    assert factory.is_idle


def test_a_reactor_that_is_started_later(run: Any) -> None:
    """As a Twisted program has it, which connects and listens before it runs its reactor."""
    reactor, loop = run.reactor, run.loop
    listening = LoopServerEndpoint(loop, THIS_HOST, 0).listen(Counting(Echo))
    over = loop.create_future()
    listening.addCallback(over.set_result)

    async def main() -> None:
        port = await over
        assert reactor.running
        await is_echoed(client(THIS_HOST, port.getHost().port))
        await as_future(port.stopListening())

    run(main)


# Failures


@contextlib.contextmanager
def unused_port() -> Iterator[int]:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as bound:
        bound.bind((THIS_HOST, 0))
        yield bound.getsockname()[1]


async def both_failures(endpoint: Any, native: Callable[[Any], Any]) -> tuple[Any, Any]:
    """What *endpoint* fails with, and the endpoint of Twisted's that *native* makes, if there is a reactor for it."""
    factory = Counting()
    ours = await failure_of(endpoint.connect(factory))
    assert factory.is_idle
    assert not factory.made
    assert isinstance(ours.__cause__, OSError)
    if not is_ours():
        return ours, None
    loop: Any = asyncio.get_running_loop()
    return ours, await failure_of(native(loop.reactor).connect(Counting()))


def is_alike(ours: Any, native: Any) -> bool:
    """Whether both have the same type, and the same number."""
    return native is None or (type(ours), getattr(ours, "osError", None)) == (
        type(native),
        getattr(native, "osError", None),
    )


def test_nobody_listens(perform: Perform) -> None:
    """Also if the name has several addresses."""

    async def main() -> None:
        with unused_port() as port:
            for name in THIS_HOST, "localhost":
                ours, native = await both_failures(
                    client(name, port), lambda reactor: endpoints.TCP4ClientEndpoint(reactor, THIS_HOST, port)
                )
                assert type(ours) is error.ConnectionRefusedError
                assert is_alike(ours, native)

    perform(main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="all_errors= is new in Python 3.12")
def test_nobody_listens_and_all_errors_are_wanted(perform: Perform) -> None:
    """asyncio's group of errors is the cause."""

    async def main() -> None:
        if is_uvloop():
            pytest.skip("uvloop has no such option")
        with unused_port() as port:
            failure = await failure_of(client("localhost", port, all_errors=True).connect(Counting()))
            assert type(failure) is error.ConnectionRefusedError
            assert type(failure.__cause__).__name__ == "ExceptionGroup"

    perform(main)


def test_there_is_no_way_to_the_host(perform: Perform) -> None:
    """Linux does not connect to the address of all."""

    async def main() -> None:
        ours, native = await both_failures(
            client("255.255.255.255", 1), lambda reactor: endpoints.TCP4ClientEndpoint(reactor, "255.255.255.255", 1)
        )
        assert type(ours) is error.NoRouteError
        assert is_alike(ours, native)

    perform(main)


def test_a_name_that_nobody_has(perform: Perform) -> None:
    """Twisted's own error for it."""

    async def main() -> None:
        ours, native = await both_failures(
            client("nosuch.invalid", 1), lambda reactor: endpoints.TCP4ClientEndpoint(reactor, "nosuch.invalid", 1)
        )
        assert type(ours) is error.DNSLookupError
        assert is_alike(ours, native)

    perform(main)


def test_a_service_that_nobody_has(perform: Perform) -> None:
    """asyncio takes names for ports; Twisted's error for an unknown one."""

    async def main() -> None:
        failure = await failure_of(client(THIS_HOST, "no-such-service").connect(Counting()))
        assert type(failure) is error.ServiceNameUnknownError

    perform(main)


def test_paths_where_nobody_listens(perform: Perform, tmp_path: Path) -> None:
    """It is not there, or is no socket, or is one that nobody listens on."""

    async def main() -> None:
        (tmp_path / "file").touch()
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(tmp_path / "left"))
        for name in "missing", "file", "left":
            path = str(tmp_path / name)
            ours, native = await both_failures(
                client(path=path), lambda reactor, path=path: endpoints.UNIXClientEndpoint(reactor, path)
            )
            assert isinstance(ours, error.ConnectError)
            assert is_alike(ours, native)

    perform(main)


def test_a_local_address_that_is_not_ours(perform: Perform) -> None:
    """Twisted's error for what cannot be bound."""

    async def main() -> None:
        failure = await failure_of(client(THIS_HOST, 1, local_addr=("192.0.2.1", 0)).connect(Counting()))
        # With uvloop, nothing tells that it is the local address.
        assert type(failure) is (error.ConnectError if is_uvloop() else error.ConnectBindError)
        assert failure.osError == errno.EADDRNOTAVAIL

    perform(main)


@pytest.mark.parametrize("kind", ["stdlib", "creator"])
@pytest.mark.parametrize("fault", ["authority", "name"])
def test_a_certificate_that_is_not_the_right_one(perform: Perform, kind: str, fault: str) -> None:
    """The errors are those that ``connectionLost()`` would get on Twisted's transports."""
    stranger = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert("localhost", key_type=trustme.KeyType.ECDSA)

    async def main() -> None:
        if kind != "stdlib" and not is_ours():
            pytest.skip("other loops do not take Twisted's contexts")
        leaf = stranger if fault == "authority" else certificate("elsewhere.test")
        context = client_context(kind)
        async with listening(server(THIS_HOST, 0, ssl=server_context("stdlib", leaf))) as port:
            factory = Counting()
            endpoint = client(THIS_HOST, port.getHost().port, ssl=context, server_hostname="localhost")
            failure = await failure_of(endpoint.connect(factory))
            assert factory.is_idle
            assert not factory.made
        if fault == "authority":
            assert type(failure) is SSL.Error
            assert "certificate verify failed" in str(failure)
        else:
            assert isinstance(failure, VerificationError)
            assert "localhost" in str(failure)

    perform(main)


def test_a_handshake_that_does_not_end(perform: Perform) -> None:
    """asyncio's limit of time."""

    async def main() -> None:
        with socket.create_server((THIS_HOST, 0)) as deaf:
            endpoint = client(
                *deaf.getsockname(), ssl=client_context("stdlib"), server_hostname="x", ssl_handshake_timeout=0.05
            )
            factory = Counting()
            failure = await failure_of(endpoint.connect(factory))
            assert type(failure) is error.UserError
            assert "handshake" in str(failure)
            assert factory.is_idle

    perform(main)


def test_a_factory_that_builds_nothing(perform: Perform) -> None:
    """That is NoProtocol, as with Twisted's endpoints; the connection is closed."""

    async def main() -> None:
        async with listening(server(THIS_HOST, 0), accepted := Counting()) as port:
            factory = Counting(lambda: None)
            failure = await failure_of(client(THIS_HOST, port.getHost().port).connect(factory))
            assert type(failure) is error.NoProtocol
            await accepted_by(accepted).lost
            assert factory.is_idle

    perform(main)


def accepted_by(factory: Counting) -> End:
    """The one protocol that *factory* has made."""
    [end] = factory.made
    assert isinstance(end, End)
    return end


def test_a_factory_that_fails(perform: Perform) -> None:
    """With its own error; the connection is closed."""

    class Boom(Exception):
        pass

    def boom() -> Protocol:
        raise Boom("no protocol")

    async def main() -> None:
        async with listening(server(THIS_HOST, 0), accepted := Counting()) as port:
            factory = Counting(boom)
            failure = await failure_of(client(THIS_HOST, port.getHost().port).connect(factory))
            assert type(failure) is Boom
            await accepted_by(accepted).lost
            assert factory.is_idle

    perform(main)


def test_a_factory_that_cannot_be_started(perform: Perform) -> None:
    """Nothing is connected, nothing listens, and nobody stops it."""

    class Stuck(Counting):
        def startFactory(self) -> None:
            raise LookupError("not today")

    async def main() -> None:
        with unused_port() as port:
            pass
        factory = Stuck()
        assert type(await failure_of(client(THIS_HOST, port).connect(factory))) is LookupError
        assert type(await failure_of(server(THIS_HOST, port).listen(Stuck()))) is LookupError
        assert factory.stops == 0
        async with listening(server(THIS_HOST, port)):
            pass

    perform(main)


def test_what_asyncio_does_not_take(perform: Perform) -> None:
    """A mistake of the caller's is not translated."""

    async def main() -> None:
        for endpoint in client(), client(THIS_HOST, 1, nosuch=1), client(THIS_HOST, 1, server_hostname="x"):
            factory = Counting()
            assert type(await failure_of(endpoint.connect(factory))) in (ValueError, TypeError)
            assert factory.is_idle

    perform(main)


# Cancelling


@contextlib.contextmanager
def full_server() -> Iterator[tuple[str, int]]:
    """The address of a server that has no room for connections: Linux drops the first packet of any more."""
    with socket.create_server((THIS_HOST, 0), backlog=0) as listener, contextlib.ExitStack() as waiting:
        for _ in range(3):
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()


async def rounds(count: int) -> None:
    """So many rounds of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_cancelling_while_a_connection_is_being_made(perform: Perform, count: int) -> None:
    """The error is Twisted's own, and names the address."""

    async def main() -> None:
        with full_server() as (name, port):
            factory = Counting()
            connecting = client(name, port).connect(factory)
            await rounds(count)
            connecting.cancel()
            connecting.cancel()
            failure = await failure_of(connecting)
            assert type(failure) is error.ConnectingCancelledError
            assert failure.address == HostnameAddress(name.encode(), port)
            assert factory.starts == factory.stops
            assert factory.numPorts == 0
            assert not factory.made

    perform(main)


@pytest.mark.parametrize("count", range(8))
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_cancelling_at_any_moment(perform: Perform, count: int, tls: bool) -> None:
    """There is a connection, or none was left; and the factory was stopped as often as it was started."""

    async def main() -> None:
        contexts = {"ssl": server_context("stdlib")} if tls else {}
        options = {"ssl": client_context("stdlib"), "server_hostname": "localhost"} if tls else {}
        async with listening(server(THIS_HOST, 0, **contexts)) as port:
            factory = Counting()
            connecting = client(THIS_HOST, port.getHost().port, **options).connect(factory)
            await rounds(count)
            if connecting.called:
                await (await as_future(connecting)).close()
            else:
                connecting.cancel()
                assert type(await failure_of(connecting)) is error.ConnectingCancelledError
                for end in factory.made:
                    assert isinstance(await end.lost, error.ConnectionClosed)
            while factory.numPorts:
                await asyncio.sleep(0)
            assert factory.starts == factory.stops

    perform(main)


def test_cancelling_when_the_protocol_is_connected_and_the_deferred_has_not_fired(perform: Perform) -> None:
    """It fails all the same, and the connection ends."""

    class Cancelling(End):
        def connectionMade(self) -> None:
            asyncio.get_running_loop().call_soon(connecting.cancel)

    async def main() -> None:
        nonlocal connecting
        async with listening(server(THIS_HOST, 0)) as port:
            factory = Counting(Cancelling)
            connecting = client(THIS_HOST, port.getHost().port).connect(factory)
            failure = await failure_of(connecting)
            assert type(failure) is error.ConnectingCancelledError
            await accepted_by(factory).lost
            assert factory.is_idle

    connecting: Any = None
    perform(main)


def test_cancelling_during_the_handshake(perform: Perform) -> None:
    """The peer is cut off."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server((THIS_HOST, 0)) as listener:
            listener.setblocking(False)
            factory = Counting()
            endpoint = client(*listener.getsockname(), ssl=client_context("stdlib"), server_hostname="localhost")
            connecting = endpoint.connect(factory)
            peer, _ = await loop.sock_accept(listener)
            with peer:
                assert await loop.sock_recv(peer, 1)
                connecting.cancel()
                assert type(await failure_of(connecting)) is error.ConnectingCancelledError
                with contextlib.suppress(ConnectionResetError):
                    while await loop.sock_recv(peer, 65536):
                        pass
            assert factory.starts == factory.stops == 1
            assert not factory.made

    perform(main)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_cancelling_gives_a_socket_back_that_was_given(perform: Perform, count: int) -> None:
    """It is closed, even if the attempt had not begun yet."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        for sock in ours, theirs:
            sock.setblocking(False)
        with theirs:
            factory = Counting()
            connecting = client(sock=ours).connect(factory)
            await rounds(count)
            if connecting.called:
                await (await as_future(connecting)).close()
            else:
                connecting.cancel()
                failure = await failure_of(connecting)
                assert type(failure) is error.ConnectingCancelledError
            assert await asyncio.get_running_loop().sock_recv(theirs, 1) == b""
            while factory.numPorts:
                await asyncio.sleep(0)
            assert factory.starts == factory.stops

    perform(main)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_cancelling_listen(perform: Perform, count: int) -> None:
    """Nothing listens, or there is a port to stop."""

    async def main() -> None:
        listener = socket.create_server((THIS_HOST, 0))
        name = listener.getsockname()
        factory = Counting()
        listening = server(sock=listener).listen(factory)
        await rounds(count)
        if listening.called:
            port: Any = await as_future(listening)
            await as_future(port.stopListening())
        else:
            listening.cancel()
            assert type(await failure_of(listening)) is CancelledError
        assert factory.starts == factory.stops
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*name)

    perform(main)


# Ports


def test_a_port_that_is_in_use(perform: Perform) -> None:
    """The error is Twisted's own, with what it has: where, and why."""

    async def main() -> None:
        async with listening(server(THIS_HOST, 0)) as taken:
            port = taken.getHost().port
            factory = Counting()
            ours = await failure_of(server(THIS_HOST, port).listen(factory))
            assert type(ours) is error.CannotListenError
            assert factory.starts == factory.stops == 0
            assert (ours.interface, ours.port) == (THIS_HOST, port)
            assert isinstance(ours.socketError, OSError)
            assert ours.__cause__ is ours.socketError
            if is_ours():
                with warnings.catch_warnings():
                    # Twisted 24.7 leaves the socket that it could not listen on to the garbage collector.
                    warnings.simplefilter("ignore", ResourceWarning)
                    native = await native_number(port)
                    gc.collect()
                assert native == ours.socketError.errno

    async def native_number(port: int) -> Any:
        loop: Any = asyncio.get_running_loop()
        endpoint = endpoints.TCP4ServerEndpoint(loop.reactor, port, interface=THIS_HOST)
        failure = await failure_of(endpoint.listen(Counting()))
        assert type(failure) is error.CannotListenError
        return failure.socketError.errno

    perform(main)


def test_a_path_that_cannot_be_listened_on(perform: Perform, tmp_path: Path) -> None:
    """There is no such directory."""

    async def main() -> None:
        path = str(tmp_path / "nowhere" / "socket")
        ours = await failure_of(server(path=path).listen(Counting()))
        assert type(ours) is error.CannotListenError
        assert ours.port == path
        assert isinstance(ours.socketError, FileNotFoundError)

    perform(main)


def test_an_address_is_free_when_listening_has_stopped(perform: Perform) -> None:
    """At once, and while connections are left, which go on."""

    async def main() -> None:
        factory = Counting(Echo)
        port: Any = await as_future(server(THIS_HOST, 0).listen(factory))
        number = port.getHost().port
        end = await connected(client(THIS_HOST, number))
        for _ in range(3):
            assert factory.stops == factory.starts - 1
            stopping = port.stopListening()
            assert await as_future(stopping) is None
            assert factory.stops == factory.starts
            await as_future(port.stopListening())
            assert factory.stops == factory.starts
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(THIS_HOST, number)
            port = await as_future(server(THIS_HOST, number).listen(factory))
            assert port.getHost().port == number
        end.send(b"still there")
        assert await end.receives(11) == b"still there"
        await end.close()
        await as_future(port.stopListening())
        await port.server.wait_closed()
        assert port.getHost().port == number

    perform(main)


def test_a_port_is_not_started_again(perform: Perform) -> None:
    """While it listens, that is nothing; afterwards, its endpoint is to listen again."""

    async def main() -> None:
        async with listening(server(THIS_HOST, 0)) as port:
            port.startListening()
        with pytest.raises(error.CannotListenError, match="let its endpoint listen again"):
            port.startListening()

    perform(main)


def test_a_server_that_refuses_connections(perform: Perform, reports: Reports) -> None:
    """``buildProtocol()`` returns None: the connection is closed, and nothing is reported."""

    async def main() -> None:
        async with listening(server(THIS_HOST, 0), Counting(lambda: None)) as port:
            end = await connected(client(THIS_HOST, port.getHost().port))
            assert isinstance(await end.lost, error.ConnectionClosed)

    perform(main)


# Services


def clock() -> LoopClock:
    """The running loop's."""
    return LoopClock()


def test_services(perform: Perform) -> None:
    """A service that listens, and one that stays connected to it, with no reactor's timers."""

    async def main() -> None:
        accepted = Counting(Echo)
        serving = StreamServerEndpointService(server(THIS_HOST, 0), accepted)
        serving.privilegedStartService()
        serving.startService()
        port = await as_future(waiting_port(serving))
        factory = Counting()
        service = ClientService(
            client(THIS_HOST, port.getHost().port), factory, retryPolicy=lambda attempts: 0.0, clock=clock()
        )
        service.startService()
        ends = []
        for _ in range(2):
            proxy: Any = await as_future(service.whenConnected())
            end = factory.made[-1]
            end.send(b"hello")
            assert await end.receives(5) == b"hello"
            ends.append(end)
            if len(ends) == 1:
                accepted.made[0].transport.abortConnection()
                await end.lost
        assert ends[0] is not ends[1]
        assert proxy is not None
        await as_future(service.stopService())
        await ends[1].lost
        await as_future(serving.stopService())
        await port.server.wait_closed()
        assert factory.numPorts == accepted.numPorts == 0

    perform(main)


def waiting_port(serving: Any) -> Any:
    """A Deferred of the port of *serving*, which keeps it as the result of its own."""
    found: Deferred[Any] = Deferred()

    def pass_on(port: Any) -> Any:
        found.callback(port)
        return port

    serving._waitingForPort.addCallback(pass_on)
    return found


def test_a_client_service_that_is_stopped_while_it_connects(perform: Perform) -> None:
    """Its Deferred is cancelled, and its end waited for."""

    async def main() -> None:
        with full_server() as (name, port):
            factory = Counting()
            service = ClientService(client(name, port), factory, clock=clock())
            service.startService()
            waiting = service.whenConnected()
            await rounds(2)
            stopping = service.stopService()
            await failure_of(waiting)
            await as_future(stopping)
            assert factory.starts == factory.stops

    perform(main)


def test_a_client_service_that_tries_again(perform: Perform) -> None:
    """Failures are counted, and told."""

    async def main() -> None:
        with unused_port() as port:
            pauses = Clock()
            attempts = []

            def policy(count: int) -> float:
                attempts.append(count)
                return 1.0

            service = ClientService(client(THIS_HOST, port), Counting(), retryPolicy=policy, clock=pauses)
            service.startService()
            for _ in range(3):
                while not pauses.getDelayedCalls():
                    await asyncio.sleep(0)
                pauses.advance(1.0)
            failure = await failure_of(service.whenConnected(failAfterFailures=1))
            assert type(failure) is error.ConnectionRefusedError
            await as_future(service.stopService())
            assert attempts[:3] == [1, 2, 3]

    perform(main)
