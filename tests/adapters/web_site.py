"""A site of twisted.web's, which needs no reactor, and the clients of the tests."""

# Most of this part of Twisted has no annotations.
# mypy: allow-untyped-calls

from __future__ import annotations

import asyncio
import http.client
import ssl
import warnings
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from txasync import as_deferred
from txasync.adapters import LoopClock

from ..tls.contexts import client_context
from .any_loop import LIMIT_S

with warnings.catch_warnings():
    # It calls a function of Twisted's that is deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from twisted.web.static import File

T = TypeVar("T")

MUCH = bytes(range(250)) * 20_000
"""More than the kernel keeps of what nobody reads."""


class Hello(Resource):
    """Says which of its calls this is, and how it was called."""

    calls = 0

    def render_GET(self, request: Any) -> bytes:
        self.calls += 1
        return b"hello %d, %s, %s" % (self.calls, b"secure" if request.isSecure() else b"plain", request.uri)


class Upload(Resource):
    """Says what it was sent."""

    def render_POST(self, request: Any) -> bytes:
        body = request.content.read()
        return b"%d bytes, crc %08x" % (len(body), zlib.crc32(body))


class Later(Resource):
    """Answers when the loop comes to it, by a plain callback."""

    def render_GET(self, request: Any) -> int:
        asyncio.get_running_loop().call_soon(self._answer, request)
        return NOT_DONE_YET

    def _answer(self, request: Any) -> None:
        for word in (b"one, ", b"two, ", b"three"):
            request.write(word)
        request.finish()


class Coroutine(Resource):
    """Answers by a coroutine of asyncio's, which fails if it is asked to."""

    def render_GET(self, request: Any) -> int:
        as_deferred(self._render(request)).addErrback(self._failed, request)
        return NOT_DONE_YET

    def _failed(self, failure: Failure, request: Any) -> None:
        request.processingFailed(failure)

    async def _render(self, request: Any) -> None:
        await asyncio.sleep(0.001)
        if b"fail" in request.args:
            raise ValueError("it was asked to fail")
        request.write(b"by a coroutine")
        request.finish()


class Endless(Resource):
    """
    Begins to answer, and never ends.

    Attributes:
        finished: Done, with the reason, when notifyFinish() says so.
    """

    def __init__(self) -> None:
        super().__init__()
        self.finished: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()

    def render_GET(self, request: Any) -> int:
        request.notifyFinish().addBoth(self.finished.set_result)
        request.write(b"once upon a time")
        return NOT_DONE_YET


@implementer(IPushProducer)
class Flood(Resource):
    """
    Answers with `MUCH` as a push producer: as fast as it may.

    Attributes:
        position: How much it has written.
        told: What it was told: ``"pause"``, ``"resume"``, ``"stop"``.
        stalled: Set while it is paused.
        finished: As that of `Endless`; None if all was sent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self.stalled = asyncio.Event()
        self.finished: asyncio.Future[Failure | None] = asyncio.get_running_loop().create_future()

    def render_GET(self, request: Any) -> int:
        request.notifyFinish().addBoth(self.finished.set_result)
        request.setHeader(b"content-length", b"%d" % len(MUCH))
        self._request = request
        self.position = 0
        request.registerProducer(self, True)
        self._produce()
        return NOT_DONE_YET

    def _produce(self) -> None:
        while not self.stalled.is_set():
            piece = MUCH[self.position : self.position + 20_000]
            self.position += len(piece)
            if not piece:
                self._request.unregisterProducer()
                self._request.finish()
                break
            self._request.write(piece)

    def pauseProducing(self) -> None:
        self.told.append("pause")
        self.stalled.set()

    def resumeProducing(self) -> None:
        self.told.append("resume")
        self.stalled.clear()
        self._produce()

    def stopProducing(self) -> None:
        self.told.append("stop")
        self.stalled.set()


class Tree(NamedTuple):
    """The site, and those of its resources that a test asks for news."""

    site: Site
    hello: Hello
    endless: Endless
    flood: Flood


def tree(directory: Any = None, **options: Any) -> Tree:
    """
    A site.

    Args:
        directory: Whose files are below ``/files``.
        options: As for `Site`.
    """
    root, hello, endless, flood = Resource(), Hello(), Endless(), Flood()
    children: dict[bytes, Any] = {b"hello": hello, b"endless": endless, b"flood": flood}
    children |= {b"upload": Upload(), b"later": Later(), b"coroutine": Coroutine()}
    if directory is not None:
        children[b"files"] = File(str(directory))
    for name, child in children.items():
        root.putChild(name, child)
    return Tree(Site(root, reactor=LoopClock(), **options), hello, endless, flood)


def secure() -> ssl.SSLContext:
    """What a client's TLS is."""
    context: ssl.SSLContext = client_context("stdlib")
    return context


async def browse(port: int, visit: Callable[[http.client.HTTPConnection], T], *, tls: bool = False) -> T:
    """The result of *visit*, which is called in a thread with a client of http.client's."""

    def in_thread() -> T:
        connection = (
            http.client.HTTPSConnection("localhost", port, timeout=LIMIT_S, context=secure())
            if tls
            else http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
        )
        try:
            return visit(connection)
        finally:
            connection.close()

    return await asyncio.get_running_loop().run_in_executor(None, in_thread)


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def get(connection: http.client.HTTPConnection, path: str, **headers: str) -> Answer:
    """What *path* is."""
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return answer_of(connection)


def answer_of(connection: http.client.HTTPConnection) -> Answer:
    """The response that comes."""
    with connection.getresponse() as response:
        return Answer(response.status, response.msg, response.read())


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The status and the body of the response that comes next."""
    status = int((await reader.readline()).split()[1])
    headers: dict[bytes, bytes] = {}
    while (line := await reader.readline()).strip():
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    if headers.get(b"transfer-encoding") != b"chunked":
        return status, await reader.readexactly(int(headers[b"content-length"]))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    assert await reader.readline() == b"\r\n"
    return status, body


def request_lines(path: str, *, body: bytes | None = None) -> bytes:
    """A request as it is sent."""
    if body is None:
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
