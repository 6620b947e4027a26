"""``python -m txasync`` alone: asyncio's REPL, on a reactor, by processes with pipes and terminals."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from .test_main import LAUNCHER, LIMIT_S, ROOT

# EPollReactor is the default, which the other tests have.
REACTORS = {"txasync": "SharedEPollReactor", "poll": "PollReactor", "select": "SelectReactor"}


def environment() -> dict[str, str]:
    """One without settings for Python, whose REPL is the plain one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHON_BASIC_REPL": "1", "PYTHON_COLORS": "0", "TERM": "dumb"}


def typed(lines: str, *options: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a REPL into which *lines* are typed."""
    return subprocess.run(
        [*LAUNCHER, *options], input=lines, env=environment(), capture_output=True, text=True, timeout=LIMIT_S
    )


@pytest.mark.parametrize("reactor", REACTORS)
def test_await_takes_both_worlds_awaitables(reactor: str) -> None:
    """Deferreds, of timed calls and of threads, and asyncio's; their values are shown, and their failures."""
    ended = typed(
        "from twisted.internet import reactor\n"
        "from twisted.internet.task import deferLater\n"
        "from twisted.internet.threads import deferToThread\n"
        "await deferLater(reactor, 0.01, lambda: 'a Deferred')\n"
        "await deferToThread(lambda: 6 * 7)\n"
        "got = await asyncio.sleep(0.01, 'a coroutine')\n"
        "got\n"
        "type(reactor).__name__, reactor.running, type(asyncio.get_running_loop()).__name__\n"
        "await deferLater(reactor, 0.01, lambda: 1 / 0)\n",
        "--reactor",
        reactor,
    )
    assert ended.returncode == 0, ended.stderr
    assert re.match(r"txasync \S+, Twisted \S+, CPython \S+: await takes Deferreds, too\n", ended.stderr)
    printed = ended.stdout + ended.stderr
    for value in "'a Deferred'", "42", "'a coroutine'", f"('{REACTORS[reactor]}', True, 'ReactorEventLoop')":
        assert value in printed
    assert "ZeroDivisionError" in printed
    assert "exiting asyncio REPL" in printed


class Terminal:
    """A REPL that runs on a terminal."""

    def __init__(self) -> None:
        self._fd, child_fd = pty.openpty()
        self._process = subprocess.Popen(
            LAUNCHER,
            env=environment(),
            stdin=child_fd,
            stdout=child_fd,
            stderr=child_fd,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(child_fd)
        self._seen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._fd)

    def shows(self, pattern: str) -> None:
        """Wait until *pattern* is shown after what was waited for before."""
        deadline = time.monotonic() + LIMIT_S
        while not (found := re.search(pattern, self._seen)):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} is not shown: {self._seen!r}"
            if select.select([self._fd], [], [], left)[0]:
                self._seen += os.read(self._fd, 10000).decode()
        self._seen = self._seen[found.end() :]

    def type(self, text: str) -> None:
        """Type *text*."""
        os.write(self._fd, text.encode())

    def exit_code(self) -> int:
        """Wait for the end."""
        while True:
            try:
                if not os.read(self._fd, 10000):
                    break
            except OSError:
                break  # the terminal's other side is closed
        return self._process.wait(LIMIT_S)


def test_ctrl_c_gives_up_what_is_awaited_and_ctrl_d_ends() -> None:
    """A Deferred is cancelled, and the REPL goes on."""
    with Terminal() as terminal:
        terminal.shows(">>> ")
        terminal.type("from twisted.internet.defer import Deferred\n")
        terminal.shows(">>> ")
        # What is printed by the loop is printed while the Deferred is awaited.
        terminal.type("_ = asyncio.get_running_loop().call_later(0.5, print, 'awaited'); ")
        terminal.type("await Deferred(lambda d: print('cancelled'))\n")
        terminal.shows("\nawaited")
        terminal.type("\x03")
        terminal.shows("cancelled")
        terminal.shows(">>> ")
        terminal.type("await asyncio.sleep(0, 'still here')\n")
        terminal.shows("\n'still here'")
        terminal.shows(">>> ")
        terminal.type("\x04")
        terminal.shows("exiting asyncio REPL")
        assert terminal.exit_code() == 0


def test_idle_threads_do_not_keep_a_program_from_exiting(tmp_path: Path) -> None:
    """Though it has left its loop open, and the reactor's thread pool has begun threads."""
    (tmp_path / "script.py").write_text(
        "import asyncio\n"
        "from twisted.internet.threads import deferToThread\n"
        "async def main():\n"
        "    return await deferToThread(lambda: 'from a thread')\n"
        "loop = asyncio.new_event_loop()\n"
        "print(loop.run_until_complete(main()))\n"
    )
    command = [sys.executable, "-m", "txasync", "script.py"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=LIMIT_S)
    assert (ended.returncode, ended.stdout) == (0, "from a thread\n"), ended.stderr
