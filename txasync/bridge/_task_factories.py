"""The task factories: they make tasks in which Deferreds can be awaited."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Coroutine
from typing import Any

from ._driver import driver
from ._task import Task

__all__ = ["awaits_deferreds", "eager_task_factory", "task_factory"]


def task_factory(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> asyncio.Task[Any]:
    """
    Make a task in which Deferreds can be awaited: the factory that the loops of txasync have.

    Another loop whose reactor runs, as that of an ``asyncioreactor``, can have it too:
    ``loop.set_task_factory(txasync.task_factory)``.

    Args:
        loop: The loop that is to run the task.
        coro: The coroutine.
        kwargs: What else ``asyncio.Task`` takes: ``name``, ``context``, ``eager_start``.

    Raises:
        TypeError: *coro* is not a coroutine.

    Context:
        The loop's thread.

    Source:
        asyncio, "Event Loop", "Creating futures and tasks", ``loop.set_task_factory()``.
    """
    if type(coro) is not types.CoroutineType and not asyncio.iscoroutine(coro):
        raise TypeError(f"a coroutine was expected, got {coro!r}")
    driving = driver(coro, loop)
    driving.send(None)
    if "eager_start" in kwargs:
        return _begun(coro, driving, loop, kwargs)
    task = Task(driving, loop=loop, **kwargs) if kwargs else Task(driving, loop=loop)
    task._coroutine = coro
    return task


def _begun(
    coro: Coroutine[Any, Any, Any], driving: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop, kwargs: Any
) -> Task:
    """A task that may begin, and end, while it is made: it has its coroutine before."""
    task: Any = Task.__new__(Task)
    task._coroutine = coro
    try:
        task.__init__(driving, loop=loop, **kwargs)
    except BaseException:
        task._coroutine = None
        raise
    if task.done():
        task._coroutine = None
    return task  # type: ignore[no-any-return]


def eager_task_factory(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **kwargs: Any
) -> asyncio.Task[Any]:
    """
    Make a task that begins at once, as those of ``asyncio.eager_task_factory``, and in which Deferreds can be awaited.

    Args:
        loop: The loop that is to run the task.
        coro: The coroutine.
        kwargs: What else ``asyncio.Task`` takes: ``name``, ``context``, ``eager_start``.

    Raises:
        TypeError: *coro* is not a coroutine.
        RuntimeError: Before Python 3.12, which has no eager tasks.

    Context:
        The loop's thread.

    Source:
        asyncio, "Coroutines and tasks", "Eager task factory".
    """
    if sys.version_info < (3, 12):
        raise RuntimeError("eager tasks need Python 3.12 or later; here, use txasync.task_factory")
    kwargs.setdefault("eager_start", True)
    return task_factory(loop, coro, **kwargs)


def awaits_deferreds(factory: Any) -> bool:
    """Whether Deferreds can be awaited in the tasks that *factory* makes."""
    return factory is task_factory or factory is eager_task_factory
