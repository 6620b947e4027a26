"""What a process that runs tests tells whoever started it: at once, so that all of it is known even if it is killed."""

from __future__ import annotations

import faulthandler
import json
from typing import Any, TextIO

__all__ = ["ProgressLines"]


class ProgressLines:
    """
    Lines of JSON, and the time that a test may take.

    Args:
        stream: The lines go here.
        time_limit_s: A test that takes longer ends the process, which tells where it is.
    """

    def __init__(self, stream: TextIO, time_limit_s: float) -> None:
        self._stream = stream
        self._time_limit_s = time_limit_s

    def write(self, **line: Any) -> None:
        """Write one line, at once."""
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()

    def limit_time(self) -> None:
        """Begin a new time limit."""
        faulthandler.dump_traceback_later(self._time_limit_s, exit=True)
