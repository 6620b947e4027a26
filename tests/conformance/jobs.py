"""Running test modules in processes of their own, at most a few at a time, and what came of it."""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib.util
import json
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from types import TracebackType
from typing import Any

from tests.conformance import left_out

__all__ = ["Job", "Jobs", "Outcome", "Remote", "TestRecord", "modules", "why_not_here"]

_HERE = pathlib.Path(__file__).parent

# A test that takes longer hangs. The slowest one takes six seconds on a slow machine.
TIME_LIMIT_S = 60.0

# How often a module is gone on with after a test that hung or crashed.
_MOST_RESTARTS = 10


@dataclasses.dataclass(frozen=True)
class Job:
    """One module in one configuration, or those of its tests that *pattern* is a part of, or matches."""

    module: str
    configuration: str = "epoll"
    pattern: str = ""
    collect_garbage: bool = False
    time_limit_s: float = TIME_LIMIT_S


@dataclasses.dataclass(frozen=True)
class TestRecord:
    """
    What came of one test.

    Args:
        name: ``TestClass.test_name``.
        outcome: ``"passed"``, ``"failed"``, ``"error"``, ``"skipped"``; ``"hung"``, ``"crashed"``; ``"same"``
            for those of `left_out.SAME_TESTS`, ``"left out"`` for those of `left_out.LEFT_OUT` that failed, ``"fails on
            stock"`` for one that fails on asyncio's own loop as well, here and now.
        rounds: How many rounds of callbacks a loop of the configuration ran in it.
        seconds: How long it took.
        details: Tracebacks, or the reason of the skip.
        complaints: Warnings, and exceptions that nobody caught.
        reason: Why the test is left out.
    """

    __test__ = False

    name: str
    outcome: str
    rounds: int = 0
    seconds: float = 0.0
    details: str = ""
    complaints: tuple[str, ...] = ()
    reason: str = ""


@dataclasses.dataclass
class Outcome:
    """What came of one job. Without *finished*, *trouble* says why."""

    job: Job
    tests: list[TestRecord] = dataclasses.field(default_factory=list)
    stale: list[str] = dataclasses.field(default_factory=list)
    skipped_module: str = ""
    finished: bool = False
    trouble: str = ""
    seconds: float = 0.0

    @property
    def counted(self) -> list[TestRecord]:
        """The tests in which a loop of the configuration ran."""
        return [test for test in self.tests if test.rounds and test.outcome in ("passed", *_BAD)]

    @property
    def passed(self) -> list[TestRecord]:
        """Those of the counted ones that passed."""
        return [test for test in self.counted if test.outcome == "passed"]

    @property
    def bad(self) -> list[TestRecord]:
        """Failures, whether a loop of ours ran in them or not."""
        return [test for test in self.tests if test.outcome in _BAD]

    @property
    def left_out(self) -> list[TestRecord]:
        """The tests that do not have to pass, except those that are run under another name."""
        return [test for test in self.tests if test.outcome in _LEFT_OUT]

    @property
    def is_good(self) -> bool:
        """Whether everything ran, and nothing failed that may not."""
        return self.finished and not self.bad and not self.stale and not self.trouble

    def as_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {
            "python": sys.version.split()[0],
            **dataclasses.asdict(self),
            "counted": len(self.counted),
            "passed": len(self.passed),
            "failed": len(self.bad),
            "left_out": len(self.left_out),
        }


_BAD = ("failed", "error", "hung", "crashed")
_LEFT_OUT = ("left out", "fails on stock")


def why_not_here() -> str:
    """Why nothing can be run with this interpreter; empty if all is well."""
    if importlib.util.find_spec("test") is None or importlib.util.find_spec("test.test_asyncio") is None:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return (
            f"this Python has no test.test_asyncio: on Debian and its kin, install libpython{version}-testsuite; "
            f"elsewhere, a build of CPython with its test package"
        )
    return ""


