"""The converters take what they say, and what they return is at home in the other world: in its policies and tests."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IProtocolFactory
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.protocols.policies import LimitTotalConnectionsFactory, ThrottlingFactory, TimeoutFactory
from zope.interface.verify import verifyObject

import txasync
from txasync.adapters import as_asyncio_factory, as_asyncio_protocol, as_twisted_factory, as_twisted_protocol

from ..transports.conftest import perform
from ..transports.tls_ends import ProtocolEnd
from ..transports.tls_interoperation import Perform

__all__ = ["perform"]

ADDRESS = IPv4Address("TCP", "127.0.0.1", 1)
PLACE: contextvars.ContextVar[str] = contextvars.ContextVar("PLACE", default="nowhere")


class Noting(asyncio.Protocol):
    """Notes where it is called; from the first data on, that is another place."""

    def __init__(self) -> None:
        self.places = [PLACE.get()]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.places.append(PLACE.get())

    def data_received(self, data: bytes) -> None:
        self.places.append(PLACE.get())
        PLACE.set("its own")

    def connection_lost(self, exc: Exception | None) -> None:
        self.places.append(PLACE.get())


def kind_of(value: object) -> str:
    """The name of a parameter, in test reports."""
    return value.__name__ if isinstance(value, type) else type(value).__name__


def over_string_transport(iprotocol: Any) -> StringTransport:
    """The transport that *iprotocol* is connected to."""
    itransport = StringTransport()
    iprotocol.makeConnection(itransport)
    return itransport


@pytest.mark.parametrize("wrong", [None, 1, "protocol", Protocol(), Factory(), asyncio.Protocol], ids=kind_of)
def test_what_is_no_asyncio_protocol(wrong: Any) -> None:
    """A TypeError says what was expected; a class of protocols is none, either."""
    with pytest.raises(TypeError, match="asyncio protocol"):
        as_twisted_protocol(wrong)


def test_what_is_no_protocol_factory() -> None:
    """What cannot be called is told at once; what makes something else, when it does."""
    with pytest.raises(TypeError, match="callable"):
        as_twisted_factory(asyncio.Protocol())  # type: ignore[arg-type]  # that is the test
    with pytest.raises(TypeError, match="asyncio protocol"):
        as_twisted_factory(Protocol).buildProtocol(ADDRESS)  # type: ignore[arg-type]  # likewise


@pytest.mark.parametrize("wrong", [None, 1, asyncio.Protocol(), Factory(), Protocol], ids=kind_of)
def test_what_is_no_twisted_protocol(wrong: Any) -> None:
    """A TypeError says what was expected."""
    with pytest.raises(TypeError, match="IProtocol"):
        as_asyncio_protocol(wrong)


@pytest.mark.parametrize("wrong", [None, 1, Protocol(), Protocol, lambda: None], ids=kind_of)
def test_what_is_no_twisted_factory(wrong: Any) -> None:
    """A TypeError says what was expected."""
    with pytest.raises(TypeError, match="IProtocolFactory"):
        as_asyncio_factory(wrong)


def test_what_the_converters_return() -> None:
    """All that the interfaces promise."""
    iprotocol = as_twisted_protocol(asyncio.Protocol())
    assert verifyObject(IProtocol, iprotocol)
    assert verifyObject(IHalfCloseableProtocol, iprotocol)
    factory = as_twisted_factory(asyncio.Protocol)
    assert verifyObject(IProtocolFactory, factory)
    assert isinstance(factory.buildProtocol(ADDRESS).protocol, asyncio.Protocol)
    assert isinstance(as_asyncio_protocol(Protocol()), asyncio.Protocol)
    assert isinstance(as_asyncio_factory(Factory.forProtocol(Protocol))(), asyncio.Protocol)
    assert iprotocol.logPrefix() == "Protocol"
    assert factory.logPrefix() == "Protocol"


def test_a_protocol_needs_a_loop() -> None:
    """Without one that runs, the error says what to do, and the connection is closed."""
    iprotocol: Any = as_twisted_protocol(asyncio.Protocol())
    itransport = StringTransport()
    with pytest.raises(RuntimeError, match=r"no asyncio loop runs here.*txasync\.install\(\).*loop="):
        iprotocol.makeConnection(itransport)
    assert itransport.disconnecting


def test_a_protocol_may_be_told_its_loop() -> None:
    """Then none need run yet."""
    loop = asyncio.SelectorEventLoop()
    protocol = Noting()
    for iprotocol in (
        as_twisted_protocol(protocol, loop=loop),
        as_twisted_factory(Noting, loop=loop).buildProtocol(None),
    ):
        over_string_transport(iprotocol)
        iprotocol.connectionLost(connectionDone)
    loop.close()
    assert len(protocol.places) == 3


def test_a_protocol_is_called_in_a_copy_of_its_creators_context(perform: Perform) -> None:
    """What it sets there is seen in its own callbacks only."""

    async def main() -> None:
        PLACE.set("the creator's")
        protocol = Noting()
        iprotocol = as_twisted_protocol(protocol)
        PLACE.set("a later one")
        over_string_transport(iprotocol)
        for _ in range(2):
            iprotocol.dataReceived(b"data")
        iprotocol.connectionLost(connectionDone)
        assert protocol.places == [*["the creator's"] * 3, "its own", "its own"]
        assert PLACE.get() == "a later one"

    perform(main)


def test_each_connection_has_a_context_of_its_own(perform: Perform) -> None:
    """A copy of that in which the factory was made, for the protocol's making, too."""

    async def main() -> None:
        PLACE.set("the creator's")
        factory = as_twisted_factory(Noting)
        PLACE.set("a later one")
        for _ in range(2):
            iprotocol = factory.buildProtocol(ADDRESS)
            over_string_transport(iprotocol)
            for _ in range(2):
                iprotocol.dataReceived(b"data")
            iprotocol.connectionLost(connectionDone)
            protocol: Any = iprotocol.protocol
            assert protocol.places == [*["the creator's"] * 3, "its own", "its own"]

    perform(main)


