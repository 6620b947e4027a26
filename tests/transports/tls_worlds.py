"""A connection by TLS between two worlds: the loop that runs, asyncio's own in a thread, and native Twisted."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from ..tls.contexts import client_context, server_context
from .recorders import describe
from .tls_ends import factory_of
from .tls_interoperation import shared_client_context

T = TypeVar("T")

# What is written at once of what is much.
PIECE = 100_000


class Part(NamedTuple):
    """
    What one end of a connection does.

    Attributes:
        sends: What it writes at the beginning.
        closes_at: How many bytes it wants to have received before it closes; None: it waits for the other end to close.
    """

    sends: bytes
    closes_at: int | None


class Outcome(NamedTuple):
    """What came of it: what was received, as `describe` has it, and how the connection was lost."""

    received: str
    error: BaseException | None


class Actor:
    """Plays a part; what it has to do with a transport, its subclasses know."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._received = bytearray()
        self._closed = False
        self.outcome: concurrent.futures.Future[Outcome] = concurrent.futures.Future()

    def begin(self) -> None:
        """There is a connection."""
        sends = self._part.sends
        for start in range(0, len(sends), PIECE):
            self.write(sends[start : start + PIECE])
        self._close_in_time()

    def receive(self, data: bytes) -> None:
        """*data* has come."""
        self._received += data
        self._close_in_time()

    def lose(self, error: BaseException | None) -> None:
        """The connection is lost."""
        self.outcome.set_result(Outcome(describe(self._received), error))

    def _close_in_time(self) -> None:
        closes_at = self._part.closes_at
        if closes_at is not None and len(self._received) >= closes_at and not self._closed:
            self._closed = True
            self.close()

    def write(self, data: bytes) -> None:
        """Write *data*."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection."""
        raise NotImplementedError


class AsyncioActor(Actor, asyncio.Protocol):
    """A protocol of asyncio's."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.begin()

    def data_received(self, data: bytes) -> None:
        self.receive(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport.close()  # before Python 3.11, asyncio's own warns of it otherwise
        self.lose(exc)

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def close(self) -> None:
        self._transport.close()


@implementer(IHandshakeListener)
class TwistedActor(Actor, Protocol):
    """A protocol of Twisted's, which begins, as asyncio's do, when the handshake is done."""

    _begun = False

    def handshakeCompleted(self) -> None:
        # It is called again when keys are changed.
        if not self._begun:
            self._begun = True
            self.begin()

    def dataReceived(self, data: bytes) -> None:
        self.receive(data)

    def connectionLost(self, reason: Failure = ConnectionDone()) -> None:  # type: ignore[assignment]
        self.lose(None if reason.check(ConnectionDone) else reason.value)

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def close(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


class Server(NamedTuple):
    """A server, for one connection."""

    port: int
    outcome: Awaitable[Outcome]
    stop: Callable[[], Awaitable[object]]


class OurWorld:
    """Servers and clients of the running loop's."""

    def __init__(self, server_kind: str = "stdlib", client_kind: str = "stdlib") -> None:
        self._server_kind = server_kind
        self._client_kind = client_kind

    async def serve(self, part: Part) -> Server:
        """Let a server play *part* with the first client that comes."""
        actor = AsyncioActor(part)
        server = await self._do(_serve(actor, server_context(self._server_kind)))
        port = server.sockets[0].getsockname()[1]
        return Server(port, asyncio.wrap_future(actor.outcome), lambda: self._do(_stop(server)))

    async def talk(self, port: int, part: Part) -> Outcome:
        """Let a client play *part*, to its end."""
        actor = AsyncioActor(part)
        await self._do(_connect(actor, port, shared_client_context(self._client_kind)))
        return await asyncio.wrap_future(actor.outcome)

    async def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return await coroutine


class StockWorld(OurWorld):
    """Those of asyncio's own loop, in a thread."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def __enter__(self) -> StockWorld:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))


async def _serve(actor: AsyncioActor, context: Any) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    server: asyncio.Server = await loop.create_server(lambda: actor, "127.0.0.1", 0, ssl=context)
    return server


async def _stop(server: asyncio.Server) -> None:
    server.close()
    await server.wait_closed()


async def _connect(actor: AsyncioActor, port: int, context: Any) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: actor, "127.0.0.1", port, ssl=context, server_hostname="localhost")


class TwistedWorld:
    """Twisted's own servers and clients, on the reactor that the loop runs on, which need not be the global one."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    async def serve(self, part: Part) -> Server:
        """As `OurWorld.serve`."""
        actor = TwistedActor(part)
        endpoint = TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1")
        loop = asyncio.get_running_loop()
        listening = await endpoint.listen(self._factory(actor, server_context("options"), False)).asFuture(loop)

        async def stop() -> None:
            await listening.stopListening().asFuture(loop)

        return Server(listening.getHost().port, asyncio.wrap_future(actor.outcome), stop)

    async def talk(self, port: int, part: Part) -> Outcome:
        """As `OurWorld.talk`."""
        actor = TwistedActor(part)
        endpoint = TCP4ClientEndpoint(self._reactor, "127.0.0.1", port)
        await endpoint.connect(self._factory(actor, client_context("creator"), True)).asFuture(
            asyncio.get_running_loop()
        )
        return await asyncio.wrap_future(actor.outcome)

    def _factory(self, actor: TwistedActor, context: Any, is_client: bool) -> TLSMemoryBIOFactory:
        factory = factory_of(actor)
        # As listenSSL() and connectSSL() do it, but that these take the global reactor for the clock.
        return TLSMemoryBIOFactory(context, is_client, factory, self._reactor)


World = OurWorld | TwistedWorld


async def play(server_world: World, server_part: Part, client_world: World, client_part: Part) -> list[Outcome]:
    """What comes of a connection between the two worlds: to the server, and to the client."""
    server = await server_world.serve(server_part)
    try:
        client = await client_world.talk(server.port, client_part)
        return [await server.outcome, client]
    finally:
        await server.stop()
