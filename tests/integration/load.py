"""
A load generator that knows which of its requests were accepted, for servers that are told to stop under it.

A request is accepted, and so is to be answered, if it

- was sent before the server was told to stop, on whatever connection;
- or is the first one of a connection that was made before that.

No other request need be answered, as the server may have closed its connection at that moment: it is a later one of a
connection that is kept, and HTTP lets servers close those; or the connection was made at the very moment when the port
was closed. But what the server has begun, it has accepted. So whoever counts with the server's own numbers finds each
request that was begun answered once, and none answered that was not.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import Callable
from typing import NamedTuple, Protocol

__all__ = ["BLOCKING", "HTTP", "LINES", "STOP_AFTER", "WORKERS", "Client", "Dialogue", "Dropped", "Load"]

WORKERS = 30
# So many answers have come when the server is told to stop.
STOP_AFTER = 60
LIMIT_S = 60.0


class Dialogue(Protocol):
    """How requests and answers look."""

    def request(self, number: int, *, is_last: bool) -> bytes:
        """The request with *number*; whether it is known to be the last one of its connection."""

    async def answer(self, reader: asyncio.StreamReader) -> int:
        """Read an answer; the number of the request that it answers. IncompleteReadError: the connection has ended."""


class _HTTP:
    def __init__(self, path: bytes) -> None:
        self._path = path

    def request(self, number: int, *, is_last: bool) -> bytes:
        close = b"Connection: close\r\n" if is_last else b""
        return b"GET /%s/%d HTTP/1.1\r\nHost: localhost\r\n%s\r\n" % (self._path, number, close)

    async def answer(self, reader: asyncio.StreamReader) -> int:
        head = await reader.readuntil(b"\r\n\r\n")
        status, *fields = head.decode().lower().split("\r\n")
        assert status.split()[1] == "200", head
        (length,) = (field.partition(":")[2] for field in fields if field.startswith("content-length:"))
        return int(await reader.readexactly(int(length)))


class _Lines:
    def request(self, number: int, *, is_last: bool) -> bytes:
        return b"%d\n" % number

    async def answer(self, reader: asyncio.StreamReader) -> int:
        return int(await reader.readuntil(b"\n"))


HTTP: Dialogue = _HTTP(b"work")
BLOCKING: Dialogue = _HTTP(b"block")
LINES: Dialogue = _Lines()


class Client:
    """A connection to 127.0.0.1; as an asynchronous context manager, it is closed at the end."""

    def __init__(self, dialogue: Dialogue, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._dialogue = dialogue
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connected(cls, port: int, dialogue: Dialogue, tls: ssl.SSLContext | None = None) -> Client:
        """Connect it."""
        return cls(dialogue, *await asyncio.open_connection("127.0.0.1", port, ssl=tls))

    def send(self, number: int, *, is_last: bool = False) -> None:
        """Send a request. The kernel has it when this returns, for nothing waits in the writer's buffer."""
        self._writer.write(self._dialogue.request(number, is_last=is_last))

    async def answer(self) -> int:
        """The number of the request that is answered next."""
        return await self._dialogue.answer(self._reader)

    async def is_closed(self) -> bool:
        """Wait until the server says something; whether it has closed the connection."""
        return await self._reader.read(1) == b""

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Dropped(NamedTuple):
    """A request that was not answered."""

    number: int
    was_accepted: bool
    error: str


class Load:
    """
    Clients that ask and ask, half of them on connections that they keep, until connections are refused.

    Args:
        port: The server's, on 127.0.0.1.
        dialogue: How to talk to it.
        stop: Called once, in the midst of it: tells the server to stop.
        keeps_asking: Whether clients go on using a connection that they keep after that, until the server closes it.
        tls: The context of the clients' connections, if they have TLS.

    Attributes:
        answered: The numbers of the requests that were.
        answered_late: How many of them were after *stop* was called.
        dropped: The others.
        refused: How many connections were.
    """

    def __init__(
        self,
        port: int,
        dialogue: Dialogue,
        stop: Callable[[], None],
        *,
        keeps_asking: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._port = port
        self._dialogue = dialogue
        self._stop = stop
        self._keeps_asking = keeps_asking
        self._tls = tls
        self._is_told = False
        self._numbers = itertools.count(1)
        self.answered: list[int] = []
        self.answered_late = 0
        self.dropped: list[Dropped] = []
        self.refused = 0

    def run(self) -> None:
        """Do all of it, on a loop of asyncio's own."""
        asyncio.run(asyncio.wait_for(self._run(), LIMIT_S))

    async def _run(self) -> None:
        await asyncio.gather(*(self._ask_until_refused(keeps=worker % 2 == 0) for worker in range(WORKERS)))

    async def _ask_until_refused(self, *, keeps: bool) -> None:
        while True:
            try:
                client = await Client.connected(self._port, self._dialogue, self._tls)
            except ConnectionRefusedError:
                self.refused += 1
                return
            except ConnectionError:
                # The port was closed between TCP's handshake and the rest, which TLS's handshake belongs to.
                assert self._is_told
                continue
            async with client:
                await self._ask(client, keeps=keeps)

    async def _ask(self, client: Client, *, keeps: bool) -> None:
        was_made_in_time = not self._is_told
        for position in itertools.count():
            number = next(self._numbers)
            was_accepted = not self._is_told or (position == 0 and was_made_in_time)
            try:
                client.send(number, is_last=not keeps)
                answer = await client.answer()
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                self.dropped.append(Dropped(number, was_accepted, repr(error)))
                return
            assert answer == number
            self._count(number)
            if not keeps or (self._is_told and not self._keeps_asking):
                return

    def _count(self, number: int) -> None:
        self.answered.append(number)
        self.answered_late += self._is_told
        if len(self.answered) == STOP_AFTER:
            self._is_told = True
            self._stop()
