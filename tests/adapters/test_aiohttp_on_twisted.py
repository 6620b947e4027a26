"""aiohttp's server protocol on Twisted's endpoints, with aiohttp's client and Twisted's."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed: the test extra has it")

import aiohttp
from aiohttp import web
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Cooperator
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

import txasync
from txasync import as_future
from txasync.adapters import EndpointServer

from .endpoint_ways import Perform, Way, all_lost, perform, way

__all__ = ["perform", "way"]

CHUNK = bytes(range(256)) * 256
MANY = 100
"""Chunks: 6.5 MB."""


class Site:
    """
    An application that aiohttp serves on a Twisted endpoint, and the client session that reaches it.

    Attributes:
        server: What listens.
        url: Where the session finds it.
        session: The session.
    """

    def __init__(self, way: Way, server: EndpointServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        authority = "localhost" if way.kind == "unix" else f"127.0.0.1:{server.sockname[1]}"
        self.url = f"{'https' if way.kind == 'ssl' else 'http'}://{authority}"
        self.session = session


@contextlib.asynccontextmanager
async def site(way: Way, *routes: web.RouteDef) -> AsyncIterator[Site]:
    """An application of *routes*."""
    app = web.Application(client_max_size=100 * len(CHUNK) * MANY)
    app.add_routes(routes)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    assert runner.server is not None
    server = await txasync.serve(way.server, runner.server)
    connector: Any = (
        aiohttp.UnixConnector(way.path) if way.kind == "unix" else aiohttp.TCPConnector(ssl=way.context or False)
    )
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Site(way, server, session)
    finally:
        server.close()
        await runner.cleanup()
        await all_lost(server)


async def greet(request: web.Request) -> web.Response:
    """Say who asks, and how."""
    return web.json_response({"name": request.match_info["name"], "secure": request.secure, "remote": request.remote})


async def digest(request: web.Request) -> web.Response:
    """The checksum of the body, which is read in pieces."""
    sum_of_all = hashlib.sha256()
    async for piece in request.content.iter_any():
        sum_of_all.update(piece)
    return web.Response(text=sum_of_all.hexdigest())


async def stream(request: web.Request) -> web.StreamResponse:
    """A response in chunks, of a length that nobody knows before."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(MANY):
        await response.write(CHUNK)
    await response.write_eof()
    return response


def test_requests_are_answered_on_a_connection_that_is_kept(perform: Perform, way: Way) -> None:
    """One connection for all requests; the handler knows its peer, and whether the connection is by TLS."""

    async def main() -> None:
        ports = set()

        async def note(request: web.Request) -> web.Response:
            assert request.transport is not None
            ports.add(request.transport.get_extra_info("peername"))
            return await greet(request)

        async with site(way, web.get("/{name}", note)) as it:
            for name in "one", "two", "three":
                async with it.session.get(f"{it.url}/{name}") as response:
                    greeting = await response.json()
                assert greeting["name"] == name
                assert greeting["secure"] is (way.kind == "ssl")
                if way.kind != "unix":
                    assert greeting["remote"] == "127.0.0.1"
            async with it.session.get(f"{it.url}/no/where") as response:
                assert response.status == 404
        assert len(ports) == 1

    perform(main)


