"""Running tests of Twisted's in processes of their own, and comparing what came of them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.twisted_suite import chosen

__all__ = [
    "BASELINE",
    "CONFIGURATIONS",
    "Comparison",
    "Outcomes",
    "Record",
    "Records",
    "compare",
    "run",
    "run_all",
    "why_not_here",
]

BASELINE = "epoll"
CONFIGURATIONS = (BASELINE, "txasync", "txasync with asyncio")
# Where all parts are run.
_WITH_THE_PROCESSES_REACTOR = (BASELINE, "txasync")

# A test that takes longer hangs. Trial's own limit, which tells more, is two minutes.
TIME_LIMIT_S = 150.0

# How often a process is started again after a test that hung or crashed.
_MOST_RESTARTS = 10

# More that differ are not chance; nor is the end of a process.
_MOST_RERUN = 10
_RERUNS = 2
_NEVER_CHANCE = ("hung", "crashed")

_ROOT = Path(__file__).parents[2]


class Record(NamedTuple):
    """
    What came of one test.

    Attributes:
        outcome: ``"success"``, ``"failure (SomeError)"``, ``"error (SomeError)"``, ``"skip (reason)"``,
            ``"expectedFailure"``, ``"unexpectedSuccess"``; several, with commas; ``"hung"``, ``"crashed"``.
        starts: How often a reactor under test was started in it.
        journeys: How many bytes asyncio sent and received on it.
        seconds: How long it took.
        details: Tracebacks.
    """

    outcome: str
    starts: int = 0
    journeys: int = 0
    seconds: float = 0.0
    details: str = ""


Records = dict[str, Record]
"""What came of each test, by its full name."""

Outcomes = dict[str, Records]
"""What came of each of `chosen.parts`."""

_NOT_RUN = Record(chosen.NOT_RUN)


def why_not_here() -> str:
    """Why nothing can be run with this interpreter; empty if all is well."""
    if importlib.util.find_spec("hamcrest") is None:
        return "Twisted's tests need PyHamcrest; the test extra, which has it, is not installed"
    return ""


def run(configuration: str, names: Sequence[str], *, leave_out: Iterable[str] = ()) -> Records:
    """
    Run tests in a process of their own, and again in another what is left after one that ends the process.

    Args:
        configuration: The name of it.
        names: Modules, or tests.
        leave_out: Patterns of tests that are not run.

    Raises:
        RuntimeError: Too many processes ended before their last test, or one did outside of a test.
    """
    with tempfile.TemporaryDirectory(prefix="txasync-twisted-") as directory:
        results = Path(directory, "results")
        for _ in range(_MOST_RESTARTS):
            returncode, output = _run_child(configuration, names, results, leave_out)
            lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
            last = lines[-1] if lines else {}
            if "finished" in last:
                return {line.pop("ended"): Record(**line) for line in lines if "ended" in line}
            if "began" not in last:
                break
            outcome = "hung" if "Timeout (" in output else "crashed"
            with open(results, "a") as stream:
                stream.write(
                    json.dumps({"ended": last["began"], "outcome": outcome, "details": output[-20000:]}) + "\n"
                )
    raise RuntimeError(f"on {configuration}: a process ended with exit status {returncode}:\n{output[-20000:]}")


def _run_child(configuration: str, names: Sequence[str], results: Path, leave_out: Iterable[str]) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.twisted_suite.child", "--configuration", configuration]
    command += ["--results", str(results), "--time-limit", str(TIME_LIMIT_S)]
    command += [f"--leave-out={pattern}" for pattern in leave_out]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), environment.get("PYTHONPATH", "")]))
    output = results.with_name("output")
    # Not a pipe, whose end would wait for whatever process a test may have left behind.
    with open(output, "wb") as stream:
        ended = subprocess.run(
            [*command, *names],
            cwd=results.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    return ended.returncode, output.read_text(errors="replace")


def run_all(configurations: Sequence[str] = CONFIGURATIONS, *, processes: int = 2) -> dict[str, Outcomes]:
    """Run all chosen tests on each of *configurations*, in some processes at a time."""
    jobs = [
        (configuration, part, names)
        for part, names in chosen.parts(built_only=False).items()
        for configuration in configurations
        if part in chosen.parts(built_only=configuration not in _WITH_THE_PROCESSES_REACTOR)
    ]
    executor = ThreadPoolExecutor(processes)
    try:
        futures = [
            (configuration, part, executor.submit(run, configuration, names, leave_out=_not_run(configuration)))
            for configuration, part, names in jobs
        ]
        outcomes: dict[str, Outcomes] = {configuration: {} for configuration in configurations}
        for configuration, part, future in futures:
            outcomes[configuration][part] = future.result()
        return outcomes
    finally:
        executor.shutdown(cancel_futures=True)


def _not_run(configuration: str) -> list[str]:
    return [entry.tests for entry in _differences(configuration) if entry.on_ours == chosen.NOT_RUN]


def _differences(configuration: str) -> list[chosen.Difference]:
    return [entry for entry in chosen.DIFFERENCES if configuration in entry.configurations]


class Comparison(NamedTuple):
    """
    How the outcomes on our reactor differ from those on EPollReactor.

    Attributes:
        differing: A text for each test that differs and may not.
        explained: A text for each that differs, and is in the table.
        stale: A text for each entry of the table that explains nothing.
        by_chance: A text for each test that differed once, and did not when it was run again.
    """

    differing: list[str]
    explained: list[str]
    stale: list[str]
    by_chance: list[str]


def compare(configuration: str, ours: Outcomes, baseline: Outcomes) -> Comparison:
    """Compare the outcomes test by test; a test that differs is run again alone on both, twice at most."""
    comparison = Comparison([], [], [], [])
    unused = _differences(configuration)
    unexplained: list[tuple[str, Record, Record]] = []
    for part, records in ours.items():
        for name in dict.fromkeys([*baseline[part], *records]):
            here, there = records.get(name, _NOT_RUN), baseline[part].get(name, _NOT_RUN)
            if here.outcome == there.outcome:
                continue
            reasons = [
                entry
                for entry in _differences(configuration)
                if entry.explains(name, on_epoll=there.outcome, on_ours=here.outcome)
            ]
            if reasons:
                comparison.explained.append(f"{name}: {reasons[0].reason}")
                unused = [entry for entry in unused if entry not in reasons]
            else:
                unexplained.append((name, here, there))
    comparison.stale.extend(f"{entry.tests}: {entry.reason}" for entry in unused)
    for name, here, there in unexplained:
        may_be_chance = len(unexplained) <= _MOST_RERUN and here.outcome not in _NEVER_CHANCE
        reruns = _RERUNS if may_be_chance else 0
        _judge(comparison, configuration, name, here, there, reruns)
    return comparison


def _judge(comparison: Comparison, configuration: str, name: str, here: Record, there: Record, reruns: int) -> None:
    """Sort in a test that differs, after running it again."""
    text = f"{name}: {here.outcome} on {configuration}, {there.outcome} on {BASELINE}"
    for _ in range(reruns):
        again = [
            run(where, [name], leave_out=_not_run(where)).get(name, _NOT_RUN) for where in (configuration, BASELINE)
        ]
        if again[0].outcome == again[1].outcome:
            comparison.by_chance.append(f"{text}; when it was run again: {again[0].outcome} on both")
            return
    comparison.differing.append(f"{text}\n{here.details or there.details}")
