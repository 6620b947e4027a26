"""httpx's AsyncClient against a server of aiohttp."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx
from aiohttp import web

from .with_aiohttp import CHUNK, serving


async def large_bodies(chunks: int) -> dict[str, Any]:
    """A body that is uploaded in chunks and sent back as it comes."""

    async def echo(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for chunk in request.content.iter_any():
            await response.write(chunk)
        return response

    async def body() -> AsyncIterator[bytes]:
        for _ in range(chunks):
            yield CHUNK

    app = web.Application()
    app.add_routes([web.post("/", echo)])
    digest = hashlib.sha256()
    async with serving(app) as url, httpx.AsyncClient(trust_env=False, timeout=None) as client:
        # httpx reads the response when it has sent the request, so the server's buffers have to hold what lies between.
        answer = await client.post(url, content=body())
        digest.update(answer.content)
    return {"echoed": digest.hexdigest()}


async def tls(ca: str, certificate: str, key: str) -> dict[str, Any]:
    """Requests over TLS: one that trusts the server's authority, and one that does not."""

    async def secure(request: web.Request) -> web.Response:
        return web.json_response(request.secure)

    app = web.Application()
    app.add_routes([web.get("/", secure)])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=ca)
    rejected = ""
    async with serving(app, context) as url:
        async with httpx.AsyncClient(trust_env=False, verify=trusting) as client:
            is_secure = (await client.get(url)).json()
        try:
            async with httpx.AsyncClient(trust_env=False, verify=ssl.create_default_context()) as client:
                await client.get(url)
        except httpx.ConnectError as error:
            rejected = "CERTIFICATE_VERIFY_FAILED" if "CERTIFICATE_VERIFY_FAILED" in str(error) else str(error)
    return {"secure": is_secure, "rejected": rejected}


async def timeout_and_cancellation() -> dict[str, Any]:
    """A response that does not come: the read times out; the request is cancelled; the client can still be used."""
    started = asyncio.Event()

    async def never(request: web.Request) -> web.Response:
        if "cancelled" in request.query:
            started.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def at_once(request: web.Request) -> web.Response:
        return web.Response(text="here")

    app = web.Application()
    app.add_routes([web.get("/never", never), web.get("/at-once", at_once)])
    timed_out = False
    async with serving(app) as url, httpx.AsyncClient(base_url=url, trust_env=False, timeout=None) as client:
        try:
            await client.get("/never", timeout=httpx.Timeout(None, read=0.05))
        except httpx.ReadTimeout:
            timed_out = True
        request = asyncio.ensure_future(client.get("/never?cancelled"))
        await started.wait()
        request.cancel()
        await asyncio.wait([request])
        answer = (await client.get("/at-once")).text
    return {"timed_out": timed_out, "cancelled": request.cancelled(), "answer": answer}
