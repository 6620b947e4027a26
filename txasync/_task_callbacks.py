"""
What asyncio's tasks, those in C, have the loop call.

They drop what ``call_soon()`` returns, and let nothing out of these calls that a loop reports. Neither has a public
name.
"""

from __future__ import annotations

import types

__all__ = ["WAKEUP_NAME", "TaskStep", "WakeupType"]

TaskStep: type | None = next((kind for kind in object.__subclasses__() if kind.__name__ == "TaskStepMethWrapper"), None)
"""
The type of a task's first step, and of the one after a bare ``yield``.

A task that gets something that it cannot wait for has the loop call its next step, which holds an error to raise.
"""

WakeupType = types.BuiltinMethodType
"""The type of what a task adds to a Future that it waits for, to be called with that Future. Others have it, too."""

WAKEUP_NAME = "task_wakeup"
"""The ``__name__`` of those; no method that a task shows has it."""
