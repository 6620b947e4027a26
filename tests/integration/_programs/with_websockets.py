"""websockets: server and client in one process."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any

from websockets.asyncio.client import connect, unix_connect
from websockets.asyncio.server import ServerConnection, serve, unix_serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedError

LARGE = bytes(range(256)) * 4096


async def echo(connection: ServerConnection) -> None:
    """Send every message back."""
    async for message in connection:
        await connection.send(message)


async def messages(count: int) -> dict[str, Any]:
    """Texts in order, a large message, one in fragments, and a ping."""
    async with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", proxy=None, max_size=None) as connection:
            in_order = True
            for number in range(count):
                await connection.send(str(number))
                in_order = in_order and await connection.recv() == str(number)
            await connection.send(LARGE)
            large_came_back = await connection.recv() == LARGE

            async def fragments() -> AsyncIterator[str]:
                for word in ("frag", "men", "ted"):
                    yield word

            await connection.send(fragments())
            fragmented = await connection.recv()
            await (await connection.ping())
        close_code = connection.close_code
    return {
        "in_order": in_order,
        "large_came_back": large_came_back,
        "fragmented": fragmented,
        "close_code": close_code,
    }


async def broadcast(clients: int) -> dict[str, Any]:
    """One message to many clients; then the server closes them all."""
    connected: list[ServerConnection] = []
    everybody_is_here = asyncio.Event()

    async def wait(connection: ServerConnection) -> None:
        connected.append(connection)
        if len(connected) == clients:
            everybody_is_here.set()
        await connection.wait_closed()

    async def listen() -> tuple[str | bytes, int | None]:
        async with connect(f"ws://127.0.0.1:{port}", proxy=None) as connection:
            message = await connection.recv()
            try:
                await connection.recv()
            except ConnectionClosed as error:
                return message, error.rcvd.code if error.rcvd else None
            raise AssertionError("the server sent more")

    async with serve(wait, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        listeners = [asyncio.ensure_future(listen()) for _ in range(clients)]
        await everybody_is_here.wait()
        await asyncio.gather(*(connection.send("news") for connection in connected))
        server.close()
        heard = await asyncio.gather(*listeners)
    return {"heard": sorted(set(heard)), "listeners": len(heard)}


async def lost_connection() -> dict[str, Any]:
    """A peer that is gone without a closing handshake."""
    gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def note(connection: ServerConnection) -> None:
        try:
            await connection.recv()
        except ConnectionClosedError as error:
            gone.set_result(type(error).__name__)

    async with serve(note, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = await connect(f"ws://127.0.0.1:{port}", proxy=None)
        connection.transport.abort()
        await connection.wait_closed()
        return {"server": await gone, "client": connection.close_code}


async def tls_and_unix(ca: str, certificate: str, key: str, path: str) -> dict[str, Any]:
    """A message over TLS, and one over a UNIX socket."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=ca)
    async with serve(echo, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"wss://localhost:{port}", host="127.0.0.1", ssl=trusting, proxy=None) as connection:
            await connection.send("over TLS")
            over_tls = await connection.recv()
            version = connection.transport.get_extra_info("ssl_object").version()
    async with unix_serve(echo, path), unix_connect(path) as connection:
        await connection.send("over UNIX")
        over_unix = await connection.recv()
    return {"tls": over_tls, "version": version, "unix": over_unix}
