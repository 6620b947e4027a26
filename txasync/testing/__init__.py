"""For users' tests. Importing this imports neither a reactor nor trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy_names import lazy_names

# Each is for another test runner.
if TYPE_CHECKING:
    from ._leaks import LeakCheck
    from ._logged_errors import LoggedError
    from ._loops import loop_factory, loop_factory_on
    from ._memory import MemoryNetwork, MemoryPeer, memory_loop
    from ._trial import AsyncTestCase
    from ._unittest import IsolatedAsyncioTestCase
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "._leaks": ("LeakCheck",),
            "._logged_errors": ("LoggedError",),
            "._loops": ("loop_factory", "loop_factory_on"),
            "._memory": ("MemoryNetwork", "MemoryPeer", "memory_loop"),
            "._trial": ("AsyncTestCase",),
            "._unittest": ("IsolatedAsyncioTestCase",),
        },
    )

__all__ = [
    "AsyncTestCase",
    "IsolatedAsyncioTestCase",
    "LeakCheck",
    "LoggedError",
    "MemoryNetwork",
    "MemoryPeer",
    "loop_factory",
    "loop_factory_on",
    "memory_loop",
]
