"""Both logs: asyncio's errors are once in either, and so is everything else, in programs of every kind."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, LoggingFile, eventAsText, formatEvent, globalLogPublisher
from twisted.python import log as old_log

import txasync
from txasync import ReactorEventLoop
from txasync.application import log_to_stdlib, log_to_twisted

from ..conftest import Reports
from ..test_running import in_child
from .conftest import LOGGER, fail

TWISTD = [sys.executable, "-W", "error", "-c", "from twisted.scripts.twistd import run; run()"]

# asyncio's errors


async def err_in_a_callback() -> None:
    """Have a callback fail."""
    loop = asyncio.get_running_loop()
    loop.call_soon(fail, "in a callback")
    loop.call_exception_handler({"message": "only a message", "future": "{braces}"})
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@pytest.mark.parametrize("is_forwarded", [False, True], ids=["alone", "forwarded"])
def test_an_error_of_our_loop_is_once_in_each_log(
    loop: ReactorEventLoop,
    events: list[dict[str, Any]],
    records: list[logging.LogRecord],
    reports: Reports,
    is_forwarded: bool,
) -> None:
    """Whether the logs are forwarded to each other or not; with asyncio's details, and the traceback."""
    forwardings = [log_to_twisted(), log_to_stdlib()] if is_forwarded else []
    try:
        loop.run_until_complete(err_in_a_callback())
    finally:
        for forwarding in forwardings:
            forwarding.stop()
    message, exception = (eventAsText(event) for event in events)
    assert "only a message\nfuture: '{braces}'" in message
    assert exception.count("LookupError: in a callback") == exception.count("Traceback") == 1
    assert "in fail" in exception
    assert "handle: <" in exception
    texts = [record.getMessage() for record in records]
    assert len(texts) == 2
    assert texts[0] == "only a message\nfuture: '{braces}'"
    assert all(text in eventAsText(event) for text, event in zip(texts, events, strict=True))
    assert records[1].exc_info is not None
    assert len(reports.twisted) == len(reports.asyncio) == 2
    reports.clear()


def test_debug_mode_tells_where_things_were_made(
    loop: ReactorEventLoop, events: list[dict[str, Any]], records: list[logging.LogRecord], reports: Reports
) -> None:
    """In both logs, in the same words."""
    loop.set_debug(True)
    loop.run_until_complete(err_in_a_callback())
    first, second = (record.getMessage() for record in records)
    assert "handle_traceback: Handle created at (most recent call last):" in first
    assert "source_traceback: Object created at (most recent call last):" in second
    assert first in eventAsText(events[0])
    assert second in eventAsText(events[1])
    reports.clear()


def test_an_error_of_a_foreign_loop_is_forwarded_once(events: list[dict[str, Any]], reports: Reports) -> None:
    """There asyncio tells the logging module only."""
    with log_to_twisted():
        asyncio.run(err_in_a_callback())
    message, exception = (eventAsText(event) for event in events)
    assert "only a message" in message
    assert exception.count("LookupError: in a callback") == exception.count("Traceback") == 1
    reports.clear()


def test_an_old_observer_does_not_take_the_message_of_an_error(loop: ReactorEventLoop, reports: Reports) -> None:
    """It writes to an event's "message", which others see."""
    old: list[dict[str, Any]] = []
    texts: list[str] = []
    old_log.addObserver(old.append)
    new: Any = lambda event: texts.append(formatEvent(event))  # noqa: E731
    globalLogPublisher.addObserver(new)
    loop.call_exception_handler({"message": "the message"})
    old_log.removeObserver(old.append)
    globalLogPublisher.removeObserver(new)
    assert texts == ["the message"]
    reports.clear()


@pytest.mark.parametrize("where", [None, "asyncio"], ids=["root", "asyncio"])
def test_a_handler_that_writes_to_twisteds_log_has_no_second_copy_of_an_error(
    loop: ReactorEventLoop, events: list[dict[str, Any]], reports: Reports, where: str | None
) -> None:
    """But everything else of its logger."""
    on_stderr = logging.StreamHandler(LoggingFile(Logger(LOGGER)))
    logging.getLogger(where).addHandler(on_stderr)
    loop.call_exception_handler({"message": "an error"})
    logging.getLogger("asyncio").warning("a warning")
    logging.getLogger(where).removeHandler(on_stderr)
    assert [(event["log_namespace"], formatEvent(event)) for event in events] == [
        ("asyncio", "an error"),
        (LOGGER, "a warning"),
    ]
    reports.clear()


# Programs


