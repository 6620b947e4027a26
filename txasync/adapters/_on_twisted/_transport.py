"""
The asyncio transport that stands on a Twisted one. Its twin is `txasync.adapters._on_asyncio._transport`.

==================================================  ==========================================================
asyncio's protocol calls                            and so Twisted's transport is called
==================================================  ==========================================================
``write``, ``writelines``                           ``write``, ``writeSequence``
``pause_reading``, ``resume_reading``               ``pauseProducing``, ``resumeProducing``, if it has them
``write_eof``                                       ``loseWriteConnection``, if it has it and is not TLS
``close``                                           ``unregisterProducer``, ``loseConnection``
``abort``                                           ``abortConnection``, or ``loseConnection`` if it has none
==================================================  ==========================================================

Nothing is delivered while the protocol has paused reading: what comes all the same - TLS may have decrypted it already,
and some transports cannot be paused - waits, and the end of the connection waits behind it.
"""

from __future__ import annotations

import asyncio
import asyncio.constants
import collections
import contextvars
from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import ISSLTransport

from ...transports import WRITES_DROPPED_IN_SILENCE, BytesLike, WriteFlow, as_bytes_like, call_protocol, logger, report
from .._errors import as_loss
from ._calls import ProtocolCalls
from ._extra_info import ExtraInfo
from ._progress import Progress

__all__ = ["AsyncioTransport"]

# As asyncio's for TLS. Twisted waits for ever.
SHUTDOWN_TIMEOUT_S = 30.0

_EOF = object()


