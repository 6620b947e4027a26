"""What the Twisted transport on asyncio's transports provides and tells: interfaces, addresses, options, factories."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    ISSLTransport,
    ISystemHandle,
    ITCPTransport,
    ITLSTransport,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from txasync.adapters import as_asyncio_factory, as_asyncio_protocol

from .any_loop import Perform, host, perform
from .twisted_recorders import RecordingFactory
from .twisted_stage import KINDS, TwistedStage, play_adapted

__all__ = ["host", "perform"]


class End(Protocol):
    """A protocol that can be waited for."""

    transport: Any = None

    def __init__(self) -> None:
        self.made: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()

    def connectionMade(self) -> None:
        self.made.set_result(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.set_result(reason)


async def pair() -> tuple[End, socket.socket]:
    """A protocol on one end of a UNIX connection, and the other end."""
    ours, theirs = socket.socketpair()
    end = End()
    await asyncio.get_running_loop().create_connection(lambda: as_asyncio_protocol(end), sock=ours)
    return end, theirs


async def tcp(family: socket.AddressFamily, host: str) -> tuple[End, End, Any]:
    """Two protocols with a TCP connection between them, the client first, and the server."""
    loop = asyncio.get_running_loop()
    client, served = End(), End()
    server = await loop.create_server(lambda: as_asyncio_protocol(served), host, 0, family=family)
    address = server.sockets[0].getsockname()[:2]
    await loop.create_connection(lambda: as_asyncio_protocol(client, is_client=True), *address)
    await served.made
    return client, served, server


async def part(client: End, served: End, server: Any) -> None:
    """End it."""
    client.transport.loseConnection()
    await client.lost
    await served.lost
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "interface", [ITransport, ITCPTransport, ITLSTransport, IConsumer, IPushProducer, ISystemHandle]
)
def test_the_interface_is_provided(interface: Any, perform: Perform) -> None:
    """The transport has what its interfaces ask for."""

    async def main() -> None:
        end, peer = await pair()
        assert verifyObject(interface, end.transport)
        assert not ISSLTransport.providedBy(end.transport)
        peer.close()
        await end.lost

    perform(main)


@pytest.mark.parametrize(
    ("family", "name", "kind"), [(socket.AF_INET, "127.0.0.1", IPv4Address), (socket.AF_INET6, "::1", IPv6Address)]
)
def test_addresses_are_those_of_the_socket(
    family: socket.AddressFamily, name: str, kind: Any, perform: Perform
) -> None:
    """Peer and host are ``IAddress`` objects of the right kind, and stay known after the loss."""

    async def main() -> None:
        client, served, server = await tcp(family, name)
        handle = client.transport.getHandle()
        with socket.fromfd(handle.fileno(), family, socket.SOCK_STREAM) as sock:
            theirs, ours = kind("TCP", *sock.getpeername()), kind("TCP", *sock.getsockname())
        for _ in range(2):
            assert client.transport.getPeer() == served.transport.getHost() == theirs
            assert client.transport.getHost() == served.transport.getPeer() == ours
            if client.transport.connected:
                await part(client, served, server)

    perform(main)


def test_addresses_are_known_after_the_loss_to_who_never_asked(perform: Perform) -> None:
    """The addresses can be asked for after the loss, even for the first time."""

    async def main() -> None:
        client, served, server = await tcp(socket.AF_INET, "127.0.0.1")
        listening = IPv4Address("TCP", *server.sockets[0].getsockname())
        await part(client, served, server)
        assert served.transport.getHost() == client.transport.getPeer() == listening
        assert client.transport.getHost() == served.transport.getPeer()

    perform(main)


def test_the_address_of_a_unix_socket_is_its_path(tmp_path: Path, perform: Perform) -> None:
    """UNIX sockets have a ``UNIXAddress``, with the path on the server's side only."""
    path = str(tmp_path / "socket")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        client, served = End(), End()
        server = await loop.create_unix_server(lambda: as_asyncio_protocol(served), path)
        await loop.create_unix_connection(lambda: as_asyncio_protocol(client, is_client=True), path)
        await served.made
        assert served.transport.getHost() == client.transport.getPeer() == UNIXAddress(path)
        assert served.transport.getPeer() == client.transport.getHost() == UNIXAddress(None)
        await part(client, served, server)

    perform(main)


def test_an_abstract_address_has_its_zero_byte(tmp_path: Path, perform: Perform) -> None:
    """A name in Linux's abstract space is told as Twisted has it."""
    path = f"\0{tmp_path}"

    async def main() -> None:
        served = End()
        server = await asyncio.get_running_loop().create_unix_server(lambda: as_asyncio_protocol(served), path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            await served.made
            assert served.transport.getHost() == UNIXAddress(path)
        await served.lost
        server.close()
        await server.wait_closed()

    perform(main)


def test_tcp_options_are_set_on_the_socket(perform: Perform) -> None:
    """``TCP_NODELAY`` and ``SO_KEEPALIVE`` are the socket's, whatever the loop shows of it."""

    async def main() -> None:
        client, served, server = await tcp(socket.AF_INET, "127.0.0.1")
        transport = client.transport
        with socket.fromfd(transport.getHandle().fileno(), socket.AF_INET, socket.SOCK_STREAM) as sock:
            for enabled in True, False, True:
                transport.setTcpNoDelay(enabled)
                transport.setTcpKeepAlive(enabled)
                assert transport.getTcpNoDelay() is transport.getTcpKeepAlive() is enabled
                assert bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) is enabled
                assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is enabled
        await part(client, served, server)

    perform(main)


