"""Twisted's events in the logging module's log."""

from __future__ import annotations

import inspect
import logging
import sys
import threading
import warnings

from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    eventAsText,
    formatEvent,
    globalLogBeginner,
    globalLogPublisher,
)
from zope.interface import implementer

from .._error_log import (
    IS_LOGGED_BY_STDLIB,
    IS_LOGGED_BY_TWISTED,
    handlers_into_twisted,
    leave_out_what_twisted_has,
)
from ._log_forwarding import Claims, LogForwarding, level_for_stdlib

__all__ = ["log_to_stdlib"]

_UNKNOWN_CALLER = ("(unknown file)", 0, "(unknown function)")
# What is between a logger, or the old log, and its observers.
_LOGGING_MODULES = ("twisted.logger", "twisted.python.log", "twisted.python.threadable", "twisted.python.context")


def log_to_stdlib() -> LogForwarding:
    """
    Have every event of Twisted's log in the logging module, until this is stopped.

    This is for programs that began as asyncio's. A record is of the logger that is named as the event's namespace, so
    that ``logging.getLogger("twisted.web")`` is configured as any other; it has the event's level, time, text, place in
    the source, and failure. What comes by ``twisted.python.log`` is of the logger of that name. The errors of a txasync
    loop, which both logs are told of, are left out.

    If no log of Twisted's has been begun (``beginLoggingTo()``, ``startLogging()``, twistd, trial), this is it: the
    events that Twisted has kept are logged, and critical ones are not printed to ``sys.stderr`` any more, until this is
    stopped. ``sys.stderr``, ``sys.stdout`` and warnings stay as they are; ``logging.captureWarnings`` is for these.

    Returns:
        What takes it back. Called several times, each event is forwarded once, until all have been stopped.

    Context:
        Any thread; handlers may be called before this returns. Later, they are called where Twisted logs, most often in
        the reactor's thread, and must not block: ``logging.handlers.QueueHandler`` does not.

    Source:
        ``twisted.logger.globalLogBeginner``; as ``twisted.logger.STDLibLogObserver`` does, which has one logger for
        everything.
    """
    _claims.add()
    return LogForwarding(_claims.remove)


class _Forwarding(threading.local):
    """Whether this thread is in a handler of the logging module, called by the observer."""

    now = False


_forwarding = _Forwarding()


@implementer(ILogObserver)
class StdlibObserver:
    """
    Makes a record of the logging module of each event.

    ``twisted.logger.STDLibLogObserver`` would not do for loggers of all names (as of Twisted 26.10): it puts a
    ``findCaller`` of its own on the logger, which is wrong for whoever else uses that, and raises ValueError where the
    stack is short.
    """

    def __call__(self, event: LogEvent) -> None:
        """
        Forward *event*, unless the logging module has it already.

        What its handlers tell Twisted meanwhile, such as a line for ``sys.stderr`` under twistd, is not forwarded:
        there would be no end to it.
        """
        if _forwarding.now or IS_LOGGED_BY_STDLIB in event:
            return
        logger = logging.getLogger(_name_of(event))
        level = level_for_stdlib(event.get("log_level"))
        if not logger.isEnabledFor(level):
            return
        leave_out_what_twisted_has(handlers_into_twisted(logger))
        _forwarding.now = True
        try:
            logger.handle(_record_of(event, logger, level))
        finally:
            _forwarding.now = False


def _name_of(event: LogEvent) -> str:
    namespace = event.get("log_namespace")
    if namespace == "log_legacy":
        return "twisted.python.log"
    return str(namespace) if namespace else "twisted"


def _record_of(event: LogEvent, logger: logging.Logger, level: int) -> logging.LogRecord:
    text = formatEvent(event)
    failure = event.get("log_failure")
    if failure is None and event.get("isError") and "failure" in event:
        # Of the old kind, whose text is made of the traceback.
        failure = event["failure"]
        text = str(event.get("why") or "Unhandled Error")
    exc_info = None if failure is None else (failure.type, failure.value, failure.getTracebackObject())
    path, line, function = _caller()
    extra = {IS_LOGGED_BY_TWISTED: True}
    record = logger.makeRecord(logger.name, level, path, line, text, (), exc_info, function, extra)
    _set_time(record, event.get("log_time"))
    return record


def _set_time(record: logging.LogRecord, time: float | None) -> None:
    if time is not None:
        record.relativeCreated += (time - record.created) * 1000
        record.created = time
        record.msecs = float(int(time % 1 * 1000))


def _caller() -> tuple[str, int, str]:
    """Path, line and function of who has logged; unknown for an event that Twisted has kept until it is begun."""
    frame = inspect.currentframe()
    in_logging = False
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if not (module == __name__ or module.startswith(_LOGGING_MODULES)):
            return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name
        if in_logging and module == __name__:
            break
        in_logging = module != __name__
        frame = frame.f_back
    return _UNKNOWN_CALLER


class _Log:
    """Twisted's log, which is forwarded while anybody wants it."""

    def __init__(self) -> None:
        self._observer = StdlibObserver()
        self._has_begun = False

    def begin(self) -> None:
        globalLogPublisher.removeObserver(_critical_to_stderr)
        if globalLogBeginner._temporaryObserver is None:
            globalLogPublisher.addObserver(self._observer)
            return
        shows = warnings.showwarning
        globalLogBeginner.beginLoggingTo([self._observer], redirectStandardIO=False)
        warnings.showwarning = shows
        self._has_begun = True

    def end(self) -> None:
        globalLogPublisher.removeObserver(self._observer)
        if self._has_begun:
            globalLogPublisher.addObserver(_critical_to_stderr)


@implementer(ILogObserver)
def _critical_to_stderr(event: LogEvent) -> None:
    """What Twisted does while no log has been begun: else nobody would hear of an error."""
    if event.get("log_level") is LogLevel.critical:
        print(eventAsText(event, includeTimestamp=False, includeSystem=False), file=sys.stderr)


_log = _Log()
_claims = Claims(_log.begin, _log.end)
