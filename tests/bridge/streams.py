"""Both ends of a stream: recorded producers, TCP peers and HTTP servers that leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
import twisted.internet
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from txasync import AsyncConsumer

from ..conftest import disposable_reactor

TCP_READ_BYTES = 65536  # that much a Twisted transport reads at once
SOCKET_BUFFER_BYTES = 65536
CHUNK_BYTES = 16384
LARGE = bytes(range(256)) * 8192  # 2 MB: more than such socket buffers take


@implementer(IPushProducer)
class RecordedProducer:
    """Records what it is asked, and passes it on to another producer, if there is one."""

    def __init__(self, producer: Any = None) -> None:
        self.calls: list[str] = []
        self._producer = producer

    def pauseProducing(self) -> None:
        self._ask("pause")

    def resumeProducing(self) -> None:
        self._ask("resume")

    def stopProducing(self) -> None:
        self._ask("stop")

    def _ask(self, what: str) -> None:
        self.calls.append(what)
        if self._producer is not None:
            getattr(self._producer, f"{what}Producing")()


def limit_buffers(sock: socket.socket) -> None:
    """Give *sock*, and those that it accepts, small buffers, so that a peer that does not read is soon felt."""
    for option in socket.SO_SNDBUF, socket.SO_RCVBUF:
        sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)


class Peer(Protocol):
    """One end of a TCP connection, with small socket buffers."""

    transport: Any

    def __init__(self) -> None:
        self.made = asyncio.Event()
        self.lost = asyncio.Event()
        self.received = 0

    def connectionMade(self) -> None:
        limit_buffers(self.transport.getHandle())
        self.made.set()

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:
        self.lost.set()

    @contextlib.asynccontextmanager
    async def connected_to(self, reactor: Any, port: int) -> AsyncIterator[None]:
        """Connect to *port*, and abort the connection at the end, if it is still there."""
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), self)
        try:
            yield
        finally:
            self.transport.abortConnection()
            await self.lost.wait()


class Body(Protocol):
    """Writes the body of a response to a consumer."""

    def __init__(self, consumer: AsyncConsumer) -> None:
        self.consumer = consumer

    def connectionMade(self) -> None:
        self.consumer.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self.consumer.write(data)

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:
        self.consumer.finish(None if reason.check(ResponseDone) else reason)


class Chunks:
    """
    Asynchronous generators of chunks, that tell how far they have come.

    Attributes:
        position: How many bytes were asked for.
        waits: Set when a generator waits for something that does not come.
        closed: Whether the last generator has ended.
    """

    def __init__(self) -> None:
        self.position = 0
        self.waits = asyncio.Event()
        self.closed = False

    async def of(self, content: bytes) -> AsyncIterator[bytes]:
        """Yield *content*."""
        try:
            while self.position < len(content):
                chunk = content[self.position : self.position + CHUNK_BYTES]
                self.position += len(chunk)
                yield chunk
        finally:
            self.closed = True

    async def then_wait(self, first: bytes, for_what: Awaitable[Any]) -> AsyncIterator[bytes]:
        """Yield *first*, and wait."""
        try:
            yield first
            self.waits.set()
            await for_what
            yield b"last"
        finally:
            self.closed = True

    async def then_clean_up(self, first: bytes, clean_up: Callable[[], Awaitable[Any]]) -> AsyncIterator[bytes]:
        """Yield *first* over and over, and take time to clean up."""
        try:
            while True:
                yield first
                self.waits.set()
                await asyncio.sleep(0)
        finally:
            await clean_up()
            self.closed = True


class Consumer(StringTransport):
    """Twisted's double of a transport, with types."""

    producer: Any

    if TYPE_CHECKING:

        def __init__(self) -> None: ...
        def write(self, data: bytes) -> None: ...
        def value(self) -> bytes: ...


class Pausing(Consumer):
    """Pauses its producer after each chunk; says so in the loop's next round."""

    def __init__(self, paused: Callable[[Pausing], None] = lambda transport: None) -> None:
        super().__init__()
        self._paused = paused

    def write(self, data: bytes) -> None:
        super().write(data)
        self.producer.pauseProducing()
        asyncio.get_running_loop().call_soon(self._paused, self)


class Connections(WrappingFactory):
    """Knows the connections that a factory has, and ends them."""

    def __init__(self, factory: Factory[Any]) -> None:
        super().__init__(factory)  # type: ignore[no-untyped-call]  # Twisted's own are not typed
        self._one_was_lost = asyncio.Event()

    def unregisterProtocol(self, p: Any) -> None:
        super().unregisterProtocol(p)  # type: ignore[no-untyped-call]  # as above
        self._one_was_lost.set()

    async def end(self) -> None:
        """Abort those that there are, and wait until all are lost."""
        for protocol in list(self.protocols):
            protocol.abortConnection()
        while self.protocols:
            self._one_was_lost.clear()
            await self._one_was_lost.wait()


def install(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make *reactor* the process's own during a test: Twisted's LoopingCall, which its Agent uses, takes no other."""
    monkeypatch.setitem(sys.modules, "twisted.internet.reactor", reactor)
    monkeypatch.setattr(twisted.internet, "reactor", reactor, raising=False)


def reserve_descriptor() -> None:
    """Twisted keeps a descriptor from its first port on; that is not what a test leaves behind."""
    with disposable_reactor("epoll") as reactor:
        reactor.listenTCP(0, Factory(), interface="127.0.0.1").stopListening()
        reactor.runUntilCurrent()


@contextlib.asynccontextmanager
async def listening(reactor: Any, factory: Factory[Any]) -> AsyncIterator[int]:
    """Listen on a port that the kernel chooses; at the end, nothing of it is left."""
    connections = Connections(factory)
    port = reactor.listenTCP(0, connections, interface="127.0.0.1")
    limit_buffers(port.socket)
    try:
        yield port.getHost().port
    finally:
        await connections.end()
        await port.stopListening()
        await turns(reactor)  # in which clients notice it


@contextlib.asynccontextmanager
async def connected(reactor: Any, accepted: Peer, connecting: Peer) -> AsyncIterator[None]:
    """Connect two protocols over TCP."""
    async with listening(reactor, Factory.forProtocol(lambda: accepted)) as port:
        async with connecting.connected_to(reactor, port):
            await accepted.made.wait()
            yield


@contextlib.asynccontextmanager
async def serving(reactor: Any, answer: Callable[[Request], Any]) -> AsyncIterator[int]:
    """Serve HTTP: *answer* is awaited for each request, in a task, which may end cancelled, but not with an error."""
    tasks = []

    class Answers(Resource):
        isLeaf = True

        def render(self, request: Request) -> int:
            tasks.append(asyncio.ensure_future(answer(request)))
            return NOT_DONE_YET

    answers = Answers()  # type: ignore[no-untyped-call]  # so is Twisted's Resource
    async with listening(reactor, Site(answers)) as port:
        yield port
        await asyncio.wait(tasks)
        for task in tasks:
            assert task.cancelled() or task.exception() is None, task


async def all_of(consumer: AsyncConsumer) -> bytes:
    """Everything that is written to *consumer*."""
    return b"".join([chunk async for chunk in consumer])


async def turns(reactor: Any, count: int = 20) -> None:
    """Let the reactor make some turns."""
    for _ in range(count):
        await deferLater(reactor, 0, lambda: None)


async def cancelled(task: asyncio.Future[Any]) -> bool:
    """Cancel *task*, and wait until it is done."""
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


async def stalled(reactor: Any, position: Callable[[], int]) -> None:
    """Wait until nothing changes *position* any more."""
    before = -1
    while before != position():
        before = position()
        await turns(reactor)
