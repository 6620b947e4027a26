"""Services whose work is asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..running import install

__all__ = ["TaskService"]

_log = Logger()


class TaskService(Service):
    """
    Runs a coroutine function as an asyncio task while the service runs.

    The task is started with the reactor, not with the service: twistd starts services before it may fork, and a loop's
    descriptors belong to the process that uses them. When the service is stopped, the task is cancelled and awaited. A
    failure of the task is logged.

    Args:
        main: Called without arguments, in the loop.
        ended: Called when the task has ended by itself, with its failure or None. Default: nothing happens.

    Source:
        ``twisted.application.service.IService``.
    """

    def __init__(
        self, main: Callable[[], Awaitable[Any]], ended: Callable[[Failure | None], object] | None = None
    ) -> None:
        self._main = main
        self._ended = ended
        self._task: asyncio.Task[Any] | None = None

    def startService(self) -> None:
        """Start the task, when the reactor runs."""
        from twisted.internet import reactor

        Service.startService(self)
        reactor.callWhenRunning(self._start)

    def _start(self) -> None:
        if not self.running:
            return  # it was stopped before the reactor ran
        self._task = install().create_task(self._run())
        self._task.add_done_callback(self._done)

    async def _run(self) -> Any:
        return await self._main()

    def _done(self, task: asyncio.Task[Any]) -> None:
        failure = None
        if not task.cancelled() and (error := task.exception()) is not None:
            failure = Failure(error, type(error), error.__traceback__)
            _log.failure("the task of {service!r} has failed", failure=failure, service=self)
        if self.running and self._ended is not None:
            self._ended(failure)

    def stopService(self) -> Deferred[None]:
        """
        Cancel the task.

        Returns:
            A Deferred that fires with None when the task has ended, however it did.
        """
        Service.stopService(self)
        task = self._task
        if task is None or task.done():
            return succeed(None)
        ended: Deferred[None] = Deferred()
        task.add_done_callback(lambda task: ended.callback(None))
        task.cancel()
        return ended
