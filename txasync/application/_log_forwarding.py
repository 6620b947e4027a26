"""What starts and stops the forwarding of one log to the other, and the levels of both."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from twisted.logger import LogLevel

__all__ = ["Claims", "LogForwarding", "level_for_stdlib", "level_for_twisted"]

_LEVELS: tuple[tuple[int, Any], ...] = (
    (logging.CRITICAL, LogLevel.critical),
    (logging.ERROR, LogLevel.error),
    (logging.WARNING, LogLevel.warn),
    (logging.INFO, LogLevel.info),
    (logging.DEBUG, LogLevel.debug),
)


def level_for_twisted(level: int) -> Any:
    """The highest of Twisted's levels that is not above *level*, which may be any number; ``debug`` is the lowest."""
    return next((ours for lowest, ours in _LEVELS if level >= lowest), LogLevel.debug)


def level_for_stdlib(level: Any) -> int:
    """The number of Twisted's *level*; that of ``info`` for an event without one."""
    return next((number for number, name in _LEVELS if name is level), logging.INFO)


class LogForwarding:
    """
    The forwarding of one log to the other, to be stopped by who has started it.

    It is a context manager, too: the end of its ``with`` block stops it.

    Context:
        Any thread.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._stopping = threading.Lock()

    def stop(self) -> None:
        """
        Take it back.

        What others have started as well, goes on until they have stopped it, too. A second call does nothing.
        """
        if self._stopping.acquire(blocking=False):
            self._stop()

    def __enter__(self) -> LogForwarding:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class Claims:
    """
    Counts who has started something, so that it is there once, however many have.

    Args:
        begin: Called at each start.
        end: Called when the last of those who have started it, has stopped it.
    """

    def __init__(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._begin = begin
        self._end = end
        self._count = 0
        # What begins or ends may log, which must not come here again; but a callback of it may.
        self._lock = threading.RLock()

    def add(self) -> None:
        """Somebody starts it."""
        with self._lock:
            self._begin()
            self._count += 1

    def remove(self) -> None:
        """Somebody stops it."""
        with self._lock:
            self._count -= 1
            if not self._count:
                self._end()