def test_a_buffered_protocol(perform: Perform) -> None:
    """It lends its buffer, as often as it takes."""

    class Buffered(asyncio.BufferedProtocol):
        received = b""

        def get_buffer(self, sizehint: int) -> bytearray:
            self.buffer = bytearray(3)
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.received += self.buffer[:nbytes]

    async def main() -> None:
        protocol = Buffered()
        iprotocol = as_twisted_protocol(protocol)
        over_string_transport(iprotocol)
        iprotocol.dataReceived(b"0123456789")
        assert protocol.received == b"0123456789"
        iprotocol.connectionLost(connectionDone)

    perform(main)


def test_twisteds_transport_is_known(perform: Perform) -> None:
    """By a name of ours; what the transport has not, is the default."""

    async def main() -> None:
        protocol = ProtocolEnd()
        iprotocol = as_twisted_protocol(protocol)
        itransport = over_string_transport(iprotocol)
        transport = protocol.transport
        assert transport.get_extra_info("twisted_transport") is itransport
        assert transport.get_extra_info("peername") == ("192.168.1.1", 54321)
        assert transport.get_extra_info("socket") is None
        assert transport.get_extra_info("cipher", "none") == "none"
        transport.writelines([b"one ", memoryview(b"two ")])
        transport.write(bytearray(b"three"))
        assert itransport.value() == b"one two three"
        transport.pause_reading()
        assert itransport.producerState == "paused"
        transport.resume_reading()
        assert itransport.producerState == "producing"
        iprotocol.connectionLost(connectionDone)

    perform(main)


def test_standard_io_over_pipes(perform: Perform) -> None:
    """As for programs that are filters."""

    async def main() -> None:
        (input_, to_input), (from_output, output) = os.pipe(), os.pipe()
        loop: Any = asyncio.get_running_loop()
        protocol = ProtocolEnd()
        standard_io: Any = StandardIO  # mypy takes it for that of Windows
        standard_io(as_twisted_protocol(protocol), stdin=input_, stdout=output, reactor=loop.reactor)
        os.write(to_input, b"question")
        assert await protocol.receives(8) == b"question"
        protocol.send(b"answer")
        reader = asyncio.StreamReader()
        pipe, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(from_output, "rb", 0)
        )
        assert await reader.readexactly(6) == b"answer"
        os.close(to_input)
        assert await protocol.lost is None
        for fd in input_, output:
            os.close(fd)  # Twisted leaves them open: as a rule, they are standard input and output
        assert await reader.read() == b""
        pipe.close()

    perform(main)


