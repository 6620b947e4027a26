"""The end of an asyncio loop that somebody else runs, noticed while there is still time to do something on it."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import types
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, cast

__all__ = ["EXIT_TIMEOUT_S", "HostEnd"]

# How long a process that exits waits for what should have ended with its loop.
EXIT_TIMEOUT_S = 10.0


class HostEnd:
    """
    Calls once for the end of something that stands on a loop, at the loop's own end.

    ``asyncio.run``, ``asyncio.Runner``, ``uvloop.run`` and all who do as they do call ``loop.shutdown_asyncgens()``
    when the main coroutine is done and all tasks are cancelled, and the loop works still. It closes every asynchronous
    generator that has begun on the loop: one of ours is among them, which waits for that. Other hosts just end:
    ``python -m asyncio``, a bare ``run_until_complete()``. Then the end comes when the process exits, on the loop if it
    is not closed.

    Args:
        host: The running loop.
        end: Called, gives a coroutine that ends what stands on *host*, which runs. It returns at once, without waiting,
            if that has ended.
        end_without: Ends what stands on *host* without waiting for anything that takes a loop: when that is closed, or
            *end* takes too long in a process that exits.

    Context:
        A callback of *host*.
    """

    def __init__(
        self,
        host: asyncio.AbstractEventLoop,
        end: Callable[[], Coroutine[Any, Any, None]],
        end_without: Callable[[], None],
    ) -> None:
        self._host = host
        self._end = end
        self._end_without = end_without
        self._process = os.getpid()
        self._closed_with_host = cast("types.AsyncGeneratorType[None, None]", self._wait_to_be_closed())
        _step(self._closed_with_host.asend(None))
        atexit.register(self._at_exit)

    def forget(self) -> None:
        """It has ended; nothing is to be called any more."""
        atexit.unregister(self._at_exit)
        if not self._closed_with_host.ag_running:
            # Left open, it would be closed by the garbage collector, which needs a loop that runs for that.
            _step(self._closed_with_host.aclose())

    async def _wait_to_be_closed(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._end()

    def _at_exit(self) -> None:
        if os.getpid() != self._process:
            return  # a fork's copy: the loop's descriptors are shared with the parent, where they are in use
        if self._host.is_closed():
            self._end_without()
        elif self._host.is_running():
            self._end_in_its_thread()
        else:
            self._host.run_until_complete(self._end_in_time())

    def _end_in_its_thread(self) -> None:
        """The loop runs in a daemonic thread, for as long as there is a process."""
        ending = asyncio.run_coroutine_threadsafe(self._end_in_time(), self._host)
        try:
            ending.result(EXIT_TIMEOUT_S + 1)
        except concurrent.futures.TimeoutError:
            self._tell_of_lateness()

    async def _end_in_time(self) -> None:
        try:
            await asyncio.wait_for(self._end(), EXIT_TIMEOUT_S)
        except asyncio.TimeoutError:
            self._tell_of_lateness()
            self._end_without()

    def _tell_of_lateness(self) -> None:
        self._host.call_exception_handler(
            {"message": f"the reactor's shutdown triggers were not done {EXIT_TIMEOUT_S} s after the process had ended"}
        )


def _step(step: Any) -> None:
    """Take a step of an asynchronous generator that waits for nothing."""
    try:
        step.send(None)
    except (StopIteration, StopAsyncIteration):
        pass
