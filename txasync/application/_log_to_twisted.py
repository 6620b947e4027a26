"""The logging module's records in Twisted's log."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

from twisted.logger import LogEvent, Logger, globalLogPublisher
from twisted.python.failure import Failure

from .._error_log import IS_LOGGED_BY_STDLIB, IS_LOGGED_BY_TWISTED, handlers_into_twisted, is_told_to_twisted
from ._log_forwarding import Claims, LogForwarding, level_for_twisted

__all__ = ["TwistedHandler", "log_to_twisted"]

# What an event says in terms of its own, and what would keep alive the arguments of a message.
_TOLD_OTHERWISE = frozenset(
    ["name", "msg", "args", "exc_info", "exc_text", "stack_info", "message", "asctime"]
    + ["created", "msecs", "relativeCreated"]
)
# What Twisted's observers of the old kind look for in an event.
_TWISTEDS_OWN = frozenset(["message", "time", "system", "format", "isError", "failure", "why", "logLevel"])


def log_to_twisted(level: int | str | None = None) -> LogForwarding:
    """
    Have every record of the logging module in Twisted's log, such as twistd's, until this is stopped.

    A `TwistedHandler` is added to the root logger, if it has none yet. Other handlers stay; but one of the root logger
    that writes to what twistd has put in place of ``sys.stderr`` or ``sys.stdout`` is silent, because its lines would
    be the same records in the same log. What does not reach the root logger (``propagate`` is false) is not forwarded.

    Args:
        level: The root logger's level meanwhile, by number or name: records below it are made by no logger that has no
            level of its own. Default: ``INFO``, if nobody has configured logging (the root logger has no handler, and
            the level that it begins with, ``WARNING``); else the level that it has.

    Returns:
        What takes it back. Called several times, each record is forwarded once, until all have been stopped.

    Raises:
        ValueError: *level* is not the name of a level.
        TypeError: *level* is neither a number nor a name.

    Context:
        Any thread. ``logging.basicConfig()`` does nothing after this, as always where the root logger has a handler.
        ``logging.config`` takes handlers away: call this afterwards, or have it make a `TwistedHandler`.

    Source:
        logging, "Handler Objects"; ``twisted.logger.globalLogPublisher``.
    """
    root = logging.getLogger()
    if level is None and not root.handlers and root.level == logging.WARNING:
        level = logging.INFO
    put_back = _set_level(root, level)
    _claims.add()

    def stop() -> None:
        _claims.remove()
        put_back()

    return LogForwarding(stop)


def _set_level(root: logging.Logger, level: int | str | None) -> Callable[[], None]:
    """Set the root logger's level; what is returned puts it back, unless somebody else has set it meanwhile."""
    before = root.level
    if level is not None:
        root.setLevel(level)
    ours = root.level

    def put_back() -> None:
        if root.level == ours:
            root.setLevel(before)

    return put_back


class _Forwarding(threading.local):
    """Whether this thread is in an observer of Twisted's, called by a handler of ours."""

    now = False


_forwarding = _Forwarding()


class TwistedHandler(logging.Handler):
    """
    A handler that makes an event of Twisted's of each record.

    The event has the record's name as namespace, the level at or below its own, its time, its message with the
    ``stack_info``, and the exception, with its traceback, as a failure. The record's other attributes are keys of the
    event by their names (``pathname``, ``lineno``, ``threadName``..., those of ``extra=``, too); one that means
    something else to Twisted has ``record_`` before its name. Formatters are not asked: that is for observers.

    What an observer logs by the logging module, while it observes such an event, is not forwarded: it would observe
    itself. Below the level ``ERROR``, an exception does not make the event an error for observers of the old kind: a
    test under trial fails of an error, not of a record for debugging; but such an observer shows no traceback then.

    Source:
        logging, "Handler Objects"; ``twisted.logger.ILogObserver``.
    """

    def handle(self, record: logging.LogRecord) -> Any:
        """
        Filter and forward *record*, without a lock.

        Observers must be thread-safe, and may use handlers of their own: with a lock around them, two threads that take
        those and ours in a different order would wait for each other.
        """
        accepted = self.filter(record)
        if accepted:
            # From Python 3.12 on, a filter may return another record.
            self.emit(accepted if isinstance(accepted, logging.LogRecord) else record)
        return accepted

    def emit(self, record: logging.LogRecord) -> None:
        """Forward *record*, unless Twisted's log has it already."""
        if _forwarding.now or is_told_to_twisted(record):
            return
        _forwarding.now = True
        try:
            globalLogPublisher(_event_of(record))
        except RecursionError:
            raise  # as handlers of the logging module do: to report it would need the stack that has run out
        except Exception:
            self.handleError(record)
        else:
            setattr(record, IS_LOGGED_BY_TWISTED, True)
        finally:
            _forwarding.now = False


def _event_of(record: logging.LogRecord) -> LogEvent:
    text = record.getMessage()
    if record.stack_info:
        text = f"{text}\n{record.stack_info}"
    failure = _failure_of(record)
    event: LogEvent = {}
    for name, value in vars(record).items():
        if name not in _TOLD_OTHERWISE:
            event[f"record_{name}" if name in _TWISTEDS_OWN or name.startswith("log_") else name] = value
    if failure is not None:
        event["log_failure"] = failure
        if record.levelno < logging.ERROR:
            event["isError"] = 0
    elif record.exc_text and not record.exc_info:
        text = f"{text}\n{record.exc_text}"  # it comes from another process or a queue, which keep the text only
    event.update(
        {
            "log_logger": Logger(record.name),
            "log_namespace": record.name,
            "log_source": None,
            "log_level": level_for_twisted(record.levelno),
            # A message may have braces, so it is never the format itself.
            "log_format": "{log_text}",
            "log_text": text,
            "log_time": record.created,
            IS_LOGGED_BY_STDLIB: True,
        }
    )
    return event


def _failure_of(record: logging.LogRecord) -> Failure | None:
    if not record.exc_info or record.exc_info[1] is None:
        return None
    kind, error, traceback = record.exc_info
    return Failure(error, kind, traceback)


class _RootHandler:
    """The handler on the root logger, which silences those that would write the same to Twisted's log."""

    def __init__(self) -> None:
        self._handler: TwistedHandler | None = None
        self._silenced: weakref.WeakSet[logging.Handler] = weakref.WeakSet()

    def add(self) -> None:
        root = logging.getLogger()
        if not any(isinstance(handler, TwistedHandler) for handler in root.handlers):
            self._handler = TwistedHandler()
            # Asked for each record: the program may add handlers later, which come after ours then.
            self._handler.addFilter(self._silence_others)
            root.addHandler(self._handler)
            self._silence_others()

    def remove(self) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            logging.getLogger().removeHandler(handler)
            handler.close()
        for other in self._silenced:
            other.removeFilter(self._is_ours_gone)
        self._silenced.clear()

    def _silence_others(self, record: logging.LogRecord | None = None) -> bool:
        root = logging.getLogger()
        for other in handlers_into_twisted(root):
            if other in root.handlers and other not in self._silenced:
                self._silenced.add(other)
                other.addFilter(self._is_ours_gone)
        return True

    def _is_ours_gone(self, record: logging.LogRecord) -> bool:
        """Whether ``logging.config``, or ``basicConfig(force=True)``, has taken the handler away."""
        return self._handler not in logging.getLogger().handlers


_root_handler = _RootHandler()
_claims = Claims(_root_handler.add, _root_handler.remove)
