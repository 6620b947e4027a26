"""Twisted's protocols on asyncio's transports, and its endpoints made of asyncio's connections and servers."""

from __future__ import annotations

from ._clock import LoopClock
from ._datagram import AsyncioDatagramProtocol
from ._datagram_transport import TwistedDatagramTransport
from ._endpoints import LoopClientEndpoint, LoopServerEndpoint
from ._process import AsyncioSubprocessProtocol, TwistedProcessTransport
from ._protocol import AsyncioFactory, AsyncioProtocol
from ._transport import TwistedTransport

__all__ = [
    "AsyncioDatagramProtocol",
    "AsyncioFactory",
    "AsyncioProtocol",
    "AsyncioSubprocessProtocol",
    "LoopClientEndpoint",
    "LoopClock",
    "LoopServerEndpoint",
    "TwistedDatagramTransport",
    "TwistedProcessTransport",
    "TwistedTransport",
]
