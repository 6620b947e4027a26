"""
``aiohttp.web.run_app()`` with our loop: it serves one request and gets a signal. Prints what happened, as JSON.

    python -m tests.integration._programs.aiohttp_run_app SIGNAL_NUMBER
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

import txasync

events: list[str] = []


async def hello(request: web.Request) -> web.Response:
    """Answer the one request."""
    return web.Response(text=type(asyncio.get_running_loop()).__name__)


def main() -> None:
    """Serve until the signal comes."""
    # It listens already, so the client need not wait for the server.
    sock = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"

    async def ask() -> None:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            events.append(await response.text())
        os.kill(os.getpid(), int(sys.argv[1]))

    async def ask_and_kill(app: web.Application) -> AsyncIterator[None]:
        task = asyncio.ensure_future(ask())
        yield
        await task
        events.append("cleaned up")

    app = web.Application()
    app.add_routes([web.get("/", hello)])
    app.cleanup_ctx.append(ask_and_kill)
    loop = txasync.new_event_loop()
    web.run_app(app, sock=sock, loop=loop, print=None)
    events.append("closed" if loop.is_closed() else "open")
    json.dump(events, sys.stdout)


if __name__ == "__main__":
    main()