def test_memory_reactor(perform: Perform) -> None:
    """A factory is listened with, and connected with, as any of Twisted's."""

    async def main() -> None:
        reactor: Any = MemoryReactor()
        factory = as_twisted_factory(ProtocolEnd)
        reactor.listenTCP(80, factory)
        reactor.connectTCP("192.0.2.1", 80, factory)
        assert reactor.tcpServers[0][1] is reactor.tcpClients[0][2] is factory
        iprotocol = factory.buildProtocol(ADDRESS)
        itransport = over_string_transport(iprotocol)
        protocol: Any = iprotocol.protocol
        protocol.send(b"hello")
        assert itransport.value() == b"hello"
        iprotocol.connectionLost(connectionDone)

    perform(main)


def limited(factory: Any) -> Any:
    """*factory*, for one connection at a time."""
    wrapping: Any = LimitTotalConnectionsFactory()
    wrapping.connectionLimit = 1
    wrapping.protocol = lambda: factory.buildProtocol(None)
    return wrapping


POLICIES: dict[str, Callable[[Any, Any], Any]] = {
    "limited": lambda factory, reactor: limited(factory),
    "timeout": lambda factory, reactor: _on(reactor, TimeoutFactory(factory, timeoutPeriod=60)),
    "throttled": lambda factory, reactor: _on(reactor, ThrottlingFactory(factory, readLimit=1_000_000)),
}


def _on(reactor: Any, wrapping: Any) -> Any:
    wrapping.callLater = reactor.callLater  # as Twisted's own tests do, for another reactor than the process's
    return wrapping


@pytest.mark.parametrize("policy", POLICIES)
def test_policies(perform: Perform, policy: str) -> None:
    """Twisted's wrappers stand between its transport and asyncio's protocol."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        protocols: list[ProtocolEnd] = []

        def make() -> ProtocolEnd:
            protocols.append(ProtocolEnd())
            return protocols[-1]

        factory = POLICIES[policy](as_twisted_factory(make), loop.reactor)
        port = loop.reactor.listenTCP(0, factory, interface="127.0.0.1")
        number = port.getHost().port
        reader, writer = await asyncio.open_connection("127.0.0.1", number)
        writer.write(b"question")
        while not protocols:
            await asyncio.sleep(0)
        assert await protocols[0].receives(8) == b"question"
        if policy == "limited":
            refused, other = await asyncio.open_connection("127.0.0.1", number)
            assert await refused.read() == b""
            other.close()
            await other.wait_closed()
        protocols[0].send(b"answer")
        protocols[0].transport.close()
        assert await reader.read() == b"answer"
        writer.close()
        await writer.wait_closed()
        assert await protocols[0].lost is None
        await txasync.as_future(port.stopListening())

    perform(main)


def test_a_time_out_of_twisteds_policies(perform: Perform) -> None:
    """It ends the connection, as the protocol hears."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        protocols: list[ProtocolEnd] = []

        def make() -> ProtocolEnd:
            protocols.append(ProtocolEnd())
            return protocols[-1]

        factory = _on(loop.reactor, TimeoutFactory(as_twisted_factory(make), timeoutPeriod=0.05))
        port = loop.reactor.listenTCP(0, factory, interface="127.0.0.1")
        reader, writer = await asyncio.open_connection("127.0.0.1", port.getHost().port)
        assert await reader.read() == b""
        assert await protocols[0].lost is None
        writer.close()
        await writer.wait_closed()
        await txasync.as_future(port.stopListening())

    perform(main)


def test_a_twisted_factory_is_started_and_stopped_with_its_connections(perform: Perform) -> None:
    """With the first one, and with the last one."""

    class Counting(Factory):
        noisy = False
        calls: tuple[str, ...] = ()

        def startFactory(self) -> None:
            self.calls += ("start",)

        def stopFactory(self) -> None:
            self.calls += ("stop",)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        factory: Any = Counting.forProtocol(Protocol)
        async with await loop.create_server(as_asyncio_factory(factory), "127.0.0.1", 0) as server:
            assert factory.calls == ()
            name = server.sockets[0].getsockname()
            for _ in range(2):
                clients = [await asyncio.open_connection(*name) for _ in range(2)]
                while factory.numPorts < 2:
                    await asyncio.sleep(0)
                for _, writer in clients:
                    writer.close()
                    await writer.wait_closed()
                while factory.numPorts:
                    await asyncio.sleep(0)
        assert factory.calls == ("start", "stop") * 2

    perform(main)
