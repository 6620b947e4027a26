"""The connections of a server, for the server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from .transports import SocketTransport

__all__ = ["Connections"]


class Connections:
    """
    All connections of one server, which sees them as one client of its own: there is one as long as there are any.

    From Python 3.13 on a server has a weak set of its clients, to close them when it is asked to. An entry there takes
    as long as a twentieth of a short connection, and as much memory as a quarter of an idle one.

    Args:
        server: The server.
        all_transports: Gives the transports of the loop, of which those that have this object as their ``connections``
            are meant.
    """

    def __init__(self, server: Any, all_transports: Callable[[], Iterable[SocketTransport]]) -> None:
        self._server = server
        self._all_transports = all_transports
        self._count = 0

    def add(self) -> None:
        """There is one more."""
        if not self._count:
            _attach(self._server, self)
        self._count += 1

    def discard(self) -> None:
        """One of them is lost."""
        self._count -= 1
        if not self._count:
            _detach(self._server, self)

    def close(self) -> None:
        """Close them all, as ``Server.close_clients()`` promises."""
        for transport in self._mine():
            transport.close()

    def abort(self) -> None:
        """Abort them all, as ``Server.abort_clients()`` promises."""
        for transport in self._mine():
            transport.abort()

    def _mine(self) -> list[SocketTransport]:
        return [transport for transport in self._all_transports() if transport.connections is self]


if sys.version_info >= (3, 13):

    def _attach(server: Any, client: Connections) -> None:
        server._attach(client)

    def _detach(server: Any, client: Connections) -> None:
        server._detach(client)

else:

    def _attach(server: Any, client: Connections) -> None:
        server._attach()

    def _detach(server: Any, client: Connections) -> None:
        server._detach()
