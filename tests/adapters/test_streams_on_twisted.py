"""asyncio's streams on Twisted's endpoints, at both ends: they are what they are on the loop's own connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import txasync

from .endpoint_ways import Perform, Way, all_lost, perform, tcp, tls, way, way_without_tls

__all__ = ["perform", "tcp", "tls", "way", "way_without_tls"]

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Service = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

MARK = 64 * 1024
CHUNK = bytes(range(256)) * 256
# With much smaller ones, a kernel's TCP over the loopback device waits for acknowledgements that are delayed.
KERNEL_BUFFER = 64 * 1024


@contextlib.asynccontextmanager
async def connected(way: Way, service: Service, limit: int = 2**16) -> AsyncIterator[Streams]:
    """A client of *service*, whose server is waited for at the end."""
    async with await txasync.start_server(service, way.server, limit=limit) as server:
        reader, writer = await txasync.open_connection(way.client(server), limit=limit)
        try:
            yield reader, writer
        finally:
            await closed(writer)
    await all_lost(server)


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close *writer* and wait until its connection is lost, no matter how."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


class Pair:
    """
    A server that only keeps its streams, for a test that works both ends.

    Attributes:
        accepted: Done when there is a connection, with the server's streams.
    """

    def __init__(self) -> None:
        self.accepted: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()

    async def keep(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What a server is to call."""
        self.accepted.set_result((reader, writer))


@contextlib.asynccontextmanager
async def both_ends(way: Way, limit: int = 2**16) -> AsyncIterator[tuple[Streams, Streams]]:
    """The streams of the server and of the client."""
    pair = Pair()
    async with connected(way, pair.keep, limit) as client:
        server = await pair.accepted
        yield server, client
        await closed(server[1])


def test_what_is_read_is_what_was_asked_for(perform: Perform, way: Way) -> None:
    """Lines, counts and separators are found in what has come, whatever its pieces, and the end is told."""

    async def main() -> None:
        async with both_ends(way) as ((reader, writer), (_, peer)):
            peer.write(b"one\ntwo\nthr")
            peer.writelines([b"ee\n", b"12345", bytearray(b"key;"), memoryview(b"va")])
            assert [await reader.readline() for _ in range(3)] == [b"one\n", b"two\n", b"three\n"]
            assert await reader.readexactly(5) == b"12345"
            assert await reader.readuntil(b";") == b"key;"
            assert await reader.readexactly(2) == b"va"
            peer.write(b"a rest")
            peer.close()
            with pytest.raises(asyncio.IncompleteReadError) as error:
                await reader.readexactly(7)
            assert error.value.partial == b"a rest"
            assert reader.at_eof()
            assert await reader.read() == await reader.readline() == b""
            await peer.wait_closed()
            writer.close()

    perform(main)


def test_iterating_over_a_reader_gives_its_lines(perform: Perform, way: Way) -> None:
    """``async for`` ends with the connection, and the last line need not."""

    async def main() -> None:
        async with both_ends(way) as ((reader, _), (_, peer)):
            peer.write(b"one\ntwo\nrest")
            peer.close()
            assert [line async for line in reader] == [b"one\n", b"two\n", b"rest"]

    perform(main)


def test_megabytes_go_both_ways_at_once(perform: Perform, way: Way) -> None:
    """Both ends write all the time, wait in drain(), and nothing is lost or comes twice."""
    chunks = [bytes([number]) * (10_000 + 1_000 * number) for number in range(100)]  # 6 MB

    async def write(writer: asyncio.StreamWriter) -> None:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            assert writer.transport.get_write_buffer_size() <= MARK

    async def main() -> None:
        async with both_ends(way) as ((reader, writer), (peer_reader, peer_writer)):
            size = len(b"".join(chunks))
            received = await asyncio.gather(
                reader.readexactly(size), peer_reader.readexactly(size), write(writer), write(peer_writer)
            )
            assert received[0] == received[1] == b"".join(chunks)

    perform(main)


