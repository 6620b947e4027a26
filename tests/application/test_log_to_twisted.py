"""log_to_twisted(): the logging module's records in Twisted's log, each once, with level and traceback."""

from __future__ import annotations

import gc
import json
import logging
import queue
import sys
import threading
import warnings
import weakref
from logging.handlers import QueueHandler, QueueListener
from typing import Any

import pytest
from twisted.logger import Logger, LoggingFile, LogLevel, eventAsJSON, eventAsText, formatEvent, globalLogPublisher
from twisted.python import log as old_log

from txasync.application import LogForwarding, TwistedHandler, log_to_twisted

from ..conftest import Reports
from ..test_running import in_child
from .conftest import LOGGER, fail


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (1, LogLevel.debug),
        (logging.DEBUG, LogLevel.debug),
        (logging.INFO, LogLevel.info),
        (logging.INFO + 5, LogLevel.info),
        (logging.WARNING, LogLevel.warn),
        (logging.ERROR - 1, LogLevel.warn),
        (logging.ERROR, LogLevel.error),
        (logging.CRITICAL, LogLevel.critical),
        (1000, LogLevel.critical),
    ],
)
def test_a_record_has_twisteds_level_at_or_below_its_own(
    to_twisted: LogForwarding, logger: logging.Logger, events: list[dict[str, Any]], level: int, expected: object
) -> None:
    """Levels of one's own are between Twisted's, and lose what they have above the next lower one."""
    logger.log(level, "level %d", level)
    (event,) = events
    assert event["log_level"] is expected
    assert formatEvent(event) == f"level {level}"


def test_a_message_is_text_and_no_format(
    to_twisted: LogForwarding, logger: logging.Logger, events: list[dict[str, Any]]
) -> None:
    """Braces and per cent signs stay, with arguments and without."""
    logger.warning("{0} {name!r} 100% {")
    logger.warning("%s {} %s", "{x}", "50%")
    assert [formatEvent(event) for event in events] == ["{0} {name!r} 100% {", "{x} {} 50%"]


def test_an_event_has_the_records_time_place_and_extra(
    to_twisted: LogForwarding,
    logger: logging.Logger,
    events: list[dict[str, Any]],
    records: list[logging.LogRecord],
) -> None:
    """By the names that they have in the record; those that Twisted uses otherwise get another one."""
    taken = {"time": 1, "system": "s", "format": "%", "isError": 1, "failure": "f", "log_level": "l", "log_text": "t"}
    logger.warning("where?", extra={"request_id": 7, **taken})
    (event,), (record,) = events, records
    assert event["log_time"] == record.created
    assert (event["pathname"], event["lineno"], event["funcName"]) == (
        record.pathname,
        record.lineno,
        "test_an_event_has_the_records_time_place_and_extra",
    )
    assert event["threadName"] == threading.current_thread().name
    assert event["request_id"] == 7
    assert {name: event[f"record_{name}"] for name in taken} == taken
    assert event["log_level"] is LogLevel.warn
    assert eventAsText(event).endswith(f"[{LOGGER}#warn] where?")
    assert json.loads(eventAsJSON(event))["request_id"] == 7


def test_an_exception_is_a_failure_with_its_own_traceback(
    to_twisted: LogForwarding, logger: logging.Logger, events: list[dict[str, Any]], reports: Reports
) -> None:
    """The exception itself, and the frames that it came through."""
    try:
        fail("from a program")
    except LookupError as error:
        raised = error
        logger.exception("it {failed}")
    (event,) = events
    assert event["log_failure"].value is raised
    assert event["log_level"] is LogLevel.error
    text = eventAsText(event)
    assert text.count("LookupError: from a program") == 1
    assert "in fail" in text
    assert "it {failed}" in text
    assert [report.type for report in reports.twisted] == [LookupError]
    reports.clear()


def test_exc_info_without_an_exception_is_no_failure(
    to_twisted: LogForwarding, logger: logging.Logger, events: list[dict[str, Any]]
) -> None:
    """``exc_info=True`` where nothing was raised."""
    logger.error("nothing", exc_info=True)
    assert "log_failure" not in events[0]
    assert formatEvent(events[0]) == "nothing"


