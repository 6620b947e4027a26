"""aiohttp: server and client in one process."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import web

CHUNK = bytes(range(256)) * 1024


@contextlib.asynccontextmanager
async def serving(app: web.Application, ssl_context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve *app* on a port that the kernel chooses, and cancel what it does for clients that go; gives its URL."""
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context).start()
        host, port = runner.addresses[0][:2]
        yield f"{'https' if ssl_context else 'http'}://{host}:{port}"
    finally:
        await runner.cleanup()


async def requests() -> dict[str, Any]:
    """A GET, a POST of JSON, a cookie, a redirect, an error, a refused connection."""

    async def hello(request: web.Request) -> web.Response:
        response = web.json_response({"hello": request.match_info["name"], "query": dict(request.query)})
        response.set_cookie("seen", "yes")
        return response

    async def add(request: web.Request) -> web.Response:
        return web.json_response({"sum": sum(await request.json()), "cookie": request.cookies.get("seen")})

    async def moved(request: web.Request) -> web.Response:
        raise web.HTTPFound("/hello/again")

    app = web.Application()
    app.add_routes([web.get("/hello/{name}", hello), web.post("/add", add), web.get("/moved", moved)])
    cookies = aiohttp.CookieJar(unsafe=True)  # unsafe: from a host that is an IP address
    async with aiohttp.ClientSession(cookie_jar=cookies) as session:
        async with serving(app) as url:
            async with session.get(f"{url}/hello/world", params={"a": "1"}) as response:
                greeting = await response.json()
            async with session.post(f"{url}/add", json=[1, 2, 3]) as response:
                added = await response.json()
            async with session.get(f"{url}/moved") as response:
                redirected = await response.json()
            async with session.get(f"{url}/nowhere") as response:
                missing = response.status
        refused = None
        try:
            await session.get(f"{url}/hello/world")
        except aiohttp.ClientConnectorError as error:
            refused = type(error.os_error).__name__
    return {"greeting": greeting, "added": added, "redirected": redirected, "missing": missing, "refused": refused}


async def tls(ca: str, certificate: str, key: str) -> dict[str, Any]:
    """A request over TLS that trusts the server's authority, and one that does not."""

    async def whoami(request: web.Request) -> web.Response:
        assert request.transport is not None
        return web.json_response({"secure": request.secure, "cipher": request.transport.get_extra_info("cipher")[1]})

    app = web.Application()
    app.add_routes([web.get("/", whoami)])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=ca)
    rejected = False
    async with serving(app, context) as url, aiohttp.ClientSession() as session:
        async with session.get(url, ssl=trusting) as response:
            seen = await response.json()
        try:
            await session.get(url, ssl=ssl.create_default_context())
        except aiohttp.ClientConnectorCertificateError:
            rejected = True
    return {**seen, "rejected": rejected}


async def websocket(messages: int) -> dict[str, Any]:
    """Texts, bytes and a ping to a server that echoes, and a close that it answers."""

    async def echo(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            if message.type is aiohttp.WSMsgType.TEXT:
                await ws.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await ws.send_bytes(message.data)
        return ws

    app = web.Application()
    app.add_routes([web.get("/", echo)])
    async with serving(app) as url, aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        in_order = True
        for number in range(messages):
            await ws.send_str(str(number))
            in_order = in_order and await ws.receive_str() == str(number)
        await ws.send_bytes(CHUNK)
        chunk_came_back = await ws.receive_bytes() == CHUNK
        await ws.ping()
        await ws.close(code=1000)
        return {"in_order": in_order, "chunk_came_back": chunk_came_back, "close_code": ws.close_code}


async def large_bodies(chunks: int, path: str) -> dict[str, Any]:
    """Upload a body in chunks and download it again: streamed, and as the file *path*."""

    async def upload(request: web.Request) -> web.Response:
        digest = hashlib.sha256()
        with open(path, "wb") as file:
            async for chunk in request.content.iter_chunked(65536):
                digest.update(chunk)
                file.write(chunk)
        return web.Response(text=digest.hexdigest())

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(chunks):
            await response.write(CHUNK)
        await response.write_eof()
        return response

    async def download(request: web.Request) -> web.FileResponse:
        return web.FileResponse(path)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(chunks):
            yield CHUNK

    async def received(url: str) -> str:
        digest = hashlib.sha256()
        async with session.get(url) as response:
            async for chunk in response.content.iter_any():
                digest.update(chunk)
        return digest.hexdigest()

    app = web.Application(client_max_size=0)
    app.add_routes([web.post("/upload", upload), web.get("/stream", stream), web.get("/file", download)])
    async with serving(app) as url, aiohttp.ClientSession() as session:
        async with session.post(f"{url}/upload", data=body()) as response:
            uploaded = await response.text()
        streamed, sent_file = await asyncio.gather(received(f"{url}/stream"), received(f"{url}/file"))
    return {"uploaded": uploaded, "streamed": streamed, "sent_file": sent_file}


async def load(concurrency: int) -> dict[str, Any]:
    """Twice as many requests as *concurrency*, half of them in flight at once, over connections that are kept."""
    arrived = 0
    everybody_is_here = asyncio.Event()
    clients = set()

    async def wait_for_the_others(request: web.Request) -> web.Response:
        nonlocal arrived
        assert request.transport is not None
        clients.add(request.transport.get_extra_info("peername"))
        arrived += 1
        if arrived == concurrency:
            everybody_is_here.set()
        await everybody_is_here.wait()
        return web.Response(text=request.match_info["number"])

    async def fetch(number: int) -> bool:
        async with session.get(f"{url}/{number}") as response:
            return response.status == 200 and await response.text() == str(number)

    app = web.Application()
    app.add_routes([web.get("/{number}", wait_for_the_others)])
    connector = aiohttp.TCPConnector(limit=0)
    async with serving(app) as url, aiohttp.ClientSession(connector=connector) as session:
        together = await asyncio.gather(*map(fetch, range(concurrency)))
        everybody_is_here.clear()
        arrived = 0
        again = await asyncio.gather(*map(fetch, range(concurrency)))
    return {"succeeded": sum(together) + sum(again), "connections": len(clients)}


async def gone_client() -> dict[str, Any]:
    """A client that gives up; its handler is cancelled."""
    started = asyncio.Event()
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def never(request: web.Request) -> web.Response:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set_result("cancelled")
            raise
        raise AssertionError("unreachable")

    app = web.Application()
    app.add_routes([web.get("/", never)])
    async with serving(app) as url, aiohttp.ClientSession() as session:
        request = asyncio.ensure_future(session.get(url))
        await started.wait()
        request.cancel()
        await asyncio.wait([request])
        return {"handler": await ended, "client_cancelled": request.cancelled()}
