"""aiohttp's server for ``twistd txasync``: with ``--run main``, or with ``--listen ENDPOINT --protocol protocol``."""

from __future__ import annotations

import asyncio
import functools
import random

from aiohttp import web


async def work(request: web.BaseRequest) -> web.StreamResponse:
    """A request that takes its time, and has a number."""
    number = request.path.rpartition("/")[2]
    print(f"begun {number}", flush=True)
    await asyncio.sleep(random.uniform(0.05, 0.3))
    print(f"served {number}", flush=True)
    return web.Response(text=number)


async def hang(request: web.BaseRequest) -> web.StreamResponse:
    """A request that never ends by itself."""
    print("hanging", flush=True)
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def who(request: web.BaseRequest) -> web.StreamResponse:
    """What aiohttp knows of the connection."""
    return web.json_response({"secure": request.secure, "remote": request.remote})


async def clean_up(app: web.Application) -> None:
    """The application's end."""
    print("application has ended", flush=True)


async def main() -> None:
    """The public way to serve in a loop that runs."""
    app = web.Application()
    app.add_routes([web.get("/work/{number}", work), web.get("/hang", hang), web.get("/who", who)])
    app.on_cleanup.append(clean_up)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(f"aiohttp starting on {runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


@functools.cache
def server() -> web.Server:
    """aiohttp's server without its sites; it is made in the loop."""

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        routes = {"work": work, "hang": hang, "who": who}
        return await routes[request.path.split("/")[1]](request)

    return web.Server(serve)


def protocol() -> asyncio.BaseProtocol:
    """What a connection has."""
    return server()()
