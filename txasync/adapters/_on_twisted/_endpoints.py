"""
asyncio's connections and servers on the endpoints of Twisted. Its twin is `txasync.adapters._on_asyncio._endpoints`.

What is connected, or listens, is Twisted's; asyncio's protocols stand on it by `TwistedProtocol`.
"""

from __future__ import annotations

import asyncio
import contextvars
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import Factory

from ... import _loops, _reactors
from ...bridge import as_future
from .._errors import as_asyncio_error
from ._protocol import TwistedProtocol
from ._server import EndpointServer, ServerFactory
from ._transport import AsyncioTransport

__all__ = [
    "as_client_endpoint",
    "as_server_endpoint",
    "connect",
    "establish",
    "open_connection",
    "serve",
    "start_server",
]

_P = TypeVar("_P", bound=asyncio.BaseProtocol)

# As asyncio's streams.
STREAM_LIMIT = 2**16

# Twisted's TLS collects small writes for a moment, by the timers of a reactor. Its endpoints do not say of which one.
_WITH_TLS = re.compile("(haproxy:)*(ssl|tls):", re.IGNORECASE)


async def connect(
    endpoint: Any, protocol_factory: Callable[[], _P], *, reactor: Any = None
) -> tuple[asyncio.Transport, _P]:
    """
    Connect an asyncio protocol by an endpoint of Twisted's: ``create_connection()`` for all that Twisted can reach.

    Args:
        endpoint: An ``IStreamClientEndpoint``, or the description of one, such as ``"tls:example.com:443"``.
        protocol_factory: Called without arguments, when the connection is there; makes a ``Protocol`` or a
            ``BufferedProtocol``.
        reactor: For a description: the reactor that is to connect. Default: the one of the running loop.

    Returns:
        The transport and the protocol. Over TLS, the handshake is done.

    Raises:
        TypeError: *endpoint* is neither.
        ValueError: The description says nothing that Twisted knows.
        RuntimeError: The running loop has no reactor, and none was given.
        OSError: The connection failed; as ``create_connection()`` would, and Twisted's error is its ``__cause__``.

    Context:
        A task of a loop that has a reactor: one of ours, or the one that an ``AsyncioSelectorReactor`` stands on.

    Cancellation:
        Nothing stays open.

    Source:
        asyncio, "Opening network connections"; Twisted, ``IStreamClientEndpoint``, ``clientFromString``.
    """
    transport = await establish(endpoint, protocol_factory, reactor=reactor)
    return transport, transport.get_protocol()  # type: ignore[return-value]


async def establish(
    endpoint: Any,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    *,
    reactor: Any = None,
    lost: Callable[[TwistedProtocol], None] | None = None,
) -> AsyncioTransport:
    """What `connect` does; when the connection is lost, *lost* is called after its protocol."""
    endpoint = as_client_endpoint(endpoint, reactor)
    factory = _ConnectingFactory(protocol_factory, asyncio.get_running_loop(), lost)
    try:
        await _of_twisted(as_future(endpoint.connect(factory)))
        return await factory.connected
    except BaseException:
        factory.give_up()
        raise


