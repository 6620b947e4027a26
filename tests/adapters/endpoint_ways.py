"""Ways to connect by Twisted's endpoints, and a fixture that runs a test in each combination."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from txasync import ReactorEventLoop
from txasync.adapters import EndpointServer

from ..conftest import Runner
from ..tls.contexts import server_context
from ..transports.tls_interoperation import shared_client_context

Perform = Callable[[Callable[[], Awaitable[None]]], None]
"""Runs a coroutine function on a loop of the test's own; it must end in time."""

LIMIT_S = 60.0
WAYS = ("tcp", "unix", "ssl")


@pytest.fixture
def perform(run: Runner) -> Perform:
    """Run a coroutine function on our loop in each combination."""
    return lambda main: run(lambda: asyncio.wait_for(main(), LIMIT_S))


async def all_lost(server: EndpointServer) -> None:
    """Wait until *server*, which is closed, has no connections: before Python 3.12, wait_closed() does not."""
    await server.wait_closed()
    while server._factory.connections:
        await asyncio.sleep(0)


@implementer(IStreamServerEndpoint)
class TLSServerEndpoint:
    """What ``ssl:`` describes, for *reactor*: Twisted's own takes the process's reactor for its clock."""

    def __init__(self, reactor: Any) -> None:
        self._below = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        self._clock = reactor

    def listen(self, protocolFactory: Any) -> Any:
        """Listen."""
        return self._below.listen(
            TLSMemoryBIOFactory(server_context("options"), False, protocolFactory, clock=self._clock)
        )


@implementer(IStreamClientEndpoint)
class TLSClientEndpoint:
    """What ``tls:`` describes, for *reactor*, likewise."""

    def __init__(self, reactor: Any, port: int) -> None:
        self._below = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        self._clock = reactor

    def connect(self, protocolFactory: Any) -> Any:
        """Connect."""
        creator = shared_client_context("creator", "127.0.0.1")
        connecting: Any = self._below.connect(TLSMemoryBIOFactory(creator, True, protocolFactory, clock=self._clock))
        return connecting.addCallback(lambda tls: tls.wrappedProtocol)


class Way:
    """
    A kind of server endpoint and the kind of client endpoint that reaches it.

    Args:
        kind: One of `WAYS`.
        path: Where a UNIX socket may be.
    """

    def __init__(self, kind: str, path: Path) -> None:
        self.kind = kind
        self.path = str(path)

    @property
    def server(self) -> Any:
        """The server's endpoint, or its description."""
        if self.kind == "ssl":
            return TLSServerEndpoint(_reactor())
        return "tcp:0:interface=127.0.0.1" if self.kind == "tcp" else f"unix:{self.path}"

    def client(self, server: EndpointServer) -> Any:
        """The endpoint that reaches *server*, or its description."""
        if self.kind == "unix":
            return f"unix:{self.path}"
        port = server.sockname[1]
        return f"tcp:127.0.0.1:{port}" if self.kind == "tcp" else TLSClientEndpoint(_reactor(), port)

    @property
    def context(self) -> ssl.SSLContext | None:
        """What a client of asyncio's needs for its ``ssl=``."""
        return shared_client_context("stdlib") if self.kind == "ssl" else None

    async def connect_by_loop(self, server: EndpointServer, protocol_factory: Callable[[], Any]) -> Any:
        """Connect to *server* by the loop."""
        loop = asyncio.get_running_loop()
        if self.kind == "unix":
            return await loop.create_unix_connection(protocol_factory, self.path)
        name = "127.0.0.1" if self.kind == "ssl" else None
        host, port = server.sockname
        return await loop.create_connection(protocol_factory, host, port, ssl=self.context, server_hostname=name)


def _reactor() -> Any:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ReactorEventLoop)
    return loop.reactor


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Way:
    """Each way."""
    return Way(request.param, tmp_path / "socket")


@pytest.fixture(params=[kind for kind in WAYS if kind != "ssl"])
def way_without_tls(request: pytest.FixtureRequest, tmp_path: Path) -> Way:
    """Each way that can be half-closed."""
    return Way(request.param, tmp_path / "socket")


@pytest.fixture
def tcp(tmp_path: Path) -> Way:
    """The way by TCP."""
    return Way("tcp", tmp_path / "socket")


@pytest.fixture
def tls(tmp_path: Path) -> Way:
    """The way by TLS, that cannot be half-closed."""
    return Way("ssl", tmp_path / "socket")
