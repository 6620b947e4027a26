"""A stage whose connections Twisted makes: there, asyncio's scenarios play on Twisted's transports."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import ServerFactory

import txasync
from txasync import ReactorEventLoop, _reactors
from txasync.adapters import as_twisted_protocol

from ..conftest import POLLERS, REACTORS, Runner
from ..transports.combinations import Combination
from ..transports.traces import Scenario, Stage

__all__ = ["play_on_twisted"]


class LoopByTwisted:
    """Makes connections and servers by Twisted; everything else is the loop's own."""

    def __init__(self, loop: ReactorEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(
        self,
        protocol_factory: Callable[[], Any],
        host: Any = None,
        port: Any = None,
        *_address: Any,
        sock: socket.socket | None = None,
    ) -> Any:
        """As the loop's."""
        if sock is None:
            return await txasync.connect(f"tcp:{host}:{port}", protocol_factory, reactor=self._loop.reactor)
        carrier = as_twisted_protocol(protocol_factory())
        factory = ServerFactory()
        factory.noisy = False
        factory.buildProtocol = lambda addr: carrier  # type: ignore[method-assign]
        with sock:  # Twisted has a duplicate
            self._loop.reactor.adoptStreamConnection(sock.fileno(), sock.family, factory)
        await asyncio.sleep(0)
        return carrier.asyncio_transport, carrier.protocol

    async def create_server(
        self,
        protocol_factory: Callable[[], Any],
        host: str,
        port: int,
        *,
        backlog: int = 100,
        start_serving: bool = True,
    ) -> Any:
        """As the loop's, but that it serves at once, as Twisted's endpoints do."""
        host = host.replace(":", r"\:")
        description = f"tcp:{port}:interface={host}:backlog={backlog}"
        return await txasync.serve(description, protocol_factory, reactor=self._loop.reactor)


class AdaptedStage(Stage):
    """Where a scenario plays on Twisted's transports."""

    def __init__(self, loop: ReactorEventLoop) -> None:
        super().__init__(loop)
        self.loop: Any = LoopByTwisted(loop)


def play_on_twisted(scenario: Scenario, combination: Combination) -> list[str]:
    """The trace of *scenario* on Twisted's transports."""
    reactor: Any = REACTORS[combination.reactor]()
    loop = ReactorEventLoop(reactor, poller_factory=POLLERS[combination.poller])
    try:
        return Runner(combination.mode, reactor, loop)(lambda: AdaptedStage(loop).play(scenario))
    finally:
        loop.close()
        _reactors.release_threads(reactor)
        _reactors.dispose_private_reactor(reactor)
