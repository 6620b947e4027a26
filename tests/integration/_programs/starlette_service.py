"""ASGI applications for ``twistd txasync --asgi``, with and without ``uvicorn.Server``. They print what happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


async def who(request: Request) -> JSONResponse:
    """What the application is told of the connection, and what the lifespan has left for it."""
    scope = request.scope
    return JSONResponse({name: scope[name] for name in ("scheme", "client", "server")} | {"ready": request.state.ready})


async def length(request: Request) -> PlainTextResponse:
    """How long the body was, which comes in pieces."""
    return PlainTextResponse(str(sum([len(piece) async for piece in request.stream()])))


async def count(request: Request) -> StreamingResponse:
    """Numbers, one by one."""

    async def numbers() -> AsyncIterator[str]:
        for number in range(1000):
            yield f"{number}\n"
            await asyncio.sleep(0)

    return StreamingResponse(numbers())


async def endless(request: Request) -> StreamingResponse:
    """A body that ends with the client's patience."""

    async def numbers() -> AsyncIterator[str]:
        try:
            while True:
                yield "more\n"
                await asyncio.sleep(0.01)
        finally:
            print("nobody reads any more", flush=True)

    return StreamingResponse(numbers())


async def work(request: Request) -> PlainTextResponse:
    """A request that takes its time, and has a number."""
    number = request.path_params["number"]
    print(f"begun {number}", flush=True)
    await asyncio.sleep(random.uniform(0.05, 0.3))
    print(f"served {number}", flush=True)
    return PlainTextResponse(number)


async def block(request: Request) -> PlainTextResponse:
    """A request that keeps the process busy until there is a file, and longer than uvicorn sleeps."""
    print("blocking", flush=True)
    while not os.path.exists("go"):
        time.sleep(0.01)
    time.sleep(0.2)
    return PlainTextResponse(request.path_params["number"])


async def hang(request: Request) -> PlainTextResponse:
    """A request that never ends by itself."""
    print("hanging", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("not hanging any more", flush=True)
    raise AssertionError("unreachable")


async def echo(websocket: WebSocket) -> None:
    """Send back each text."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
    print("websocket closed", flush=True)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    """From the application's start to its end."""
    print(f"application has started on {type(asyncio.get_running_loop()).__name__}", flush=True)
    yield {"ready": True}
    print("application has ended", flush=True)


@contextlib.asynccontextmanager
async def patience(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    """A start that takes until SIGUSR1."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, told.set)
    print("application waits", flush=True)
    await told.wait()
    loop.remove_signal_handler(signal.SIGUSR1)
    yield {"ready": True}


@contextlib.asynccontextmanager
async def failure(app: Starlette) -> AsyncIterator[None]:
    """A start that fails."""
    raise LookupError("no database")
    yield


app = Starlette(
    routes=[
        Route("/who", who),
        Route("/length", length, methods=["POST"]),
        Route("/count", count),
        Route("/endless", endless),
        Route("/work/{number}", work),
        Route("/block/{number}", block),
        Route("/hang", hang),
        WebSocketRoute("/echo", echo),
    ],
    lifespan=lifespan,
)
slowly_starting = Starlette(routes=[Route("/who", who)], lifespan=patience)
failing = Starlette(lifespan=failure)


async def by_uvicorn() -> None:
    """uvicorn's own server, which listens, and takes signals, by itself."""
    import uvicorn

    await uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None)).serve()
    print("uvicorn has ended", flush=True)
