"""
The txasync reactor: Twisted's descriptors and asyncio's in one epoll object.

    python examples/one_reactor_for_both.py

Two echo servers, one of Twisted's and one of asyncio's, and a client for each of them, in one process. The program says
what each message cost the process, clients included.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from twisted.internet.protocol import Factory, Protocol

import txasync
import txasync.reactor

MESSAGES = 5000


class TwistedEcho(Protocol):
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class AsyncioEcho(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def ping(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(MESSAGES):
        message = b"%d" % number
        writer.write(message)
        assert await reader.readexactly(len(message)) == message
    writer.close()
    await writer.wait_closed()


async def priced(name: str, work: Coroutine[Any, Any, None]) -> None:
    began = time.process_time()
    await work
    cost = (time.process_time() - began) / MESSAGES
    print(f"{name}: {MESSAGES} messages, {cost * 1e6:.1f} microseconds of processor time each")


async def main() -> None:
    from twisted.internet import reactor as installed

    reactor: Any = installed
    on_twisted = reactor.listenTCP(0, Factory.forProtocol(TwistedEcho), interface="127.0.0.1")
    on_asyncio = await asyncio.get_running_loop().create_server(AsyncioEcho, "127.0.0.1", 0)
    print(f"on {type(reactor).__name__}")
    await priced("Twisted's protocol", ping(on_twisted.getHost().port))
    await priced("asyncio's protocol", ping(on_asyncio.sockets[0].getsockname()[1]))
    await on_twisted.stopListening()
    on_asyncio.close()


if __name__ == "__main__":
    txasync.reactor.install()  # before anything imports twisted.internet.reactor
    txasync.run(main())
