"""
Two worlds in one process, on one reactor: an asyncio echo server and client, and a Twisted web page about them.

    python examples/two_worlds.py                     asyncio first: txasync.run(main())
    python examples/two_worlds.py --reactor-first     Twisted first: txasync.install(), then reactor.run()

The program talks to its own echo server, fetches its own page, checks the numbers, and goes on serving until Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.resource import Resource
from twisted.web.server import Site

import txasync

MESSAGES = [b"Guten Tag\n", b"Bonjour\n", b"Dobry den\n"]


@dataclass
class Statistics:
    """What the echo server has done so far. asyncio code writes it, Twisted code shows it."""

    connections: int = 0
    messages: int = 0
    received: int = 0
    started: float = field(default_factory=time.monotonic)


# asyncio's world: a server made of a Protocol, and a client that uses streams.


class Echo(asyncio.Protocol):
    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.statistics.connections += 1

    def data_received(self, data: bytes) -> None:
        self.statistics.messages += data.count(b"\n")
        self.statistics.received += len(data)
        self.transport.write(data)


async def talk(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for message in MESSAGES:
        writer.write(message)
        echo = await reader.readline()
        assert echo == message, (echo, message)
        print(f"asyncio's client sent {message!r} and got it back")
    writer.close()
    await writer.wait_closed()


# Twisted's world: a web page, and an HTTP client to fetch it with.


class Page(Resource):
    isLeaf = True

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        self.statistics = statistics

    def render_GET(self, request: Any) -> bytes:
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.setHeader(b"refresh", b"1")
        lines = {
            "connections": self.statistics.connections,
            "messages": self.statistics.messages,
            "bytes": self.statistics.received,
            "uptime": f"{time.monotonic() - self.statistics.started:.1f} s",
            "reactor": type(reactor).__name__,
            # Twisted has called us, and yet asyncio's loop is running: the reactor drives it.
            "loop": type(asyncio.get_running_loop()).__name__,
        }
        return "".join(f"{name}: {value}\n" for name, value in lines.items()).encode()


class Body(Protocol):
    """Collects the body of a response, until that is at its end."""

    def __init__(self) -> None:
        self.data = b""
        self.complete: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.complete.callback(self.data)


async def fetch(url: str) -> dict[str, str]:
    loop = asyncio.get_running_loop()
    response = await Agent(reactor).request(b"GET", url.encode()).asFuture(loop)
    response.deliverBody(body := Body())
    page = await body.complete.asFuture(loop)
    return dict(line.split(": ", 1) for line in page.decode().splitlines())


# Both worlds, in one coroutine.


async def main(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    statistics = Statistics()
    server = await loop.create_server(lambda: Echo(statistics), "127.0.0.1", options.port)
    web = reactor.listenTCP(options.web_port, Site(Page(statistics)), interface="127.0.0.1")
    echo_port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{web.getHost().port}/"
    print(f"asyncio's echo server listens on 127.0.0.1:{echo_port}")
    print(f"Twisted's web server listens on {url}")
    try:
        await talk(echo_port)
        page = await fetch(url)
        print(f"Twisted's client fetched the page: {page}")
        check(page)
        print("the page is right", flush=True)
        if not options.once:
            print(f"serving: open {url} and talk to port {echo_port}; Ctrl-C ends", flush=True)
            await asyncio.Event().wait()
    finally:
        server.close()
        await web.stopListening().asFuture(loop)
        print("closed both servers", flush=True)


def check(page: dict[str, str]) -> None:
    """Compare what the page says with what `talk` has sent."""
    assert page["connections"] == "1", page
    assert page["messages"] == str(len(MESSAGES)), page
    assert page["bytes"] == str(sum(map(len, MESSAGES))), page
    assert page["loop"] == "ReactorEventLoop", page


# Which world is first: all that differs between the two situations.


def asyncio_first(options: argparse.Namespace) -> None:
    try:
        txasync.run(main(options))
    except KeyboardInterrupt:  # Ctrl-C is asyncio's here: it has cancelled main()
        pass


def reactor_first(options: argparse.Namespace) -> None:
    loop = txasync.install()
    task = loop.create_task(main(options))
    task.add_done_callback(lambda task: loop.stop())
    reactor.run()  # Ctrl-C is Twisted's here: it stops the reactor, which ends asyncio's tasks
    if not task.cancelled():
        task.result()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="asyncio and Twisted in one process, on one reactor.")
    parser.add_argument("--reactor-first", action="store_true", help="call reactor.run() instead of txasync.run()")
    parser.add_argument("--once", action="store_true", help="end after the check instead of serving until Ctrl-C")
    parser.add_argument("--port", type=int, default=0, help="the echo server's port (default: any that is free)")
    parser.add_argument("--web-port", type=int, default=0, help="the web server's port (default: any that is free)")
    options = parser.parse_args()
    if options.reactor_first:
        reactor_first(options)
    else:
        asyncio_first(options)
