"""log_to_stdlib(): Twisted's events in the logging module's log, each once, with level and traceback."""

from __future__ import annotations

import gc
import logging
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import Logger, LoggingFile, LogLevel, formatEvent, globalLogPublisher
from twisted.python import log as old_log
from twisted.python.failure import Failure

from txasync.application import LogForwarding, log_to_stdlib

from ..conftest import Reports
from .conftest import LOGGER, fail

log = Logger(LOGGER)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (LogLevel.debug, logging.DEBUG),
        (LogLevel.info, logging.INFO),
        (LogLevel.warn, logging.WARNING),
        (LogLevel.error, logging.ERROR),
        (LogLevel.critical, logging.CRITICAL),
    ],
)
def test_an_event_is_a_record_of_its_namespaces_logger(
    to_stdlib: LogForwarding, logger: logging.Logger, records: list[logging.LogRecord], level: Any, expected: int
) -> None:
    """With its level, and its text, which is no format either."""
    log.emit(level, "{who} has 100% %s", who="x")
    (record,) = records
    assert (record.name, record.levelno, record.getMessage()) == (LOGGER, expected, "x has 100% %s")


@pytest.mark.parametrize("way", ["warn", "emit", "failure", "old", "event"])
def test_a_record_has_the_events_time_and_place(
    to_stdlib: LogForwarding, logger: logging.Logger, records: list[logging.LogRecord], reports: Reports, way: str
) -> None:
    """Whichever method was called, and by the old log, too."""
    seen: list[dict[str, Any]] = []
    observer: Any = seen.append
    globalLogPublisher.addObserver(observer)

    def here() -> int:
        if way == "warn":
            log.warn("from here")
        elif way == "emit":
            log.emit(LogLevel.warn, "from here")
        elif way == "failure":
            log.failure("from here", Failure(LookupError()))
        elif way == "old":
            old_log.msg("from here", logLevel=logging.WARNING)
        else:
            globalLogPublisher({"log_format": "from here", "log_time": 1.25, "log_level": LogLevel.warn})
        return here.__code__.co_firstlineno

    first_line = here()
    globalLogPublisher.removeObserver(observer)
    ((event,), (record,)) = seen, records
    assert record.getMessage() == "from here"
    assert (record.pathname, record.funcName) == (__file__, "here")
    assert first_line < record.lineno < first_line + 12
    assert record.created == event["log_time"]
    assert record.msecs == int(event["log_time"] % 1 * 1000)
    assert record.name == {"old": "twisted.python.log", "event": "twisted"}.get(way, LOGGER)
    reports.clear()


def test_a_logger_of_the_same_name_is_left_alone(
    to_stdlib: LogForwarding, logger: logging.Logger, records: list[logging.LogRecord]
) -> None:
    """Twisted's own observer would change how it finds its caller, for everybody."""
    log.warn("Twisted's")
    logger.warning("its own")
    assert [record.funcName for record in records] == ["test_a_logger_of_the_same_name_is_left_alone"] * 2


def test_a_failure_has_its_traceback(
    to_stdlib: LogForwarding, logger: logging.Logger, records: list[logging.LogRecord], reports: Reports
) -> None:
    """As any formatter shows it, once."""
    for report in lambda: log.failure("failed"), lambda: old_log.err(None, "failed"):
        try:
            fail("in Twisted")
        except LookupError:
            report()
        text = logging.Formatter().format(records.pop())
        assert text.count("LookupError: 'in Twisted'") + text.count("LookupError: in Twisted") == 1
        assert text.startswith("failed\nTraceback")
        assert "in fail" in text
    reports.clear()


def test_an_unhandled_error_of_a_deferred_comes_once(
    to_stdlib: LogForwarding, logger: logging.Logger, records: list[logging.LogRecord], reports: Reports
) -> None:
    """At level CRITICAL, in two events, as Twisted has it, with its traceback."""

    def forget() -> None:
        deferred: Deferred[None] = Deferred()
        deferred.addCallback(lambda result: fail("in a Deferred"))
        deferred.callback(None)

    forget()
    gc.collect()
    text = "\n".join(logging.Formatter().format(record) for record in records)
    assert text.count("Unhandled error in Deferred") == 1
    assert text.count("LookupError: in a Deferred") == text.count("Traceback") == 1
    assert "in fail" in text
    assert {record.levelno for record in records} == {logging.CRITICAL}
    reports.clear()


def test_a_level_that_is_not_enabled_makes_no_record(
    to_stdlib: LogForwarding, logger: logging.Logger, records: list[logging.LogRecord]
) -> None:
    """The logger is configured as any other, and so are those above it."""
    logger.setLevel(logging.ERROR)
    log.warn("too low: {unformatted()}", unformatted=lambda: records.append(None))  # type: ignore[arg-type]
    log.error("high")
    assert [record.getMessage() for record in records] == ["high"]


def test_a_handler_that_tells_twisted_is_not_told_of_it(to_stdlib: LogForwarding, logger: logging.Logger) -> None:
    """There would be no end to it."""
    handled: list[str] = []

    class Teller(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            handled.append(record.getMessage())
            log.warn("handled")

    logger.addHandler(teller := Teller())
    log.warn("one")
    log.warn("two")
    logger.removeHandler(teller)
    assert handled == ["one", "two"]


def test_forwarded_both_ways_each_thing_is_once_in_each_log(
    to_twisted: LogForwarding,
    to_stdlib: LogForwarding,
    logger: logging.Logger,
    events: list[dict[str, Any]],
    records: list[logging.LogRecord],
) -> None:
    """It does not come back to the log that it comes from."""
    logger.warning("by logging")
    log.warn("by Twisted")
    assert [formatEvent(event) for event in events] == ["by logging", "by Twisted"]
    assert [record.getMessage() for record in records] == ["by logging", "by Twisted"]


def test_started_twice_it_forwards_once_until_both_have_stopped(
    logger: logging.Logger, records: list[logging.LogRecord]
) -> None:
    """Whoever has started it first."""
    first, second = log_to_stdlib(), log_to_stdlib()
    log.warn("1")
    second.stop()
    log.warn("2")
    first.stop()
    log.warn("3")
    assert [record.getMessage() for record in records] == ["1", "2"]


def test_a_handler_that_writes_to_twisteds_log_does_not_have_its_events(
    to_stdlib: LogForwarding, logger: logging.Logger, events: list[dict[str, Any]]
) -> None:
    """Only what comes from elsewhere."""
    logger.addHandler(on_stderr := logging.StreamHandler(LoggingFile(log)))
    log.warn("Twisted's")
    logger.warning("a program's")
    logger.removeHandler(on_stderr)
    assert [formatEvent(event) for event in events] == ["Twisted's", "a program's"]