def test_an_asyncio_program_has_everything_in_its_own_log() -> None:
    """What Twisted has kept, too; warnings, and what is printed, stay what they are."""
    printed = in_child(
        """
        import asyncio, gc, logging, sys, warnings
        from twisted.internet.defer import fail
        from twisted.logger import Logger
        import txasync
        from txasync.application import log_to_stdlib

        async def main():
            Logger("early").warn("kept {what}", what="until now")
            shows = warnings.showwarning
            forwarding = log_to_stdlib()
            assert warnings.showwarning is shows
            assert sys.stderr is sys.__stderr__
            logging.getLogger("quiet").setLevel(logging.ERROR)
            Logger("loud").info("info of Twisted's")
            Logger("quiet").info("not heard")
            fail(LookupError("nobody asked"))
            asyncio.get_running_loop().call_soon(lambda: 1 / 0)
            logging.getLogger("mine").info("info of mine")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            gc.collect()
            warnings.simplefilter("always")
            warnings.warn("as ever")
            forwarding.stop()
            Logger("loud").info("too late")
            fail(LookupError("critical again"))
            gc.collect()

        logging.basicConfig(format="%(levelname)s %(name)s %(funcName)s: %(message)s", level=logging.INFO)
        txasync.run(main())
        """
    )
    lines = printed.splitlines()
    assert lines[0] == "WARNING early (unknown function): kept until now"
    assert "INFO loud main: info of Twisted's" in lines
    assert "INFO mine main: info of mine" in lines
    for once in (
        "kept until",
        "info of Twisted's",
        "nobody asked",
        "ZeroDivisionError",
        "info of mine",
        "Warning: as ever",
    ):
        assert printed.count(once) == 1, printed
    assert "not heard" not in printed
    assert "too late" not in printed
    assert printed.count("critical again") == 1


def test_a_log_that_has_begun_is_not_begun_again() -> None:
    """Twisted would complain; both logs have everything."""
    printed = in_child(
        """
        import io, logging
        from twisted.logger import Logger, globalLogBeginner, textFileLogObserver
        from txasync.application import log_to_stdlib
        file = io.StringIO()
        globalLogBeginner.beginLoggingTo([textFileLogObserver(file)], redirectStandardIO=False)
        logging.basicConfig(format="%(name)s %(message)s")
        with log_to_stdlib(), log_to_stdlib():
            Logger("mine").warn("one")
        Logger("mine").warn("two")
        print([line.split(" ", 1)[1] for line in file.getvalue().splitlines()])
        """
    )
    assert printed == "['[mine#warn] one', '[mine#warn] two']\nmine one\n"


PROGRAM = """
import asyncio, gc, logging, sys
from twisted.application.service import Application
from twisted.internet import defer
from twisted.logger import Logger, ILogObserver, textFileLogObserver
from txasync.application import TaskService, TwistedHandler, log_to_stdlib, log_to_twisted

def fail(what):
    raise LookupError(what)

async def main():
    from twisted.internet import reactor
    {in_main}
    logger = logging.getLogger("program")
    logger.info("an info {{of}} 100%")
    logger.warning("a warning")
    try:
        fail("logged")
    except LookupError:
        logger.exception("an exception")
    asyncio.get_running_loop().call_soon(fail, "in a callback")
    task = asyncio.ensure_future(asyncio.sleep(0))
    task.add_done_callback(lambda task: fail("in a done callback"))
    await asyncio.sleep(0.01)
    await asyncio.to_thread(logger.warning, "from a thread")
    defer.fail(LookupError("in a Deferred"))
    gc.collect()
    Logger("twisteds").info("an info of Twisted's")
    print("printed")
    reactor.stop()

{in_tac}
application = Application("logging")
TaskService(main).setServiceParent(application)
"""

ERRORS = "LookupError: in a callback", "LookupError: in a done callback", "LookupError: in a Deferred"


def log_of(directory: Path, in_tac: str = "", in_main: str = "", *options: str) -> str:
    """What twistd has in its log of PROGRAM, with these lines in it."""
    (directory / "program.tac").write_text(
        PROGRAM.format(in_tac=in_tac, in_main=textwrap.indent(in_main, "    ").strip())
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(txasync.__file__).parents[1]), "."])}
    command = [*TWISTD, "-n", "--pidfile=", *(options or ["--logfile=log"]), "-y", "program.tac"]
    ended = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    text = (directory / "log").read_text()
    for error in ERRORS:
        assert text.replace("'", "").count(error) == 1, text
    assert text.count("[twisteds#info] an info of Twisted's") == 1, text
    assert text.count("printed") == 1, text
    return text


