"""TLS on a stream transport's own socket: the engine reads and writes it."""

from __future__ import annotations

import asyncio
from typing import Any

from ._stream import ReadinessProtocol
from ._tls import SSLTransport
from ._tls_life import State

__all__ = ["SocketSSLTransport"]


class SocketSSLTransport(SSLTransport):
    """
    TLS on the socket of the `StreamTransport` below, which keeps the socket, and its names, and tells when it is ready.

    Arguments are those of `SSLTransport`; the engine is one without a wire.
    """

    __slots__ = ("_wants_room",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._wants_room = False
        super().__init__(*args, **kwargs)

    def below_protocol(self) -> asyncio.BaseProtocol:
        return _Readiness(self)

    def _receive_again(self) -> None:
        # A stream that was upgraded on Python 3.11 to 3.13 goes on pausing the transport that it had before.
        if self._below.is_reading():
            super()._receive_again()

    def _wait_for_room(self) -> None:
        self._wants_room = True
        self._below.watch_writing()

    def _stop(self) -> None:
        super()._stop()
        self._wants_room = False

    def _send(self) -> None:
        """The socket takes something."""
        self._wants_room = False
        if self._backlog:
            self._send_backlog()
        else:
            self._receive()
        if not self._wants_room and self._state is not State.ENDED:
            self._below.unwatch_writing()


class _Readiness(ReadinessProtocol):
    """The protocol of the transport below."""

    __slots__ = ("_transport",)

    def __init__(self, transport: SocketSSLTransport) -> None:
        self._transport = transport
        self.read_ready = transport._receive
        self.write_ready = transport._send

    def connection_made(self, _transport: Any) -> None:
        self._transport._begin()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport._lose(error)
