"""For users' tests. Importing this imports neither a reactor nor trial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._leaks import LeakCheck
    from ._logged_errors import LoggedError
    from ._loops import loop_factory, loop_factory_on
    from ._memory import MemoryNetwork, MemoryPeer, memory_loop
    from ._trial import AsyncTestCase
    from ._unittest import IsolatedAsyncioTestCase

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

# Imported when they are asked for: each is for another test runner.
_HOMES = {
    "AsyncTestCase": "._trial",
    "IsolatedAsyncioTestCase": "._unittest",
    "LeakCheck": "._leaks",
    "LoggedError": "._logged_errors",
    "MemoryNetwork": "._memory",
    "MemoryPeer": "._memory",
    "loop_factory": "._loops",
    "loop_factory_on": "._loops",
    "memory_loop": "._memory",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name], __name__), name)
