"""Accepting connections on a listening socket."""

from __future__ import annotations

import errno
import socket
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any

from .._burst import Burst
from ._services import LoopServices

__all__ = ["Listener", "set_nodelay"]

OUT_OF_RESOURCES = errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM


class Listener:
    """
    Accepts what comes to *sock*, when it is told that something does.

    Args:
        services: The loop.
        sock: The listening socket, not blocking. Not the listener's: its server closes it.
        backlog: The most to accept before others have their turn.
        accepted: Called with each connection's socket, not blocking, and the peer's address.
        exhausted: Called when the process, or the system, has no descriptor or memory left for a connection.
    """

    def __init__(
        self,
        services: LoopServices,
        sock: socket.socket,
        backlog: int,
        *,
        accepted: Callable[[socket.socket, Any], object],
        exhausted: Callable[[], object],
    ) -> None:
        self._services = services
        self._sock = sock
        self._accept = _accepting(sock) if type(sock) is socket.socket else sock.accept
        self._accepted = accepted
        self._exhausted = exhausted
        self._burst = Burst(max(1, backlog))
        set_nodelay(sock)
        # Linux's connections have it from birth, others' perhaps not: the first one is looked at.
        self._nodelay_is_inherited = False

    def accept(self) -> None:
        """Accept what waits, up to a bound."""
        for count in range(self._burst.size):
            try:
                connection, address = self._accept()
            except (BlockingIOError, InterruptedError):
                self._burst.found_only(count)
                return
            except ConnectionAbortedError:
                continue  # it was gone before it was accepted
            except OSError as error:
                if error.errno not in OUT_OF_RESOURCES:
                    raise
                self._services.call_exception_handler(
                    {
                        "message": "socket.accept() out of system resource",
                        "exception": error,
                        "socket": TransportSocket(self._sock),
                    }
                )
                self._exhausted()
                return
            connection.setblocking(False)
            if not self._nodelay_is_inherited:
                self._set_nodelay(connection)
            self._accepted(connection, address)
        self._burst.was_full()

    def _set_nodelay(self, connection: socket.socket) -> None:
        if not is_tcp(connection) or connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY):
            self._nodelay_is_inherited = True
        else:
            set_nodelay(connection)


def _accepting(sock: Any) -> Callable[[], tuple[socket.socket, Any]]:
    """What ``sock.accept()`` does, but for asking it anew each time what kind of socket it is."""
    accept, family, kind, proto = sock._accept, int(sock.family), int(sock.type), sock.proto

    def accept_one() -> tuple[socket.socket, Any]:
        fd, address = accept()
        return socket.socket(family, kind, proto, fileno=fd), address

    return accept_one


def is_tcp(sock: socket.socket) -> bool:
    """Whether *sock* is one of TCP, by all that it says of itself, as asyncio looks at it."""
    return (
        sock.family in (socket.AF_INET, socket.AF_INET6)
        and sock.type == socket.SOCK_STREAM
        and sock.proto == socket.IPPROTO_TCP
    )


def set_nodelay(sock: socket.socket) -> None:
    """Let small writes leave at once, without waiting for the peer's acknowledgement, where *sock* is of TCP."""
    if is_tcp(sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
