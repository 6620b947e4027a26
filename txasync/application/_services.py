"""A service whose work is a coroutine's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..running import install

__all__ = ["TaskService"]

_log = Logger()


class TaskService(Service):
    """
    Runs a coroutine function as an asyncio task while the service runs.

    The task is started with the reactor, not with the service: what a loop opens belongs to the process that uses it,
    and who starts services may fork yet. When the service is stopped, the task is cancelled and awaited; if the service
    is started again before that has ended, the next task waits for it. A failure of the task is logged; one of
    SystemExit or KeyboardInterrupt goes to who runs the loop.

    Args:
        main: Called without arguments, in the loop.
        ended: Called when the task has ended by itself, with its failure, or None. Default: nothing happens.
        reactor: The reactor whose loop runs the task. Default: the process's.

    Context:
        The reactor's thread; the service may be made before the reactor runs, and before twistd forks.

    Source:
        ``twisted.application.service.IService``.
    """

    def __init__(
        self,
        main: Callable[[], Awaitable[Any]],
        ended: Callable[[Failure | None], object] | None = None,
        *,
        reactor: Any = None,
    ) -> None:
        self._main = main
        self._ended = ended
        self._reactor = reactor
        self._started: Deferred[None] | None = None
        # The one that runs for the service, and the one before it, if it was cancelled and has not ended.
        self._task: asyncio.Task[Any] | None = None
        self._ending: asyncio.Task[Any] | None = None

    def startService(self) -> Deferred[None]:
        """
        Start the task, when the reactor runs. Of a service that is started already, nothing is changed.

        Returns:
            A Deferred that fires with None when the task is there, or when the service was stopped before; or fails
            with what keeps the reactor from having a loop.
        """
        reactor = self._reactor
        if reactor is None:
            from twisted.internet import reactor
        started: Deferred[None] = Deferred()
        if not self.running:
            self._started = started
        Service.startService(self)
        reactor.callWhenRunning(self._start, reactor, started)
        return started

    def _start(self, reactor: Any, started: Deferred[None]) -> None:
        # Unless it was stopped, and perhaps started again, before the reactor ran.
        if self.running and started is self._started:
            try:
                loop = install(reactor)
            except Exception:
                started.errback()
                return
            self._task = loop.create_task(self._run(self._ending))
            self._task.add_done_callback(self._has_ended)
        started.callback(None)

    async def _run(self, previous: asyncio.Task[Any] | None) -> Any:
        if previous is not None:
            await _until_done(previous)
        return await self._main()

    def _has_ended(self, task: asyncio.Task[Any]) -> None:
        was_stopped = task is not self._task
        if task is self._ending:
            self._ending = None
        failure = None
        if not task.cancelled():
            if (error := task.exception()) is not None:
                failure = Failure(error, type(error), error.__traceback__)
        elif not was_stopped:
            failure = Failure(asyncio.CancelledError("it was cancelled, though its service was not stopped"))
        if failure is not None and not failure.check(SystemExit, KeyboardInterrupt):
            _log.failure("the task of {service!r} has failed", failure=failure, service=self)
        if not was_stopped and self._ended is not None:
            self._ended(failure)

    def stopService(self) -> Deferred[None]:
        """
        Cancel the task.

        Returns:
            A Deferred that fires with None when the task has ended, however it did.
        """
        Service.stopService(self)
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self._ending, self._task = self._task, None
        ended: Deferred[None] = Deferred()
        if self._ending is None:
            ended.callback(None)
        else:
            self._ending.add_done_callback(lambda task: ended.callback(None))
        return ended


async def _until_done(task: asyncio.Task[Any]) -> None:
    """Wait until *task* is done, even if the present one is cancelled meanwhile."""
    cancellation = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        raise cancellation