def test_an_exception_below_error_does_not_fail_a_test_under_trial(
    to_twisted: LogForwarding, logger: logging.Logger, events: list[dict[str, Any]], reports: Reports
) -> None:
    """trial looks for what observers of the old kind take for an error; others show the traceback."""
    seen: list[dict[str, Any]] = []
    old_log.addObserver(seen.append)
    try:
        try:
            fail("for debugging")
        except LookupError:
            logger.debug("look", exc_info=True)
            logger.error("and look", exc_info=True)
    finally:
        old_log.removeObserver(seen.append)
    assert [event["isError"] for event in seen] == [0, 1]
    assert all("LookupError: for debugging" in eventAsText(event) for event in events)
    reports.clear()


def test_the_stack_of_a_record_is_in_the_text(
    to_twisted: LogForwarding, logger: logging.Logger, events: list[dict[str, Any]]
) -> None:
    """``stack_info=True``."""
    logger.warning("here", stack_info=True)
    text = formatEvent(events[0])
    assert text.startswith("here\nStack (most recent call last):\n")
    assert "in test_the_stack_of_a_record_is_in_the_text" in text


def test_a_traceback_that_is_text_already_is_kept(
    to_twisted: LogForwarding, logger: logging.Logger, events: list[dict[str, Any]]
) -> None:
    """A record that another process has sent has no exception any more."""
    logger.handle(logging.makeLogRecord({"name": LOGGER, "msg": "sent", "levelno": 40, "exc_text": "Traceback: x"}))
    assert formatEvent(events[0]) == "sent\nTraceback: x"


