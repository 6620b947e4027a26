"""Who hears how far Twisted's transport has come does not keep the connection open."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from twisted.protocols.policies import TimeoutFactory

from txasync.adapters import as_twisted_factory
from txasync.adapters._on_twisted import _progress

from ..conftest import Runner
from .endpoint_ways import Perform, Way, perform, way

__all__ = ["perform", "way"]


class Server(asyncio.Protocol):
    """Writes *size* bytes at once, and then waits."""

    def __init__(self, size: int, lost: asyncio.Future[BaseException | None]) -> None:
        self.size = size
        self.lost = lost

    def connection_made(self, transport: Any) -> None:
        for start in range(0, self.size, 10_000):
            transport.write(bytes(min(10_000, self.size - start)))

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)


@pytest.mark.parametrize("size", [0, 100, 100_000, 10_000_000])
def test_a_policy_can_end_the_connection(
    run: Runner, perform: Perform, way: Way, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twisted would keep it open for as long as a producer is registered; everything arrives before its end."""
    monkeypatch.setattr(_progress, "PATIENCE_S", 0.01)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        lost: asyncio.Future[BaseException | None] = loop.create_future()
        factory = TimeoutFactory(as_twisted_factory(lambda: Server(size, lost)), timeoutPeriod=0.05)
        factory.callLater = lambda *args: run.reactor.callLater(*args)  # type: ignore[method-assign]
        port = await listening(way, factory)
        reader, writer = await connected(way, port)
        assert await reader.read(-1) == bytes(size)
        writer.close()
        assert await lost is None
        await asyncio.sleep(0)
        stopping = port.stopListening()
        if stopping is not None:
            await stopping

    perform(main)


async def listening(way: Way, factory: Any) -> Any:
    """Where *factory* listens."""
    from twisted.internet.endpoints import serverFromString

    endpoint: Any = way.server
    if isinstance(endpoint, str):
        endpoint = serverFromString(asyncio.get_running_loop().reactor, endpoint)  # type: ignore[attr-defined]
    return await endpoint.listen(factory)


async def connected(way: Way, port: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Streams of asyncio's to *port*."""
    if way.kind == "unix":
        return await asyncio.open_unix_connection(way.path)
    host = port.getHost()
    name = "127.0.0.1" if way.kind == "ssl" else None
    return await asyncio.open_connection(host.host, host.port, ssl=way.context, server_hostname=name)