def test_large_bodies_go_up_and_down(perform: Perform, way: Way) -> None:
    """Megabytes come whole, as one body or as a stream of chunks, to the server and from it."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MANY):
            yield CHUNK

    async def main() -> None:
        expected = hashlib.sha256(CHUNK * MANY).hexdigest()
        async with site(way, web.post("/digest", digest), web.get("/stream", stream)) as it:
            for body in BytesIO(CHUNK * MANY), chunks():
                async with it.session.post(f"{it.url}/digest", data=body) as response:
                    assert await response.text() == expected
            async with it.session.get(f"{it.url}/stream") as response:
                assert hashlib.sha256(await response.read()).hexdigest() == expected

    perform(main)


def test_a_response_waits_for_a_client_that_reads_slowly(perform: Perform, way: Way) -> None:
    """The handler writes no more than the buffers take, until the client reads on."""

    async def main() -> None:
        written = 0
        finished = False

        async def much(request: web.Request) -> web.StreamResponse:
            nonlocal written, finished
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(10 * MANY):
                await response.write(CHUNK)
                written += 1
            finished = True
            return response

        async with site(way, web.get("/", much)) as it, it.session.get(it.url) as response:
            transport: Any = response.connection and response.connection.transport
            read = len(await response.content.readexactly(10))
            # The client's own buffer is full, and what is behind it fills up.
            while transport.is_reading():
                await asyncio.sleep(0)
            before = -1
            while before != written:
                before = written
                for _ in range(20):
                    await asyncio.sleep(0)
            assert not finished
            async for piece in response.content.iter_any():
                read += len(piece)
            assert finished
            assert read == 10 * MANY * len(CHUNK)

    perform(main)


def test_a_websocket_echoes(perform: Perform, way: Way) -> None:
    """Messages come back in order, large ones too; a ping is answered, and so is the close."""

    async def main() -> None:
        closed: asyncio.Future[web.WebSocketResponse] = asyncio.get_running_loop().create_future()

        async def echo(request: web.Request) -> web.WebSocketResponse:
            websocket = web.WebSocketResponse(max_msg_size=0)
            await websocket.prepare(request)
            async for message in websocket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    await websocket.send_str(message.data)
                else:
                    await websocket.send_bytes(message.data)
            closed.set_result(websocket)
            return websocket

        async with site(way, web.get("/", echo)) as it:
            async with it.session.ws_connect(it.url, max_msg_size=0) as websocket:
                for number in range(100):
                    await websocket.send_str(str(number))
                assert [await websocket.receive_str() for _ in range(100)] == [str(number) for number in range(100)]
                await websocket.send_bytes(CHUNK * 20)
                assert await websocket.receive_bytes() == CHUNK * 20
                await websocket.ping()
                await websocket.close(code=4000)
            assert (await closed).close_code == 4000

    perform(main)


def test_a_handler_is_cancelled_when_its_client_goes(perform: Perform, way: Way) -> None:
    """connection_lost() reaches aiohttp while the handler waits."""

    async def main() -> None:
        entered, cancelled = asyncio.Event(), asyncio.Event()

        async def wait(request: web.Request) -> web.Response:
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise
            raise AssertionError

        async with site(way, web.get("/", wait)) as it:
            asking = asyncio.ensure_future(it.session.get(it.url))
            await entered.wait()
            asking.cancel()
            await cancelled.wait()
            with pytest.raises(asyncio.CancelledError):
                await asking

    perform(main)


def test_a_file_is_sent(perform: Perform, way: Way, tmp_path: Path) -> None:
    """FileResponse sends it with loop.sendfile(), whole or a range of it."""

    async def main() -> None:
        file = tmp_path / "file"
        file.write_bytes(CHUNK * MANY)

        async def send(request: web.Request) -> web.FileResponse:
            return web.FileResponse(file)

        async with site(way, web.get("/", send)) as it:
            async with it.session.get(it.url) as response:
                assert await response.read() == CHUNK * MANY
            async with it.session.get(it.url, headers={"Range": "bytes=1000000-1999999"}) as response:
                assert response.status == 206
                assert await response.read() == (CHUNK * MANY)[1_000_000:2_000_000]
        await asyncio.get_running_loop().shutdown_default_executor()  # which closes the file

    perform(main)


class Body(Protocol):
    """The body of a response to Twisted's client, whose protocol this is."""

    def __init__(self) -> None:
        self.whole: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pieces: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self._pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.whole.set_result(b"".join(self._pieces))


@implementer(IAgentEndpointFactory)
class EndpointOfSite:
    """The endpoint to which Twisted's client connects, whatever the URL says."""

    def __init__(self, reactor: Any, endpoint: Any) -> None:
        self._endpoint = clientFromString(reactor, endpoint) if isinstance(endpoint, str) else endpoint

    def endpointForURI(self, uri: Any) -> Any:
        """Always the same."""
        return self._endpoint


def test_twisteds_client_is_answered_too(perform: Perform, way: Way) -> None:
    """Agent gets a page and posts megabytes; both worlds are on one reactor, and at both ends of one connection."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        reactor = loop.reactor
        async with site(way, web.get("/{name}", greet), web.post("/digest", digest)) as it:
            pool = HTTPConnectionPool(reactor)
            agent = Agent.usingEndpointFactory(reactor, EndpointOfSite(reactor, way.client(it.server)), pool)

            async def ask(method: bytes, path: str, producer: Any = None) -> bytes:
                response: Any = await as_future(agent.request(method, f"{it.url}{path}".encode(), None, producer))
                body = Body()
                response.deliverBody(body)
                return await body.whole

            assert b'"name": "world"' in await ask(b"GET", "/world")
            # By default it is the process's reactor that produces.
            cooperator = Cooperator(scheduler=lambda step: reactor.callLater(0, step))
            producer = FileBodyProducer(BytesIO(CHUNK * MANY), cooperator)
            assert await ask(b"POST", "/digest", producer) == hashlib.sha256(CHUNK * MANY).hexdigest().encode()
            await as_future(pool.closeCachedConnections())

    perform(main)
