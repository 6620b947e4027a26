"""One file of tests passes under pytest-asyncio, AnyIO's plug-in, unittest and trial, each a real process."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .pytest_runs import FUNCTION_SCOPE, PLUG_IN, environment

PYTEST = ["-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "-p", PLUG_IN, "--txasync-loops"]
TRIAL = ["-W", "error", "-c", "from twisted.scripts.trial import run; run()"]
RUNNERS = {
    "pytest-asyncio": ("pytest", [*PYTEST, "-p", "asyncio", "-o", "asyncio_mode=auto", "-o", FUNCTION_SCOPE]),
    "pytest-asyncio-on-select": (
        "pytest",
        [*PYTEST, "-p", "asyncio", "-o", "asyncio_mode=auto", "-o", FUNCTION_SCOPE, "--txasync-reactor=select"],
    ),
    "anyio": ("pytest", [*PYTEST, "-p", "anyio", "-o", "anyio_mode=auto"]),
    "unittest": ("unittest", ["-W", "error", "-m", "unittest"]),
    "trial": ("trial", TRIAL),
    "trial-on-asyncio": ("trial", [*TRIAL, "--reactor=asyncio"]),
}
SUMMARIES = {
    "pytest": r"\b5 passed in [\d.]+s",
    "unittest": r"Ran 5 tests in [\d.]+s\n\nOK\n",
    "trial": r"Ran 5 tests in [\d.]+s\n\nPASSED \(successes=5\)\n",
}
ENDED = ["asyncio asks", "awaits", "child", "time limit", "twisted asks"]


@pytest.mark.parametrize("name", RUNNERS)
def test_the_file_passes(tmp_path: Path, name: str) -> None:
    """Every test of it has come to its end, and the runner says so."""
    if name.startswith("pytest-asyncio"):
        pytest.importorskip("pytest_asyncio", minversion="1.4", reason="pytest-asyncio 1.4 is not installed")
    if name == "anyio":
        pytest.importorskip("anyio", reason="anyio is not installed")
    runner, command = RUNNERS[name]
    shutil.copy(Path(__file__).with_name("one_file.py"), tmp_path / "test_one_file.py")
    target = "test_one_file.py" if runner == "pytest" else "test_one_file"
    ended = subprocess.run(
        [sys.executable, *command, target],
        cwd=tmp_path,
        env=environment(TEST_RUNNER=runner, ENDED_TESTS=str(tmp_path / "ended"), PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    printed = ended.stdout + ended.stderr
    assert ended.returncode == 0, printed
    assert re.search(SUMMARIES[runner], printed), printed
    assert sorted((tmp_path / "ended").read_text().splitlines()) == ENDED
