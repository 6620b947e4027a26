"""
Stop the reactor while a server of an asyncio library serves, and print what was cleaned up, as JSON.

    python -m tests.integration._programs.stop_while_serving SERVER

As under twistd: the reactor runs, asyncio is installed on it, and ``reactor.stop()`` comes with requests in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

import txasync

reactor: Any = _reactor
events: list[str] = []


async def never(started: asyncio.Event) -> None:
    """What a request in flight does: it waits, and says so when it is ended."""
    started.set()
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        events.append("request cleaned up")


@contextlib.asynccontextmanager
async def sent_request(port: int) -> AsyncIterator[None]:
    """A client that has sent a request and waits for the answer."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        yield
    finally:
        writer.close()


async def aiohttp() -> None:
    """An aiohttp server whose ``finally`` cleans it up."""
    from aiohttp import web

    started = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        await never(started)
        raise AssertionError("unreachable")

    async def clean_up(app: web.Application) -> None:
        events.append("application cleaned up")

    app = web.Application()
    app.add_routes([web.get("/", handle)])
    app.on_cleanup.append(clean_up)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with sent_request(runner.addresses[0][1]):
            await started.wait()
            reactor.stop()
            await asyncio.Event().wait()
    finally:
        await runner.cleanup()


async def uvicorn_cancelled() -> None:
    """A uvicorn server in a task that nobody ends: uvicorn is cancelled, and so is its application."""
    from .with_uvicorn import serving

    started = asyncio.Event()
    async with serving(application(started), log_level="critical", lifespan="on") as (_, url):
        async with sent_request(int(url.rpartition(":")[2])):
            await started.wait()
            reactor.stop()
            await asyncio.Event().wait()


async def uvicorn_graceful() -> None:
    """A uvicorn server that a "before shutdown" trigger asks to exit, and waits for."""
    from .with_uvicorn import serving

    started, asked = asyncio.Event(), asyncio.Event()
    ended: Deferred[None] = Deferred()
    settings: dict[str, Any] = {"log_level": "critical", "lifespan": "on", "timeout_graceful_shutdown": 0}
    async with serving(application(started), **settings) as (_, url):
        async with sent_request(int(url.rpartition(":")[2])):
            await started.wait()

            def exit_gracefully() -> Deferred[None]:
                asked.set()
                return ended

            reactor.addSystemEventTrigger("before", "shutdown", exit_gracefully)
            reactor.stop()
            await asked.wait()
    ended.callback(None)


def application(started: asyncio.Event) -> Any:
    """An ASGI application, with a lifespan, whose requests do not end by themselves."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await never(started)
            return
        try:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        finally:
            events.append("application cleaned up")

    return app


SERVERS: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    "aiohttp": aiohttp,
    "uvicorn-cancelled": uvicorn_cancelled,
    "uvicorn-graceful": uvicorn_graceful,
}


def main() -> None:
    """Run the reactor, as twistd does."""
    tasks = []

    def start() -> None:
        # How long a callback takes is up to the machine; in debug mode asyncio would write that to stderr.
        txasync.install().slow_callback_duration = math.inf
        tasks.append(asyncio.create_task(SERVERS[sys.argv[1]]()))

    reactor.callWhenRunning(start)
    reactor.run()
    assert tasks[0].done()
    json.dump(events, sys.stdout)


if __name__ == "__main__":
    main()
