"""The servers of the kinds that are adapted: the protocols of either world on the transports of the other."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any

import asyncio_server
import twisted_server
from twisted.internet import epollreactor
from twisted.internet.protocol import Factory

Starter = Callable[[Any, asyncio.AbstractEventLoop], Coroutine[Any, Any, str]]


def on_twisted_tcp(protocol: Callable[[], asyncio.BaseProtocol]) -> Starter:
    """A protocol of asyncio's on Twisted's transport."""

    async def start(reactor: Any, loop: asyncio.AbstractEventLoop) -> str:
        from txasync.adapters import as_twisted_factory

        port = reactor.listenTCP(0, as_twisted_factory(protocol), interface="127.0.0.1")
        return f"tcp:{port.getHost().port}"

    return start


def on_twisted_unix(protocol: Callable[[], asyncio.BaseProtocol]) -> Starter:
    async def start(reactor: Any, loop: asyncio.AbstractEventLoop) -> str:
        from txasync.adapters import as_twisted_factory

        path = os.path.join(tempfile.mkdtemp(), "socket")
        reactor.listenUNIX(path, as_twisted_factory(protocol))
        return f"unix:{path}"

    return start


def on_twisted_streams(connected: Callable[..., Coroutine[Any, Any, None]]) -> Starter:
    async def start(reactor: Any, loop: asyncio.AbstractEventLoop) -> str:
        import txasync

        server = await txasync.start_server(connected, "tcp:0:interface=127.0.0.1")
        return f"tcp:{server.sockname[1]}"

    return start


def on_asyncio_tcp(protocol: type[Any]) -> Starter:
    """A protocol of Twisted's on the loop's transport."""

    async def start(reactor: Any, loop: asyncio.AbstractEventLoop) -> str:
        from txasync import LoopServerEndpoint

        port = await LoopServerEndpoint(loop, "127.0.0.1", 0).listen(Factory.forProtocol(protocol))
        return f"tcp:{port.getHost().port}"

    return start


def on_asyncio_unix(protocol: type[Any]) -> Starter:
    async def start(reactor: Any, loop: asyncio.AbstractEventLoop) -> str:
        from txasync import LoopServerEndpoint

        path = os.path.join(tempfile.mkdtemp(), "socket")
        await LoopServerEndpoint(loop, path=path).listen(Factory.forProtocol(protocol))
        return f"unix:{path}"

    return start


STARTERS = {
    "on-twisted": {
        "protocol": on_twisted_tcp(asyncio_server.Echo),
        "buffered": on_twisted_tcp(asyncio_server.BufferedEcho),
        "lines": on_twisted_streams(asyncio_server.echo_lines),
        "unix": on_twisted_unix(asyncio_server.Echo),
        "source": on_twisted_tcp(asyncio_server.Source),
        "sink": on_twisted_tcp(asyncio_server.Sink),
    },
    "on-txasync": {
        "protocol": on_asyncio_tcp(twisted_server.Echo),
        "lines": on_asyncio_tcp(twisted_server.LineEcho),
        "unix": on_asyncio_unix(twisted_server.UnixEcho),
        "source": on_asyncio_tcp(twisted_server.Source),
        "sink": on_asyncio_tcp(twisted_server.Sink),
    },
}


def serve(kind: str, services: list[str], announce: Callable[[dict[str, str]], None]) -> None:
    """Run a reactor, with a loop, for the protocols that *kind* stands for."""
    epollreactor.install()
    from twisted.internet import reactor as installed

    import txasync

    reactor: Any = installed
    loop = txasync.install()

    async def main() -> None:
        addresses = {}
        for service in services:
            addresses[service] = await STARTERS[kind][service.partition("=")[0]](reactor, loop)
        announce(addresses)

    task = loop.create_task(main())
    task.add_done_callback(lambda task: task.exception() and reactor.stop())
    reactor.run()
    task.result()
