"""A ``twistd`` that runs as users have it: the installed command, in a directory of the user's."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import IO

LIMIT_S = 60.0
# The console script, or what it does where it is not installed.
SCRIPT = Path(sys.executable).with_name("twistd")
TWISTD = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


def environment(installed: Path) -> dict[str, str]:
    """One in which the installed package is found, and nothing of this checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": str(installed)}


class TwistdProcess:
    """
    ``twistd --nodaemon`` with *arguments*, in *place*; what it prints, and what it logs to stdout, can be waited for.

    Args:
        installed: Where the package is installed.
        place: The directory to start it in.
        arguments: What follows ``twistd --nodaemon --pidfile=``.
        before: Called in the process before twistd.
    """

    def __init__(
        self, installed: Path, place: Path, arguments: Iterable[str], before: Callable[[], None] = lambda: None
    ) -> None:
        def begin() -> None:
            # A test run in the background of a shell ignores SIGINT, and children inherit that.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            before()

        self._process = subprocess.Popen(
            [*TWISTD, "--nodaemon", "--pidfile=", *arguments],
            cwd=place,
            env=environment(installed),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=begin,
        )
        self.pid = self._process.pid
        self.printed: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()

    def _read(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                self._lines.put(line)
        self._lines.put("")

    def __enter__(self) -> TwistdProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def says(self, pattern: str) -> re.Match[str]:
        """Wait for a line in which *pattern* is found."""
        while True:
            line = self._lines.get(timeout=LIMIT_S)
            assert line, f"it has ended without {pattern!r}: {''.join(self.printed)}"
            self.printed.append(line)
            if found := re.search(pattern, line):
                return found

    def listens(self) -> int:
        """Wait for the next port on which something listens."""
        return int(self.says(r" starting on (\d+)$")[1])

    def send(self, signum: int) -> None:
        """Send a signal."""
        self._process.send_signal(signum)

    def end(self) -> int:
        """Wait for the end; the exit code, or the signal's number negated. Then everything is in `printed`."""
        self.printed += iter(lambda: self._lines.get(timeout=LIMIT_S), "")
        return self._process.wait(LIMIT_S)

    @property
    def text(self) -> str:
        """What it has printed so far, as far as it was waited for."""
        return "".join(self.printed)


def run_to_end(
    installed: Path, place: Path, arguments: Iterable[str], *, daemon: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run ``twistd`` to its end: the one in the foreground, or the parent of the daemon."""
    mode = [] if daemon else ["--nodaemon", "--pidfile="]
    return subprocess.run(
        [*TWISTD, *mode, *arguments],
        cwd=place,
        env=environment(installed),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
