"""
Adapters: any protocol of either world on any transport of the other.

================================================== ==================================================
asyncio's protocols on Twisted's transports        Twisted's protocols on asyncio's transports
================================================== ==================================================
`as_twisted_protocol`                              `as_asyncio_protocol`
`as_twisted_factory`                               `as_asyncio_factory`
`as_twisted_datagram_protocol`                     `as_asyncio_datagram_protocol`
`as_twisted_process_protocol`                      `as_asyncio_subprocess_protocol`
`txasync.connect`, `txasync.open_connection`       `txasync.LoopClientEndpoint`
`txasync.serve`, `txasync.start_server`            `txasync.LoopServerEndpoint`
================================================== ==================================================

Those on the left need a loop in the thread of the reactor. Those on the right need no reactor, and work on any loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy_names import lazy_names

# All of them take 7 ms to import, those of one direction half of that.
if TYPE_CHECKING:
    from ._converters import as_asyncio_factory, as_asyncio_protocol, as_twisted_factory, as_twisted_protocol
    from ._datagrams import as_asyncio_datagram_protocol, as_twisted_datagram_protocol
    from ._on_asyncio import LoopClientEndpoint, LoopClock, LoopServerEndpoint
    from ._on_twisted import EndpointServer, connect, open_connection, serve, start_server
    from ._processes import as_asyncio_subprocess_protocol, as_twisted_process_protocol
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "._converters": ("as_asyncio_factory", "as_asyncio_protocol", "as_twisted_factory", "as_twisted_protocol"),
            "._datagrams": ("as_asyncio_datagram_protocol", "as_twisted_datagram_protocol"),
            "._on_asyncio": ("LoopClientEndpoint", "LoopClock", "LoopServerEndpoint"),
            "._on_twisted": ("EndpointServer", "connect", "open_connection", "serve", "start_server"),
            "._processes": ("as_asyncio_subprocess_protocol", "as_twisted_process_protocol"),
        },
    )

__all__ = [
    "EndpointServer",
    "LoopClientEndpoint",
    "LoopClock",
    "LoopServerEndpoint",
    "as_asyncio_datagram_protocol",
    "as_asyncio_factory",
    "as_asyncio_protocol",
    "as_asyncio_subprocess_protocol",
    "as_twisted_datagram_protocol",
    "as_twisted_factory",
    "as_twisted_process_protocol",
    "as_twisted_protocol",
    "connect",
    "open_connection",
    "serve",
    "start_server",
]
