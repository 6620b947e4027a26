"""Peers for our TLS that are not ours: programs, asyncio's own loop in a thread, native Twisted; and odd transports."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
import trustme
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from ..tls.contexts import authority, certificate, client_context, server_context
from .recorders import describe

T = TypeVar("T")

LIMIT_S = 30.0
# What is written at once of what is much.
PIECE = 100_000
OPENSSL = shutil.which("openssl")
CURL = shutil.which("curl")
# The system's authorities, which some of them read, take a tenth of a second; and nobody changes a client's context.
shared_client_context = functools.cache(client_context)
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="no openssl program is installed")
needs_curl = pytest.mark.skipif(CURL is None, reason="no curl program is installed")


# Programs


class PEMFiles(NamedTuple):
    """Where programs find the certificates: of the authority, of the server, and of a client."""

    authority: str
    server: str
    client: str


def pem_files(directory: Path) -> PEMFiles:
    """Write the certificates that programs need into *directory*, each with its key."""
    files = PEMFiles(*(str(directory / f"{name}.pem") for name in PEMFiles._fields))
    authority().cert_pem.write_to_path(files.authority)
    certificate().private_key_and_cert_chain_pem.write_to_path(files.server)
    client_certificate().private_key_and_cert_chain_pem.write_to_path(files.client)
    return files


def client_certificate() -> trustme.LeafCert:
    """A client's certificate, of the authority's."""
    return certificate("client.test")


class Program:
    """
    A program that runs, to which lines are sent and that is waited for to print something.

    Attributes:
        printed: What it has printed so far, and was read, on either output.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.printed = ""

    def send(self, text: str) -> None:
        """Send *text* to its input."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())

    async def says(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Wait until it has printed what *pattern* describes, so many times in all; the last one."""
        while len(found := list(re.finditer(pattern, self.printed))) < times:
            assert await self._read(), f"waited for {pattern!r}, {times} times, got {self.printed!r}"
        return found[times - 1]

    async def ends(self) -> int:
        """Wait for its end; its exit code."""
        while await self._read():
            pass
        return await self._process.wait()

    async def _read(self) -> bool:
        assert self._process.stdout is not None
        data = await self._process.stdout.read(65536)
        self.printed += data.decode("latin-1")
        return bool(data)

    async def close(self) -> None:
        """End it, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.ends()
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(ConnectionError):
            await self._process.stdin.wait_closed()


@contextlib.asynccontextmanager
async def running(program: str | None, *arguments: str) -> AsyncIterator[Program]:
    """*program* with *arguments*, which is killed at the end if it still runs."""
    assert program is not None
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    # Nobody's configuration, proxies and caches.
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C"}
    process = Program(await asyncio.create_subprocess_exec(program, *arguments, env=environment, **pipes))
    try:
        yield process
    finally:
        await process.close()


# Both ends of a connection, in any world


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


def factory_of(protocol: Protocol) -> Any:
    """A factory of Twisted's for one connection."""
    factory = Factory.forProtocol(lambda: protocol)
    factory.noisy = False
    return factory


World = OurWorld | TwistedWorld


async def play(server_world: World, server_part: Part, client_world: World, client_part: Part) -> list[Outcome]:
    """What comes of a connection between the two worlds: to the server, and to the client."""
    server = await server_world.serve(server_part)
    try:
        client = await client_world.talk(server.port, client_part)
        return [await server.outcome, client]
    finally:
        await server.stop()


# Ends that are driven by hand, to be upgraded in mid-stream


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


# Transports that know nothing of ours


class ForeignTransport(asyncio.Transport):
    """What a transport has to have, in short; how bytes are sent, its subclasses know."""

    def __init__(self) -> None:
        super().__init__({"peername": "elsewhere"})
        self._protocol: Any = None
        self._reading = True
        self._unread = bytearray()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        asyncio.get_running_loop().call_soon(self.deliver)

    def deliver(self, data: bytes = b"") -> None:
        """Hand *data* on, when the protocol wants to read it."""
        self._unread += data
        if self._reading and self._unread:
            data = bytes(self._unread)
            self._unread.clear()
            self._protocol.data_received(data)


