"""Something happens in the midst of a function, as when a signal comes, or another thread has its turn."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["interrupted"]


def interrupted(
    call: Callable[[], object], function: Callable[..., object], where: int, what: Callable[[], object]
) -> bool:
    """
    Call *call*, and let *what* happen in the midst of *function*, a Python function that is called there.

    Args:
        call: What to call.
        function: Whose instructions are counted, of all its calls together.
        where: Before which of them *what* is called.
        what: Called once, or never if there are not so many.

    Returns:
        Whether *what* was called. On Python 3.12 it is not in the first call of *function* that is looked at.
    """
    code = function.__code__
    before = sys.gettrace()
    seen = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal seen
        if frame.f_code is not code:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if seen == where:
                sys.settrace(None)
                what()
            seen += 1
        return trace

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return seen > where