def modules() -> list[str]:
    """The test modules that this interpreter has, except those for Windows."""
    spec = importlib.util.find_spec("test.test_asyncio")
    assert spec is not None and spec.submodule_search_locations is not None
    return sorted(
        path.stem
        for location in spec.submodule_search_locations
        for path in pathlib.Path(location).glob("test_*.py")
        if "windows" not in path.stem and "proactor" not in path.stem
    )


class Jobs:
    """
    Jobs in the background, in their order; a context manager that drops what has not been done by its end.

    Args:
        jobs: What to run.
        processes: How many at a time.
        compares: Whether a module with failures is run on stock asyncio as well: what fails there need not pass here.
    """

    def __init__(self, jobs: Iterable[Job], *, processes: int = 2, compares: bool = True) -> None:
        self._compares = compares
        self._closed = False
        self._children: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(processes, thread_name_prefix="conformance")
        self.outcomes: dict[Job, Future[Outcome]] = {job: self._executor.submit(self._run, job) for job in jobs}

    def __enter__(self) -> Jobs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            for child in self._children:
                child.kill()
        self._executor.shutdown(cancel_futures=True)

    def _run(self, job: Job) -> Outcome:
        outcome = self._run_alone(job)
        if self._compares and outcome.bad and job.configuration != "stock":
            _excuse(outcome, self._run_alone(dataclasses.replace(job, configuration="stock", pattern="")))
        return outcome

    def _run_alone(self, job: Job) -> Outcome:
        """Run *job*; go on with the next test after one that hung or crashed."""
        began = time.monotonic()
        outcome = Outcome(job)
        for _ in range(_MOST_RESTARTS):
            with tempfile.TemporaryDirectory(prefix="txasync-conformance-") as directory:
                self._run_child(outcome, pathlib.Path(directory))
            if outcome.finished or outcome.trouble:
                break
        else:
            outcome.trouble = f"{_MOST_RESTARTS} tests hung or crashed; the rest was not run"
        _apply_table(outcome)
        outcome.seconds = time.monotonic() - began
        return outcome

    def _run_child(self, outcome: Outcome, directory: pathlib.Path) -> None:
        """Run what *outcome* does not have yet, until the end or to the first test that ends the process."""
        results = directory / "results"
        working_directory = directory / "work"
        working_directory.mkdir()
        output = directory / "output"
        with open(output, "wb") as stream, self._lock:
            if self._closed:
                outcome.trouble = "the run was ended"
                return
            child = subprocess.Popen(
                _command(outcome.job, results),
                cwd=working_directory,
                env={**_environment(), "CONFORMANCE_DONE": json.dumps([test.name for test in outcome.tests])},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
            self._children.add(child)
        child.wait()
        with self._lock:
            self._children.remove(child)
        _read(outcome, results, child.returncode, output.read_text(errors="replace"))


class Remote:
    """
    Jobs that another process runs in the background, so that this one has no more threads and descriptors than before.

    Args:
        jobs: What to run.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        command = [sys.executable, str(_HERE / "jobs.py")]
        self._process = subprocess.Popen(
            command,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process; the other one learns of it by `close`
        )
        assert self._process.stdin is not None
        pickle.dump([dataclasses.astuple(job) for job in jobs], self._process.stdin)
        self._process.stdin.flush()
        self._outcomes: dict[Job, Outcome] = {}

    def outcome(self, job: Job) -> Outcome:
        """Wait until *job* is done."""
        assert self._process.stdout is not None
        while job not in self._outcomes:
            outcome = _outcome_from(pickle.load(self._process.stdout))
            self._outcomes[outcome.job] = outcome
        return self._outcomes[job]

    def close(self) -> None:
        """End what is not done; whoever is at the other end notices the end of its input."""
        self._process.communicate()


def _serve() -> None:
    """The other end of `Remote`."""
    wanted = [Job(*each) for each in pickle.load(sys.stdin.buffer)]
    # The one of sys.stdout may be unbuffered, and then it drops the rest of what it writes when it is interrupted.
    with open(sys.stdout.fileno(), "wb", closefd=False) as results, Jobs(wanted) as running:
        ended = threading.Thread(target=_exit_at_end_of_input, args=(running,), daemon=True)
        ended.start()
        for future in as_completed(running.outcomes.values()):
            if not future.cancelled():
                pickle.dump(dataclasses.asdict(future.result()), results)
                results.flush()


def _exit_at_end_of_input(running: Jobs) -> None:
    os.read(sys.stdin.fileno(), 1)  # there will be none; and unlike a file object it holds no lock meanwhile
    running.__exit__(None, None, None)
    os._exit(0)


def _outcome_from(fields: dict[str, Any]) -> Outcome:
    job, tests = Job(**fields.pop("job")), [TestRecord(**test) for test in fields.pop("tests")]
    return Outcome(job, tests, **fields)


def _command(job: Job, results: pathlib.Path) -> list[str]:
    command = [sys.executable, str(_HERE / "child.py"), "--module", job.module, "--configuration", job.configuration]
    command += ["--results", str(results), "--time-limit", str(job.time_limit_s), "-k", job.pattern]
    return command + ["--collect-garbage"] * job.collect_garbage


def _environment() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    path = [str(_HERE.parent.parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    return environment


def _read(outcome: Outcome, results: pathlib.Path, returncode: int, output: str) -> None:
    running = None
    for line in results.read_text().splitlines() if results.exists() else ():
        entry = json.loads(line)
        if "started" in entry:
            running = entry["started"]
        elif "ended" in entry:
            running = None
            name = entry.pop("ended")
            outcome.tests.append(TestRecord(name, **{**entry, "complaints": tuple(entry.get("complaints", ()))}))
        elif "skipped_module" in entry:
            outcome.skipped_module = entry["skipped_module"]
            outcome.finished = True
        else:
            outcome.finished = True
    if running is not None:
        hung = "Timeout (" in output
        details = f"exit status {returncode}\n{output[-20000:]}"
        outcome.tests.append(TestRecord(running, "hung" if hung else "crashed", rounds=1, details=details))
    elif not outcome.finished or returncode:
        outcome.trouble = f"the process ended with exit status {returncode} outside of a test:\n{output[-20000:]}"


def _apply_table(outcome: Outcome) -> None:
    """Tell failures that may be from those that may not, and find entries that are stale."""
    if outcome.job.configuration == "stock":
        return
    entries = left_out.applying(outcome.job.module)
    matched = dict.fromkeys(entries, False)
    for number, test in enumerate(outcome.tests):
        for entry in entries:
            if test.outcome == "same" or not fnmatch.fnmatchcase(test.name, entry.tests):
                continue
            matched[entry] = True
            if test.outcome in _BAD:
                test = dataclasses.replace(test, outcome="left out")
            elif test.outcome == "passed" and not entry.may_pass:
                outcome.stale.append(f"{test.name} passes, but is left out: {entry.reason}")
            outcome.tests[number] = dataclasses.replace(test, reason=entry.reason)
    if not outcome.job.pattern and outcome.finished and not outcome.skipped_module:
        outcome.stale += [f"no test matches {entry.tests!r}" for entry, found in matched.items() if not found]
        classes = {test.name.partition(".")[0] for test in outcome.tests}
        for same in left_out.SAME_TESTS:
            if same.module == outcome.job.module and not {same.test_class, same.kept} <= classes:
                outcome.stale.append(f"there is no {same.test_class}, or no {same.kept} that stands for it")


def _excuse(outcome: Outcome, stock: Outcome) -> None:
    """Tell failures that stock asyncio has as well, in this environment, from those that are ours."""
    fails_on_stock = {test.name for test in stock.bad}
    for number, test in enumerate(outcome.tests):
        if test.outcome in _BAD and test.name in fails_on_stock:
            reason = f"fails on stock asyncio too, on Python {sys.version.split()[0]} in this environment"
            outcome.tests[number] = dataclasses.replace(test, outcome="fails on stock", reason=reason)


if __name__ == "__main__":
    _serve()
