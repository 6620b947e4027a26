"""``twistd txasync`` and its service, as processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import txasync

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]

PROGRAM = """
import asyncio

async def short():
    print("running on", type(asyncio.get_running_loop()).__name__, flush=True)
    await asyncio.sleep(0.01)

async def long():
    print("waiting", flush=True)
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.01)
        print("cleaned up", flush=True)

async def failing():
    raise LookupError("from the task")
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A directory with the user's module, in which twistd is started."""
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def environment() -> dict[str, str]:
    """One in which the package and its drop-in are found, installed or not."""
    roots = [str(Path(txasync.__file__).parents[1]), "."]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}


def twistd(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``twistd -n txasync`` to its end."""
    command = [*TWISTD, "-n", "--pidfile=", *arguments]
    return subprocess.run(command, cwd=program, env=environment(), capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select"])
def test_the_end_of_the_function_stops_the_process(program: Path, reactor: str) -> None:
    """On each reactor that twistd can be told to use."""
    ended = twistd(program, "--reactor", reactor, "txasync", "--run", "program:short")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "running on ReactorEventLoop" in ended.stdout
    assert re.search(rf"reactor class: twisted.internet.{reactor}reactor", ended.stdout)
    assert "Traceback" not in ended.stdout + ended.stderr


def test_sigterm_cancels_the_task_and_awaits_it(program: Path) -> None:
    """A service is stopped before the reactor is."""
    command = [*TWISTD, "-n", "--pidfile=", "txasync", "--run", "program:long"]
    with subprocess.Popen(command, cwd=program, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        before = next(line for line in process.stdout if "waiting" in line or "Traceback" in line)
        process.send_signal(signal.SIGTERM)
        after = process.stdout.read()
    assert "waiting" in before
    assert "cleaned up" in after
    assert "Traceback" not in after


def test_a_failure_is_in_the_log(program: Path) -> None:
    """With its traceback, once."""
    ended = twistd(program, "txasync", "--run", "program:failing")
    assert ended.stdout.count("LookupError: from the task") == 1, ended.stdout
    assert "program.py" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to run"),
        (["--run", "nothing"], "module:function"),
        (["--run", "missing_module:main"], "cannot import 'missing_module:main'"),
    ],
)
def test_bad_options_are_told_in_one_line(program: Path, arguments: list[str], message: str) -> None:
    """With twistd's own usage text, and no traceback."""
    ended = twistd(program, "txasync", *arguments)
    assert ended.returncode == twistd(program, "--no-such-option").returncode
    printed = ended.stdout + ended.stderr
    assert message in printed
    assert "Traceback" not in printed


def test_a_daemon_runs_its_loop_after_the_fork(program: Path) -> None:
    """Nothing of the loop's is made before twistd forks, so the daemon's is its own."""
    done = program / "done"
    (program / "daemonic.py").write_text(
        f"import asyncio, os\nasync def main():\n    process = await asyncio.create_subprocess_exec('true')\n"
        f"    code = await process.wait()\n    open({str(done)!r}, 'w').write(f'{{code}}')\n"
        f"    os.rename({str(done)!r}, {str(done) + '.txt'!r})\n"
    )
    command = [*TWISTD, "--pidfile=pid", "--logfile=log", "txasync", "--run", "daemonic:main"]
    subprocess.run(command, cwd=program, env=environment(), check=True, timeout=60)
    deadline = time.monotonic() + 60
    while not (program / "done.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (program / "done.txt").read_text() == "0", (program / "log").read_text()
