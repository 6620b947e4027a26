"""``startTLS()`` over asyncio's transports does what it does over Twisted's own, and talks to it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import ssl
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import trustme
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import INegotiated, IPushProducer, ISSLTransport
from twisted.protocols.basic import FileSender
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txasync import ReactorEventLoop
from txasync.adapters import as_asyncio_factory

from ..tls.contexts import authority, client_context, server_context
from ..transports.traces import MUCH
from .any_loop import Perform, host, perform
from .secure_ends import MEETINGS, Meet, SecureEnd, factory_of, meet, part, upgrade_both
from .test_twisted_flow import FastPullProducer, FastPushProducer, narrow_pair

__all__ = ["host", "meet", "perform"]

meetings = pytest.mark.parametrize("meeting", MEETINGS)


@meetings
def test_tls_begins_in_mid_stream(meeting: str, perform: Perform, meet: Meet) -> None:
    """Both sides go on in TLS, are told so once, and end with a clean reason."""

    async def main() -> None:
        client, server = SecureEnd(), SecureEnd()
        await meet(meeting, client, server)
        client.transport.write(b"in the clear")
        assert await server.receives(12) == b"in the clear"
        assert not ISSLTransport.providedBy(client.transport)
        upgrade_both(client, server)
        client.transport.write(b"at once")
        assert await server.receives(7) == b"at once"
        await client.is_secured()
        server.transport.writeSequence([b"a", MUCH, b"z"])
        assert await client.receives(len(MUCH) + 2) == b"a" + MUCH + b"z"
        for end in client, server:
            assert isinstance(end.transport.getHandle(), SSL.Connection)
            assert ISSLTransport.providedBy(end.transport)
        await part(client, server)
        assert client.log == server.log == ["connectionMade", "handshakeCompleted", "connectionLost ConnectionDone"]

    perform(main)


def test_the_transport_tells_of_its_tls(perform: Perform, meet: Meet) -> None:
    """The peer's certificate and the protocol of ALPN are those of the connection, and the interface is kept."""

    async def main() -> None:
        client, server = SecureEnd(), SecureEnd()
        await meet("adapted-adapted", client, server)
        upgrade_both(client, server, alpn=("one", "two"))
        await client.is_secured()
        await server.is_secured()
        for end in client, server:
            assert verifyObject(INegotiated, end.transport)
            assert end.transport.negotiatedProtocol == b"one"
        certificate = client.transport.getPeerCertificate()
        assert isinstance(certificate, crypto.X509)
        assert server.transport.getPeerCertificate() is None
        seen: list[Any] = []
        client.on_loss = lambda: seen.append(client.transport.getPeerCertificate())
        await part(client, server)
        assert [type(certificate) for certificate in seen] == [crypto.X509]
        assert client.transport.getPeerCertificate() is None

    perform(main)


@meetings
def test_the_roles_are_swapped(meeting: str, perform: Perform, meet: Meet) -> None:
    """With ``normal=False`` the side that was connected to begins the handshake."""

    async def main() -> None:
        client, server = SecureEnd(), SecureEnd()
        await meet(meeting, client, server)
        client.transport.startTLS(server_context("options"), False)
        server.transport.startTLS(client_context("creator"), False)
        await client.is_secured()
        await server.is_secured()
        assert server.transport.getPeerCertificate() is not None
        client.transport.write(b"hello")
        assert await server.receives(5) == b"hello"
        await part(client, server)

    perform(main)


