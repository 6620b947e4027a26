"""Twisted's protocols of lines, numbers and netstrings, on the transports of every asyncio loop."""

# Most of this part of Twisted has no annotations.
# mypy: allow-untyped-calls

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import Int32StringReceiver, LineReceiver, NetstringReceiver
from twisted.python.failure import Failure

from .any_loop import Perform, connect, connected, host, listening, perform, serving

__all__ = ["host", "perform"]

PIECES = (1, 3, 7, 1000)
"""How many bytes come at a time."""


class Watched:
    """
    The first base of a protocol whose data is watched as it comes.

    Attributes:
        seen: How many bytes have come.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self._news = asyncio.Event()
        self._receives = False

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds."""
        while not condition():
            self._news.clear()
            await self._news.wait()

    def dataReceived(self, data: bytes) -> Any:
        if self._receives:  # setLineMode() gives back what is no raw data
            return super().dataReceived(data)
        self._receives = True
        self.seen += len(data)
        try:
            return super().dataReceived(data)
        finally:
            self._receives = False
            self._news.set()


class Lines(Watched, LineReceiver):
    """
    Answers each line, and what follows ``raw N``, which is so many bytes.

    Attributes:
        heard: What has come, in order.
        lost: Done, with the reason, when the connection is lost.
    """

    MAX_LENGTH = 100

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[bytes] = []
        self.lost: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()
        self._raw = b""
        self._raw_size = 0

    def lineReceived(self, line: bytes) -> None:
        self.heard.append(line)
        if line.startswith(b"raw "):
            self._raw_size = int(line[4:])
            self.setRawMode()
        elif line == b"wait":
            self.pauseProducing()
        else:
            self.sendLine(b"line " + line)

    def rawDataReceived(self, data: bytes) -> None:
        size = self._raw_size - len(self._raw)
        self._raw += data[:size]
        if len(self._raw) == self._raw_size:
            self.heard.append(self._raw)
            self.sendLine(b"raw %08x" % zlib.crc32(self._raw))
            self._raw = b""
            self.setLineMode(data[size:])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.set_result(reason)


class Kept(Factory):
    """
    A factory that keeps the one protocol that it makes.

    Attributes:
        protocol: Makes it.
        made: Done, with the protocol.
    """

    noisy = False

    def __init__(self, protocol: Callable[[], Any]) -> None:
        self.protocol = protocol
        self.made: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def buildProtocol(self, addr: object) -> Any:
        built = self.protocol()
        built.factory = self
        self.made.set_result(built)
        return built


async def feed(protocol: Watched, writer: asyncio.StreamWriter, data: bytes, size: int) -> None:
    """Send *data* to *protocol* so that *size* bytes come at a time."""
    for start in range(0, len(data), size):
        expected = protocol.seen + len(data[start : start + size])
        writer.write(data[start : start + size])
        await protocol.until(lambda expected=expected: protocol.seen == expected)


@pytest.mark.parametrize("size", PIECES)
def test_lines_and_raw_bytes_come_whole_in_whatever_pieces(perform: Perform, size: int) -> None:
    """setRawMode() and setLineMode() take effect at the right byte."""
    raw = bytes(range(256))
    script = b"one\r\n\r\nraw 256\r\n" + raw + b"two\r\nraw 2\r\n\r\nthree\r\n"

    async def main() -> None:
        factory = Kept(Lines)
        async with serving(factory) as port, connected(port) as (reader, writer):
            server = await factory.made
            await feed(server, writer, script, size)
            answers = [await reader.readline() for _ in range(6)]
        assert server.heard == [b"one", b"", b"raw 256", raw, b"two", b"raw 2", b"\r\n", b"three"]
        assert answers == [
            b"line one\r\n",
            b"line \r\n",
            b"raw %08x\r\n" % zlib.crc32(raw),
            b"line two\r\n",
            b"raw %08x\r\n" % zlib.crc32(b"\r\n"),
            b"line three\r\n",
        ]
        (await server.lost).trap(ConnectionDone)

    perform(main)


def test_a_line_may_stop_those_that_follow(perform: Perform) -> None:
    """pauseProducing() in lineReceived() holds back what has come already, and what comes; nothing of it is lost."""

    async def main() -> None:
        factory = Kept(Lines)
        async with listening(factory) as port, connected(port) as (reader, writer):
            server = await factory.made
            writer.write(b"one\r\nwait\r\ntwo\r\n")
            await server.until(lambda: server.seen == 16)
            assert server.heard == [b"one", b"wait"]
            writer.write(b"three\r\n")
            await turns_of_the_network()
            assert server.seen == 16
            server.resumeProducing()
            assert [await reader.readline() for _ in range(3)] == [b"line one\r\n", b"line two\r\n", b"line three\r\n"]
            assert server.heard == [b"one", b"wait", b"two", b"three"]

    perform(main)


async def turns_of_the_network() -> None:
    """Let a byte go through other connections, after which what was sent before would have been told of."""
    for _ in range(5):
        factory = Kept(Lines)
        async with serving(factory) as port, connected(port) as (reader, writer):
            writer.write(b"x\r\n")
            assert await reader.readline() == b"line x\r\n"


