"""
One coroutine that awaits Deferreds and asyncio's awaitables, called from a twisted.web page and from an asyncio task.

    python examples/one_coroutine.py                     asyncio first: txasync.run(main())
    python examples/one_coroutine.py --reactor-first     Twisted first: txasync.install(), then reactor.run()

The page asks two slow services at once - one by Twisted's HTTP client, the other in a child process of asyncio's - and
gives up on both after a second.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseDone
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

import txasync

# One coroutine, both awaitables.


async def fetch(url: str) -> bytes:
    response = await Agent(reactor).request(b"GET", url.encode())  # a Deferred of Twisted's
    async with txasync.AsyncConsumer() as chunks:
        response.deliverBody(Body(chunks))
        return b"".join([chunk async for chunk in chunks])


async def compute(seconds: float) -> bytes:
    program = f"import time; time.sleep({seconds}); print(42)"
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    try:
        output, _ = await child.communicate()  # a coroutine of asyncio's
        return output.strip()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def both(url: str, seconds: float) -> bytes:
    fetched, computed = await asyncio.wait_for(asyncio.gather(fetch(url), compute(seconds)), timeout=1)
    return fetched + b" and " + computed


# Twisted's world: pages that are rendered by coroutines, and what receives the body of a response.


class Body(Protocol):
    """Hands the body of a response over to whoever iterates over its chunks."""

    def __init__(self, chunks: txasync.AsyncConsumer) -> None:
        self.chunks = chunks

    def connectionMade(self) -> None:
        self.chunks.registerProducer(self.transport, True)

    def dataReceived(self, data: bytes) -> None:
        self.chunks.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.chunks.finish(None if reason.check(ResponseDone) else reason)


class Slow(Resource):
    """Answers, after a tenth of a second, what it is asked for."""

    isLeaf = True

    def render_GET(self, request: Any) -> int:
        self.answer(request)
        return NOT_DONE_YET

    @txasync.deferred_coroutine
    async def answer(self, request: Any) -> None:
        await deferLater(reactor, 0.1, lambda: None)
        request.write(b"slow")
        request.finish()


class Both(Resource):
    """Answers with what the coroutine has found, or says that it took too long."""

    isLeaf = True

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url

    def render_GET(self, request: Any) -> int:
        seconds = float(request.args[b"seconds"][0])
        answer = txasync.as_deferred(both(self.url, seconds))  # Twisted waits for a task of asyncio's
        answer.addErrback(lambda failure: failure.trap(asyncio.TimeoutError) and b"nothing")
        answer.addCallback(request.write).addCallback(lambda _: request.finish())
        return NOT_DONE_YET


# asyncio's world: a client of those pages.


async def main() -> None:
    root = Resource()
    port = reactor.listenTCP(0, Site(root), interface="127.0.0.1")
    url = f"http://127.0.0.1:{port.getHost().port}"
    root.putChild(b"slow", Slow())
    root.putChild(b"both", Both(f"{url}/slow"))
    try:
        print("in a task:", await both(f"{url}/slow", seconds=0))
        print("by the page:", await fetch(f"{url}/both?seconds=0"))
        print("by the page, of a computation that takes too long:", await fetch(f"{url}/both?seconds=60"))
    finally:
        await port.stopListening()


def reactor_first() -> None:
    txasync.install()

    def begin() -> None:
        ended = txasync.as_deferred(main())
        ended.addBoth(lambda result: reactor.stop() or result)

    reactor.callWhenRunning(begin)
    reactor.run()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One coroutine that awaits Deferreds and asyncio's awaitables.")
    parser.add_argument("--reactor-first", action="store_true", help="call reactor.run() instead of txasync.run()")
    if parser.parse_args().reactor_first:
        reactor_first()
    else:
        txasync.run(main())