class AsyncioTransport(asyncio.Transport):
    """
    An asyncio transport over any transport of Twisted's.

    Args:
        itransport: Twisted's transport: any ``ITransport``.
        protocol: asyncio's protocol.
        loop: The loop that the protocol belongs to.
        context: The context in which the protocol is called.

    Source:
        asyncio, "Transports and Protocols"; Twisted, ``ITransport``, ``ITCPTransport``, ``IConsumer``.
    """

    __slots__ = (
        "__weakref__",
        "_all_is_sent",
        "_at_end",
        "_buffered",
        "_calls",
        "_closing",
        "_dropped",
        "_ending",
        "_in_context",
        "_eof_written",
        "_error",
        "_flow",
        "_held",
        "_info",
        "_inside",
        "_itransport",
        "_loop",
        "_leave_run",
        "_loss",
        "_lost",
        "_paused",
        "_progress",
        "_protocol",
        "_reads",
        "_time_limit",
        "_waiting",
    )

    # asyncio's loop looks at these before it upgrades a transport, or sends a file over it.
    _start_tls_compatible = True
    _sendfile_compatible = asyncio.constants._SendfileMode.FALLBACK

    def __init__(
        self,
        itransport: Any,
        protocol: asyncio.BaseProtocol,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
    ) -> None:
        super().__init__()
        self._itransport = itransport
        self._loop = loop
        calls = self._calls = ProtocolCalls(loop, context)
        self._in_context = calls.run
        self._leave_run = calls.leave
        self._protocol: Any = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)
        self._info = ExtraInfo(itransport)
        self._flow = WriteFlow()
        self._progress = Progress(itransport, loop, self._pause_if_full, self._has_drained)
        self._held = self._progress.held
        # What has not been delivered: data, and _EOF.
        self._waiting: collections.deque[Any] = collections.deque()
        self._reads = True  # nothing stands in the way of what comes
        self._paused = self._closing = self._ending = self._eof_written = self._at_end = False
        self._lost = self._inside = False
        self._loss: tuple[BaseException | None] | None = None  # Twisted's transport is gone, and why
        self._error: BaseException | None = None
        self._all_is_sent = False  # at close()
        self._dropped = 0
        self._time_limit: asyncio.TimerHandle | None = None

    # What asyncio.BaseTransport promises

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_lost(self) -> bool:
        """Whether ``connection_lost()`` has been called."""
        return self._lost

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._info.get(name, default)

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else "open"
        return f"<{type(self).__name__} {state} over {self._itransport!r}>"

    # Reading

    def is_reading(self) -> bool:
        return not self._closing and not self._paused

    def pause_reading(self) -> None:
        if self.is_reading():
            self._paused = True
            self._reads = False
            self._ask_itransport("pauseProducing")

    def resume_reading(self) -> None:
        if not self._paused or self._closing:
            return
        self._paused = False
        if self._waiting:
            self._loop.call_soon(self._deliver_waiting)
        else:
            self._reads = True
        self._ask_itransport("resumeProducing")

    def _ask_itransport(self, method: str) -> None:
        ask = getattr(self._itransport, method, None)
        if ask is not None and self._loss is None and not self._at_end:
            ask()

    def receive(self, data: bytes) -> None:
        """Twisted's transport has received *data*."""
        if not self._reads:
            if not self._closing:
                self._waiting.append(data)
        elif self._buffered or self._calls.entered:
            self._deliver(data)
        else:
            calls = self._calls
            calls.entered = True
            try:
                calls.enter(self._protocol.data_received, data)
            except BaseException as error:
                calls.entered = False
                self._failed("data_received", error)
            calls.entered = False

    def receive_eof(self) -> None:
        """Twisted's transport will receive no more."""
        if self._reads:
            self._deliver_eof()
        elif not self._closing:
            self._waiting.append(_EOF)

    def _deliver_waiting(self) -> None:
        while self._waiting and self.is_reading():
            event = self._waiting.popleft()
            if event is _EOF:
                self._deliver_eof()
            else:
                self._deliver(event)
        if not self._waiting and not self._closing:
            self._reads = not self._paused
            if self._loss is not None:
                self._lose()

    def _deliver(self, data: bytes) -> None:
        if self._buffered:
            self._fill_buffers(data)
        else:
            self._call("data_received", data)

    def _fill_buffers(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest and self.is_reading():
            if not self._buffered:
                self._deliver(bytes(rest))
                return
            size = self._fill_buffer(rest)
            rest = rest[size:]
            if size:
                self._call("buffer_updated", size)
        if rest and not self._closing:
            self._waiting.appendleft(bytes(rest))

    def _fill_buffer(self, data: memoryview) -> int:
        """Copy of *data* what the protocol's buffer takes; return how much that is, 0 if there is none."""
        try:
            buffer = memoryview(self._in_context(self._protocol.get_buffer, -1))
            if not buffer.nbytes:
                raise RuntimeError("get_buffer() returned an empty buffer")
            size = min(buffer.nbytes, len(data))
            buffer.cast("B")[:size] = data[:size]
        except BaseException as error:
            self._failed("get_buffer", error)
            return 0
        return size

    def _deliver_eof(self) -> None:
        self._at_end = True
        if not self._call("eof_received") and not self._closing:
            self.close()

    def _call(self, callback: str, *args: Any) -> Any:
        """Call the protocol; what it raises is the end of the connection."""
        try:
            return self._in_context(getattr(self._protocol, callback), *args)
        except BaseException as error:
            self._failed(callback, error)
        return None

    def _failed(self, callback: str, error: BaseException) -> None:
        """The protocol's *callback* has raised *error*."""
        if isinstance(error, SystemExit | KeyboardInterrupt):
            self._leave_run(error)
        else:
            self._fail(error, f"Fatal error: protocol.{callback}() call failed.")

    # Writing

    def write(self, data: BytesLike) -> None:
        if type(data) is not bytes:
            data = bytes(as_bytes_like(data))
        if (self._closing or self._eof_written) and not self._may_write("write", data):
            return
        if data:
            held = self._held
            held.written += len(data)
            if held.written > self._progress.alert:
                self._progress.expect_much()
            self._itransport.write(data)
            if held.written > self._flow.high:
                self._pause_if_full()

    def writelines(self, list_of_data: Iterable[BytesLike]) -> None:
        chunks = [bytes(chunk) for chunk in map(as_bytes_like, list_of_data) if chunk]
        if (self._closing or self._eof_written) and not self._may_write("writelines", chunks):
            return
        if chunks:
            self._held.written += sum(map(len, chunks))
            if self._held.written > self._progress.alert:
                self._progress.expect_much()
            self._itransport.writeSequence(chunks)
            self._pause_if_full()

    def _may_write(self, call: str, something: object) -> bool:
        """Whether *something* can be written, although the transport is closing, or will take no more."""
        if self._eof_written:
            raise RuntimeError(f"Cannot call {call}() after write_eof()")
        if not something or (self._held.size and not self._ending and self._loss is None):
            return bool(something)
        self._dropped += 1
        if self._dropped >= WRITES_DROPPED_IN_SILENCE:
            logger.warning("socket.send() raised exception.")
        return False

    def can_write_eof(self) -> bool:
        # Half-closing what is under TLS would break it.
        return hasattr(self._itransport, "loseWriteConnection") and not ISSLTransport.providedBy(self._itransport)

    def write_eof(self) -> None:
        if not self.can_write_eof():
            raise NotImplementedError(f"{self._itransport!r} cannot be half-closed")
        if self._closing or self._eof_written:
            return
        self._eof_written = True
        self._progress.end()  # a pull producer would be asked for more before the end is sent
        self._ask_to_end("loseWriteConnection")

    # Flow control

    def set_up(self) -> None:
        """Make Twisted's transport behave as asyncio's do: small writes are sent at once, and progress is told."""
        if self._info.is_tcp:
            self._itransport.setTcpNoDelay(True)
        self._progress.begin()

    def let_go(self) -> None:
        """Twisted's transport has sent all, or will send no more."""
        self._held.drain()
        self._has_drained()

    def _has_drained(self) -> None:
        if self._flow.paused:
            self._in_context(self._resume_if_drained)

    def get_write_buffer_size(self) -> int:
        return self._held.size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._flow.low, self._flow.high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._flow.set_marks(high, low)
        self._pause_if_full()

    def is_writing_paused(self) -> bool:
        """Whether the protocol was asked to pause writing, and not yet to resume."""
        return self._flow.paused

    def _pause_if_full(self) -> None:
        if self._flow.must_pause(self._held.size):
            call_protocol(self._loop.call_exception_handler, self, "pause_writing")

    def _resume_if_drained(self) -> None:
        if self._flow.must_resume(self._held.size):
            call_protocol(self._loop.call_exception_handler, self, "resume_writing")

    # The end

    def close(self) -> None:
        if self._closing:
            return
        self._stop()
        self._all_is_sent = not self._held.size
        if self._loss is not None:
            self._loop.call_soon(self._lose)
            return
        self._progress.end()
        if ISSLTransport.providedBy(self._itransport):
            self._time_limit = self._loop.call_later(SHUTDOWN_TIMEOUT_S, self._give_up)
        self._ask_to_end("loseConnection")

    def abort(self) -> None:
        self._force_close(None)

    def _force_close(self, error: BaseException | None) -> None:
        """End at once. asyncio's TLS calls this, by this name, on the transport under it."""
        if self._ending or self._lost:
            return
        self._stop()
        self._ending = True
        self._error = error
        self._held.drain()
        if self._loss is not None:
            self._loop.call_soon(self._lose)
            return
        self._progress.end()
        if hasattr(self._itransport, "abortConnection"):
            self._ask_to_end("abortConnection")
        else:
            self._ask_to_end("loseConnection")
            self._loop.call_soon(self._lose)

    def _stop(self) -> None:
        self._closing = True
        self._reads = False
        self._waiting.clear()

    def _ask_to_end(self, method: str) -> None:
        self._inside = True
        try:
            getattr(self._itransport, method)()
        finally:
            self._inside = False

    def _give_up(self) -> None:
        """The peer has not answered Twisted's close_notify in time."""
        self._time_limit = None
        self._force_close(TimeoutError(f"SSL shutdown timed out after {SHUTDOWN_TIMEOUT_S} seconds"))

    def _fail(self, error: BaseException, message: str) -> None:
        """*error* is the end of the connection; one that is not the peer's or the network's is reported as well."""
        if not isinstance(error, OSError):
            report(self._loop.call_exception_handler, self, error, message)
        self._force_close(error)

    def lose(self, reason: BaseException) -> None:
        """Twisted's transport is gone, for *reason*."""
        if self._loss is not None or self._lost:
            return
        self._progress.forget()
        self._info.settle()
        self._loss = (as_loss(reason),)
        if self._waiting and not self._closing:
            # It is read first; but nobody need wait any longer to write.
            self.let_go()
        elif self._inside:
            self._loop.call_soon(self._lose)
        else:
            self._lose()

    def _lose(self) -> None:
        if self._lost:
            return
        loss = self._error
        # Where nothing was left to be sent, the end was asked for before it was: that Twisted's transport sends nothing
        # once more, and finds the peer gone, is no news.
        if self._loss is not None and not (self._ending or self._all_is_sent):
            loss = self._loss[0]
        if loss is None and not self._ending:
            self._tell_of_clean_end()
            loss = self._error
        self._stop()
        self._held.drain()
        self._lost = self._ending = True
        self._progress.forget()
        if self._time_limit is not None:
            self._time_limit.cancel()
        try:
            self._in_context(self._protocol.connection_lost, loss)
        except (SystemExit, KeyboardInterrupt) as error:
            self._leave_run(error)
        except BaseException as error:
            report(
                self._loop.call_exception_handler, self, error, "Fatal error: protocol.connection_lost() call failed."
            )
        finally:
            self._protocol = None

    def _tell_of_clean_end(self) -> None:
        """Tell what asyncio's own transports tell before a clean end."""
        if self._closing:
            self.let_go()  # all was sent
        elif self._reads and not self._at_end:
            self._deliver_eof()