def forwarded(text: str) -> None:
    """The log has each record once, as an event of its own."""
    for line in (
        "[program#info] an info {of} 100%",
        "[program#warn] a warning",
        "[program#error] an exception",
        "[program#warn] from a thread",
    ):
        message = line.partition(" ")[2] + "\n"
        assert text.count(f"{line}\n") == text.count(message) == 1, text
    assert text.count("LookupError: logged") + text.count("LookupError: 'logged'") == 1, text
    assert "stderr#" not in text


@pytest.mark.parametrize(
    "in_main",
    [
        "",
        "logging.basicConfig()  # does nothing",
        "logging.getLogger().addHandler(logging.StreamHandler())",
        "log_to_stdlib()\nlogging.getLogger().addHandler(logging.StreamHandler())",
    ],
    ids=["alone", "basicConfig", "a handler on stderr", "both ways"],
)
def test_under_twistd_each_record_is_once_in_the_log(tmp_path: Path, in_main: str) -> None:
    """With level and traceback, and whatever else the program does with the logging module."""
    forwarded(log_of(tmp_path, "log_to_twisted()", in_main))


@pytest.mark.parametrize(
    "in_main",
    [
        "logging.basicConfig(level=logging.INFO)\nlog_to_twisted()",
        "log_to_twisted()\nlogging.basicConfig(level=logging.INFO, force=True)\nlog_to_twisted()",
        "from logging.config import dictConfig\n"
        "dictConfig({'version': 1, 'handlers': {'t': {'class': 'txasync.application.TwistedHandler'}},"
        " 'root': {'handlers': ['t'], 'level': 'INFO'}})\nlog_to_twisted()",
    ],
    ids=["basicConfig", "forced", "dictConfig"],
)
def test_a_program_that_has_configured_logging_can_forward_it(tmp_path: Path, in_main: str) -> None:
    """At the level that it has asked for; a handler that writes to twistd's log is silent then."""
    forwarded(log_of(tmp_path, "", in_main))


def test_under_twistd_alone_records_come_as_lines_and_asyncios_errors_once(tmp_path: Path) -> None:
    """What goes to stderr is in the log; asyncio's errors are there by themselves, and do not go to stderr as well."""
    text = log_of(tmp_path)
    assert text.count("[stderr#error] a warning") == 1
    assert text.count("[asyncio#error] ") == 2
    assert "an info" not in text.replace("an info of Twisted's", "")


def test_under_twistd_alone_a_handler_on_stderr_has_asyncios_errors_no_second_time(tmp_path: Path) -> None:
    """``basicConfig()`` in a running program writes to twistd's log."""
    text = log_of(tmp_path, "", "logging.basicConfig()")
    assert text.count("[stderr#error] WARNING:program:a warning") == 1
    assert text.count("[asyncio#error] ") == 2


TRIAL_TESTS = """
import logging
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
import txasync
from txasync.application import log_to_stdlib, log_to_twisted


class Tests(TestCase):
    def setUp(self):
        txasync.install()
        self.addCleanup(log_to_twisted().stop)
        self.addCleanup(log_to_stdlib().stop)

    def test_an_error_in_a_callback_is_flushed_once(self):
        from twisted.internet import reactor
        reactor.callWhenRunning(txasync.install().call_soon, lambda: 1 / 0)
        waiting = deferLater(reactor, 0.01)
        return waiting.addCallback(lambda _: self.assertEqual(len(self.flushLoggedErrors()), 1))

    def test_an_exception_that_is_logged_is_flushed(self):
        try:
            1 / 0
        except ZeroDivisionError:
            logging.exception("failed")
            logging.warning("no error", exc_info=True)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
"""


def test_under_trial_errors_are_flushed_once(tmp_path: Path) -> None:
    """An exception that was logged below the level ERROR is none."""
    (tmp_path / "test_with_trial.py").write_text(TRIAL_TESTS)
    command = [sys.executable, "-c", "from twisted.scripts.trial import run; run()", "test_with_trial"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(txasync.__file__).parents[1]), "."])}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "PASSED (successes=2)" in ended.stdout


def test_twistd_with_an_observer_of_ones_own(tmp_path: Path) -> None:
    """``--logger`` names what makes it."""
    (tmp_path / "observers.py").write_text(
        "from twisted.logger import textFileLogObserver\n"
        "def make():\n    return textFileLogObserver(open('log', 'w'))\n"
    )
    forwarded(log_of(tmp_path, "log_to_twisted()", "", "--logger=observers.make"))
