"""Twisted and asyncio libraries that talk to each other, in one process and on one reactor."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import ssl
import warnings
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
from aiohttp import web
from twisted.internet.defer import Deferred
from twisted.internet.ssl import Certificate, CertificateOptions, KeyPair, PrivateCertificate
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, FileBodyProducer, HTTPConnectionPool, readBody
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from .with_aiohttp import CHUNK, serving

# twisted.web says so of any response whose body has come with its headers, after which it has no transport any more:
# https://github.com/twisted/twisted/issues/8227
warnings.filterwarnings("ignore", "Using readBody with a transport that does not have", DeprecationWarning)
# CertificateOptions give pyOpenSSL, of 24.3 and later, what it would rather have as objects of cryptography's.
warnings.filterwarnings("ignore", "Passing pyOpenSSL .* objects is deprecated", DeprecationWarning)


def process_reactor() -> Any:
    """The process's reactor, which is installed before a scenario runs, but not before this module is imported."""
    from twisted.internet import reactor

    return reactor


def future_of(deferred: Deferred[Any]) -> asyncio.Future[Any]:
    """What any asyncio program can write by itself."""
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    deferred.addCallbacks(future.set_result, lambda failure: future.set_exception(failure.value))
    return future


class Echo(Resource):
    """Answers a GET after a timed call of the reactor's, and a POST with the hash of its body."""

    isLeaf = True

    def render_GET(self, request: Request) -> int:
        def answer() -> None:
            request.write(b"from Twisted: " + request.path)
            request.finish()

        process_reactor().callLater(0.001, answer)
        return NOT_DONE_YET

    def render_POST(self, request: Request) -> bytes:
        assert request.content is not None
        return hashlib.sha256(request.content.read()).hexdigest().encode()


@contextlib.asynccontextmanager
async def serving_twisted(options: CertificateOptions | None = None) -> AsyncIterator[str]:
    """Serve with twisted.web on a port that the kernel chooses; gives its URL."""
    reactor = process_reactor()
    site = Site(Echo())  # type: ignore[no-untyped-call]  # so is Twisted's Resource
    if options is None:
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
    else:
        port = reactor.listenSSL(0, site, options, interface="127.0.0.1")
    try:
        yield f"{'http' if options is None else 'https'}://localhost:{port.getHost().port}"
    finally:
        await future_of(port.stopListening())


async def twisted_server(chunks: int) -> dict[str, Any]:
    """A twisted.web server, and aiohttp and httpx as its clients."""
    body = CHUNK * chunks
    async with serving_twisted() as url:
        async with aiohttp.ClientSession() as session:
            fetched = await asyncio.gather(*(_fetch(session, f"{url}/{number}") for number in range(20)))
            async with session.post(url, data=body) as response:
                posted_by_aiohttp = await response.text()
        async with httpx.AsyncClient(trust_env=False) as client:
            fetched_by_httpx = (await client.get(f"{url}/httpx")).text
            posted_by_httpx = (await client.post(url, content=body)).text
    return {
        "in_order": fetched == [f"from Twisted: /{number}" for number in range(20)],
        "fetched_by_httpx": fetched_by_httpx,
        "posted": [posted_by_aiohttp, posted_by_httpx],
    }


async def _fetch(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(url) as response:
        return await response.text()


async def twisted_client(chunks: int) -> dict[str, Any]:
    """An aiohttp server, and Twisted's Agent as its client, over connections that are kept."""

    async def hello(request: web.Request) -> web.Response:
        await asyncio.sleep(0.001)
        return web.Response(text=f"from aiohttp: {request.path}")

    async def upload(request: web.Request) -> web.Response:
        digest = hashlib.sha256()
        async for chunk in request.content.iter_any():
            digest.update(chunk)
        return web.Response(text=digest.hexdigest())

    async def large(request: web.Request) -> web.Response:
        return web.Response(body=CHUNK * chunks)

    app = web.Application(client_max_size=0)
    app.add_routes([web.post("/upload", upload), web.get("/large", large), web.get("/{path}", hello)])
    pool = HTTPConnectionPool(process_reactor())
    agent = Agent(process_reactor(), pool=pool)

    async def request(method: bytes, url: str, body: Any = None) -> bytes:
        response = await future_of(agent.request(method, url.encode(), bodyProducer=body))
        content: bytes = await future_of(readBody(response))
        return content

    async with serving(app) as url:
        fetched = await asyncio.gather(*(request(b"GET", f"{url}/{number}") for number in range(20)))
        producer = FileBodyProducer(io.BytesIO(CHUNK * chunks))
        uploaded = await request(b"POST", f"{url}/upload", producer)
        downloaded = hashlib.sha256(await request(b"GET", f"{url}/large")).hexdigest()
        await future_of(pool.closeCachedConnections())
    return {
        "in_order": fetched == [f"from aiohttp: /{number}".encode() for number in range(20)],
        "uploaded": uploaded.decode(),
        "downloaded": downloaded,
    }


async def tls(ca: str, certificate: str, key: str) -> dict[str, Any]:
    """HTTPS both ways: Twisted's TLS is pyOpenSSL's, asyncio's is the standard library's."""

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="from aiohttp")

    app = web.Application()
    app.add_routes([web.get("/", hello)])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with open(ca, "rb") as file:
        authority = Certificate.loadPEM(file.read())
    agent = Agent(process_reactor(), BrowserLikePolicyForHTTPS(trustRoot=authority))
    async with serving(app, context) as url:
        url = url.replace("127.0.0.1", "localhost")
        response = await future_of(agent.request(b"GET", url.encode()))
        by_agent = (await future_of(readBody(response))).decode()

    with open(key, "rb") as key_file, open(certificate, "rb") as certificate_file:
        private = PrivateCertificate.fromCertificateAndKeyPair(
            Certificate.loadPEM(certificate_file.read()), KeyPair.load(key_file.read(), format=1)
        )
    async with serving_twisted(private.options()) as url, aiohttp.ClientSession() as session:
        async with session.get(url, ssl=ssl.create_default_context(cafile=ca)) as answer:
            by_aiohttp = await answer.text()
    return {"by_agent": by_agent, "by_aiohttp": by_aiohttp}