async def open_connection(
    endpoint: Any, *, limit: int = STREAM_LIMIT, reactor: Any = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """
    Connect by an endpoint of Twisted's, and return asyncio's streams: ``asyncio.open_connection()`` for endpoints.

    Args:
        endpoint: As for `connect`.
        limit: How much the reader buffers, in bytes, before it pauses reading: twice this.
        reactor: As for `connect`.

    Raises:
        Exception: As `connect`.

    Context:
        As `connect`.

    Cancellation:
        As `connect`.

    Source:
        asyncio, "Streams".
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    transport, protocol = await connect(
        endpoint, lambda: asyncio.StreamReaderProtocol(reader, loop=loop), reactor=reactor
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def serve(
    endpoint: Any, protocol_factory: Callable[[], asyncio.BaseProtocol], *, reactor: Any = None
) -> EndpointServer:
    """
    Serve asyncio protocols by an endpoint of Twisted's: ``create_server()`` for all that Twisted can listen on.

    Args:
        endpoint: An ``IStreamServerEndpoint``, or the description of one, such as ``"tcp:8080"`` or
            ``"haproxy:tls:443:privateKey=..."``.
        protocol_factory: Called without arguments for each connection; makes a ``Protocol`` or a ``BufferedProtocol``.
        reactor: As for `connect`.

    Returns:
        A server that listens.

    Raises:
        TypeError, ValueError, RuntimeError: As `connect`.
        OSError: It cannot listen; as ``create_server()`` would, and Twisted's error is its ``__cause__``.

    Context:
        As `connect`.

    Cancellation:
        Nothing listens.

    Source:
        asyncio, "Creating network servers"; Twisted, ``IStreamServerEndpoint``, ``serverFromString``.
    """
    endpoint = as_server_endpoint(endpoint, reactor)
    factory = ServerFactory(protocol_factory, loop=asyncio.get_running_loop())
    listening = endpoint.listen(factory)
    try:
        port = await _of_twisted(as_future(listening))
    except asyncio.CancelledError:
        # Of the Deferred, not of the Future: that is cancelled, whatever comes of the other all the same.
        listening.addCallback(_stop_listening)
        raise
    return EndpointServer(port, factory)


async def start_server(
    client_connected_cb: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None],
    endpoint: Any,
    *,
    limit: int = STREAM_LIMIT,
    reactor: Any = None,
) -> EndpointServer:
    """
    Serve asyncio's streams by an endpoint of Twisted's: ``asyncio.start_server()`` for endpoints.

    Args:
        client_connected_cb: Called with a reader and a writer for each connection; a coroutine function, or a function.
        endpoint: As for `serve`.
        limit: As for `open_connection`.
        reactor: As for `connect`.

    Raises:
        Exception: As `serve`.

    Context:
        As `connect`.

    Cancellation:
        As `serve`.

    Source:
        asyncio, "Streams".
    """
    loop = asyncio.get_running_loop()

    def protocol() -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        return asyncio.StreamReaderProtocol(reader, client_connected_cb, loop=loop)

    return await serve(endpoint, protocol, reactor=reactor)


class _ConnectingFactory(Factory):
    """Makes the protocol of one connection, and waits until that has its transport."""

    noisy = False

    def __init__(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        loop: asyncio.AbstractEventLoop,
        lost: Callable[[TwistedProtocol], None] | None,
    ) -> None:
        self._protocol_factory = protocol_factory
        self._loop = loop
        self._lost = lost
        self._context = contextvars.copy_context()
        self._protocol: TwistedProtocol | None = None
        self._is_given_up = False
        self.connected: asyncio.Future[AsyncioTransport] = loop.create_future()

    def buildProtocol(self, addr: Any) -> TwistedProtocol | None:
        if self._is_given_up:
            return None
        protocol = self._context.run(self._protocol_factory)
        self._protocol = TwistedProtocol(protocol, loop=self._loop, context=self._context, connected=self._concluded)
        if self._lost is not None:
            self._protocol.lost = self._lost
        return self._protocol

    def _concluded(self, outcome: AsyncioTransport | BaseException) -> None:
        if isinstance(outcome, BaseException):
            self._protocol = None  # the connection is lost already
        elif self._is_given_up:
            outcome.abort()
        if self.connected.done():
            return
        if isinstance(outcome, BaseException):
            self.connected.set_exception(outcome)
        else:
            self.connected.set_result(outcome)

    def give_up(self) -> None:
        """Nobody waits any more."""
        self._is_given_up = True
        if not self.connected.cancel() and not self.connected.cancelled():
            self.connected.exception()  # what it was, is being raised, or has come too late for that
        if self._protocol is not None and self._protocol.transport is not None:
            self._protocol.abort()


async def _of_twisted(future: asyncio.Future[Any]) -> Any:
    """What *future* has; an error of Twisted's in asyncio's terms."""
    try:
        return await future
    except Exception as error:
        translated = as_asyncio_error(error)
        if translated is error:
            raise
        raise translated from error


def _stop_listening(port: Any) -> Any:
    """Nobody wants the port that has come after all."""
    return port.stopListening()


def as_client_endpoint(endpoint: Any, reactor: Any) -> Any:
    """*endpoint*, an ``IStreamClientEndpoint``, or the one that it describes; the errors are those of `connect`."""
    return _as_endpoint(endpoint, reactor, "client", IStreamClientEndpoint)


def as_server_endpoint(endpoint: Any, reactor: Any) -> Any:
    """*endpoint*, an ``IStreamServerEndpoint``, or the one that it describes; the errors are those of `serve`."""
    return _as_endpoint(endpoint, reactor, "server", IStreamServerEndpoint)


def _as_endpoint(endpoint: Any, reactor: Any, side: str, interface: Any) -> Any:
    if isinstance(endpoint, str):
        return _described(endpoint, _reactor_for(endpoint, reactor), side)
    if not interface.providedBy(endpoint):
        raise TypeError(f"a {side} endpoint is an {interface.getName()} or the description of one, got {endpoint!r}")
    return endpoint


def _described(description: str, reactor: Any, side: str) -> Any:
    from twisted.internet.endpoints import clientFromString, serverFromString

    from_string: Any = clientFromString if side == "client" else serverFromString
    try:
        return from_string(reactor, description)
    except OSError:
        raise  # a file that it names
    except Exception as error:  # Twisted's parsers of descriptions are called with whatever stands there
        raise ValueError(f"{description!r} does not describe a {side} endpoint: {error}") from error


def _reactor_for(description: str, reactor: Any) -> Any:
    if reactor is not None:
        return reactor
    loop: Any = asyncio.get_running_loop()
    installed = _reactors.installed_reactor()
    own = getattr(loop, "reactor", None)  # a loop of ours has it, whoever has made the loop
    found = own or installed
    if found is None or (own is None and _loops.any_loop_of(found) is not loop):
        raise RuntimeError(
            f"{loop!r} has no reactor, so there is nothing that could open {description!r}: run the program with "
            f"txasync.run(), or name the reactor (reactor=)"
        )
    if found is not installed and _WITH_TLS.match(description):
        raise RuntimeError(
            f"what {description!r} describes has the process's reactor for its clock, which {loop!r} does not run on, "
            f"and would not send what is written: wrap an endpoint without TLS in Twisted's TLSMemoryBIOFactory, which "
            f"takes a clock=, or use the ssl= of the loop's own connections and servers"
        )
    return found
