"""uvicorn and a Starlette application, with httpx as the client, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

CHUNK = bytes(range(256)) * 1024


class Application:
    """A Starlette application that notes what happens to it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.background_task_ran = asyncio.Event()
        self.slow_request_started = asyncio.Event()
        self.slow_request_may_end = asyncio.Event()
        self.asgi = Starlette(
            routes=[
                Route("/echo", self.echo, methods=["POST"]),
                Route("/stream/{chunks:int}", self.stream),
                Route("/thread", self.in_thread),
                Route("/background", self.background),
                Route("/slow", self.slow),
                WebSocketRoute("/websocket", self.websocket),
            ],
            lifespan=self.lifespan,
        )

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.events.append("startup")
        try:
            yield
        finally:
            self.events.append("shutdown")

    async def echo(self, request: Request) -> JSONResponse:
        return JSONResponse({"json": await request.json(), "query": dict(request.query_params)})

    async def stream(self, request: Request) -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            for _ in range(request.path_params["chunks"]):
                yield CHUNK

        return StreamingResponse(body())

    def in_thread(self, request: Request) -> JSONResponse:
        """Starlette runs a function that is not a coroutine function in a thread, by AnyIO."""
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            return JSONResponse({"in_a_thread": False})
        return JSONResponse({"in_a_thread": True})

    async def background(self, request: Request) -> JSONResponse:
        async def run() -> None:
            self.background_task_ran.set()

        return JSONResponse({}, background=BackgroundTask(run))

    async def slow(self, request: Request) -> JSONResponse:
        self.slow_request_started.set()
        await self.slow_request_may_end.wait()
        self.events.append("slow request answered")
        return JSONResponse({"slow": True})

    async def websocket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)


@contextlib.contextmanager
def listening() -> Iterator[tuple[socket.socket, str]]:
    """A socket that listens already, so that nobody has to wait for the server, and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock, f"http://127.0.0.1:{sock.getsockname()[1]}"


@contextlib.asynccontextmanager
async def serving(app: Any, **settings: Any) -> AsyncIterator[tuple[uvicorn.Server, str]]:
    """Serve *app* in a task of this loop; uvicorn ends gracefully at exit."""
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="websockets-sansio", **settings)
    server = uvicorn.Server(config)
    with listening() as (sock, url):
        task = asyncio.ensure_future(server.serve(sockets=[sock]))
        try:
            yield server, url
        finally:
            server.should_exit = True
            await task


async def requests(chunks: int) -> dict[str, Any]:
    """JSON, a streamed body, a function in a thread, a background task; then the application's end."""
    app = Application()
    digest = hashlib.sha256()
    async with serving(app.asgi) as (_, url), httpx.AsyncClient(base_url=url, trust_env=False) as client:
        echoed = (await client.post("/echo", json={"a": [1, None]}, params={"q": "ü"})).json()
        async with client.stream("GET", f"/stream/{chunks}") as response:
            async for chunk in response.aiter_bytes():
                digest.update(chunk)
        in_thread = (await client.get("/thread")).json()
        await client.get("/background")
        await app.background_task_ran.wait()
        missing = (await client.get("/nowhere")).status_code
    return {
        "echoed": echoed,
        "streamed": digest.hexdigest(),
        "in_thread": in_thread,
        "missing": missing,
        "events": app.events,
    }


async def websocket(messages: int) -> dict[str, Any]:
    """Messages through an ASGI websocket."""
    from websockets.asyncio.client import connect

    app = Application()
    async with serving(app.asgi) as (_, url):
        async with connect(f"{url.replace('http', 'ws')}/websocket", proxy=None) as connection:
            in_order = True
            for number in range(messages):
                await connection.send(json.dumps(number))
                in_order = in_order and json.loads(await connection.recv()) == number
    return {"in_order": in_order, "events": app.events}


async def graceful_shutdown() -> dict[str, Any]:
    """A request that is in flight when the server is asked to exit."""
    app = Application()
    async with serving(app.asgi) as (server, url), httpx.AsyncClient(base_url=url, trust_env=False) as client:
        slow = asyncio.ensure_future(client.get("/slow"))
        await app.slow_request_started.wait()
        server.should_exit = True
        app.slow_request_may_end.set()
        answer = (await slow).json()
    refused = False
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            await client.get("/slow")
    except httpx.ConnectError:
        refused = True
    return {"answer": answer, "events": app.events, "refused": refused}


async def load(concurrency: int) -> dict[str, Any]:
    """Requests in flight at once."""
    app = Application()
    limits = httpx.Limits(max_connections=None)
    async with serving(app.asgi) as (_, url):
        async with httpx.AsyncClient(base_url=url, trust_env=False, limits=limits, timeout=None) as client:
            answers = await asyncio.gather(*(client.post("/echo", json=number) for number in range(concurrency)))
    return {"succeeded": sum(answer.json()["json"] == number for number, answer in enumerate(answers))}