class MemoryTransport(ForeignTransport):
    """One end of a connection that exists in memory only; the end of one end is the end of both."""

    peer: MemoryTransport

    def __init__(self) -> None:
        super().__init__()
        self._closing = False

    def write(self, data: Any) -> None:
        asyncio.get_running_loop().call_soon(self.peer.deliver, bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        for end in self, self.peer:
            if not end._closing:
                end._closing = True
                asyncio.get_running_loop().call_soon(end._lose)

    abort = close

    def _lose(self) -> None:
        self._protocol.connection_lost(None)


@contextlib.asynccontextmanager
async def memory_ends() -> AsyncIterator[tuple[ProtocolEnd, ProtocolEnd]]:
    """Both ends of a connection in memory, to be aborted afterwards."""
    transports = MemoryTransport(), MemoryTransport()
    transports[0].peer, transports[1].peer = transports[1], transports[0]
    async with _aborted(_ends(*transports)) as ends:
        yield ends


@contextlib.asynccontextmanager
async def _aborted(ends: tuple[ProtocolEnd, ProtocolEnd]) -> AsyncIterator[tuple[ProtocolEnd, ProtocolEnd]]:
    try:
        yield ends
    finally:
        for end in ends:
            end.transport.abort()
            await end.lost


def _ends(*transports: ForeignTransport) -> tuple[ProtocolEnd, ProtocolEnd]:
    ends = ProtocolEnd(), ProtocolEnd()
    for end, transport in zip(ends, transports, strict=True):
        transport.set_protocol(end)
        end.connection_made(transport)
    return ends


class PipesTransport(ForeignTransport):
    """A transport that joins the loop's transports of two pipes."""

    _in: Any
    _out: Any

    def __init__(self) -> None:
        super().__init__()
        self._left = 2

    @classmethod
    async def joining(cls, reading_fd: int, writing_fd: int) -> PipesTransport:
        """A transport that reads one descriptor and writes the other, which are its own from now on."""
        self = cls()
        loop = asyncio.get_running_loop()
        reading, writing = os.fdopen(reading_fd, "rb", 0), os.fdopen(writing_fd, "wb", 0)
        self._in = (await loop.connect_read_pipe(lambda: _PipeProtocol(self), reading))[0]
        self._out = (await loop.connect_write_pipe(lambda: _PipeProtocol(self), writing))[0]
        return self

    def pause_reading(self) -> None:
        super().pause_reading()
        self._in.pause_reading()

    def resume_reading(self) -> None:
        super().resume_reading()
        self._in.resume_reading()

    def write(self, data: Any) -> None:
        self._out.write(data)

    def get_write_buffer_size(self) -> int:
        size: int = self._out.get_write_buffer_size()
        return size

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._out.set_write_buffer_limits(high, low)

    def is_closing(self) -> bool:
        closing: bool = self._out.is_closing()
        return closing

    def close(self) -> None:
        self._out.close()
        self._in.close()

    def abort(self) -> None:
        self._out.abort()
        self._in.close()

    def end(self) -> None:
        """The peer has ended."""
        if not self._protocol.eof_received():
            self.close()

    def lose(self, error: BaseException | None) -> None:
        """A pipe is lost, and so is the other one."""
        self._left -= 1
        self.close()
        if not self._left:
            self._protocol.connection_lost(error)


class _PipeProtocol(asyncio.Protocol):
    """The protocol of a pipe: what it is told, the transport's own protocol is told."""

    def __init__(self, joined: PipesTransport) -> None:
        self._joined = joined

    def data_received(self, data: bytes) -> None:
        self._joined.deliver(data)

    def eof_received(self) -> None:
        self._joined.end()

    def pause_writing(self) -> None:
        self._joined.get_protocol().pause_writing()

    def resume_writing(self) -> None:
        self._joined.get_protocol().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._joined.lose(exc)


@contextlib.asynccontextmanager
async def pipe_ends() -> AsyncIterator[tuple[ProtocolEnd, ProtocolEnd]]:
    """Both ends of a connection that is two pipes, to be aborted afterwards."""
    (read_a, write_b), (read_b, write_a) = os.pipe(), os.pipe()
    transports = await PipesTransport.joining(read_a, write_a), await PipesTransport.joining(read_b, write_b)
    async with _aborted(_ends(*transports)) as ends:
        yield ends
