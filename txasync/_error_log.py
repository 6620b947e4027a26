"""
What asyncio's exception handler is told, told to ``twisted.logger`` too; and how each log learns what it has already.

Two logs, the logging module's and Twisted's, may be forwarded to each other (`txasync.application.log_to_twisted`,
`txasync.application.log_to_stdlib`), and twistd has put a third way in place of ``sys.stderr``: what is written there
is an event of Twisted's for each line. An error of asyncio's is told to both logs here, and so must go by none of the
three ways; everything else must not come back to the log that it comes from.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.logger import Logger, LoggingFile, LogLevel
from twisted.python.failure import Failure
from twisted.python.reflect import safe_repr

__all__ = [
    "IS_LOGGED_BY_STDLIB",
    "IS_LOGGED_BY_TWISTED",
    "handlers_into_twisted",
    "is_told_to_twisted",
    "leave_out_what_twisted_has",
    "telling_twisted",
]

IS_LOGGED_BY_STDLIB = "is_logged_by_stdlib"
"""The key that an event has if the logging module has its content, too."""

IS_LOGGED_BY_TWISTED = "is_logged_by_twisted"
"""The attribute that a record has if Twisted's log has its content, too."""

_LOGGER = "asyncio"
_log = Logger(_LOGGER)


class _Telling(threading.local):
    """Whether this thread logs, by the logging module, what it is going to tell Twisted by itself."""

    now = False


_telling = _Telling()


@contextmanager
def telling_twisted(context: dict[str, Any]) -> Iterator[None]:
    """
    In a ``with`` block, the logging module is told of *context*, as a loop's exception handler gets it.

    At its end, Twisted's log is told. Whatever would forward the block's record there leaves it out: the handler of
    `txasync.application.log_to_twisted` by itself, and those that write there without knowing it by a filter.
    """
    leave_out_what_twisted_has(handlers_into_twisted(logging.getLogger(_LOGGER)))
    before, _telling.now = _telling.now, True
    try:
        yield
    finally:
        _telling.now = before
        _tell_twisted(context)


def leave_out_what_twisted_has(handlers: Iterable[logging.Handler]) -> None:
    """Have *handlers*, which write to Twisted's log, leave out the records for which `is_told_to_twisted`."""
    for handler in handlers:
        handler.addFilter(_is_news_to_twisted)  # once: it is the same each time


def _is_news_to_twisted(record: logging.LogRecord) -> bool:
    return not is_told_to_twisted(record)


def is_told_to_twisted(record: logging.LogRecord) -> bool:
    """Whether what *record* tells, is told to Twisted's log without it."""
    return hasattr(record, IS_LOGGED_BY_TWISTED) or (_telling.now and record.name == _LOGGER)


def handlers_into_twisted(logger: logging.Logger) -> list[logging.Handler]:
    """The handlers of *logger*'s records whose stream is what twistd has put in place of ``sys.stderr``."""
    return [handler for handler in _handlers_of(logger) if isinstance(getattr(handler, "stream", None), LoggingFile)]


def _handlers_of(logger: logging.Logger | None) -> list[logging.Handler]:
    found: list[logging.Handler] = []
    while logger is not None:
        found += logger.handlers
        logger = logger.parent if logger.propagate else None
    last = logging.lastResort
    return found or ([last] if last is not None else [])


def _tell_twisted(context: dict[str, Any]) -> None:
    message = context.get("message") or "Unhandled exception in event loop"
    error = context.get("exception") or RuntimeError(message)
    _log.failure(
        # Not "message": an observer of the old kind, such as trial's, puts another value there, for all observers.
        "{log_text}",
        failure=Failure(error, type(error), error.__traceback__),
        # At this level, Twisted prints nothing by itself while no log has been begun: the lines that the logging
        # module prints are then the only ones.
        level=LogLevel.error,
        log_text="\n".join([message, *_details(context)]),
        # Until a log is begun, Twisted keeps events: they must not keep alive what the context names.
        context={name: safe_repr(value) for name, value in context.items()},
        **{IS_LOGGED_BY_STDLIB: True},
    )


def _details(context: dict[str, Any]) -> Iterator[str]:
    """What asyncio's own text has after the message."""
    for name in sorted(context.keys() - {"message", "exception"}):
        value = context[name]
        if name in ("source_traceback", "handle_traceback"):
            made = "Object" if name == "source_traceback" else "Handle"
            stack = "".join(traceback.format_list(value)).rstrip()
            yield f"{name}: {made} created at (most recent call last):\n{stack}"
        else:
            yield f"{name}: {safe_repr(value)}"
