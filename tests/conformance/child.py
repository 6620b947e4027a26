"""
The process that runs the tests of one module on loops of one configuration.

It writes one line of JSON when a test begins and one when it ends, so that whoever started it knows of every test that
has ended, and which one was running, even if this process is killed.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import importlib
import json
import os
import sys
import time
import traceback
import unittest
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from tests.conformance import left_out, our_loops
from tests.progress_lines import ProgressLines

PACKAGE = "test.test_asyncio"


class _Result(unittest.TestResult):
    """Writes what happens, and puts the policy in place again before each test: many tests reset it."""

    def __init__(
        self,
        lines: ProgressLines,
        loop_class: Any,
        recording: our_loops.Recording,
        *,
        collect_garbage: bool,
    ) -> None:
        super().__init__()
        self._lines = lines
        self._loop_class = loop_class
        self._recording = recording
        self._collect_garbage = collect_garbage
        self._seen: dict[str, Any] = {}
        self._outcome = "passed"
        self._details: list[str] = []
        self._complaints: list[str] = []
        self._began = 0.0

    def complain(self, complaint: str) -> None:
        """Note a warning, or an exception that nobody caught."""
        self._complaints.append(complaint)

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        our_loops.set_policy(self._loop_class)
        self._recording.rounds = 0
        self._outcome, self._details, self._complaints = "passed", [], []
        self._began = time.monotonic()
        self._lines.write(started=_name(test))
        self._lines.limit_time()

    def stopTest(self, test: unittest.TestCase) -> None:
        # What a failed test has left is not to be found in the midst of another one that looks for warnings.
        if self._collect_garbage or self._outcome not in ("passed", "skipped"):
            gc.collect()
        self._lines.limit_time()  # what follows may be a tearDownClass, or the end of the process
        self._lines.write(
            ended=_name(test),
            outcome=self._outcome,
            rounds=self._recording.rounds,
            seconds=round(time.monotonic() - self._began, 3),
            details="\n".join(self._details),
            complaints=self._complaints,
        )
        super().stopTest(test)

    def _failed(self, test: Any, outcome: str, error: Any) -> None:
        details = "".join(traceback.format_exception(*error))
        if isinstance(test, unittest.TestCase):
            self._outcome = outcome
            self._details.append(details)
        else:  # setUpModule or the like
            self._lines.write(ended=_name(test), outcome=outcome, rounds=0, seconds=0.0, details=details, complaints=[])

    def addError(self, test: Any, error: Any) -> None:
        self._failed(test, "error", error)

    def addFailure(self, test: Any, error: Any) -> None:
        self._failed(test, "failed", error)

    def addSubTest(self, test: Any, subtest: Any, error: Any) -> None:
        if error is not None:
            self._failed(test, "failed", error)

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._outcome = "failed"
        self._details.append("the test is expected to fail, and has passed")

    def addSkip(self, test: Any, reason: str) -> None:
        if isinstance(test, unittest.TestCase):
            self._outcome = "skipped"
            self._details.append(reason)
        else:
            self._lines.write(
                ended=_name(test), outcome="skipped", rounds=0, seconds=0.0, details=reason, complaints=[]
            )


def _name(test: Any) -> str:
    """``TestClass.test_name``, or what stands for a failure outside of a test."""
    name = str(test.id())
    prefix = f"{PACKAGE}."
    return name[len(prefix) :].partition(".")[2] if name.startswith(prefix) else name


def _tests(suite: Any) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from _tests(test)
        else:
            yield test


def _chosen(module: Any, module_name: str, arguments: argparse.Namespace, lines: ProgressLines) -> unittest.TestSuite:
    """The tests to run; those that are not are written down."""
    same = {entry.test_class: entry for entry in left_out.SAME_TESTS if entry.module == module_name}
    hanging = [entry.tests for entry in left_out.applying(module_name) if entry.hangs]
    done = set(json.loads(os.environ.get("CONFORMANCE_DONE", "[]")))
    suite = unittest.TestSuite()
    for test in _tests(unittest.defaultTestLoader.loadTestsFromModule(module)):
        name = _name(test)
        if name in done or (arguments.k and not _matches(name, arguments.k)):
            continue
        if type(test).__name__ in same:
            lines.write(ended=name, outcome="same")
        elif arguments.configuration != "stock" and any(fnmatch.fnmatchcase(name, pattern) for pattern in hanging):
            lines.write(ended=name, outcome="left out")
        else:
            suite.addTest(test)
    return suite


def _matches(name: str, pattern: str) -> bool:
    return pattern in name or fnmatch.fnmatchcase(name, pattern)


def _run(arguments: argparse.Namespace, stream: TextIO) -> None:
    (configuration,) = (each for each in our_loops.CONFIGURATIONS if each.name == arguments.configuration)
    recording = our_loops.Recording()
    loop_class = our_loops.recording_loop(configuration, recording)
    lines = ProgressLines(stream, arguments.time_limit)
    result = _Result(lines, loop_class, recording, collect_garbage=arguments.collect_garbage)
    _hear_complaints(result)
    lines.limit_time()
    our_loops.set_policy(loop_class)
    try:
        module = importlib.import_module(f"{PACKAGE}.{arguments.module}")
    except unittest.SkipTest as skip:
        lines.write(skipped_module=str(skip))
        return
    our_loops.put_in(module, loop_class)
    # Many tests collect garbage, some of them a hundred times; what was imported until now never is any.
    gc.collect()
    gc.freeze()
    _chosen(module, arguments.module, arguments, lines).run(result)
    lines.write(finished=True)


def _hear_complaints(result: _Result) -> None:
    warnings.simplefilter("default")

    def showwarning(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
    ) -> None:
        result.complain(f"{category.__name__}: {message} ({filename}:{lineno})")

    def unraisable(error: Any) -> None:
        result.complain(f"unraisable {error.exc_value!r} in {error.object!r}")

    warnings.showwarning = showwarning
    sys.unraisablehook = unraisable


def main() -> None:
    """Run the module that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--configuration", required=True)
    parser.add_argument("--module", required=True)
    parser.add_argument("--results", required=True)
    parser.add_argument("--time-limit", type=float, required=True)
    parser.add_argument("--collect-garbage", action="store_true")
    parser.add_argument("-k", default="")
    arguments = parser.parse_args()
    with open(arguments.results, "a") as stream:
        _run(arguments, stream)


# Tests that start processes with multiprocessing import this file again.
if __name__ == "__main__":
    main()
