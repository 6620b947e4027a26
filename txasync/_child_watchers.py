"""
asyncio's child watchers, which Python 3.14 has removed, for programs that have chosen one.

Without a choice the loop hears of its children in its own way. A program that has set a watcher must get it: some of
them reap every child of the process, so that nobody else ever hears of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from .transports import ChildExits, LoopServices

__all__ = ["chosen_exits"]


class _WatchedExits(ChildExits):
    """What tells of a child's end is *watcher*."""

    def __init__(self, services: LoopServices, watcher: Any) -> None:
        super().__init__(services)
        self._watcher = watcher

    def watch(self, pid: int, exited: Callable[[int | None], object]) -> None:
        self._watcher.add_child_handler(
            pid, lambda pid, returncode: self._services.call_soon_threadsafe(exited, returncode)
        )


@contextlib.contextmanager
def chosen_exits(services: LoopServices, own: ChildExits) -> Iterator[ChildExits]:
    """
    What tells of the end of a child that is started in the ``with`` block: *own*, unless the program has set a watcher.

    Raises:
        RuntimeError: The watcher does not work, as asyncio has it.
    """
    watcher = _chosen_watcher()
    if watcher is None:
        yield own
        return
    with watcher as entered:
        # As asyncio of each version: for every watcher but a mock it is the same.
        if sys.version_info < (3, 12):
            watcher = entered
        if not watcher.is_active():
            raise RuntimeError(
                "asyncio.get_child_watcher() is not activated, subprocess support is not installed: attach the watcher "
                "to a loop, or leave the choice to the loop"
            )
        yield _WatchedExits(services, watcher)


if sys.version_info >= (3, 14):

    def _chosen_watcher() -> Any:
        return None

else:

    def _chosen_watcher() -> Any:
        watcher = getattr(asyncio.get_event_loop_policy(), "_watcher", None)
        # These two are what asyncio itself takes when nothing was set, and wait for their own children only.
        return None if isinstance(watcher, asyncio.ThreadedChildWatcher | asyncio.PidfdChildWatcher) else watcher
