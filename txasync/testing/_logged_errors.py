"""The errors that nobody handled, as asyncio's loops and Twisted tell them to their logs."""

from __future__ import annotations

import logging
import traceback
from typing import Any, NamedTuple

from twisted.logger import LogEvent, globalLogPublisher

from .._error_log import is_told_to_twisted

__all__ = ["LoggedError", "LoggedErrors"]


class LoggedError(NamedTuple):
    """
    An error that nobody handled: not the exception itself, whose traceback would keep alive what the test has let go.

    Attributes:
        type: The class of the exception; RuntimeError where asyncio has told of none.
        message: What the exception, or asyncio, says.
        traceback: The traceback as text, with the line of the exception.
    """

    type: type[BaseException]
    message: str
    traceback: str


class LoggedErrors:
    """Hears, between `start` and `stop`, of the errors in Twisted's log, and in the logging module's "asyncio"."""

    def __init__(self) -> None:
        self._errors: list[LoggedError] = []
        self._observer: Any = self._hear_twisted

    def start(self) -> None:
        """Begin to hear."""
        globalLogPublisher.addObserver(self._observer)
        logging.getLogger("asyncio").addFilter(self._hear_asyncio)

    def stop(self) -> None:
        """Hear no more."""
        logging.getLogger("asyncio").removeFilter(self._hear_asyncio)
        globalLogPublisher.removeObserver(self._observer)

    def flush(self, *types: type[BaseException]) -> list[LoggedError]:
        """Return the errors of *types*, or all, and forget them."""
        flushed = [error for error in self._errors if not types or issubclass(error.type, types)]
        self._errors = [error for error in self._errors if error not in flushed]
        return flushed

    def _hear_twisted(self, event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            self._errors.append(LoggedError(failure.type, str(failure.value), failure.getTraceback()))

    def _hear_asyncio(self, record: logging.LogRecord) -> bool:
        # What a loop of ours tells comes from Twisted's log as well.
        if record.levelno >= logging.ERROR and not is_told_to_twisted(record):
            self._errors.append(_of_record(record))
        return True


def _of_record(record: logging.LogRecord) -> LoggedError:
    error: Any = record.exc_info[1] if record.exc_info else None
    if error is None:
        return LoggedError(RuntimeError, record.getMessage(), f"RuntimeError: {record.getMessage()}")
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return LoggedError(type(error), str(error), f"{record.getMessage()}\n{trace}")
