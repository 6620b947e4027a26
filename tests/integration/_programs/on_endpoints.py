"""asyncio code on Twisted's endpoints, all of which are given by their descriptions, those with TLS among them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
import warnings
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import web

import txasync

MUCH = bytes(range(256)) * 16384

# Twisted passes them, to pyOpenSSL 26 and later.
warnings.filterwarnings("ignore", "Passing pyOpenSSL (X509|PKey) objects is deprecated", DeprecationWarning)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, until the other side has no more to say."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def streams(server: str, client: str) -> dict[str, Any]:
    """
    A line, and megabytes both ways at once.

    Args:
        server: The description of the server's endpoint.
        client: That of the client's, where ``{port}`` stands for the server's port.
    """
    async with await txasync.start_server(echo, server) as listening:
        port = listening.sockname[1] if isinstance(listening.sockname, tuple) else 0
        reader, writer = await txasync.open_connection(client.format(port=port))
        writer.write(b"line\n")
        line = await reader.readline()

        async def write() -> None:
            for position in range(0, len(MUCH), 65536):
                writer.write(MUCH[position : position + 65536])
                await writer.drain()

        much, _ = await asyncio.gather(reader.readexactly(len(MUCH)), write())
        version = writer.get_extra_info("tls_version")
        writer.close()
        await writer.wait_closed()
    return {"line": line.decode(), "much_came_back": much == MUCH, "tls": version}


async def site(server: str, path: str = "", ca: str = "") -> dict[str, Any]:
    """
    aiohttp's server on an endpoint, with aiohttp's client, that trusts *ca* alone or that connects to *path*.

    Args:
        server: The description of the server's endpoint.
        path: Of the UNIX socket, if it is one.
        ca: The file with the server's authority, if it is by TLS.
    """

    async def digest(request: web.Request) -> web.Response:
        return web.json_response({"digest": hashlib.sha256(await request.read()).hexdigest(), "secure": request.secure})

    async def chunks() -> AsyncIterator[bytes]:
        for position in range(0, len(MUCH), 65536):
            yield MUCH[position : position + 65536]

    app = web.Application(client_max_size=2 * len(MUCH))
    app.add_routes([web.post("/", digest)])
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    listening = await txasync.serve(server, runner.server)
    connector: Any
    if path:
        connector = aiohttp.UnixConnector(path)
        url = "http://localhost/"
    else:
        context = ssl.create_default_context(cafile=ca) if ca else False
        connector = aiohttp.TCPConnector(ssl=context)
        url = f"{'https' if ca else 'http'}://127.0.0.1:{listening.sockname[1]}/"
    answers = []
    async with aiohttp.ClientSession(connector=connector) as session:
        for _ in range(2):
            async with session.post(url, data=chunks()) as response:
                answers.append(await response.json())
    listening.close()
    await runner.cleanup()
    await listening.wait_closed()
    right = hashlib.sha256(MUCH).hexdigest()
    return {"right": [answer["digest"] == right for answer in answers], "secure": answers[0]["secure"]}
