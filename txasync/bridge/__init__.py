"""
The bridge: one coroutine awaits the Deferreds of Twisted and the Futures of asyncio.

A driver goes through the coroutine of each task and waits for the Deferreds that it awaits; a task factory puts it
there. Explicit functions turn each side's promise of a result into the other's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy_names import lazy_names
from ._explaining import explain_bad_yield
from ._task_factories import awaits_deferreds, eager_task_factory, task_factory

# What no loop needs takes 1 ms to import.
if TYPE_CHECKING:
    from ._context import with_context
    from ._deferreds import as_deferred, deferred_coroutine
    from ._futures import as_future
    from ._iteration import AsyncConsumer, produce
    from ._threads import run_in_reactor_thread
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "._context": ("with_context",),
            "._deferreds": ("as_deferred", "deferred_coroutine"),
            "._futures": ("as_future",),
            "._iteration": ("AsyncConsumer", "produce"),
            "._threads": ("run_in_reactor_thread",),
        },
    )

__all__ = [
    "AsyncConsumer",
    "as_deferred",
    "as_future",
    "awaits_deferreds",
    "deferred_coroutine",
    "eager_task_factory",
    "explain_bad_yield",
    "produce",
    "run_in_reactor_thread",
    "task_factory",
    "with_context",
]