@meetings
@pytest.mark.parametrize("registers_first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("kind", [FastPushProducer, FastPullProducer], ids=["push", "pull"])
def test_a_producer_goes_through_tls(
    kind: Any, registers_first: bool, meeting: str, perform: Perform, meet: Meet
) -> None:
    """A producer that was registered before or after the beginning of TLS is held up, and loses nothing."""

    async def main() -> None:
        client, server = SecureEnd(), SecureEnd()
        await meet(meeting, client, server)
        server.transport.pauseProducing()
        counted = Counted(client.transport)
        producer = kind(client.transport, counted)
        streaming = kind is FastPushProducer
        if registers_first:
            # A pull producer is asked at once, and must not write in the clear.
            counted.is_silent = not streaming
            producer.left += counted.is_silent
            client.transport.registerProducer(producer, streaming)
            counted.is_silent = False
        server.transport.startTLS(server_context("options"))
        client.transport.startTLS(client_context("creator"))
        if not registers_first:
            client.transport.registerProducer(producer, streaming)
        if streaming:
            producer.resumeProducing()
        if meeting != "native-adapted":  # where some of it would be lost
            client.transport.loseConnection()
        server.transport.resumeProducing()
        assert await server.receives(1_000_000) == counted.written
        await part(client, server)

    perform(main)


class Counted:
    """What producers write to, which keeps it in mind."""

    def __init__(self, transport: Any) -> None:
        self.written = b""
        self.is_silent = False
        self._transport = transport

    def write(self) -> None:
        """Write a chunk."""
        if self.is_silent:
            return
        chunk = MUCH[:10_000]
        self.written += chunk
        self._transport.write(chunk)


def test_a_producer_that_is_held_up_goes_on_with_tls(perform: Perform) -> None:
    """A push producer that was paused before TLS has begun is resumed when all that was written then is sent."""

    @implementer(IPushProducer)
    class Producer:
        def __init__(self) -> None:
            self.asked: list[str] = []

        def pauseProducing(self) -> None:
            self.asked.append("pause")

        def resumeProducing(self) -> None:
            self.asked.append("resume")

        def stopProducing(self) -> None:
            self.asked.append("stop")

    async def main() -> None:
        end, _, peer = await narrow_pair()
        producer = Producer()
        end.transport.registerProducer(producer, True)
        end.transport.write(MUCH)
        assert producer.asked == ["pause"]
        end.transport.startTLS(server_context("options"))
        loop = asyncio.get_running_loop()
        with peer:
            while "resume" not in producer.asked:
                assert await loop.sock_recv(peer, 1 << 16)
        await end.lost
        assert producer.asked[-2:] == ["resume", "stop"]

    perform(main)


@meetings
def test_a_file_is_sent_through_tls(meeting: str, perform: Perform, meet: Meet) -> None:
    """``FileSender``, a pull producer, sends a file of megabytes to a peer who pauses now and then."""

    async def main() -> None:
        client, server = SecureEnd(), SecureEnd()
        await meet(meeting, client, server)
        upgrade_both(client, server)
        loop = asyncio.get_running_loop()

        def blink() -> None:
            server.transport.pauseProducing()
            loop.call_soon(server.transport.resumeProducing)

        server.on_data = blink
        sending = FileSender().beginFileTransfer(io.BytesIO(MUCH * 10), client.transport, None)
        sending.addCallback(lambda _: client.transport.loseConnection())
        await server.is_lost()
        await client.is_lost()
        assert server.received == MUCH * 10

    perform(main)


def test_what_is_held_for_a_slow_reader_is_bounded(perform: Perform) -> None:
    """With TLS between, what is held is bounded by asyncio's mark and by what TLS gathers before it writes."""

    async def main() -> None:
        client, server = SecureEnd(), SecureEnd()
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(as_asyncio_factory(factory_of(server)), "127.0.0.1", 0)
        transport, _ = await loop.create_connection(
            as_asyncio_factory(factory_of(client), is_client=True), *listening.sockets[0].getsockname()
        )
        listening.close()
        await server.until(lambda: server.log)
        upgrade_both(client, server)
        await server.is_secured()
        await client.is_secured()
        server.transport.pauseProducing()
        counted = Counted(client.transport)
        producer = FastPushProducer(client.transport, counted)
        producer.left = 10_000
        client.transport.registerProducer(producer, True)
        while not client.transport.producerPaused:
            producer.resumeProducing()
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() <= 64 * 1024 + 64_000 + 2 * 10_000 + 2_000
        client.transport.abortConnection()
        server.transport.resumeProducing()
        await client.is_lost()
        await server.is_lost()
        assert producer.is_stopped

    perform(main)


ENDINGS: dict[str, Callable[[SecureEnd], None]] = {
    "loseConnection": lambda end: end.transport.loseConnection(),
    "abortConnection": lambda end: end.transport.abortConnection(),
    "write and loseConnection": lambda end: (end.transport.write(b"bye"), end.transport.loseConnection())[1],
}


@pytest.mark.parametrize("when", ["at once", "later"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_end_is_that_of_twisteds_own(ending: str, when: str, perform: Perform, meet: Meet) -> None:
    """Whoever ends the connection, at once or later, both sides see what they see on Twisted's transports."""

    async def main() -> None:
        played = {}
        natively = isinstance(asyncio.get_running_loop(), ReactorEventLoop)
        for meeting in ("adapted-adapted", "native-native") if natively else ("adapted-adapted",):
            client, server = SecureEnd(), SecureEnd()
            await meet(meeting, client, server)
            upgrade_both(client, server)
            if when == "later":
                await client.is_secured()
                await server.is_secured()
            ENDINGS[ending](client)
            await client.is_lost()
            await server.is_lost()
            played[meeting] = client.log, server.log, bytes(server.received)
        expected = played.get("native-native", played["adapted-adapted"])
        assert played["adapted-adapted"] == expected
        assert (expected[2] == b"bye") is (ending == "write and loseConnection")

    perform(main)


@pytest.mark.parametrize("fault", ["an unknown authority", "another host", "no TLS"])
def test_the_reason_of_a_failed_handshake_is_that_of_twisteds_own(fault: str, perform: Perform, meet: Meet) -> None:
    """What goes wrong in a handshake is told to both sides as on Twisted's transports."""

    async def main() -> None:
        played = {}
        natively = isinstance(asyncio.get_running_loop(), ReactorEventLoop)
        for meeting in ("adapted-adapted", "native-native") if natively else ("adapted-adapted",):
            client, server = SecureEnd(), SecureEnd()
            await meet(meeting, client, server)
            if fault == "no TLS":
                client.transport.startTLS(client_context("creator"))
                server.transport.write(b"500 I have never heard of TLS\r\n" * 10)
            else:
                trust = trustme.CA() if fault == "an unknown authority" else authority()
                name = "localhost" if fault == "an unknown authority" else "elsewhere.example"
                upgrade_both(client, server, to=client_context("creator", name, trust=trust))
            await client.is_lost()
            await server.is_lost()
            played[meeting] = client.log, server.log
        expected = played.get("native-native", played["adapted-adapted"])
        # A client that does not trust the name aborts. How far the server gets until then depends on what the client
        # has sent at once: asyncio's transports send what they can, Twisted's wait for the next turn.
        sides = slice(1) if fault == "another host" else slice(2)
        assert played["adapted-adapted"][sides] == expected[sides]
        assert expected[0][-1] == {"another host": "connectionLost VerificationError"}.get(
            fault, "connectionLost Error"
        )

    perform(main)


def test_asyncios_own_tls_is_talked_to(perform: Perform) -> None:
    """``loop.start_tls()`` of the same loop, with the standard library's context, talks to ``startTLS()``."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = SecureEnd()
        listening = await loop.create_server(as_asyncio_factory(factory_of(server)), "127.0.0.1", 0)
        received: asyncio.Future[bytes] = loop.create_future()

        class Client(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                received.set_result(data)

        transport, protocol = await loop.create_connection(Client, *listening.sockets[0].getsockname())
        listening.close()
        await server.until(lambda: server.log)
        server.transport.startTLS(server_context("options"))
        secured: Any = await loop.start_tls(
            transport,
            protocol,
            client_context("stdlib"),
            server_hostname="localhost",
        )
        secured.write(b"hello")
        assert await server.receives(5) == b"hello"
        server.transport.write(b"HELLO")
        assert await received == b"HELLO"
        secured.close()
        await server.is_lost()

    perform(main)


@contextlib.asynccontextmanager
async def secured_pair(to: Any, of: Any, client: SecureEnd, server: SecureEnd) -> Any:
    """*client* and *server* on a connection that is TLS from the first byte; *to* and *of* are their contexts."""
    loop = asyncio.get_running_loop()
    if not (isinstance(of, ssl.SSLContext) or isinstance(loop, ReactorEventLoop)):
        pytest.skip("only our loop takes Twisted's contexts")
    listening = await loop.create_server(as_asyncio_factory(factory_of(server)), "127.0.0.1", 0, ssl=of)
    port = listening.sockets[0].getsockname()[1]
    await loop.create_connection(
        as_asyncio_factory(factory_of(client), is_client=True), "127.0.0.1", port, ssl=to, server_hostname="localhost"
    )
    await server.is_secured()
    yield
    await client.is_lost()
    await server.is_lost()
    listening.close()
    await listening.wait_closed()


kinds = pytest.mark.parametrize("kind", ["stdlib", "options"])


def contexts(kind: str) -> tuple[Any, Any]:
    """The client's, and the server's."""
    client = "creator" if kind == "options" else kind
    return client_context(client, alpn=("one",)), server_context(kind, alpn=("one",))


@kinds
def test_a_connection_is_tls_from_the_first_byte(kind: str, perform: Perform) -> None:
    """Over ``ssl=``, the transport is Twisted's ``INegotiated``, and a protocol hears once of the handshake."""

    async def main() -> None:
        client, server = SecureEnd(), SecureEnd()
        async with secured_pair(*contexts(kind), client, server):
            for end in client, server:
                assert verifyObject(INegotiated, end.transport)
                assert end.transport.negotiatedProtocol == b"one"
                assert end.log == ["connectionMade", "handshakeCompleted"]
            assert isinstance(client.transport.getPeerCertificate(), crypto.X509)
            assert server.transport.getPeerCertificate() is None
            client.transport.write(MUCH)
            assert await server.receives(len(MUCH)) == MUCH
            client.transport.loseWriteConnection()
            server.transport.write(b"not half-closed")
            assert await client.receives(15) == b"not half-closed"
            client.transport.loseConnection()
        assert client.log[2:] == server.log[2:] == ["connectionLost ConnectionDone"]
        assert client.transport.getPeer().port == server.transport.getHost().port
        assert client.transport.negotiatedProtocol == b"one"

    perform(main)


@kinds
def test_a_secured_connection_is_aborted(kind: str, perform: Perform) -> None:
    """``abortConnection()`` ends TLS at once, for a reason that says so."""

    async def main() -> None:
        client, server = SecureEnd(), SecureEnd()
        async with secured_pair(*contexts(kind), client, server):
            client.transport.abortConnection()
        assert client.log[-1] == "connectionLost ConnectionAborted"

    perform(main)


@kinds
def test_a_secured_connection_that_was_paused_closes(kind: str, perform: Perform) -> None:
    """A protocol that has paused reading need not resume it for ``loseConnection()`` to end."""

    async def main() -> None:
        client, server = SecureEnd(), SecureEnd()
        async with secured_pair(*contexts(kind), client, server):
            client.transport.pauseProducing()
            server.transport.write(b"nobody reads this")
            client.transport.loseConnection()
        assert client.received == b""

    perform(main)


@kinds
@pytest.mark.parametrize("producer_kind", [FastPushProducer, FastPullProducer], ids=["push", "pull"])
def test_a_producer_writes_to_a_secured_connection(producer_kind: Any, kind: str, perform: Perform) -> None:
    """A producer is held up, loses nothing, and keeps the connection open until it is done."""

    async def main() -> None:
        client, server = SecureEnd(), SecureEnd()
        async with secured_pair(*contexts(kind), client, server):
            counted = Counted(client.transport)
            streaming = producer_kind is FastPushProducer
            producer = producer_kind(client.transport, counted)
            client.transport.registerProducer(producer, streaming)
            client.transport.loseConnection()
            if streaming:
                producer.resumeProducing()
        assert server.received == counted.written
        assert len(counted.written) == 1_000_000

    perform(main)


def test_nothing_keeps_the_protocol_of_a_lost_connection(perform: Perform, meet: Meet) -> None:
    """Once a connection is lost on which TLS was begun, no reference cycle keeps its protocol or transport."""

    async def main() -> None:
        kept = []
        client, server = SecureEnd(), SecureEnd()
        await meet("adapted-adapted", client, server)
        upgrade_both(client, server)
        await client.is_secured()
        await part(client, server)
        kept = [weakref.ref(thing) for end in (client, server) for thing in (end, end.transport)]
        del client, server
        for _ in range(10):
            await asyncio.sleep(0)
        assert [ref() for ref in kept] == [None] * 4

    gc.collect()
    gc.disable()
    try:
        perform(main)
    finally:
        gc.enable()
