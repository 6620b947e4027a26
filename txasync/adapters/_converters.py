"""The converters of protocols and of factories, from either world to the other."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IProtocol, IProtocolFactory

from ._on_asyncio import AsyncioFactory, AsyncioProtocol
from ._on_twisted import TwistedFactory, TwistedProtocol

__all__ = ["as_asyncio_factory", "as_asyncio_protocol", "as_twisted_factory", "as_twisted_protocol"]


def as_twisted_protocol(
    protocol: asyncio.BaseProtocol, *, loop: asyncio.AbstractEventLoop | None = None
) -> TwistedProtocol:
    """
    Return a Twisted protocol that carries one of asyncio's: for ``StandardIO``, a Conch channel, ``StringTransport``...

    Args:
        protocol: A ``Protocol`` or ``BufferedProtocol`` that is not connected yet.
        loop: The loop that it belongs to. Default: the one that runs when the connection is made.

    Returns:
        An ``IProtocol`` and ``IHalfCloseableProtocol``. *protocol* is its ``protocol``, and is called in a copy of the
        present context. Its transport, an ``asyncio.Transport``, has Twisted's as
        ``get_extra_info("twisted_transport")``.

    Raises:
        TypeError: *protocol* is no asyncio protocol for streams.

    Context:
        The thread of the reactor that will call it, in which *loop* runs.

    Source:
        Twisted, ``IProtocol``; asyncio, "Protocols".
    """
    return TwistedProtocol(_checked(protocol), loop=loop)


def as_twisted_factory(
    protocol_factory: Callable[[], asyncio.BaseProtocol], *, loop: asyncio.AbstractEventLoop | None = None
) -> TwistedFactory:
    """
    Return a Twisted factory of asyncio's protocols: for ``listenTCP()``, endpoints, services, policies...

    Args:
        protocol_factory: Called without arguments for each connection; makes a ``Protocol`` or a ``BufferedProtocol``.
        loop: As for `as_twisted_protocol`.

    Returns:
        An ``IProtocolFactory``, which clients can use, too. Each protocol is made, and called, in a copy of the present
        context.

    Raises:
        TypeError: *protocol_factory* cannot be called.

    Context:
        As `as_twisted_protocol`.

    Source:
        Twisted, ``IProtocolFactory``; asyncio, "Creating network servers".
    """
    if not callable(protocol_factory):
        raise TypeError(f"as_twisted_factory() takes a callable that makes asyncio protocols, got {protocol_factory!r}")

    @functools.wraps(protocol_factory, assigned=("__name__",), updated=())
    def make() -> asyncio.BaseProtocol:
        return _checked(protocol_factory())

    return TwistedFactory(make, loop=loop)


def as_asyncio_protocol(iprotocol: Any, *, is_client: bool = False) -> AsyncioProtocol:
    """
    Return an asyncio protocol that carries one of Twisted's: for any stream transport of any loop.

    Args:
        iprotocol: An ``IProtocol`` that is not connected yet.
        is_client: Which side ``transport.startTLS()`` takes.

    Returns:
        A ``Protocol``. *iprotocol* is its ``protocol``, once it is connected.

    Raises:
        TypeError: *iprotocol* is no Twisted protocol.

    Context:
        The loop's thread. No reactor is needed.

    Source:
        asyncio, "Protocols"; Twisted, ``IProtocol``.
    """
    if not IProtocol.providedBy(iprotocol):
        raise TypeError(
            f"as_asyncio_protocol() takes an IProtocol of Twisted's, got {iprotocol!r}: as_asyncio_factory() takes "
            f"factories"
        )
    return AsyncioProtocol(lambda address: iprotocol, is_client=is_client)


def as_asyncio_factory(factory: Any, *, is_client: bool = False) -> AsyncioFactory:
    """
    Return an asyncio protocol factory of Twisted's protocols: for ``create_server()``, ``create_connection()``...

    Args:
        factory: An ``IProtocolFactory``. It is started with its first connection, and stopped with its last one; with a
            `txasync.LoopServerEndpoint` it is as long as that listens.
        is_client: Which side ``transport.startTLS()`` takes.

    Returns:
        A callable without arguments.

    Raises:
        TypeError: *factory* is no factory of Twisted's.

    Context:
        As `as_asyncio_protocol`.

    Source:
        asyncio, "Creating network servers"; Twisted, ``IProtocolFactory``.
    """
    if not IProtocolFactory.providedBy(factory):
        raise TypeError(f"as_asyncio_factory() takes an IProtocolFactory of Twisted's, got {factory!r}")
    return AsyncioFactory(factory, is_client=is_client)


def _checked(protocol: Any) -> asyncio.BaseProtocol:
    is_one = isinstance(protocol, asyncio.BaseProtocol) or hasattr(protocol, "connection_made")
    if not is_one or isinstance(protocol, type):
        raise TypeError(f"an asyncio protocol, a Protocol or BufferedProtocol, was expected, got {protocol!r}")
    return protocol  # type: ignore[no-any-return]
