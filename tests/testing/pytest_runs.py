"""Runs of pytest in a process of their own, on files that a test writes, with the plug-ins that it names."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PLUG_IN = "_txasync_pytest_plugin"
FUNCTION_SCOPE = "asyncio_default_fixture_loop_scope=function"  # pytest-asyncio warns unless it is told


class Outcome(NamedTuple):
    """What became of one test: "passed", "failed" (itself), "error" (around it) or "skipped", and what pytest says."""

    status: str
    text: str


class PytestRun(NamedTuple):
    """A run that has ended."""

    exit_code: int
    printed: str
    outcomes: dict[str, Outcome]

    def statuses(self) -> dict[str, str]:
        """What became of each test, by its name."""
        return {name: outcome.status for name, outcome in self.outcomes.items()}


def environment(**more: str) -> dict[str, str]:
    """The environment of a child that has the source tree, and no plug-in of pytest's but those that it is given."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **more}


def run_pytest(
    directory: Path,
    files: dict[str, str],
    *options: str,
    python: tuple[str, ...] = (sys.executable,),
    plug_ins: tuple[str, ...] = (PLUG_IN,),
    env: dict[str, str] | None = None,
) -> PytestRun:
    """Write *files* to *directory* and run pytest there, with every warning an error."""
    for name, text in files.items():
        (directory / name).write_text(textwrap.dedent(text))
    report = directory / "report.xml"
    named = [part for name in plug_ins for part in ("-p", name)]
    command = [*python, "-m", "pytest", "-p", "no:cacheprovider", *named, "-W", "error", f"--junitxml={report}"]
    ended = subprocess.run(
        [*command, "-o", "junit_family=xunit2", *options],
        cwd=directory,
        env=environment() if env is None else env,
        capture_output=True,
        text=True,
        timeout=100,
    )
    printed = ended.stdout + ended.stderr
    return PytestRun(ended.returncode, printed, _outcomes(report) if report.exists() else {})


def _outcomes(report: Path) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.get("name", "")
        outcome = Outcome("passed", "")
        for child, status in ("failure", "failed"), ("error", "error"), ("skipped", "skipped"):
            element = case.find(child)
            if element is not None:
                outcome = Outcome(status, f"{element.get('message')}\n{element.text}")
        found[name] = outcome
    return found