def test_there_is_no_tcp_option_on_a_unix_socket(perform: Perform) -> None:
    """``TCP_NODELAY`` is never set on a UNIX socket, and setting it does nothing, as on Twisted's transports."""

    async def main() -> None:
        end, peer = await pair()
        end.transport.setTcpNoDelay(True)
        assert end.transport.getTcpNoDelay() is False
        peer.close()
        await end.lost

    perform(main)


def test_the_socket_of_a_pipe_is_missed_by_name(perform: Perform) -> None:
    """An option of a transport that has no socket is an error that says so; peer and host are no addresses."""

    async def main() -> None:
        reading, writing = socket.socketpair()
        end = End()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: as_asyncio_protocol(end), reading)
        if end.transport.getHandle() is None:
            with pytest.raises(OSError, match="has no socket"):
                end.transport.getTcpKeepAlive()
        assert end.transport.getTcpNoDelay() is False
        writing.close()
        await end.lost

    perform(main)


def test_its_representation_shows_what_it_stands_on(perform: Perform) -> None:
    """``repr()`` shows asyncio's transport."""

    async def main() -> None:
        end, peer = await pair()
        assert repr(end.transport).startswith("<TwistedTransport over <")
        assert end.transport.negotiatedProtocol is None
        assert end.transport.getPeerCertificate() is None
        peer.close()
        await end.lost

    perform(main)


async def _two_connections(stage: TwistedStage) -> None:
    first, second = stage.recorder(), stage.recorder()
    address, _ = await stage.listen(RecordingFactory(stage, first, second, None))
    peers = [stage.dial(address)]
    await stage.until(lambda: first.state == "open")
    peers.append(stage.dial(address))
    await stage.until(lambda: second.state == "open")
    for peer, recorder in zip(peers, (first, second), strict=True):
        peer.sock.close()
        await stage.end_of(recorder)
    await stage.expect(stage.dial(address))


@pytest.mark.parametrize("kind", KINDS)
def test_a_factory_is_started_with_its_first_connection_and_stopped_with_its_last(kind: str, host: Any) -> None:
    """A factory runs as long as it has connections, those that it refuses included."""
    assert play_adapted(_two_connections, kind, host) == [
        "startFactory",
        "buildProtocol",
        "connectionMade",
        "buildProtocol",
        "connectionMade",
        "connectionLost ConnectionDone",
        "connectionLost ConnectionDone",
        "stopFactory",
        "startFactory",
        "buildProtocol",
        "stopFactory",
        "the peer has read b'' 'eof'",
    ]


async def _pause_after_the_end(stage: TwistedStage) -> None:
    recorder = stage.half_closeable()
    peer = await stage.meet(recorder)
    peer.sock.shutdown(1)
    await stage.quiet()
    recorder.transport.pauseProducing()
    recorder.transport.resumeProducing()
    await stage.quiet()
    recorder.transport.write(b"still sent")
    await stage.expect(peer, 10)


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_the_peer_is_told_once(kind: str, host: Any) -> None:
    """A pause after the peer's end has no second ``readConnectionLost()``."""
    assert play_adapted(_pause_after_the_end, kind, host) == [
        "connectionMade",
        "readConnectionLost",
        "the peer has read b'still sent' ''",
    ]


class KeepingNothing(Factory):
    """Makes an `End`, and keeps what can be waited for and a weak reference."""

    noisy = False

    def buildProtocol(self, addr: Any) -> End:
        end = End()
        self.made, self.lost = end.made, end.lost
        self.end = weakref.ref(end)
        return end


@pytest.mark.parametrize("ending", ["loseConnection", "abortConnection"])
def test_nothing_keeps_the_protocol_of_a_lost_connection(ending: str, perform: Perform) -> None:
    """Once the connection is lost, no reference cycle keeps the protocol or its transport."""

    async def main() -> None:
        factory = KeepingNothing()
        server = await asyncio.get_running_loop().create_server(as_asyncio_factory(factory), "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            while not hasattr(factory, "made"):
                await asyncio.sleep(0)
            await factory.made
            transport = weakref.ref(factory.end().transport)  # type: ignore[union-attr]
            getattr(transport(), ending)()
            await factory.lost
            # The callback that has told it is still on the stack.
            await asyncio.sleep(0)
            assert (factory.end(), transport()) == (None, None)
        server.close()
        await server.wait_closed()

    gc.collect()
    gc.disable()
    try:
        perform(main)
    finally:
        gc.enable()
