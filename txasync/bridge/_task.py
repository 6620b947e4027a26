"""The task that shows the coroutine which its driver goes through."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["Task"]


class Task(asyncio.Task):  # type: ignore[type-arg]  # not a generic class at run time
    """An asyncio task of a coroutine that a driver goes through; it shows the coroutine, not the driver."""

    __slots__ = ("_coroutine",)

    _coroutine: Any

    def get_coro(self) -> Any:
        """
        Return the coroutine that the task runs; None for a task that was finished eagerly.

        Source:
            asyncio, "Coroutines and tasks", "Task object".
        """
        try:
            return self._coroutine
        except AttributeError:  # somebody looks at it while it is made
            return _coroutine_of(super().get_coro())

    @property
    def _coro(self) -> Any:
        return self.get_coro()


def _coroutine_of(driving: Any) -> Coroutine[Any, Any, Any]:
    """The coroutine that a driver, which has not ended, goes through."""
    coroutine: Coroutine[Any, Any, Any] = driving.cr_frame.f_locals["coroutine"]
    return coroutine
