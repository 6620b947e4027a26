"""AsyncTestCase, under trial itself, as a process: the suites it runs are in ``_suites``."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import txasync

SUITES = Path(__file__).parent / "_suites"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(Path(txasync.__file__).parents[1]), str(SUITES)]),
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}
TRIAL = "from twisted.scripts.trial import run; run()"


def ran(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """What came of Python with *command*, both outputs together."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )


def outcomes(output: str) -> dict[str, list[str]]:
    """What trial says of each test while they run."""
    found: dict[str, list[str]] = {}
    test = ""
    for line in re.split(r"^={20,}$", output, maxsplit=1, flags=re.M)[0].splitlines():
        begins = re.match(r"    (test_\w+) \.\.\.", line)
        test = begins[1] if begins else test
        found.setdefault(test, []).extend(re.findall(r"\[(OK|FAIL|ERROR|SKIPPED|TODO)\]$", line))
    return found


def report_of(output: str, test: str) -> str:
    """All that trial reports of *test* at the end: the parts between lines that name it."""
    parts = re.split(r"^={20,}$", output, flags=re.M)
    return "".join(part for part in parts if re.search(rf"^trial_failing\.\w+\.{test}$", part, re.M))


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select", "asyncio"])
def test_asyncio_works_at_every_moment_of_a_test(tmp_path: Path, reactor: str) -> None:
    """Whatever a test of the passing suite says is true on each reactor, and nothing is left in that."""
    ended = ran(["-Werror", "-c", TRIAL, f"--reactor={reactor}", "trial_passing"], tmp_path)
    assert ended.returncode == 0, ended.stdout
    assert "PASSED (skips=2, expectedFailures=1, successes=16)" in ended.stdout, ended.stdout


def test_the_processes_of_trials_jobs_run_it_too(tmp_path: Path) -> None:
    """With ``--jobs``, trial's workers have the reactor that was asked for, and asyncio on it."""
    ended = ran(["-c", TRIAL, "--jobs=2", "--reactor=poll", "trial_passing.OrdinaryFunctionTests"], tmp_path)
    assert ended.returncode == 0, ended.stdout
    assert "PASSED (successes=4)" in ended.stdout


def test_pytest_and_unittest_run_it_too(tmp_path: Path) -> None:
    """A runner that knows nothing of trial runs the test case as trial does."""
    shutil.copy(SUITES / "trial_passing.py", tmp_path)  # away from this project's own fixtures
    by_pytest = ran(["-m", "pytest", "-q", "-p", "no:cacheprovider", "trial_passing.py"], tmp_path)
    assert "17 passed, 2 skipped" in by_pytest.stdout, by_pytest.stdout
    by_unittest = ran(["-m", "unittest", "trial_passing"], tmp_path)
    assert "OK (skipped=2)" in by_unittest.stdout, by_unittest.stdout


@pytest.fixture(scope="module", params=["select", "asyncio"])
def failing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The output of trial for the failing suite."""
    output = ran(["-c", TRIAL, f"--reactor={request.param}", "trial_failing"], tmp_path_factory.mktemp("trial")).stdout
    assert "Ran 13 tests" in output, output
    return output


@pytest.mark.parametrize(
    ("test", "outcome", "line"),
    [
        ("test_assertion", "FAIL", 'raise self.failureException("left is not right")'),
        ("test_error_further_down", "ERROR", 'raise ValueError("this line is shown")'),
        ("test_error_further_down", "ERROR", "await self._fail()"),
        ("test_ordinary_function", "ERROR", 'raise ValueError("this one too")'),
        ("test_callback", "ERROR", 'raise LookupError("in a callback")'),
        ("test_abandoned_task", "ERROR", 'raise LookupError("when cancelled")'),
        ("test_abandoned_generator", "ERROR", 'raise LookupError("when closed")'),
        ("test_generator", "ERROR", "is an asynchronous generator function, which never runs"),
        ("test_ordinary_generator", "ERROR", "is a generator function and therefore will never run"),
    ],
)
def test_a_failure_shows_the_line_that_failed(failing: str, test: str, outcome: str, line: str) -> None:
    """Whatever fails, and wherever, is one outcome of the test, with the user's line in the traceback."""
    assert outcomes(failing)[test] == [outcome]
    assert line in report_of(failing, test)


def test_trials_time_limit_cancels_the_test(failing: str) -> None:
    """The task is cancelled and its end awaited, before the test is torn down."""
    assert outcomes(failing)["test_cancels"] == ["ERROR"]
    assert "(test_cancels) still running at 0.3 secs" in failing
    assert re.search(r"the test was cancelled\n\s*\[ERROR\]\ntorn down\n", failing)


def test_what_a_test_fails_with_at_the_time_limit_is_told_too(failing: str) -> None:
    """The time limit is what the test has failed by; the error that its end has brought is one more."""
    assert outcomes(failing)["test_shows_what_it_fails_with_then"] == ["ERROR", "ERROR"]
    report = report_of(failing, "test_shows_what_it_fails_with_then")
    assert "still running at 0.3 secs" in report
    assert 'raise LookupError("at the time limit")' in report


def test_a_test_that_cannot_be_cancelled_does_not_stop_trial(failing: str) -> None:
    """Trial goes on after as long again, and once more for the end of the test's tasks; the test has failed."""
    assert "ERROR" in outcomes(failing)["test_waits_for_the_end_as_long_again"]
    assert "the test goes on" in failing
    assert "(test_waits_for_the_end_as_long_again) still running at 0.3 secs" in failing


def test_tasks_end_although_the_test_was_not_set_up(failing: str) -> None:
    """After a setUp that has failed, cleanups come, and the end of what is left; tearDown does not, as ever."""
    assert "cleaned up\nthe task ends\n" in failing
    assert "never" not in failing.replace("which never runs", "").replace("will never run", "")
    assert 'raise ValueError("in setUp")' in failing


def test_tasks_end_although_tear_down_fails(failing: str) -> None:
    """What tearDown fails with is told, and what is left is ended all the same."""
    assert 'raise ValueError("in tearDown")' in failing
    assert failing.count("the task ends\n") == 2