def test_what_waits_for_a_slow_reader_is_bounded(perform: Perform, way: Way) -> None:
    """drain() holds the writer up: of 16 MB, what is under way is at no time more than buffers of known sizes."""
    total = 16 * 1024 * 1024
    # The mark and a chunk; the reader's two limits and a chunk; the kernel's two buffers, twice what it is asked for;
    # what is within TLS.
    bound = (MARK + len(CHUNK)) + (2 * MARK + len(CHUNK)) + 2 * 2 * KERNEL_BUFFER + 4 * MARK
    read = written = most = 0

    async def write(writer: asyncio.StreamWriter) -> None:
        nonlocal written, most
        try:
            while written < total:
                writer.write(CHUNK)
                written += len(CHUNK)
                most = max(most, written - read)
                assert writer.transport.get_write_buffer_size() <= MARK + len(CHUNK)
                await writer.drain()
        finally:
            writer.close()

    async def main() -> None:
        nonlocal read
        async with both_ends(way) as ((_, writer), (reader, peer)):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
            peer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BUFFER)
            writing = asyncio.ensure_future(write(writer))
            while data := await reader.read(len(CHUNK)):
                read += len(data)
                # The writer could write three chunks in the time of one that is read.
                for _ in range(3):
                    await asyncio.sleep(0)
            await writing

    perform(main)
    assert read == total
    assert MARK < most <= bound, most


def test_a_reader_that_is_not_read_from_pauses_its_transport(perform: Perform, way: Way) -> None:
    """A reader holds twice its limit and a piece at most; what is beyond comes when there is room."""
    limit, total = 1000, 2_000_000

    async def main() -> None:
        async with both_ends(way, limit) as ((_, writer), (reader, peer)):
            transport: Any = peer.transport
            writer.write(bytes(total))
            while transport.is_reading():
                await asyncio.sleep(0)
            assert not writer.is_closing()
            first = await reader.read(total)
            assert 2 * limit < len(first) <= 2 * limit + 4 * MARK
            assert len(first) + len(await reader.readexactly(total - len(first))) == total

    perform(main)


def test_half_a_connection_can_be_closed(perform: Perform, way_without_tls: Way) -> None:
    """A client that has written all says so, and then gets the answer."""

    async def reverse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read()
        assert reader.at_eof() and not writer.is_closing()
        writer.write(request[::-1])
        await writer.drain()
        writer.close()

    async def main() -> None:
        async with connected(way_without_tls, reverse) as (reader, writer):
            writer.write(b"ab" * 1_000_000)
            assert writer.can_write_eof()
            writer.write_eof()
            with pytest.raises(RuntimeError):
                writer.write(b"more")
            assert await reader.read() == b"ba" * 1_000_000

    perform(main)


def test_half_a_connection_by_tls_cannot_be_closed(perform: Perform, tls: Way) -> None:
    """As for asyncio's own TLS; the connection is as good as before."""

    async def main() -> None:
        async with both_ends(tls) as ((reader, _), (_, peer)):
            assert not peer.can_write_eof()
            with pytest.raises(NotImplementedError):
                peer.write_eof()
            peer.write(b"more\n")
            assert await reader.readline() == b"more\n"

    perform(main)


def test_a_line_over_the_limit_is_an_error_and_the_next_one_is_not(perform: Perform, way: Way) -> None:
    """readline() drops what it has of the line; readuntil() leaves it there."""

    async def main() -> None:
        async with both_ends(way, 100) as ((reader, _), (_, peer)):
            peer.write(b"x" * 150 + b"\nshort\n")
            with pytest.raises(ValueError, match="limit"):
                await reader.readline()
            assert await reader.readline() == b"short\n"
            peer.write(b"y" * 120 + b"\n")
            with pytest.raises(asyncio.LimitOverrunError) as error:
                await reader.readuntil(b"\n")
            assert error.value.consumed == 120
            assert await reader.readexactly(121) == b"y" * 120 + b"\n"

    perform(main)


async def outcome_of_failing_service(start_server: Callable[[Service], Awaitable[Any]]) -> list[Any]:
    """What is reported, and what the client gets, where a service raises."""
    loop = asyncio.get_running_loop()
    reported: list[Any] = []

    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        raise KeyError("service")

    loop.set_exception_handler(lambda loop, context: reported.append((context["message"], context["exception"].args)))
    async with await start_server(fail) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\n")
        answer = await reader.read()
        await closed(writer)
    loop.set_exception_handler(None)
    return [answer, reported]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before Python 3.12, nobody looks how its task ends")
