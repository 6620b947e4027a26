"""
The process that runs some of Twisted's tests on the reactors of one configuration, as trial does.

It appends one line of JSON to a file when a test begins and one when it ends, so that whoever started it knows of every
test that has ended, and which one was running, even if this process is killed; started again with the same file, it
goes on behind that test.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import time
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.python.failure import Failure
from twisted.trial.reporter import TestResult
from twisted.trial.runner import ErrorHolder, TestLoader, TrialRunner

from tests.progress_lines import ProgressLines
from tests.twisted_suite import chosen, under_test

Tests = unittest.TestCase | unittest.TestSuite


class Outcomes(TestResult):
    """
    Writes what happens.

    Args:
        lines: They go here.
        class_name: The name of the reactor's class, which is not part of an outcome.
    """

    def __init__(self, lines: ProgressLines, class_name: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # it has no annotations
        self._lines = lines
        self._class_name = class_name
        self._outcomes: list[str] = []
        self._details: list[str] = []
        self._began = 0.0

    def startTest(self, test: Any) -> None:
        super().startTest(test)  # type: ignore[no-untyped-call]  # it has no annotations
        self._outcomes, self._details = [], []
        self._began = time.monotonic()
        under_test.met.starts = under_test.met.journeys = 0
        self._lines.write(began=test.id())
        self._lines.limit_time()

    def stopTest(self, test: Any) -> None:
        self._lines.limit_time()  # what follows may be the end of the process
        self._lines.write(
            ended=test.id(),
            outcome=", ".join(sorted(set(self._outcomes))) or "nothing",
            starts=under_test.met.starts,
            journeys=under_test.met.journeys,
            seconds=round(time.monotonic() - self._began, 3),
            details="\n".join(self._details),
        )
        super().stopTest(test)  # type: ignore[no-untyped-call]  # it has no annotations

    def _failed(self, outcome: str, error: Any) -> None:
        failure = error if isinstance(error, Failure) else Failure(error[1], error[0], error[2])
        assert failure.type is not None
        self._outcomes.append(f"{outcome} ({failure.type.__name__})")
        self._details.append(failure.getTraceback())

    def addSuccess(self, test: Any) -> None:
        self._outcomes.append("success")

    def addFailure(self, test: Any, fail: Any) -> None:
        self._failed("failure", fail)

    def addError(self, test: Any, error: Any) -> None:
        self._failed("error", error)

    def addSkip(self, test: Any, reason: Any) -> None:
        self._outcomes.append(f"skip ({reason})".replace(self._class_name, "the reactor"))

    def addExpectedFailure(self, test: Any, error: Any, todo: Any = None) -> None:
        self._outcomes.append("expectedFailure")

    def addUnexpectedSuccess(self, test: Any, todo: Any = None) -> None:
        self._outcomes.append("unexpectedSuccess")


def _flat(suite: Any) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from _flat(test)
        else:
            yield test


def _ended(results: Path) -> set[str]:
    """The tests of which an earlier process has written the outcome."""
    lines = results.read_text().splitlines() if results.exists() else []
    return {entry["ended"] for entry in map(json.loads, lines) if "ended" in entry}


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--configuration", required=True)
    parser.add_argument("--results", required=True, type=Path)
    parser.add_argument("--time-limit", type=float, required=True)
    parser.add_argument("--leave-out", action="append", default=[], help="patterns of tests that are not run")
    parser.add_argument("names", nargs="+", help="modules, or tests")
    arguments = parser.parse_args()
    configuration = under_test.CONFIGURATIONS[arguments.configuration]
    done = _ended(arguments.results)
    under_test.set_up(configuration)
    ReactorBuilder._reactors = [f"{under_test.__name__}.{under_test.ReactorUnderTest.__name__}"]
    with open(arguments.results, "a") as stream:
        lines = ProgressLines(stream, arguments.time_limit)
        outcomes = Outcomes(lines, configuration.class_name)
        lines.limit_time()
        tests = list(_flat(TestLoader().loadByNames(arguments.names)))
        for test in tests:
            if isinstance(test, ErrorHolder):  # it stands for what cannot be imported, and fails on any reactor
                raise ImportError(f"{test.id()}: {test.error!r}")
        suite = unittest.TestSuite(
            test
            for test in tests
            if test.id() not in done
            and chosen.is_chosen(test.id())
            and not any(fnmatch.fnmatchcase(test.id(), pattern) for pattern in arguments.leave_out)
        )
        TrialRunner(lambda *_: outcomes, stream=sys.stderr).run(suite)
        lines.write(finished=True)


if __name__ == "__main__":
    main()
