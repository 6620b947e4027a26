"""TLS over any other transport: encrypted bytes go through memory."""

from __future__ import annotations

import asyncio
from typing import Any

from ..tls import Engine
from ._reports import call_protocol
from ._services import LoopServices
from ._tls import SSLTransport
from ._tls_life import State, TLSLife

__all__ = ["LayeredSSLTransport"]


class LayeredSSLTransport(SSLTransport):
    """
    TLS over a transport of any kind: a pipe, another TLS transport, somebody else's.

    What is encrypted is written to the transport below at once, and waits there: so the water marks are that one's, and
    count encrypted bytes. Arguments are those of `SSLTransport`; the engine is one with a wire.
    """

    __slots__ = ("_feed", "_held_up", "_take")

    def __init__(self, services: LoopServices, engine: Engine, *args: Any, **kwargs: Any) -> None:
        wire = engine.wire
        assert wire is not None
        self._feed, self._take = wire
        self._held_up = False
        super().__init__(services, engine, *args, **kwargs)

    def below_protocol(self) -> asyncio.BaseProtocol:
        return _Below(self)

    def stand_on(self, below: Any) -> None:
        super().stand_on(below)
        is_paused = getattr(below, "is_writing_paused", None)
        if is_paused is not None and is_paused():
            # It was so before the upgrade: the protocol waits for resume_writing().
            self._held_up = self._flow.paused = True
        below.set_write_buffer_limits(self._flow.high, self._flow.low)

    # Reading

    def _fed(self, data: bytes) -> None:
        self._feed(data)
        self._look()

    def _fed_eof(self) -> None:
        self._below_ended = True
        self._look()

    def _look(self) -> None:
        if not (self._paused and self._state is State.OPEN):
            self._receive()
            self._push()

    # Writing

    def get_write_buffer_size(self) -> int:
        return self._backlog.size + (0 if self._below is None or self._lost else self._below.get_write_buffer_size())

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        super().set_write_buffer_limits(high, low)
        self._below.set_write_buffer_limits(self._flow.high, self._flow.low)

    def _push(self) -> None:
        if self._state is not State.ENDED and (data := self._take()):
            self._below.write(data)

    def _wait_for_room(self) -> None:
        raise AssertionError("memory has always room")

    def _hold_up(self) -> None:
        self._held_up = True
        if self._flow.must_pause(self._flow.high + 1):
            call_protocol(self._services.call_exception_handler, self, "pause_writing")

    def _let_go(self) -> None:
        if not self._held_up:
            self._flow.paused = True  # it was before the upgrade, by a transport below that does not tell
        self._held_up = False
        if self._backlog:
            self._send_backlog()
        else:
            self._resume_if_drained()

    def _resume_if_drained(self) -> None:
        # The transport below may hold something, but does not tell once more when it has sent that.
        if not (self._held_up or self._backlog) and self._flow.must_resume(0):
            call_protocol(self._services.call_exception_handler, self, "resume_writing")


class _Below(asyncio.Protocol):
    """The protocol of the transport below."""

    def __init__(self, transport: LayeredSSLTransport) -> None:
        self._transport = transport

    def connection_made(self, _transport: Any) -> None:
        self._transport._begin()

    def data_received(self, data: bytes) -> None:
        self._transport._fed(data)

    def eof_received(self) -> bool:
        self._transport._fed_eof()
        # There may be something to send yet; but TLS does not stay half open.
        return not isinstance(self._transport._below, TLSLife)

    def pause_writing(self) -> None:
        self._transport._hold_up()

    def resume_writing(self) -> None:
        self._transport._let_go()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport._lose(error)
