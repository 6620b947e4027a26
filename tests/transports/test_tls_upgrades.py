"""TLS that begins in mid-stream: with native Twisted, with openssl s_client, over any transport, and at odd moments."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.protocols import tls

from ..tls.contexts import SERVER_KINDS, server_context
from .foreign_transports import memory_ends, pipe_ends
from .recorders import describe
from .tls_ends import End, ProtocolEnd, StreamEnd, TwistedEnd, connected, factory_of, listen, needs_stream_upgrade
from .tls_interoperation import (
    SOME,
    VERY_MUCH,
    Perform,
    by_turns,
    each_client,
    each_server,
    info,
    shared_client_context,
)
from .tls_programs import OPENSSL, PEMFiles, needs_openssl, running

combination = by_turns

# Each kind on either side, and some with others.
UPGRADES = [
    *((kind, kind) for kind in SERVER_KINDS),
    ("stdlib", "creator"),
    ("options", "stdlib"),
]
each_upgrade = pytest.mark.parametrize(("server_kind", "client_kind"), UPGRADES, ids=map("-".join, UPGRADES))


async def upgrade_and_talk(server: Any, client: Any, server_kind: str, client_kind: str) -> None:
    """Let two ends talk as mail servers and their clients do, first without TLS, then with it, and end in peace."""

    async def serve() -> None:
        server.send(b"220 hello\r\n")
        assert await server.receives(10) == b"STARTTLS\r\n"
        server.send(b"220 go on\r\n")
        await server.upgrade(server_context(server_kind), server_side=True)
        server.send(SOME)
        assert describe(await server.receives(len(SOME))) == describe(SOME[::-1])

    async def call() -> None:
        assert await client.receives(11) == b"220 hello\r\n"
        client.send(b"STARTTLS\r\n")
        assert await client.receives(11) == b"220 go on\r\n"
        await client.upgrade(shared_client_context(client_kind))
        client.send(SOME[::-1])
        assert describe(await client.receives(len(SOME))) == describe(SOME)

    await asyncio.gather(serve(), call())
    ending = asyncio.ensure_future(client.close())
    assert await server.receives(1) == b""
    await server.close()
    await ending


@each_upgrade
@pytest.mark.parametrize("by", ["tcp", "unix"])
@pytest.mark.parametrize("end", [ProtocolEnd, pytest.param(StreamEnd, marks=needs_stream_upgrade)])
def test_an_upgrade_in_mid_stream_loses_nothing(
    server_kind: str, client_kind: str, by: str, end: type[End], tmp_path: Path, perform: Perform
) -> None:
    """What was sent before it is read before it, and what comes after it is of TLS, on both sides."""

    async def main() -> None:
        path = str(tmp_path / "socket") if by == "unix" else None
        async with connected(end, path=path) as (server, client):
            await upgrade_and_talk(server, client, server_kind, client_kind)
            assert info(client, "tls_version") == info(server, "tls_version") == ["TLSv1.3"]

    perform(main)


@pytest.fixture
def _private_clock(monkeypatch: pytest.MonkeyPatch, reactor: Any) -> None:
    """Native startTLS() can be told no clock, and would take the global reactor, which nobody runs."""
    monkeypatch.setattr(tls, "_get_default_clock", lambda: reactor)


@each_server
@pytest.mark.usefixtures("_private_clock")
def test_a_client_of_twisteds_starts_tls_with_our_server(kind: str, reactor: Any, perform: Perform) -> None:
    """Its startTLS() and our start_tls() agree on where plain text ends."""

    async def main() -> None:
        accepted: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        server = await listen(ProtocolEnd, accepted)
        endpoint = TCP4ClientEndpoint(reactor, *server.sockets[0].getsockname())
        client = TwistedEnd()
        await endpoint.connect(factory_of(client)).asFuture(asyncio.get_running_loop())
        await upgrade_and_talk(await accepted, client, kind, "creator")
        server.close()
        await server.wait_closed()

    perform(main)


@each_client
@pytest.mark.usefixtures("_private_clock")
def test_our_client_starts_tls_with_a_server_of_twisteds(kind: str, reactor: Any, perform: Perform) -> None:
    """Our start_tls() and its startTLS() agree on where plain text ends."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = TwistedEnd()
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await endpoint.listen(factory_of(server)).asFuture(loop)
        _, client = await loop.create_connection(ProtocolEnd, "127.0.0.1", port.getHost().port)
        await server.begun
        await upgrade_and_talk(server, client, "options", kind)
        await port.stopListening().asFuture(loop)

    perform(main)


