"""Reading and writing by TLS."""

from __future__ import annotations

import asyncio
import asyncio.constants
import contextlib
import errno
import os
import ssl
from collections.abc import Iterable
from typing import Any

from ..tls import Engine
from ._bytes import BytesLike, as_bytes_like
from ._flow import WRITES_DROPPED_IN_SILENCE, WriteFlow
from ._reports import call_protocol
from ._services import LoopServices
from ._socket import logger
from ._tls_backlog import LARGEST_WRITE, Backlog
from ._tls_batches import RECORD_SIZE, Rest, fill, read_on
from ._tls_life import State, TLSLife

__all__ = ["DEFAULT_HIGH", "SSLTransport"]

# As asyncio's.
DEFAULT_HIGH = 512 * 1024


class SSLTransport(TLSLife):
    """
    A connection by TLS, over a transport below it.

    What the two ways of being over one have in common is here; how encrypted bytes come and go is their own. Arguments
    are those of ``TLSLife``.

    Source:
        asyncio, "Transports and Protocols", "Transports"; RFC 8446.
    """

    __slots__ = (
        "_backlog",
        "_clear_to_send",
        "_dropped",
        "_encrypt",
        "_flow",
        "_paused",
        "_pending",
        "_read",
        "_read_error",
        "_reads_for_protocol",
    )

    # asyncio's loop looks at these before it upgrades a transport, or sends a file over it.
    _start_tls_compatible = True
    _sendfile_compatible = asyncio.constants._SendfileMode.FALLBACK

    def __init__(
        self, services: LoopServices, engine: Engine, protocol: asyncio.BaseProtocol, *args: Any, **kwargs: Any
    ) -> None:
        self._read = engine.read
        self._pending = engine.pending
        self._encrypt = engine.write
        self._backlog = Backlog()
        self._flow = WriteFlow()
        self._flow.set_marks(DEFAULT_HIGH)
        self._read_error: Exception | None = None
        self._paused = self._clear_to_send = False
        self._dropped = 0
        super().__init__(services, engine, protocol, *args, **kwargs)

    def _opened(self) -> None:
        if self._backlog:
            self._send_backlog()
        else:
            self._clear_to_send = self._may_send_at_once()
        if self._pending():
            self._receive_again()

    def _stop(self) -> None:
        self._reads_for_protocol = self._clear_to_send = False
        self._backlog.clear()

    # Reading

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        super().set_protocol(protocol)
        self._reads_for_protocol = self._state is State.OPEN and not isinstance(protocol, asyncio.BufferedProtocol)

    def is_reading(self) -> bool:
        return not (self._closing or self._paused)

    def pause_reading(self) -> None:
        if self.is_reading():
            self._paused = True
            if self._state is State.OPEN:
                self._below.pause_reading()

    def resume_reading(self) -> None:
        if self._paused and not self._closing:
            self._paused = False
            if self._state is State.OPEN:
                self._below.resume_reading()
                self._services.call_soon(self._receive_again)

    def _receive(self) -> None:
        """The peer has sent something."""
        if not self._reads_for_protocol:
            self._receive_otherwise()
            return
        try:
            data = self._read(RECORD_SIZE)
        except Exception as error:
            self._not_read(error)
            return
        if not data:
            self._receive_end()
            return
        if len(data) == RECORD_SIZE or self._pending():
            data, rest = read_on(self._engine, data)
            self._leave(rest)
        try:
            self._protocol.data_received(data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fail(error, "Fatal error: protocol.data_received() call failed.")

    def _receive_otherwise(self) -> None:
        """What has come is not for an ``asyncio.Protocol``."""
        if self._state is State.OPEN:
            self._receive_into_buffer()
        elif self._state is State.HANDSHAKE:
            self._go_on_with_handshake()
        elif self._state is State.FLUSHING:
            self._receive_in_vain()
        elif self._state is State.SHUTDOWN:
            self._go_on_with_shutdown()

    def _receive_into_buffer(self) -> None:
        protocol = self._protocol
        try:
            buffer = memoryview(protocol.get_buffer(-1)).cast("B")
            if not buffer:
                raise RuntimeError("get_buffer() returned an empty buffer")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fail(error, "Fatal error: protocol.get_buffer() call failed.")
            return
        try:
            received, rest = fill(self._engine, buffer)
        except Exception as error:
            self._not_read(error)
            return
        if not received:
            self._receive_end()
            return
        self._leave(rest)
        try:
            protocol.buffer_updated(received)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fail(error, "Fatal error: protocol.buffer_updated() call failed.")

    def _leave(self, rest: Rest) -> None:
        """*rest* has its turn after what was read before it."""
        if rest.readable:
            self._read_error = rest.error
            self._services.call_soon(self._receive_again)

    def _receive_again(self) -> None:
        """There may be something to read that the transport below does not know of."""
        if self._state is State.OPEN and not self._paused:
            error, self._read_error = self._read_error, None
            if error is not None:
                self._not_read(error)
            else:
                self._receive()

    def _not_read(self, error: Exception) -> None:
        """A read has found nothing, or the end, or an error."""
        engine = self._engine
        if isinstance(error, engine.want_read):
            if self._backlog:
                self._send_backlog()  # which may have waited for what was read, a renegotiation
            self._wait_for_bytes()
            if self._below_ended:
                self._receive_end()
        elif isinstance(error, engine.want_write):
            self._wait_for_room()
        else:
            explained = engine.explained(error)
            if isinstance(explained, ssl.SSLEOFError):
                self._receive_end()
            else:
                self._fail(explained, "Fatal error on SSL protocol")

    def _receive_in_vain(self) -> None:
        """What is to be sent before the end waits for the peer; what comes from it beside is not read any more."""
        with contextlib.suppress(Exception):
            self._read(RECORD_SIZE)
        self._send_backlog()

    # Writing

    def get_write_buffer_size(self) -> int:
        return self._backlog.size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._flow.low, self._flow.high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None and low is None:
            high = DEFAULT_HIGH
        self._flow.set_marks(high, low)
        self._pause_if_full()

    def is_writing_paused(self) -> bool:
        """Whether the protocol was asked to pause writing, and not yet to resume."""
        return self._flow.paused

    def write(self, data: BytesLike) -> None:
        chunk: bytes | memoryview
        if type(data) is bytes and data and self._clear_to_send:
            chunk = data
        else:
            chunk = as_bytes_like(data)
            if not chunk or not self._may_write():
                return
            if not self._may_send_at_once():
                self._keep(chunk)
                self._pause_if_full()
                return
        if len(chunk) > LARGEST_WRITE:
            self._keep(chunk)
            self._send_backlog()
            return
        try:
            sent = self._encrypt(chunk)
        except Exception as error:
            self._keep(chunk)
            self._not_written(error)
            return
        if sent < len(chunk):
            self._keep(memoryview(chunk)[sent:])
            self._send_backlog()
        else:
            self._push()

    def writelines(self, list_of_data: Iterable[BytesLike]) -> None:
        # One record, and one call of the system, where there might be several.
        self.write(b"".join(map(as_bytes_like, list_of_data)))

    def can_write_eof(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise NotImplementedError("TLS does not close one direction only: close() the transport")

    def _may_write(self) -> bool:
        if self._state in (State.HANDSHAKE, State.OPEN):
            return True
        self._dropped += 1
        if self._dropped > WRITES_DROPPED_IN_SILENCE:
            logger.warning("SSL connection is closed")
        return False

    def _may_send_at_once(self) -> bool:
        """Whether there is nothing to look at before what is written is encrypted."""
        return self._state is State.OPEN and not self._backlog

    def _keep(self, chunk: bytes | memoryview) -> None:
        """Put what cannot be sent now in the backlog."""
        self._backlog.append(chunk)
        self._clear_to_send = False

    def _send_backlog(self) -> None:
        backlog = self._backlog
        while backlog:
            try:
                sent = self._encrypt(backlog.first)
            except Exception as error:
                self._not_written(error)
                return
            backlog.advance(sent)
        self._push()
        self._resume_if_drained()  # which may write, or close
        if not backlog:
            self._all_is_sent()

    def _not_written(self, error: Exception) -> None:
        """The first of the backlog cannot be sent, or not yet."""
        engine = self._engine
        if isinstance(error, engine.want_write):
            self._wait_for_room()
        elif isinstance(error, engine.want_read):
            if self._state is State.FLUSHING:
                self._below.resume_reading()
            self._wait_for_bytes()
        else:
            # After a failure in reading OpenSSL refuses to write, and does not say why.
            reason = self._read_error or error
            self._fail(_of_writing(engine.explained(reason)), "Fatal error on SSL protocol")
            return
        self._resume_if_drained()
        self._pause_if_full()

    def _all_is_sent(self) -> None:
        self._clear_to_send = self._may_send_at_once()
        if self._state is State.FLUSHING:
            self._shut_down()

    def _flush(self) -> None:
        self._reads_for_protocol = self._clear_to_send = False
        if self._backlog:
            self._below.pause_reading()
        self._send_backlog()

    def _pause_if_full(self) -> None:
        if self._flow.must_pause(self.get_write_buffer_size()):
            call_protocol(self._services.call_exception_handler, self, "pause_writing")

    def _resume_if_drained(self) -> None:
        if self._flow.must_resume(self.get_write_buffer_size()):
            call_protocol(self._services.call_exception_handler, self, "resume_writing")


def _of_writing(error: Exception) -> Exception:
    """*error*; but an end of the peer's is none, for somebody who writes."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        broken = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        broken.__cause__ = error
        return broken
    return error
