"""asyncio's streams API, and TLS that begins in mid-stream, on our transports."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trustme

from ..conftest import Runner
from .traces import Stage, play_on_ours

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


async def connected(handler: Handler, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client of a server that serves this one client with *handler*, and is closed then."""
    server: asyncio.Server

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.close()
        try:
            await handler(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return await asyncio.open_connection(*server.sockets[0].getsockname(), **options)


async def hung_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """What comes until the end; then the connection is closed on our side, too."""
    rest = await reader.read()
    writer.close()
    await writer.wait_closed()
    return rest


def test_lines_and_counts(run: Runner) -> None:
    """readline(), readuntil(), readexactly() and read() put together what came in pieces."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()

    async def main() -> None:
        reader, writer = await connected(echo)
        for piece in b"first li", b"ne\nsec", b"ond line\n", b"x" * 50_000 + b"\n":
            writer.write(piece)
            await writer.drain()
        assert await reader.readline() == b"FIRST LINE\n"
        assert await reader.readexactly(6) == b"SECOND"
        assert await reader.readuntil(b"E") == b" LINE"
        assert await reader.readline() == b"\n"
        assert await reader.readline() == b"X" * 50_000 + b"\n"
        writer.write(b"the last")
        writer.write_eof()
        assert await hung_up(reader, writer) == b"THE LAST"

    run(main)


def test_drain_waits_for_a_slow_reader(run: Runner) -> None:
    """The writer has never more in the buffer than its limit and one write, and everything arrives."""
    piece, count, high = bytes(range(256)) * 100, 100, 30_000
    most: list[int] = []

    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high)
        for _ in range(count):
            writer.write(piece)
            most.append(writer.transport.get_write_buffer_size())
            await writer.drain()

    async def main() -> None:
        reader, writer = await connected(write, limit=1000)
        read = bytearray()
        while len(read) < len(piece) * count:
            read += await reader.read(1000)
            # The reader's own buffer is bounded, too: twice its limit, and what one read of the socket adds.
            buffered: bytearray = reader._buffer  # type: ignore[attr-defined]
            assert len(buffered) <= 2 * 1000 + 256 * 1024
        assert read == piece * count
        assert await hung_up(reader, writer) == b""

    run(main)
    assert max(most) <= high + len(piece)


def test_drain_raises_when_the_connection_is_lost(run: Runner) -> None:
    """A writer whose peer is gone hears of it."""

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def main() -> None:
        reader, writer = await connected(leave)
        assert await reader.read() == b""
        with pytest.raises(ConnectionError):
            while True:
                writer.write(b"x" * 10_000)
                await writer.drain()
        writer.close()
        with pytest.raises(ConnectionError):
            await writer.wait_closed()

    run(main)


def test_an_incomplete_read_tells_what_there_was() -> None:
    """IncompleteReadError has the part that came."""

    async def say_a_little(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"a little")

    async def scenario(stage: Stage) -> None:
        reader, writer = await connected(say_a_little)
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(100)
        assert caught.value.partial == b"a little"
        assert await hung_up(reader, writer) == b""

    play_on_ours(scenario)


def test_a_unix_stream(tmp_path: Any) -> None:
    """start_unix_server() and open_unix_connection() are the same over a path."""

    async def scenario(stage: Stage) -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read(100))
            writer.close()
            await writer.wait_closed()

        path = str(tmp_path / "socket")
        server = await asyncio.start_unix_server(echo, path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"hello")
        assert await hung_up(reader, writer) == b"hello"
        server.close()
        await server.wait_closed()

    play_on_ours(scenario)


# TLS in mid-stream


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context, and that of a client that trusts it."""
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    return server_context, client_context


class Upgrading(asyncio.Protocol):
    """Collects what comes, for one who waits for it."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.arrived = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.arrived.set()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    async def has(self, size: int) -> bytes:
        """Wait for *size* bytes and take them."""
        while len(self.received) < size or self.transport is None:
            self.arrived.clear()
            await self.arrived.wait()
        taken = bytes(self.received[:size])
        del self.received[:size]
        return taken


def test_start_tls_on_both_sides(run: Runner, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Plain bytes, then TLS on the same connection, from both sides' transports; nothing is lost, however much."""
    plain, secret = b"plain" * 100_000, bytes(range(256)) * 4000

    async def main() -> None:
        loop = run.loop
        served: list[Upgrading] = []

        def factory() -> Upgrading:
            served.append(Upgrading())
            return served[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        transport, client = await loop.create_connection(Upgrading, *address)
        transport.write(plain)
        while not served:
            await asyncio.sleep(0)
        assert await served[0].has(len(plain)) == plain
        # The server stops reading before it answers: what follows the answer is for TLS.
        served[0].transport.pause_reading()
        served[0].transport.write(b"go on")
        assert await client.has(5) == b"go on"
        upgraded = await asyncio.gather(
            loop.start_tls(transport, client, contexts[1], server_hostname="localhost"),
            loop.start_tls(served[0].transport, served[0], contexts[0], server_side=True),
        )
        for secure, to in zip(upgraded, (served[0], client), strict=True):
            assert secure is not None
            assert secure.get_extra_info("cipher")
            assert secure.get_extra_info("peername")
            secure.write(secret)
            assert await to.has(len(secret)) == secret
        for secured in upgraded:
            assert secured is not None
            secured.close()
        assert await client.lost is None
        assert await served[0].lost is None
        server.close()
        await server.wait_closed()

    run(main)


def test_start_tls_with_somebody_who_does_not_speak_it(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """An answer that is no TLS is an SSLError, and the end of the connection."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect_tcp(protocol)
        upgrading = stage.loop.create_task(
            stage.loop.start_tls(protocol.transport, protocol, contexts[1], server_hostname="localhost")
        )
        await stage.until(peer.receive)
        peer.send(b"I do not understand you\r\n" * 10)
        with pytest.raises(ssl.SSLError):
            await upgrading
        await stage.expect(peer)

    play_on_ours(scenario)


def test_start_tls_with_somebody_who_hangs_up(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """A peer that goes during the handshake is a ConnectionError."""

    async def scenario(stage: Stage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect_tcp(protocol)
        upgrading = stage.loop.create_task(
            stage.loop.start_tls(protocol.transport, protocol, contexts[1], server_hostname="localhost")
        )
        await stage.until(peer.receive)
        peer.sock.close()
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await upgrading

    play_on_ours(scenario)


def test_start_tls_with_a_writer(run: Runner, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """StreamWriter.start_tls(), from 3.11 on: the same reader and writer, now secret."""
    if sys.version_info < (3, 11):
        pytest.skip("StreamWriter.start_tls() is of 3.11")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go on\n")
        if sys.version_info >= (3, 11):
            await writer.start_tls(contexts[0])
        writer.write((await reader.readline()).upper())
        await writer.drain()

    async def main() -> None:
        reader, writer = await connected(serve)
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go on\n"
        if sys.version_info >= (3, 11):
            await writer.start_tls(contexts[1], server_hostname="localhost")
        assert writer.get_extra_info("ssl_object") is not None
        writer.write(b"secret\n")
        assert await reader.readline() == b"SECRET\n"
        assert await hung_up(reader, writer) == b""

    run(main)
