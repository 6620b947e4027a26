"""What asyncio says of a Deferred that is awaited in a task of its own, with what to do about it."""

from __future__ import annotations

import re

__all__ = ["explain_bad_yield"]

_BAD_YIELD = r"Task got bad yield: <\w*Deferred\w* at 0x"
_ADVICE = (
    "a Deferred can be awaited only in tasks that txasync's task factories make: leave the loop the one it had, or set "
    "txasync.task_factory or txasync.eager_task_factory; or await txasync.as_future(deferred)"
)


def explain_bad_yield(error: RuntimeError) -> None:
    """Add what to do to *error*, which the step of a task holds, if it is asyncio's for a Deferred."""
    if re.match(_BAD_YIELD, str(error)):
        error.args = (f"{error}; {_ADVICE}",)