def test_neither_record_nor_arguments_are_kept_alive(
    to_twisted: LogForwarding, logger: logging.Logger, events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twisted keeps events while no log has been begun."""
    kept: list[weakref.ref[object]] = []

    class Argument:
        def __str__(self) -> str:
            return "argument"

    class Record(logging.LogRecord):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            kept.append(weakref.ref(self))

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Record)
    try:
        argument = Argument()
        kept.append(weakref.ref(argument))
        # Not to the root logger's other handlers: pytest keeps records.
        logger.propagate = False
        logger.addHandler(TwistedHandler())
        logger.warning("an %s", argument)
    finally:
        logger.handlers.clear()
        logger.propagate = True
        logging.setLogRecordFactory(before)
    del argument
    gc.collect()
    assert [formatEvent(event) for event in events] == ["an argument"]
    assert [alive() for alive in kept] == [None, None]


def test_a_message_that_cannot_be_formatted_is_reported_as_by_any_handler(
    to_twisted: LogForwarding, logger: logging.Logger, events: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """On ``sys.stderr``, with message and arguments; the program goes on."""
    logger.propagate = False
    logger.addHandler(TwistedHandler())
    try:
        logger.warning("%d", "x")
    finally:
        logger.handlers.clear()
        logger.propagate = True
    assert not events
    assert "Message: '%d'" in capsys.readouterr().err


def test_a_filter_of_the_handler_is_asked(logger: logging.Logger, events: list[dict[str, Any]]) -> None:
    """As of any handler; from Python 3.12 on, it may put another record in the place of one."""

    def only_even(record: logging.LogRecord) -> bool | logging.LogRecord:
        if sys.version_info >= (3, 12) and record.msg == "replace":
            return logging.makeLogRecord({**vars(record), "msg": "replaced"})
        return record.msg != "odd"

    handler = TwistedHandler()
    a_filter: Any = only_even
    handler.addFilter(a_filter)
    logger.addHandler(handler)
    for message in "odd", "even", "replace":
        logger.warning(message)
    logger.removeHandler(handler)
    last = "replaced" if sys.version_info >= (3, 12) else "replace"
    assert [formatEvent(event) for event in events] == ["even", last]


def test_called_twice_it_forwards_once_until_both_have_stopped(
    logger: logging.Logger, events: list[dict[str, Any]]
) -> None:
    """Whoever has called it first; a second ``stop()`` of one of them does not count."""
    first, second = log_to_twisted(), log_to_twisted()
    logger.warning("1")
    first.stop()
    first.stop()
    logger.warning("2")
    second.stop()
    logger.warning("3")
    with log_to_twisted():
        logger.warning("4")
    assert [formatEvent(event) for event in events] == ["1", "2", "4"]


def test_a_handler_that_is_there_already_is_enough(
    to_twisted: LogForwarding, logger: logging.Logger, events: list[dict[str, Any]]
) -> None:
    """One on a logger further down forwards the record first, and that on the root logger does not again."""
    logger.addHandler(handler := TwistedHandler())
    logger.warning("once")
    logger.removeHandler(handler)
    assert len(events) == 1
    root = logging.getLogger()
    root.addHandler(handler)
    with log_to_twisted():
        logger.warning("twice")
        assert len(events) == 2
    assert handler in root.handlers
    root.removeHandler(handler)


def test_a_handler_that_was_taken_away_comes_back(logger: logging.Logger, events: list[dict[str, Any]]) -> None:
    """``logging.config`` closes and removes all handlers; it can be called again, and both be stopped."""
    root = logging.getLogger()
    first = log_to_twisted()
    (ours,) = (handler for handler in root.handlers if isinstance(handler, TwistedHandler))
    root.removeHandler(ours)
    logger.warning("lost")
    second = log_to_twisted()
    logger.warning("found")
    first.stop()
    second.stop()
    assert [formatEvent(event) for event in events] == ["found"]
    assert not any(isinstance(handler, TwistedHandler) for handler in root.handlers)


def test_the_root_loggers_level_is_put_back() -> None:
    """Unless somebody else has set it meanwhile; a bad one changes nothing."""
    root = logging.getLogger()
    before = root.level
    with log_to_twisted("DEBUG"):
        assert root.level == logging.DEBUG
    assert root.level == before
    with pytest.raises(ValueError, match="LOUD"):
        log_to_twisted("LOUD")
    with log_to_twisted(logging.ERROR):
        root.setLevel(logging.CRITICAL)
    assert root.level == logging.CRITICAL
    root.setLevel(before)
    assert not any(isinstance(handler, TwistedHandler) for handler in root.handlers)


def test_the_level_is_twisteds_only_where_nobody_has_configured_logging() -> None:
    """Else the program's own level counts."""
    printed = in_child(
        """
        import logging
        from txasync.application import log_to_twisted
        root = logging.getLogger()
        for configure in "", "root.setLevel('ERROR')", "logging.basicConfig()", "root.setLevel('DEBUG')":
            exec(configure)
            before = root.level
            with log_to_twisted():
                print(logging.getLevelName(root.level))
            assert root.level == before
            root.handlers.clear()
            root.setLevel("WARNING")
        """
    )
    assert printed.split() == ["INFO", "ERROR", "WARNING", "DEBUG"]


def test_records_of_many_threads_come_once(
    to_twisted: LogForwarding, logger: logging.Logger, events: list[dict[str, Any]]
) -> None:
    """Each with the name of its thread, and those of one thread in order."""
    threads = [
        threading.Thread(target=lambda: [logger.info("%d", number) for number in range(200)], name=f"thread {n}")
        for n in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    by_thread: dict[str, list[str]] = {}
    for event in events:
        by_thread.setdefault(event["threadName"], []).append(formatEvent(event))
    assert by_thread == {f"thread {n}": [str(number) for number in range(200)] for n in range(5)}


def test_a_record_that_comes_by_a_queue_is_forwarded(logger: logging.Logger, events: list[dict[str, Any]]) -> None:
    """In the listener's thread, with the name of the thread that has made it."""
    records: queue.Queue[logging.LogRecord] = queue.Queue()
    listener = QueueListener(records, TwistedHandler())
    logger.addHandler(handler := QueueHandler(records))
    listener.start()
    logger.warning("by %s", "queue")
    listener.stop()
    logger.removeHandler(handler)
    (event,) = events
    assert formatEvent(event) == "by queue"
    assert event["threadName"] == threading.current_thread().name


def test_two_threads_do_not_wait_for_each_others_locks(logger: logging.Logger, events: list[dict[str, Any]]) -> None:
    """An observer takes a lock that the other thread holds while it logs."""
    lock, inside, held = threading.Lock(), threading.Event(), threading.Event()

    def observe(event: dict[str, Any]) -> None:
        if event["log_namespace"] == LOGGER and event["threadName"] == "first":
            inside.set()
            assert held.wait(30)
            assert lock.acquire(timeout=30)
            lock.release()

    def second() -> None:
        with lock:
            held.set()
            assert inside.wait(30)
            logger.warning("second")

    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    with log_to_twisted():
        threads = [threading.Thread(target=logger.warning, args=("first",), name="first")]
        threads.append(threading.Thread(target=second))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    globalLogPublisher.removeObserver(observer)
    assert sorted(formatEvent(event) for event in events) == ["first", "second"]


def test_an_observer_that_logs_is_not_told_of_itself(
    to_twisted: LogForwarding,
    logger: logging.Logger,
    events: list[dict[str, Any]],
    records: list[logging.LogRecord],
) -> None:
    """There would be no end to it; other handlers have its records."""

    def observe(event: dict[str, Any]) -> None:
        if event["log_namespace"] == LOGGER:
            logger.warning("observed %s", formatEvent(event))

    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    logger.warning("one")
    globalLogPublisher.removeObserver(observer)
    assert [formatEvent(event) for event in events] == ["one"]
    assert sorted(record.getMessage() for record in records) == ["observed one", "one"]


def test_an_observer_that_fails_takes_nothing_from_others(
    to_twisted: LogForwarding, logger: logging.Logger, events: list[dict[str, Any]], reports: Reports
) -> None:
    """Twisted tells the others of its failure; the program that logs hears nothing."""

    def observe(event: dict[str, Any]) -> None:
        if event["log_namespace"] == LOGGER:
            fail("in an observer")

    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    logger.warning("one")
    globalLogPublisher.removeObserver(observer)
    logger.warning("two")
    assert [formatEvent(event) for event in events] == ["one", "two"]
    assert [report.value for report in reports.twisted] == ["'in an observer'"] or len(reports.twisted) == 1
    reports.clear()


def test_captured_warnings_come_once(to_twisted: LogForwarding, events: list[dict[str, Any]]) -> None:
    """By ``logging.captureWarnings()``, of which Twisted knows nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        try:
            warnings.warn("careful {}", UserWarning, stacklevel=1)
        finally:
            logging.captureWarnings(False)
    (event,) = events
    assert "UserWarning: careful {}" in formatEvent(event)
    assert event["log_level"] is LogLevel.warn


def test_a_message_that_never_ends_is_the_programs_error(to_twisted: LogForwarding, logger: logging.Logger) -> None:
    """As in the handlers of the logging module: there is no stack left to report it with."""

    class Endless:
        def __str__(self) -> str:
            return str(self)

    logger.propagate = False
    logger.addHandler(TwistedHandler())
    try:
        with pytest.raises(RecursionError):
            logger.warning(Endless())
    finally:
        logger.handlers.clear()
        logger.propagate = True


@pytest.mark.parametrize("is_first", [True, False])
def test_a_handler_of_the_root_logger_that_writes_to_twisteds_log_is_silent(
    logger: logging.Logger, events: list[dict[str, Any]], is_first: bool
) -> None:
    """Under twistd, that is one on ``sys.stderr``; it speaks again, when the records are not forwarded any more."""
    root = logging.getLogger()
    on_stderr = logging.StreamHandler(LoggingFile(Logger(LOGGER)))
    if is_first:
        root.addHandler(on_stderr)
    with log_to_twisted():
        if not is_first:
            root.addHandler(on_stderr)
        logger.warning("1")
        logger.warning("2")
        (ours,) = (handler for handler in root.handlers if isinstance(handler, TwistedHandler))
        root.removeHandler(ours)
        logger.warning("3")
    logger.warning("4")
    root.removeHandler(on_stderr)
    assert [formatEvent(event) for event in events] == ["1", "2", "3", "4"]
    assert ["pathname" in event for event in events] == [True, True, False, False]
