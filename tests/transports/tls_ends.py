"""Ends of a connection that are driven by hand, to be upgraded in mid-stream: by protocols, streams, and Twisted's."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure


class ProtocolEnd(asyncio.Protocol):
    """
    One end of a connection, by a protocol.

    Attributes:
        transport: Its transport: when it is upgraded, the one of TLS.
        callbacks: The names of those that concern writing, and the end.
        connected: Done when there is a connection.
        lost: Done when the connection is lost, with the error, or None.
    """

    def __init__(self) -> None:
        self.transport: Any = None
        self.callbacks: list[str] = []
        loop = asyncio.get_running_loop()
        self.connected: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[BaseException | None] = loop.create_future()
        self._received = bytearray()
        self._news = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.connected.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._news.set()

    def eof_received(self) -> None:
        self.callbacks.append("eof_received")

    def pause_writing(self) -> None:
        self.callbacks.append("pause_writing")

    def resume_writing(self) -> None:
        self.callbacks.append("resume_writing")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)
        self._news.set()

    def send(self, data: bytes) -> None:
        """Write *data*."""
        self.transport.write(data)

    async def receives(self, count: int) -> bytes:
        """So many bytes; fewer, if the connection is lost before."""
        await self._until(lambda: len(self._received) >= count)
        data = bytes(self._received[:count])
        del self._received[:count]
        return data

    async def receives_line(self) -> bytes:
        """What there is up to the end of a line, or of the connection."""
        await self._until(lambda: b"\n" in self._received)
        return await self.receives(self._received.find(b"\n") + 1)

    async def receives_some(self) -> bytes:
        """What there is, as soon as there is something; nothing, if the connection is lost before."""
        await self._until(lambda: bool(self._received))
        return await self.receives(len(self._received))

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition() and not self.lost.done():
            self._news.clear()
            await self._news.wait()

    async def upgrade(self, context: Any, *, server_side: bool = False) -> None:
        """Go on by TLS."""
        name = None if server_side else "localhost"
        loop = asyncio.get_running_loop()
        self.transport = await loop.start_tls(
            self.transport, self, context, server_side=server_side, server_hostname=name
        )

    async def close(self) -> None:
        """Close it, and wait until it is lost."""
        self.transport.close()
        assert await self.lost is None

    async def is_lost(self) -> None:
        """Wait until it is lost, no matter how."""
        await self.lost


class StreamEnd:
    """One end of a connection, by asyncio's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @property
    def transport(self) -> Any:
        """As `ProtocolEnd.transport`."""
        return self.writer.transport

    def send(self, data: bytes) -> None:
        """Write *data*."""
        self.writer.write(data)

    async def receives(self, count: int) -> bytes:
        """So many bytes; fewer, if the peer ends before."""
        try:
            return await self.reader.readexactly(count)
        except asyncio.IncompleteReadError as error:
            return error.partial

    async def receives_line(self) -> bytes:
        """What there is up to the end of a line, or of the connection."""
        return await self.reader.readline()

    async def upgrade(self, context: Any, *, server_side: bool = False) -> None:
        """Go on by TLS."""
        if sys.version_info >= (3, 11):
            await self.writer.start_tls(context, server_hostname=None if server_side else "localhost")

    async def close(self) -> None:
        """Close it, and wait until it is lost."""
        self.writer.close()
        await self.writer.wait_closed()

    async def is_lost(self) -> None:
        """Wait until it is lost, no matter how."""
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class TwistedEnd(Protocol):
    """
    One end of a connection, by a protocol of Twisted's on its own transport.

    Attributes:
        begun: As `ProtocolEnd.connected`.
        lost: As `ProtocolEnd.lost`.
        receives: As `ProtocolEnd.receives`.
    """

    def __init__(self) -> None:
        self._told = ProtocolEnd()
        self.begun = self._told.connected
        self.lost = self._told.lost
        self.receives = self._told.receives

    def connectionMade(self) -> None:
        self._told.connection_made(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self._told.data_received(data)

    def connectionLost(self, reason: Failure = ConnectionDone()) -> None:  # type: ignore[assignment]
        self._told.connection_lost(None if reason.check(ConnectionDone) else reason.value)

    def send(self, data: bytes) -> None:
        """Write *data*."""
        assert self.transport is not None
        self.transport.write(data)

    async def upgrade(self, context: Any, *, server_side: bool = False) -> None:
        """Go on by TLS."""
        transport: Any = self.transport
        transport.startTLS(context)  # on the side that it has in TCP

    async def close(self) -> None:
        """Close it, and wait until it is lost."""
        assert self.transport is not None
        self.transport.loseConnection()
        assert await self.lost is None


def factory_of(protocol: Protocol) -> Any:
    """A factory of Twisted's for one connection."""
    factory = Factory.forProtocol(lambda: protocol)
    factory.noisy = False
    return factory


End = ProtocolEnd | StreamEnd
needs_stream_upgrade = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="StreamWriter.start_tls() is new in Python 3.11"
)


@contextlib.asynccontextmanager
async def connected(
    server_end: type[End],
    client_end: type[End] | None = None,
    *,
    path: str | None = None,
    server_tls: Any = None,
    client_tls: Any = None,
) -> AsyncIterator[tuple[Any, Any]]:
    """
    Both ends of a connection, the server's first. What is left of them afterwards is aborted.

    Args:
        server_end: Of what kind the server's end is.
        client_end: Of what kind the client's is. Default: of the same.
        path: Of a UNIX socket. Default: the connection is by TCP.
        server_tls: The server's context, if it is by TLS from the beginning.
        client_tls: The client's.
    """
    accepted: asyncio.Future[End] = asyncio.get_running_loop().create_future()
    server = await listen(server_end, accepted, path, server_tls)
    to: Any = (
        {"path": path}
        if path is not None
        else dict(zip(("host", "port"), server.sockets[0].getsockname(), strict=False))
    )
    if client_tls is not None:
        to |= {"ssl": client_tls, "server_hostname": "localhost"}
    ends: list[End] = []
    try:
        ends.append(await _connect_end(client_end or server_end, path is None, to))
        ends.append(await accepted)
        yield ends[1], ends[0]
    finally:
        for end in ends:
            end.transport.abort()
            await end.is_lost()
        server.close()
        await server.wait_closed()


async def listen(
    kind: type[End], accepted: asyncio.Future[End], path: str | None = None, context: Any = None
) -> asyncio.Server:
    """A server of ours for one connection; *accepted* gets the end of it. Other arguments are those of `connected`."""
    at: Any = {"host": "127.0.0.1", "port": 0} if path is None else {"path": path}
    if issubclass(kind, StreamEnd):
        start = asyncio.start_server if path is None else asyncio.start_unix_server
        return await start(lambda *streams: accepted.set_result(kind(*streams)), ssl=context, **at)

    def factory() -> ProtocolEnd:
        end = kind()
        end.connected.add_done_callback(lambda _: accepted.set_result(end))
        return end

    loop = asyncio.get_running_loop()
    create = loop.create_server if path is None else loop.create_unix_server
    server: asyncio.Server = await create(factory, ssl=context, **at)
    return server


async def _connect_end(kind: type[End], by_tcp: bool, to: Any) -> End:
    if issubclass(kind, StreamEnd):
        return kind(*await (asyncio.open_connection if by_tcp else asyncio.open_unix_connection)(**to))
    loop = asyncio.get_running_loop()
    end: ProtocolEnd
    _, end = await (loop.create_connection if by_tcp else loop.create_unix_connection)(kind, **to)
    return end
