"""
A web application of aiohttp's under "twistd txasync".

    pip install aiohttp
    cd examples
    twistd --nodaemon txasync --run aiohttp_site:main -- 8080
    twistd --nodaemon txasync --listen tcp:8080:interface=127.0.0.1 --protocol aiohttp_site:protocol

In the first form, the program listens, as aiohttp's programs do. At the end, twistd cancels the function, and aiohttp's
cleanup waits for the requests in flight. In the second form, the endpoint is Twisted's: any of "tcp:", "ssl:", "unix:",
"haproxy:", "systemd:"...
"""

from __future__ import annotations

import asyncio
import functools
import sys

from aiohttp import web


async def greet(request: web.BaseRequest) -> web.StreamResponse:
    """Greet whoever asks, after a moment."""
    await asyncio.sleep(0.1)
    return web.Response(text=f"hello, {request.remote or 'whoever you are'}\n")


# What listens by itself.


async def main() -> None:
    """Serve until cancelled, on the port that the command line names."""
    app = web.Application()
    app.add_routes([web.get("/", greet)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", int(sys.argv[1])).start()
        print(f"listening on port {runner.addresses[0][1]}")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


# What is listened for.


@functools.cache
def server() -> web.Server:
    """Makes the protocols of connections. It belongs to the loop, so it is made when that runs."""
    return web.Server(greet)


def protocol() -> asyncio.BaseProtocol:
    """The protocol of a new connection."""
    return server()()
