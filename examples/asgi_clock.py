"""
An ASGI application, made with Starlette, to be served by "twistd txasync" on any of Twisted's endpoints.

    pip install starlette uvicorn websockets
    cd examples
    twistd --nodaemon txasync --asgi asgi_clock:app --listen tcp:8080:interface=127.0.0.1

GET /       the time, and who asks
GET /ticks  the time, five times, with a second between, or with ?every=SECONDS
/talk       a websocket that sends back what it gets

Stop it with Ctrl-C while "curl http://127.0.0.1:8080/ticks" runs: that gets all of its ticks.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


def now() -> str:
    """The time, as everybody writes it."""
    return f"{datetime.datetime.now(datetime.timezone.utc):%H:%M:%S}"


async def tell(request: Request) -> PlainTextResponse:
    """Tell the time."""
    who = request.client.host if request.client is not None else "whoever you are"
    return PlainTextResponse(f"{now()}, {who}, by {request.url.scheme}\n")


async def tick(request: Request) -> StreamingResponse:
    """Tell the time again and again."""
    every_s = float(request.query_params.get("every", 1))

    async def ticks() -> AsyncIterator[str]:
        for _ in range(5):
            yield f"{now()}\n"
            await asyncio.sleep(every_s)

    return StreamingResponse(ticks(), media_type="text/plain")


async def talk(websocket: WebSocket) -> None:
    """Send back each text."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Where an application opens its database, and closes it: nobody is served outside of it."""
    print(f"the clock is wound up, in {type(asyncio.get_running_loop()).__name__}")
    yield
    print("the clock has stopped")


app = Starlette(routes=[Route("/", tell), Route("/ticks", tick), WebSocketRoute("/talk", talk)], lifespan=lifespan)
