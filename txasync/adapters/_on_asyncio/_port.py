"""A server of asyncio's, as a listening port of Twisted's. Its twin is `txasync.adapters._on_twisted._server`."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from zope.interface import implementer

from .._addresses import as_iaddress

__all__ = ["LoopListeningPort"]


@implementer(IListeningPort)
class LoopListeningPort:
    """
    What `LoopServerEndpoint.listen` gives.

    Args:
        server: The server, which serves.
        factory: Twisted's factory, which is started.

    Attributes:
        server: As given: an ``asyncio.Server``.

    Source:
        Twisted, ``IListeningPort``.
    """

    def __init__(self, server: asyncio.Server, factory: Any) -> None:
        self.server = server
        self._factory = factory
        self._host = as_iaddress(server.sockets[0].getsockname())
        self._listens = True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self._host} listening={self._listens}>"

    def startListening(self) -> None:
        """
        Nothing that is not done.

        Raises:
            CannotListenError: It was stopped.
        """
        if not self._listens:
            error = OSError(f"{self!r} was stopped: let its endpoint listen again")
            raise CannotListenError(None, self._host, error)

    def stopListening(self) -> Deferred[None]:
        """
        Stop listening; connections stay.

        Returns:
            A Deferred that has fired: the address is free.
        """
        if self._listens:
            self._listens = False
            self.server.close()
            self._factory.doStop()
        return succeed(None)

    def getHost(self) -> Any:
        """Where it listens, or has listened; with several sockets, the first one's address."""
        return self._host
