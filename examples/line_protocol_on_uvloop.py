"""
A Twisted line protocol on a uvloop loop: no reactor runs, and none is imported.

    python examples/line_protocol_on_uvloop.py

``LineReceiver`` knows nothing of asyncio. Here it is served by uvloop's ``create_server()``, and its client is
connected by uvloop's ``create_connection()``, each as an endpoint of Twisted's. Without uvloop it is asyncio's own loop
that does so.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import connectProtocol
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

import txasync
from txasync.adapters import LoopClientEndpoint, LoopServerEndpoint


# The protocols
class Spelling(LineReceiver):
    """A server that spells each word."""

    def connectionMade(self) -> None:
        self.sendLine(b"Which words?")

    def lineReceived(self, line: bytes) -> None:
        if line:
            self.sendLine("-".join(line.decode()).encode())
        else:
            self.sendLine(b"Good bye.")
            self.transport.loseConnection()


class Asking(LineReceiver):
    """A client that says *lines*, one for each that it hears; ``ended`` fires when the server hangs up."""

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines
        self.ended: Deferred[None] = Deferred()

    def lineReceived(self, line: bytes) -> None:
        print("server:", line.decode())
        if self.lines:
            said = self.lines.pop(0)
            print("client:", said.decode() or "(an empty line)")
            self.sendLine(said)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


# The loop
async def main() -> None:
    """Serve, talk, stop."""
    loop = asyncio.get_running_loop()
    print(f"on a loop of {type(loop).__module__}")
    factory = Factory.forProtocol(Spelling)
    port: Any = await txasync.as_future(LoopServerEndpoint(loop, "127.0.0.1", 0).listen(factory))
    endpoint = LoopClientEndpoint(loop, "127.0.0.1", port.getHost().port)
    client = await txasync.as_future(connectProtocol(endpoint, Asking([b"Twisted", b"uvloop", b""])))
    await txasync.as_future(client.ended)
    await txasync.as_future(port.stopListening())
    print(f"a reactor was imported: {'twisted.internet.reactor' in sys.modules}")


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop's, or of asyncio's if uvloop is not installed."""
    try:
        import uvloop
    except ImportError:
        print("uvloop is not installed (pip install uvloop), so this is asyncio's own loop")
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


if __name__ == "__main__":
    loop = new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
