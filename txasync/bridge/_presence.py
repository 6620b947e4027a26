"""Whether something is there that could fire a Deferred, and whether this is its thread."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python import threadable

from .. import _reactors

__all__ = ["check_that_a_reactor_runs", "check_the_thread"]


def check_that_a_reactor_runs(loop: asyncio.AbstractEventLoop, deferred: Deferred[Any]) -> None:
    """
    Check that *deferred*, which a task of *loop* awaits, has a reactor that may fire it.

    Args:
        loop: Not one of ours: such a one runs only while its reactor does, and in its thread.
        deferred: The Deferred.

    Raises:
        RuntimeError: No reactor runs in this thread.
    """
    reactor: Any = _reactors.installed_reactor()
    if not _runs(reactor):
        raise RuntimeError(
            f"{deferred!r} was awaited in a task of {loop!r}, and no reactor runs, so nothing would wake the task: run "
            f"the program with txasync.run(), or call txasync.install() first; "
            f"or, if other code than a reactor fires the Deferred, await txasync.as_future(deferred)"
        )
    check_the_thread(loop, deferred)


def check_the_thread(loop: asyncio.AbstractEventLoop, deferred: Deferred[Any]) -> None:
    """
    Check that *deferred* is not used outside of the thread of the reactor that runs.

    Raises:
        RuntimeError: It is.
    """
    if getattr(loop, "reactor", None) is not None:
        return
    reactor: Any = _reactors.installed_reactor()
    if _runs(reactor) and not threadable.isInIOThread():
        raise RuntimeError(
            f"{deferred!r} is used in the thread of {loop!r}, but the reactor runs in another, and Deferreds are not "
            f"thread-safe: use asyncio.wrap_future(txasync.run_in_reactor_thread(...)) to wait for it from here"
        )


def _runs(reactor: Any) -> bool:
    # Where only timed calls are needed, what is installed may be a clock, which does not run.
    return bool(getattr(reactor, "running", False))
