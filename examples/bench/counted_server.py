"""
A server process like that of ``server.py``, which counts its calls, and is slow from that.

    python counted_server.py KIND CORE SERVICE...

For each line that it reads it prints one: a JSON array of ``[module, function, called, calls]``, where *called* is the
name of a C function that this Python function has called, or null for calls of the Python function itself.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import defaultdict
from types import CodeType, FrameType
from typing import Any

import server


class Calls:
    """All calls in the thread that starts it, but those from C to C, and those of classes that are written in C."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, CodeType, str | None], int] = defaultdict(int)

    def start(self) -> None:
        sys.setprofile(self._count)

    def _count(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            self._counts[frame.f_globals.get("__name__", "?"), frame.f_code, None] += 1
        elif event == "c_call":
            self._counts[frame.f_globals.get("__name__", "?"), frame.f_code, argument.__qualname__] += 1

    def tell(self) -> None:
        """Answer lines until there are no more."""
        for _ in sys.stdin:
            lines = [
                # Python 3.10 has no more than the name of a function.
                (module, getattr(code, "co_qualname", code.co_name), called, count)
                for (module, code, called), count in dict(self._counts).items()
            ]
            print(json.dumps(lines), flush=True)


if __name__ == "__main__":
    calls = Calls()
    threading.Thread(target=calls.tell, daemon=True).start()
    calls.start()
    server.main()