def test_a_service_that_fails_is_reported_and_its_connection_closed(perform: Perform) -> None:
    """The handler of exceptions is told, and the client reads what was written before: as with asyncio's servers."""

    async def main() -> None:
        expected = await outcome_of_failing_service(lambda service: asyncio.start_server(service, "127.0.0.1", 0))
        assert expected[0] == b"hello\n"
        found = await outcome_of_failing_service(
            lambda service: txasync.start_server(service, "tcp:0:interface=127.0.0.1")
        )
        assert found == expected

    perform(main)


def test_a_service_may_be_a_plain_function(perform: Perform, way: Way) -> None:
    """It is called when the connection is there, and its streams live on without a task."""

    async def main() -> None:
        accepted: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()
        async with await txasync.start_server(lambda *streams: accepted.set_result(streams), way.server) as server:
            reader, writer = await txasync.open_connection(way.client(server))
            _, accepted_writer = await accepted
            accepted_writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            await closed(accepted_writer)
            await closed(writer)

    perform(main)


def test_wait_closed_waits_until_all_is_sent(perform: Perform, way: Way) -> None:
    """close() does not cut off what is written, and wait_closed() returns when it is gone."""

    async def main() -> None:
        async with both_ends(way) as ((_, writer), (reader, _)):
            writer.write(b"x" * 4_000_000)
            writer.close()
            assert writer.is_closing()
            received, _ = await asyncio.gather(reader.read(), writer.wait_closed())
            assert len(received) == 4_000_000

    perform(main)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close *writer*'s TCP connection with a RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def test_a_reset_reaches_reader_drain_and_wait_closed(perform: Perform, tcp: Way) -> None:
    """Each of them raises ConnectionResetError, as on the loop's own connections."""

    async def main() -> None:
        async with both_ends(tcp) as ((reader, writer), (_, peer)):
            reset(peer)
            with pytest.raises(ConnectionResetError):
                await reader.read()
            with pytest.raises(ConnectionResetError):
                await writer.drain()
            with pytest.raises(ConnectionResetError):
                await writer.wait_closed()

    perform(main)


def test_drain_ends_when_the_peer_is_gone(perform: Perform, way: Way) -> None:
    """Nobody waits for ever for a peer that has not read and never will."""

    async def write(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(CHUNK)
            await writer.drain()

    async def main() -> None:
        async with both_ends(way) as ((_, writer), (_, peer)):
            protocol: Any = peer.transport
            protocol.pause_reading()
            writing = asyncio.ensure_future(write(writer))
            while not writer.transport.is_writing_paused():  # type: ignore[attr-defined]
                await asyncio.sleep(0)
            peer.transport.abort()
            with pytest.raises(OSError):  # a reset or a broken pipe, as it happens
                await writing

    perform(main)


def test_nobody_listens(perform: Perform, way: Way) -> None:
    """A connection that fails is an OSError of the kind that asyncio.open_connection() raises."""

    async def main() -> None:
        server = await txasync.start_server(Pair().keep, way.server)
        description = way.client(server)
        server.close()
        await server.wait_closed()
        with pytest.raises(FileNotFoundError if way.kind == "unix" else ConnectionRefusedError):
            await txasync.open_connection(description)

    perform(main)


def test_streams_tell_whom_they_talk_to(perform: Perform, way: Way) -> None:
    """Each end's name is the other's peer; by TLS, there is what the handshake has found."""

    async def main() -> None:
        async with both_ends(way) as ((_, writer), (_, peer)):
            for one, other in (writer, peer), (peer, writer):
                assert one.get_extra_info("sockname") == other.get_extra_info("peername")
            if way.kind == "ssl":
                assert peer.get_extra_info("peercert")["subjectAltName"]
                assert peer.get_extra_info("cipher") == writer.get_extra_info("cipher") is not None
            else:
                assert peer.get_extra_info("sslcontext") is None

    perform(main)


def test_either_end_may_be_the_loops(perform: Perform, way: Way) -> None:
    """A client of the loop's talks to a server of Twisted's as Twisted's client does."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(MARK):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await txasync.start_server(echo, way.server) as server:
            reader = asyncio.StreamReader()
            transport, protocol = await way.connect_by_loop(server, lambda: asyncio.StreamReaderProtocol(reader))
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            writer.write(CHUNK * 20)
            assert await reader.readexactly(len(CHUNK) * 20) == CHUNK * 20
            await closed(writer)

    perform(main)
