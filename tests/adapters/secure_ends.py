"""Twisted protocols that begin TLS in mid-stream, and the connections between them: native ones and adapted ones."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import twisted.internet
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from txasync import ReactorEventLoop
from txasync.adapters import as_asyncio_factory

from ..tls.contexts import client_context, server_context
from ..transports.recorders import describe

Meet = Callable[[str, Any, Any], Awaitable[None]]

__all__ = ["MEETINGS", "Meet", "SecureEnd", "factory_of", "meet", "part", "upgrade_both"]

MEETINGS = ("adapted-adapted", "adapted-native", "native-adapted")
"""Whose transport the client has, and whose the server has."""


@implementer(IHandshakeListener)
class SecureEnd(Protocol):
    """
    A protocol that can be waited for.

    Attributes:
        log: The callbacks so far, but for data.
        received: What has come.
        reason: Why the connection was lost, once it is.
        on_data: What else to do when data has come.
        on_loss: What else to do when the connection is lost.
    """

    transport: Any = None

    def __init__(self) -> None:
        self.log: list[str] = []
        self.received = bytearray()
        self.reason: BaseException | None = None
        self.on_data: Callable[[], object] = lambda: None
        self.on_loss: Callable[[], object] = lambda: None
        self._news = asyncio.Event()

    def connectionMade(self) -> None:
        self._note("connectionMade")

    def handshakeCompleted(self) -> None:
        self._note("handshakeCompleted")

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._news.set()
        self.on_data()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason.value
        self._note(f"connectionLost {describe(reason.value)}")
        self.on_loss()

    def _note(self, what: str) -> None:
        self.log.append(what)
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until *condition* holds."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    async def receives(self, size: int) -> bytes:
        """Wait for *size* bytes, and take them."""
        await self.until(lambda: len(self.received) >= size)
        data = bytes(self.received[:size])
        del self.received[:size]
        return data

    async def is_secured(self) -> None:
        """Wait until TLS is there."""
        await self.until(lambda: "handshakeCompleted" in self.log)

    async def is_lost(self) -> None:
        """Wait until the connection is lost."""
        await self.until(lambda: self.reason is not None)


def factory_of(protocol: Any) -> Any:
    """A factory for one connection, which forgets its protocol then."""
    protocols = [protocol]
    factory = ClientFactory()
    factory.noisy = False
    factory.buildProtocol = lambda addr: protocols.pop()  # type: ignore[method-assign]
    return factory


@pytest.fixture
def meet(monkeypatch: pytest.MonkeyPatch) -> Meet:
    """
    Connect the one protocol to the other, by one of `MEETINGS`.

    The TLS of native transports asks only the global reactor for timed calls, so our reactor is that for the while.
    """

    async def meet(meeting: str, client: Any, server: Any) -> None:
        if "native" in meeting:
            loop = asyncio.get_running_loop()
            if not isinstance(loop, ReactorEventLoop):
                pytest.skip("there is no reactor")
            monkeypatch.setitem(sys.modules, "twisted.internet.reactor", loop.reactor)
            monkeypatch.setattr(twisted.internet, "reactor", loop.reactor, raising=False)
        await _connect(meeting, client, server)

    return meet


async def _connect(meeting: str, client: Any, server: Any) -> None:
    """
    Connect *client* to *server*.

    Args:
        meeting: One of `MEETINGS`.
        client: The one protocol.
        server: The other.
    """
    loop = asyncio.get_running_loop()
    for_client, for_server = meeting.split("-")
    reactor: Any = getattr(loop, "reactor", None)
    stop: Any
    if for_server == "native":
        port = reactor.listenTCP(0, factory_of(server), interface="127.0.0.1")
        number, stop = port.getHost().port, port.stopListening
    else:
        listening = await loop.create_server(as_asyncio_factory(factory_of(server)), "127.0.0.1", 0)
        number, stop = listening.sockets[0].getsockname()[1], listening.close
    if for_client == "native":
        reactor.connectTCP("127.0.0.1", number, factory_of(client))
    else:
        await loop.create_connection(as_asyncio_factory(factory_of(client), is_client=True), "127.0.0.1", number)
    for end in client, server:
        await end.until(lambda: end.log)
    stop()


def upgrade_both(client: Any, server: Any, *, to: Any = None, alpn: tuple[str, ...] = ()) -> None:
    """Begin TLS on both ends; *to* is the client's context, if not that which trusts the server."""
    server.transport.startTLS(server_context("options", alpn=alpn))
    client.transport.startTLS(to or client_context("creator", alpn=alpn))


async def part(client: Any, server: Any) -> None:
    """End the connection."""
    client.transport.loseConnection()
    await client.is_lost()
    await server.is_lost()
