"""A ``twistd`` that runs as users have it: the installed command, in a directory of the user's."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from ..line_process import LIMIT_S, LineProcess, environment

__all__ = ["LIMIT_S", "TWISTD", "TwistdProcess", "environment", "run_to_end"]

# The console script, or what it does where it is not installed.
SCRIPT = Path(sys.executable).with_name("twistd")
TWISTD = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]


class TwistdProcess(LineProcess):
    """
    ``twistd --nodaemon`` with *arguments*, in *place*; what it prints, and what it logs to stdout, can be waited for.

    Args:
        installed: Where the package is installed.
        place: The directory to start it in.
        arguments: What follows ``twistd --nodaemon --pidfile=``.
    """

    def __init__(self, installed: Path, place: Path, arguments: Iterable[str]) -> None:
        super().__init__([*TWISTD, "--nodaemon", "--pidfile=", *arguments], place, installed)
        self.pid = self._process.pid
        self.printed: list[str] = []

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