@pytest.mark.parametrize("size", PIECES)
def test_a_line_that_is_too_long_ends_the_connection(perform: Perform, size: int) -> None:
    """What was said before is answered, and nothing after."""

    async def main() -> None:
        factory = Kept(Lines)
        async with serving(factory) as port, connected(port) as (reader, writer):
            server = await factory.made
            await feed(server, writer, b"fine\r\n", size)
            writer.write(b"x" * 200)
            assert await reader.read() == b"line fine\r\n"
        (await server.lost).trap(ConnectionDone)
        assert server.heard == [b"fine"]

    perform(main)


class Talking(LineReceiver):
    """
    A client: says something, then hangs up.

    Attributes:
        answers: Done when there are two.
    """

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.lost: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()

    def connectionMade(self) -> None:
        self.sendLine(b"Guten Tag")

    def lineReceived(self, line: bytes) -> None:
        self.answers.append(line)
        if len(self.answers) == 1:
            self.sendLine(b"raw 3")
            self.transport.write(b"abc")  # type: ignore[union-attr]
        else:
            self.transport.loseConnection()  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.set_result(reason)


def test_a_client_of_lines_talks_to_a_server_of_lines(perform: Perform) -> None:
    """Both are Twisted's, both stand on the loop, and both see a clean end."""

    async def main() -> None:
        factory = Kept(Lines)
        async with listening(factory) as port:
            client = await connect(port, Talking())
            (await client.lost).trap(ConnectionDone)
            (await (await factory.made).lost).trap(ConnectionDone)
        assert client.answers == [b"line Guten Tag", b"raw %08x" % zlib.crc32(b"abc")]

    perform(main)


class Counts(Int32StringReceiver):
    """Sends back each string."""

    def stringReceived(self, string: bytes) -> None:
        self.sendString(string)


class Nets(NetstringReceiver):
    """Sends back each string."""

    def stringReceived(self, string: bytes) -> None:
        self.sendString(string)


class Sending:
    """What a client of strings does, whatever it calls a string: it sends all, and counts what comes back."""

    def __init__(self, strings: list[bytes]) -> None:
        self.strings = strings
        self.back: list[bytes] = []
        self.lost: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()

    def connectionMade(self) -> None:
        for string in self.strings:
            self.sendString(string)  # type: ignore[attr-defined]

    def stringReceived(self, string: bytes) -> None:
        self.back.append(string)
        if len(self.back) == len(self.strings):
            self.transport.loseConnection()  # type: ignore[attr-defined]

    def connectionLost(self, reason: Failure) -> None:
        self.lost.set_result(reason)


class SendingCounts(Sending, Int32StringReceiver):
    """A client of `Counts`."""

    MAX_LENGTH = 1 << 20


class SendingNets(Sending, NetstringReceiver):
    """A client of `Nets`."""

    MAX_LENGTH = 1 << 20


STRINGS = [b"", b"x", bytes(range(256)), b"", b"y" * 90_000, b"z" * 99_999]
KINDS: dict[str, Any] = {"Int32": (Counts, SendingCounts), "netstrings": (Nets, SendingNets)}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    """The classes of a server and of a client."""
    return KINDS[request.param]


def test_strings_are_the_same_on_the_other_side(perform: Perform, kind: Any) -> None:
    """Empty ones, small ones, and those that take several reads."""
    server_class, client_class = kind

    async def main() -> None:
        async with listening(Kept(server_class)) as port:
            client = await connect(port, client_class(STRINGS))
            (await client.lost).trap(ConnectionDone)
        assert client.back == STRINGS

    perform(main)


@pytest.mark.parametrize("size", PIECES)
def test_strings_come_whole_in_whatever_pieces(perform: Perform, kind: Any, size: int) -> None:
    """A piece may end inside of a length."""
    server_class, _ = kind
    script, answer = b"", b""
    for string in (b"", b"x", bytes(range(256)), b"12:ab,"):
        one = b"%d:%s," % (len(string), string) if server_class is Nets else len(string).to_bytes(4, "big") + string
        script += one
        answer += one

    class Counting(Watched, server_class):  # type: ignore[valid-type]
        pass

    async def main() -> None:
        factory = Kept(Counting)
        async with serving(factory) as port, connected(port) as (reader, writer):
            await feed(await factory.made, writer, script, size)
            assert await reader.readexactly(len(answer)) == answer

    perform(main)


def test_a_string_that_is_too_long_ends_the_connection(perform: Perform, kind: Any) -> None:
    """By its length alone; the answers that were sent are not lost."""
    server_class, _ = kind
    is_net = server_class is Nets
    fine = b"2:ab," if is_net else b"\0\0\0\2ab"
    too_long = b"99999999:" if is_net else b"\xff\xff\xff\xff"

    async def main() -> None:
        async with serving(Kept(server_class)) as port, connected(port) as (reader, writer):
            writer.write(fine + too_long)
            assert await reader.read() == fine

    perform(main)
