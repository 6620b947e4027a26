"""
What bad peers do.

A peer is a script for a `Line`: a plain socket, worked by the coroutine's own loop. Where it speaks TLS, it does so by
the standard library in memory, so that what it sends can be cut or spoilt anywhere. Scripts meet stock asyncio as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import trustme

from .tls_peer_contexts import peer_context

Script = Callable[["Line"], Awaitable[None]]
"""What a peer does."""

SERVER, CLIENT = True, False


class Line:
    """A peer's end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock

    async def send(self, data: bytes) -> None:
        """Send *data*, as far as the other end is still there."""
        with contextlib.suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive(self) -> bytes:
        """What has come, when something has; nothing once the other end has closed, or reset, the connection."""
        try:
            return await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)
        except ConnectionError:
            return b""

    async def see_end(self) -> None:
        """Return when the other end has closed, or reset, the connection."""
        while self.sock.fileno() != -1 and await self.receive():
            pass

    def end(self) -> None:
        """Send nothing any more."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close the connection with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Speaker:
    """
    TLS, in memory, on a line.

    Attributes:
        told: The text of the error that the other end has caused, if it has.
    """

    def __init__(self, line: Line, context: ssl.SSLContext) -> None:
        self.line = line
        self.told = ""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server_side = context.protocol == ssl.PROTOCOL_TLS_SERVER
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side)

    def flight(self) -> bytes:
        """What is to be sent now, which is up to the caller."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._outgoing.read()

    async def hear(self) -> None:
        """Take what comes from the other end."""
        data = await self.line.receive()
        self._incoming.write(data) if data else self._incoming.write_eof()

    async def shake_hands(self) -> bool:
        """Complete the handshake; false if that fails."""
        try:
            await self._do(self._tls.do_handshake)
        except ssl.SSLError as error:
            self.told = str(error)
            return False
        return True

    async def say(self, data: bytes) -> None:
        """Send *data*."""
        await self.line.send(self.record(data))

    def record(self, data: bytes) -> bytes:
        """The bytes of the record that says *data*."""
        self._tls.write(data)
        return self._outgoing.read()

    async def listen(self) -> bytes:
        """What the other end has said; nothing if it has ended."""
        try:
            heard: bytes = await self._do(self._tls.read, 1 << 16)
        except ssl.SSLError as error:
            self.told = str(error)
            return b""
        return heard

    async def _do(self, operation: Callable[..., Any], *args: Any) -> Any:
        while True:
            try:
                return operation(*args)
            except ssl.SSLWantReadError:
                pass
            finally:
                # Alerts, too.
                if data := self._outgoing.read():
                    await self.line.send(data)
            await self.hear()


def speaks(side: bool, leaf: Callable[[], trustme.LeafCert] | None = None, **settings: Any) -> Script:
    """A peer that means well, as far as `peer_context` lets it."""

    async def script(line: Line) -> None:
        context = peer_context(None if leaf is None else leaf(), server_side=side, **settings)
        await Speaker(line, context).shake_hands()
        await line.see_end()

    return script


def sends(data: bytes) -> Script:
    """A peer that sends *data*, whatever it hears."""

    async def script(line: Line) -> None:
        await line.send(data)
        await line.see_end()

    return script


def answers(data: bytes) -> Script:
    """A peer that answers with *data*, whatever it hears."""

    async def script(line: Line) -> None:
        await line.receive()
        await sends(data)(line)

    return script


def breaks_off(side: bool, then: Callable[[Line], object], at: int | None = None, *, hears: bool = False) -> Script:
    """
    A peer that gives up in the handshake.

    Args:
        side: Whether it is the server.
        then: What it does then.
        at: Where its first flight ends, as an index.
        hears: Whether a client takes the answer to its first flight.
    """

    async def script(line: Line) -> None:
        speaker = Speaker(line, peer_context(server_side=side))
        if side is SERVER:
            await speaker.hear()
        await line.send(speaker.flight()[:at])
        if hears:
            await speaker.hear()
        then(line)
        await line.see_end()

    return script


def shakes_hands(side: bool, and_then: Callable[[Speaker], Awaitable[object]]) -> Script:
    """A peer whose handshake is good, but what it does then is not."""

    async def script(line: Line) -> None:
        speaker = Speaker(line, peer_context(server_side=side))
        assert await speaker.shake_hands()
        await and_then(speaker)
        await line.see_end()

    return script


def waits(_line: Line) -> None:
    """The line is left open."""


async def says_hello_and_ends(speaker: Speaker) -> None:
    """No close_notify before the end."""
    await speaker.say(b"hello")
    assert await speaker.listen() == b"hello"
    speaker.line.end()


async def ends_in_a_record(speaker: Speaker) -> None:
    """The end comes too early."""
    await speaker.line.send(speaker.record(b"x" * 100)[:50])
    speaker.line.end()


async def spoils_a_record(speaker: Speaker) -> None:
    """A bit was changed on the way."""
    record = speaker.record(b"x" * 100)
    await speaker.line.send(record[:-1] + bytes([record[-1] ^ 1]))
