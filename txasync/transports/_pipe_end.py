"""
What the two pipe transports have in common: a file object, a protocol, reading, and the way to the end.

A transport's life has these states:

=========  =============================================  ====================================================
state      meaning                                        next
=========  =============================================  ====================================================
open       neither ``close()`` nor an end so far          closing: ``close()`` while there is something to write
                                                          ending: ``close()``, ``abort()``, end of file, an error
closing    what was written is still on its way           ending: all is written, ``abort()``, an error
ending     ``connection_lost()`` is scheduled             lost
lost       ``connection_lost()`` was called, the pipe
           is closed
=========  =============================================  ====================================================

Readiness comes from the poller, not through a ``Handle``; so it is the transport that runs the protocol in the context
that asyncio's handle would have: a copy of the one in which reading, or writing, was begun.
"""

from __future__ import annotations

import abc
import asyncio
import contextvars
import logging
import os
import stat
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ._reports import call_protocol, report
from ._services import LoopServices

__all__ = ["Pipe", "PipeTransport", "logger"]

logger = logging.getLogger("asyncio")


class Pipe(Protocol):
    """What a transport needs of a file object."""

    def fileno(self) -> int: ...

    def close(self) -> None: ...


class PipeTransport(asyncio.BaseTransport):
    """
    What both ends do alike.

    Args:
        services: The loop.
        pipe: The file object, which is the transport's from now on, unless this raises.
        protocol: The protocol.
        waiter: Given a result when ``connection_made()`` has been called.
        extra: What ``get_extra_info()`` is to know besides ``"pipe"``.

    Raises:
        ValueError: *pipe* is neither a pipe nor a socket nor a character device.
    """

    __slots__ = (
        "__weakref__",
        "_closing",
        "_context",
        "_ending",
        "_fd",
        "_pipe",
        "_protocol",
        "_services",
    )

    _refusal: str
    _protocol: Any

    def __init__(
        self,
        services: LoopServices,
        pipe: Pipe,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self._pipe: Pipe | None = None
        super().__init__({**(extra or {}), "pipe": pipe})
        self._services = services
        self._fd = pipe.fileno()
        self._context: contextvars.Context | None = None
        self._closing = self._ending = False
        if _kind(self._fd) not in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR):
            raise ValueError(self._refusal)
        os.set_blocking(self._fd, False)
        self._pipe = pipe
        self._protocol = protocol
        services.call_soon(self._begin, waiter)

    def _begin(self, waiter: asyncio.Future[None] | None) -> None:
        context = contextvars.copy_context()
        try:
            self._tell("connection_made", self)
        finally:
            if not self._ending:
                self._watch_reading(context)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def _watch_reading(self, context: contextvars.Context) -> None:
        """Ask the poller for what there is to read; what comes of it is run in *context*."""
        self._context = context
        try:
            self._services.poller.set_reader(self._fd, self._readable)
        except OSError as error:
            # Its owner has closed the pipe, or it is a device that the kernel cannot watch, such as /dev/null.
            self._fail(error, "Fatal read error on pipe transport")

    @abc.abstractmethod
    def _readable(self) -> None:
        """There is something to read, if only the end."""

    def _forget(self, remove: Callable[[int], bool]) -> None:
        """Take the descriptor out of the poller, if it is still ours."""
        if self._owns_descriptor():
            remove(self._fd)

    def _owns_descriptor(self) -> bool:
        """
        Whether it is not a stranger's by now, which may be in the poller as well.

        That happens if somebody has closed the pipe behind our back, and its number was used again.
        """
        assert self._pipe is not None
        try:
            if self._pipe.fileno() == self._fd:
                return True
        except ValueError:
            pass  # the file object knows that it is closed
        try:
            os.fstat(self._fd)
        except OSError:
            return True
        return False

    # What asyncio.BaseTransport promises

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._closing

    def __repr__(self) -> str:
        info = [type(self).__name__]
        if self._pipe is None:
            info.append("closed")
        elif self._closing:
            info.append("closing")
        info.append(f"fd={self._fd}")
        if self._pipe is None:
            info.append("closed")
        elif self._services.is_closed():
            info.append("open")
        else:
            info += self._shown(self._services.poller.interest(self._fd))
        return f"<{' '.join(info)}>"

    @abc.abstractmethod
    def _shown(self, interest: int) -> list[str]:
        """What to show of an open transport."""

    def __del__(self, _warn: Any = warnings.warn) -> None:
        # The loop is left alone: it may be closed, or run in another thread (python/cpython#114177).
        if self._pipe is not None:
            try:
                _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            finally:
                self._pipe.close()

    # The end

    def _fail(self, error: BaseException, message: str) -> None:
        """*error* is the end of the pipe; one that is no ordinary way to end is reported as well."""
        if not self._is_ordinary(error):
            self._report(error, message)
        elif self._services.get_debug():
            logger.debug("%r: %s", self, message, exc_info=error)
        self._force_close(error)

    @abc.abstractmethod
    def _is_ordinary(self, error: BaseException) -> bool:
        """Whether *error* is a way in which pipes end."""

    @abc.abstractmethod
    def _force_close(self, error: BaseException | None) -> None:
        """End at once."""

    def _end(self, error: BaseException | None) -> None:
        self._closing = self._ending = True
        self._services.call_soon(self._lose, error)

    def _lose(self, error: BaseException | None) -> None:
        try:
            self._tell("connection_lost", error)
        finally:
            pipe, self._pipe = self._pipe, None
            self._protocol = None
            self._context = None
            assert pipe is not None
            pipe.close()

    def _tell(self, callback: str, *args: object) -> None:
        call_protocol(self._services.call_exception_handler, self, callback, *args)

    def _report(self, error: BaseException, message: str) -> None:
        report(self._services.call_exception_handler, self, error, message)


def _kind(fd: int) -> int:
    return stat.S_IFMT(os.fstat(fd).st_mode)
