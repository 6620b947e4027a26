"""websockets' connections, of servers and of clients, on Twisted's endpoints."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("websockets", reason="websockets is not installed: the test extra has it")

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.asyncio.server import Server, ServerConnection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

import txasync
from txasync.adapters import EndpointServer

from .endpoint_ways import Perform, Way, all_lost, perform, way

__all__ = ["perform", "way"]

Service = Callable[[ServerConnection], Awaitable[None]]

MEGABYTE = bytes(range(256)) * 4096


async def echo(connection: ServerConnection) -> None:
    """Send every message back, until the connection is closed in whatever way."""
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)


class ServerOfConnections:
    """
    What websockets' own ``serve()`` makes, but that Twisted listens.

    Its protocol factory needs the server, and its server what listens. Before version 17 the server is told afterwards,
    and does the handshake; since then it is told how to listen, and is given a coroutine function that does all.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._listening: EndpointServer | None = None
        self.server: Any = None

    def _connection(self) -> ServerConnection:
        return ServerConnection(ServerProtocol(max_size=None), self.server)

    async def _listen(self, endpoint: Any) -> Any:
        self._listening = await txasync.serve(endpoint, self._connection)
        return self._listening

    async def _attend(self, connection: ServerConnection) -> None:
        try:
            await connection.handshake()
            self.server.all_connections.add(connection)
            async with connection:
                await self._service(connection)
        finally:
            self.server.all_connections.discard(connection)
            self.server.handler_tasks.discard(asyncio.current_task())

    async def listen(self, endpoint: Any) -> EndpointServer:
        """Listen on *endpoint*."""
        server_class: Any = Server
        if hasattr(Server, "wrap"):
            self.server = server_class(self._service)
            self.server.wrap(await self._listen(endpoint))
        else:
            self.server = server_class(lambda: self._listen(endpoint), self._attend)
            await self.server
        assert self._listening is not None
        return self._listening


@contextlib.asynccontextmanager
async def serving(way: Way, service: Service = echo) -> AsyncIterator[tuple[Any, EndpointServer]]:
    """websockets' server, and what listens for it."""
    it = ServerOfConnections(service)
    listening = await it.listen(way.server)
    try:
        yield it.server, listening
    finally:
        it.server.close()
        await it.server.wait_closed()
        await all_lost(listening)


@contextlib.asynccontextmanager
async def connected(way: Way, listening: EndpointServer) -> AsyncIterator[ClientConnection]:
    """A client that Twisted has connected."""
    protocol = ClientProtocol(parse_uri("ws://localhost/"), max_size=None)
    _, connection = await txasync.connect(way.client(listening), lambda: ClientConnection(protocol))
    await connection.handshake()
    async with connection:
        yield connection


def test_messages_come_back_in_order_and_whole(perform: Perform, way: Way) -> None:
    """Many short ones, one of a megabyte, and one in fragments; a ping is answered."""

    async def fragments() -> AsyncIterator[str]:
        for word in ("frag", "men", "ted"):
            yield word

    async def main() -> None:
        async with serving(way) as (_, listening), connected(way, listening) as connection:
            for number in range(100):
                await connection.send(str(number))
            assert [await connection.recv() for _ in range(100)] == [str(number) for number in range(100)]
            await connection.send(MEGABYTE)
            assert await connection.recv() == MEGABYTE
            await connection.send(fragments())
            assert await connection.recv() == "fragmented"
            assert await (await connection.ping(b"are you there?")) >= 0

    perform(main)


def test_a_client_of_the_loops_is_served_too(perform: Perform, way: Way) -> None:
    """websockets' own connect(), which connects by the loop, and by its TLS."""

    async def main() -> None:
        async with serving(way) as (_, listening):
            if way.kind == "unix":
                options: dict[str, Any] = {"unix": True, "path": way.path}
                url = "ws://localhost/"
            else:
                options = {"ssl": way.context}
                scheme = "wss" if way.kind == "ssl" else "ws"
                url = f"{scheme}://127.0.0.1:{listening.sockname[1]}/"
            async with connect_websocket(url, proxy=None, max_size=None, **options) as connection:
                await connection.send(MEGABYTE)
                assert await connection.recv() == MEGABYTE

    perform(main)


def test_either_side_may_close_with_its_code(perform: Perform, way: Way) -> None:
    """The code and the reason get to the other side; then the connection is lost on both."""

    async def main() -> None:
        ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def until_closed(connection: ServerConnection) -> None:
            await connection.wait_closed()
            ended.set_result((connection.close_code, connection.close_reason))

        async with serving(way, until_closed) as (_, listening), connected(way, listening) as connection:
            await connection.close(4001, "enough")
            assert await ended == (4001, "enough")

        async def refuse(connection: ServerConnection) -> None:
            await connection.close(4002, "not you")

        async with serving(way, refuse) as (_, listening), connected(way, listening) as connection:
            with pytest.raises(ConnectionClosedError) as error:
                await connection.recv()
            assert error.value.rcvd is not None
            assert (error.value.rcvd.code, error.value.rcvd.reason) == (4002, "not you")

    perform(main)


def test_a_server_that_closes_says_so_to_its_clients(perform: Perform, way: Way) -> None:
    """close() ends the connections with 1001, going away, and wait_closed() waits for them and for the port."""

    async def main() -> None:
        async with serving(way) as (server, listening), connected(way, listening) as connection:
            await connection.send("hello")
            assert await connection.recv() == "hello"
            server.close()
            with pytest.raises(ConnectionClosedOK) as error:
                await connection.recv()
            assert error.value.rcvd is not None
            assert error.value.rcvd.code == 1001
            await server.wait_closed()
            assert not listening.is_serving()

    perform(main)


def test_sending_waits_for_a_client_that_does_not_read(perform: Perform, way: Way) -> None:
    """send() is held up by pause_writing(), and goes on when the client reads."""

    async def main() -> None:
        sent = 0
        all_sent = asyncio.Event()

        async def send(connection: ServerConnection) -> None:
            nonlocal sent
            for _ in range(40):
                await connection.send(MEGABYTE)
                sent += 1
            all_sent.set()
            await connection.wait_closed()

        async with serving(way, send) as (_, listening), connected(way, listening) as connection:
            transport: Any = connection.transport
            while transport.is_reading():
                await asyncio.sleep(0)
            before = -1
            while before != sent:
                before = sent
                for _ in range(20):
                    await asyncio.sleep(0)
            assert not all_sent.is_set()
            for _ in range(40):
                assert await connection.recv() == MEGABYTE
            await all_sent.wait()

    perform(main)


def test_a_lost_connection_is_an_error_on_the_other_side(perform: Perform, way: Way) -> None:
    """Without a closing handshake, recv() raises ConnectionClosedError."""

    async def main() -> None:
        async with serving(way) as (server, listening), connected(way, listening) as connection:
            await connection.send("hello")
            await connection.recv()
            (other_side,) = server.connections
            other_side.transport.abort()
            with pytest.raises(ConnectionClosedError):
                await connection.recv()

    perform(main)