@needs_openssl
@each_server
@pytest.mark.parametrize("end", [ProtocolEnd, pytest.param(StreamEnd, marks=needs_stream_upgrade)])
def test_s_client_starts_tls_as_mail_clients_do(kind: str, end: type[End], files: PEMFiles, perform: Perform) -> None:
    """It speaks SMTP with our server until it is told to go on, and then TLS."""

    async def main() -> None:
        accepted: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        server = await listen(end, accepted)
        at = ["-connect", f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "-CAfile", files.authority]
        async with running(OPENSSL, "s_client", "-brief", "-verify_return_error", "-starttls", "smtp", *at) as client:
            mail = await accepted
            mail.send(b"220 ready\r\n")
            assert (await mail.receives_line()).startswith(b"EHLO")
            mail.send(b"250-here\r\n250 STARTTLS\r\n")
            assert await mail.receives_line() == b"STARTTLS\r\n"
            mail.send(b"220 go on\r\n")
            await mail.upgrade(server_context(kind), server_side=True)
            await client.says("Verification: OK")
            client.send("hello\n")
            assert await mail.receives_line() == b"hello\n"
            mail.send(b"bye\n")
            await client.says("bye\n")
            client.send("Q\n")
            assert await client.ends() == 0
        await mail.close()
        server.close()
        await server.wait_closed()

    perform(main)


@each_upgrade
@pytest.mark.parametrize("ends", [memory_ends, pipe_ends])
def test_a_transport_that_is_not_ours_is_upgraded(
    server_kind: str, client_kind: str, ends: Any, perform: Perform
) -> None:
    """All that TLS wants is an asyncio.Transport: one that joins two pipes, or one that is in memory only."""

    async def main() -> None:
        async with ends() as (server, client):
            assert info(client, "peername") == ["elsewhere"]
            await upgrade_and_talk(server, client, server_kind, client_kind)

    perform(main)


IN_EACH_OTHER = [
    (("stdlib", "stdlib"), ("options", "options")),
    (("options", "options"), ("stdlib", "stdlib")),
    (("stdlib", "stdlib"), ("stdlib", "stdlib")),
    (("context", "creator"), ("options", "context")),
    (("memory", "memory"), ("context", "creator")),
]


@pytest.mark.parametrize(("outer", "inner"), IN_EACH_OTHER, ids=[f"{outer}-{inner}" for outer, inner in IN_EACH_OTHER])
@pytest.mark.parametrize("end", [ProtocolEnd, pytest.param(StreamEnd, marks=needs_stream_upgrade)])
def test_tls_goes_through_tls(outer: tuple[str, str], inner: tuple[str, str], end: type[End], perform: Perform) -> None:
    """A TLS transport is upgraded as any other, with each library inside of the other; it tells of the inner one."""

    async def main() -> None:
        contexts = {"server_tls": server_context(outer[0]), "client_tls": shared_client_context(outer[1])}
        async with connected(end, **contexts) as (server, client):
            outer_object, peername = info(client, "ssl_object", "peername")
            await upgrade_and_talk(server, client, *inner)
            inner_object, peername_then = info(client, "ssl_object", "peername")
            assert inner_object is not outer_object
            assert peername_then == peername

    perform(main)


async def handshake_by_hand(end: ProtocolEnd, sent: Callable[[bytes], None]) -> Callable[[bytes], Awaitable[bytes]]:
    """
    Do the client's handshake over *end*, whose transport does not know of it.

    Args:
        end: The end.
        sent: Called with the ClientHello, which it has to send.

    Returns:
        Sends something, and returns as many bytes as come back.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    by_hand = shared_client_context("stdlib").wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        by_hand.do_handshake()
    sent(outgoing.read())

    async def until_done(step: Callable[[], Any]) -> Any:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                incoming.write(await end.receives_some())
            else:
                end.send(outgoing.read())
                return result

    async def echoed(data: bytes) -> bytes:
        by_hand.write(data)
        end.send(outgoing.read())
        read: bytes = await until_done(lambda: by_hand.read(len(data)))
        return read

    await until_done(by_hand.do_handshake)
    return echoed


@needs_stream_upgrade
@each_server
@pytest.mark.parametrize("early", [1, 5, 100, None])
def test_a_handshake_may_begin_with_the_last_line_of_plain_text(kind: str, early: int | None, perform: Perform) -> None:
    """What the server's reader has of the handshake when the upgrade begins belongs to the handshake."""

    async def main() -> None:
        async with connected(StreamEnd, ProtocolEnd) as (server, client):
            hello = asyncio.get_running_loop().create_future()
            first = asyncio.ensure_future(handshake_by_hand(client, hello.set_result))
            data = await hello
            client.send(b"STARTTLS\r\n" + data[:early])
            assert await server.reader.readline() == b"STARTTLS\r\n"
            assert bytes(server.reader._buffer) == data[:early]
            upgrade = asyncio.ensure_future(server.upgrade(server_context(kind), server_side=True))
            await asyncio.sleep(0)  # for it to begin
            client.send(data[len(data[:early]) :])
            echoed, _ = await asyncio.gather(first, upgrade)
            reply = asyncio.ensure_future(echoed(b"hello"))
            assert await server.receives(5) == b"hello"
            server.send(b"HELLO")
            assert await reply == b"HELLO"

    perform(main)


