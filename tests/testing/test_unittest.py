"""IsolatedAsyncioTestCase, under each runner of unittest's test cases: the suite it runs is in ``_suites``."""

from __future__ import annotations

import os
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


def output_of(command: list[str], cwd: Path) -> str:
    """What Python with *command* writes, to both outputs; it must succeed."""
    ended = subprocess.run(
        [sys.executable, "-Werror", *command],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stdout
    return ended.stdout


@pytest.mark.parametrize("reactor", [None, "poll", "select"])
def test_each_test_has_a_loop_on_the_processs_reactor(tmp_path: Path, reactor: str | None) -> None:
    """Whatever the suite says is true on the default reactor, and on one that was installed before."""
    run = "import sys, unittest; sys.argv = ['unittest', 'unittest_passing']; unittest.main(module=None)"
    install = "" if reactor is None else f"from twisted.internet.{reactor}reactor import install; install(); "
    output = output_of(["-c", install + run], tmp_path)
    assert "Ran 4 tests" in output
    assert output.rstrip().endswith("OK")


@pytest.mark.parametrize(
    ("command", "result"),
    [
        (["-m", "unittest", "unittest_passing"], "Ran 4 tests"),
        (["-m", "pytest", "-q", "-p", "no:cacheprovider", "unittest_passing.py"], "4 passed"),
        (["-c", "from twisted.scripts.trial import run; run()", "unittest_passing"], "PASSED (successes=4)"),
    ],
    ids=["unittest", "pytest", "trial"],
)
def test_every_runner_of_test_cases_runs_it(tmp_path: Path, command: list[str], result: str) -> None:
    """It is the standard library's test case, which they know."""
    shutil.copy(SUITES / "unittest_passing.py", tmp_path)  # away from this project's own fixtures
    assert result in output_of(command, tmp_path)


def test_a_test_has_a_private_reactor_where_the_processs_own_is_not_free(tmp_path: Path) -> None:
    """The process's reactor has one loop only: with one that somebody has installed, a test gets another."""
    program = """
import asyncio, unittest
import txasync
from txasync.testing import IsolatedAsyncioTestCase
installed = txasync.install()
class Tests(IsolatedAsyncioTestCase):
    async def test_it(self):
        self.assertIsNot(asyncio.get_running_loop(), installed)
        self.assertIsNot(asyncio.get_running_loop().reactor, installed.reactor)
try:
    unittest.main()
finally:
    installed.close()
"""
    assert "Ran 1 test" in output_of(["-c", program], tmp_path)


def test_a_subclass_may_have_another_loop_factory(tmp_path: Path) -> None:
    """``loop_factory`` is that of Python 3.13, on the versions before it, too."""
    program = """
import asyncio, unittest
from txasync.testing import IsolatedAsyncioTestCase
class Tests(IsolatedAsyncioTestCase):
    loop_factory = asyncio.SelectorEventLoop
    async def test_it(self):
        self.assertIs(type(asyncio.get_running_loop()), asyncio.SelectorEventLoop.__mro__[0])
unittest.main()
"""
    assert "Ran 1 test" in output_of(["-c", program], tmp_path)
