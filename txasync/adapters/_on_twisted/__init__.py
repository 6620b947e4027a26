"""asyncio's protocols on Twisted's transports, and its servers and connections on Twisted's endpoints."""

from __future__ import annotations

from ._datagram import TwistedDatagramProtocol
from ._datagram_transport import AsyncioDatagramTransport
from ._endpoints import (
    STREAM_LIMIT,
    as_client_endpoint,
    as_server_endpoint,
    connect,
    establish,
    open_connection,
    serve,
    start_server,
)
from ._process import AsyncioSubprocessTransport, TwistedProcessProtocol
from ._protocol import TwistedFactory, TwistedProtocol
from ._server import EndpointServer, ServerFactory
from ._transport import AsyncioTransport

__all__ = [
    "STREAM_LIMIT",
    "AsyncioDatagramTransport",
    "AsyncioSubprocessTransport",
    "AsyncioTransport",
    "EndpointServer",
    "ServerFactory",
    "TwistedDatagramProtocol",
    "TwistedFactory",
    "TwistedProcessProtocol",
    "TwistedProtocol",
    "as_client_endpoint",
    "as_server_endpoint",
    "connect",
    "establish",
    "open_connection",
    "serve",
    "start_server",
]
