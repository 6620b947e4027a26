"""
An ASGI application on endpoints of Twisted's, by uvicorn.

uvicorn listens nowhere: its protocols stand on the connections of our servers, which accept nobody before the
application has started. What else it does is its own: the application's lifespan, the end of its connections.

At the end, uvicorn closes each connection that is not in the middle of a request, even one that was accepted a moment
ago. So before uvicorn hears of the end, connections on which no request has come yet have some time to bring one.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

from ._server_service import ServerService

__all__ = ["AsgiApplication"]

# How long the first request of a connection is waited for when the application is to end.
FIRST_REQUEST_S = 5.0

# How often uvicorn looks whether it is to exit.
POLL_S = 0.1


class AsgiApplication:
    """
    Serves *app* for *servers*, which are made with its `protocol`.

    Args:
        app: An ASGI application.
        graceful_s: How many seconds its connections have to end by themselves.

    Raises:
        ImportError: uvicorn is not installed.

    Source:
        The ASGI specification; uvicorn, "Settings".
    """

    def __init__(self, app: Any, graceful_s: float) -> None:
        import uvicorn

        # The process's log is twistd's.
        self._config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=math.ceil(graceful_s))
        self._graceful_s = graceful_s
        self._server = _server(self._config, self._resume)
        self._servers: list[ServerService] = []

    def serve_by(self, server: ServerService) -> None:
        """Let *server*, made with `protocol`, accept connections when the application has started."""
        server.pause()
        self._servers.append(server)

    def protocol(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        return _BeforeFirstData(self._uvicorns_protocol)

    def _uvicorns_protocol(self) -> Any:
        protocol_class: Any = self._config.http_protocol_class
        return protocol_class(
            config=self._config, server_state=self._server.server_state, app_state=self._server.lifespan.state
        )

    async def run(self) -> None:
        """
        Start the application, and serve until this is cancelled.

        Raises:
            SystemExit: The application could not be started.

        Cancellation:
            Requests in flight are answered within *graceful_s* seconds, and the application is shut down.
        """
        serving = asyncio.ensure_future(self._serve())
        try:
            code = await asyncio.shield(serving)
        except asyncio.CancelledError:
            await self._end(serving)
            raise
        if code:
            raise SystemExit(code)

    async def _serve(self) -> Any:
        try:
            await self._server.serve(sockets=[])
        except SystemExit as exit_:
            return exit_.code
        return 0

    def _resume(self) -> None:
        for server in self._servers:
            server.resume()

    async def _end(self, serving: asyncio.Future[Any]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._graceful_s
        # What was sent before the signal has been read: the reactor stops an iteration after it has heard of that.
        first_requests_by = min(deadline, loop.time() + FIRST_REQUEST_S)
        while loop.time() < first_requests_by and any(map(self._awaits_first_request, self._protocols())):
            await asyncio.sleep(min(POLL_S, first_requests_by - loop.time()))
        self._config.timeout_graceful_shutdown = max(0.0, deadline - loop.time())  # type: ignore[assignment]  # it may
        self._server.should_exit = True
        await serving

    def _protocols(self) -> Iterator[Any]:
        for server in self._servers:
            yield from server.protocols

    def _awaits_first_request(self, protocol: _BeforeFirstData) -> bool:
        follower = protocol.follower
        if follower is None:
            return True
        # One that has become a websocket's is not among the connections any more.
        return follower in self._server.server_state.connections and getattr(follower, "cycle", follower) is None


class _BeforeFirstData(asyncio.Protocol):
    """
    What a connection has until its first data comes: uvicorn's protocol looks at once who the client is, and behind a
    proxy, the first data says that.

    Args:
        make: Makes uvicorn's protocol.

    Attributes:
        follower: It, from then on.
    """

    follower: Any = None
    _transport: Any

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        follower = self.follower = self._make()
        transport.set_protocol(follower)
        follower.connection_made(transport)
        # uvicorn asks the socket, which knows the proxy only.
        for attribute, name in ("client", "peername"), ("server", "sockname"):
            address = transport.get_extra_info(name)
            if isinstance(address, tuple):
                setattr(follower, attribute, address[:2])
        follower.data_received(data)


def _server(config: Any, started: Callable[[], None]) -> Any:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            started()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Signals are twistd's."""
            yield

    return Server(config)