@needs_stream_upgrade
@each_server
def test_plain_text_behind_the_last_line_is_not_taken_for_secret(kind: str, perform: Perform) -> None:
    """What somebody on the way has put there is no handshake, so the upgrade fails; and nobody reads it later."""

    async def main() -> None:
        async with connected(StreamEnd, ProtocolEnd) as (server, client):
            client.send(b"STARTTLS\r\nMAIL FROM:<mallory>\r\n")
            assert await server.reader.readline() == b"STARTTLS\r\n"
            with pytest.raises(ssl.SSLError):
                await server.upgrade(server_context(kind), server_side=True)
            with contextlib.suppress(ssl.SSLError):
                assert await server.reader.read() == b""
            await client.lost

    perform(main)


@each_upgrade
@pytest.mark.parametrize("over", ["tcp", "tls", "pipes"])
def test_a_server_may_be_paused_when_the_upgrade_begins(
    server_kind: str, client_kind: str, over: str, perform: Perform
) -> None:
    """What it has written arrives first; it is paused until that is gone, and then asked to go on."""

    async def upgrade(server: ProtocolEnd, client: ProtocolEnd) -> None:
        client.transport.pause_reading()
        server.send(VERY_MUCH)
        assert server.callbacks == ["pause_writing"]
        upgrade = asyncio.ensure_future(server.upgrade(server_context(server_kind), server_side=True))
        await asyncio.sleep(0)  # for it to begin
        client.transport.resume_reading()
        assert describe(await client.receives(len(VERY_MUCH))) == describe(VERY_MUCH)
        await asyncio.gather(client.upgrade(shared_client_context(client_kind)), upgrade)
        server.send(b"hello")
        assert await client.receives(5) == b"hello"
        assert server.callbacks == ["pause_writing", "resume_writing"]
        await client.close()
        assert await server.lost is None

    async def main() -> None:
        if over == "pipes":
            async with pipe_ends() as ends:
                await upgrade(*ends)
            return
        contexts = {"server_tls": server_context("stdlib"), "client_tls": shared_client_context("stdlib")}
        async with connected(ProtocolEnd, **(contexts if over == "tls" else {})) as ends:
            await upgrade(*ends)

    perform(main)


@needs_stream_upgrade
@each_upgrade
def test_a_client_may_be_paused_when_the_upgrade_begins(server_kind: str, client_kind: str, perform: Perform) -> None:
    """Its part of the handshake follows what it has written, without a word from the server."""

    async def main() -> None:
        async with connected(StreamEnd, ProtocolEnd) as (server, client):
            client.send(VERY_MUCH)
            assert client.callbacks == ["pause_writing"]
            upgrade = asyncio.ensure_future(client.upgrade(shared_client_context(client_kind)))
            assert describe(await server.receives(len(VERY_MUCH))) == describe(VERY_MUCH)
            await asyncio.gather(server.upgrade(server_context(server_kind), server_side=True), upgrade)
            client.send(b"hello")
            assert await server.receives(5) == b"hello"
            assert client.callbacks == ["pause_writing", "resume_writing"]

    perform(main)


@needs_stream_upgrade
@each_upgrade
def test_a_slow_reader_holds_up_the_peer_after_an_upgrade(server_kind: str, client_kind: str, perform: Perform) -> None:
    """A stream's reader has no more in its buffer than it would have without TLS, and a few records."""

    async def main() -> None:
        async with connected(StreamEnd) as (server, client):
            await asyncio.gather(
                server.upgrade(server_context(server_kind), server_side=True),
                client.upgrade(shared_client_context(client_kind)),
            )
            client.send(VERY_MUCH)
            largest = left = 0
            for left in range(len(VERY_MUCH), 0, -64 * 1024):
                await server.receives(min(left, 64 * 1024))
                for _ in range(5):
                    await asyncio.sleep(0)
                largest = max(largest, len(server.reader._buffer))
            assert largest < 1024 * 1024

    perform(main)
