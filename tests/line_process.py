"""A child process whose lines can be waited for, and what it may inherit."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

LIMIT_S = 60.0

_P = TypeVar("_P", bound="LineProcess")


def environment(path: Path) -> dict[str, str]:
    """One without settings for Python, in which modules are found at *path*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": str(path)}


def state_of(pid: int) -> str:
    """What Linux says that a process does: R for running, S for sleeping, Z when nobody has reaped it; elsewhere, S."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "S"


class LineProcess:
    """
    A process that runs *command* in *place*; at the end of its ``with`` block it is killed.

    Args:
        command: The command line.
        place: The directory to start it in.
        path: As for `environment`.
    """

    def __init__(self, command: list[str], place: Path, path: Path) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=place,
            env=environment(path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A test run in the background of a shell ignores SIGINT, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()

    def _read(self, pipe: IO[str]) -> None:
        with pipe:
            for line in pipe:
                self._lines.put(line)
        self._lines.put("")

    def __enter__(self: _P) -> _P:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
