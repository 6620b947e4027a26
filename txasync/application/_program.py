"""
What ``twistd txasync`` runs: servers and a main coroutine, and their end.

When twistd is told to stop, everything that was accepted is to be answered, within a bound. The order is: no server
listens any more; the main coroutine is cancelled; tasks and connections that are in flight go on, for some seconds;
what is left of them is cancelled and closed, by the servers and by the loop's own shutdown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure

from .._reactors import stop_was_called
from .._shutdown import cancel_tasks
from ..bridge import as_deferred, as_future
from ..loop import ReactorEventLoop
from ..running import install
from ._exit import CannotStart, exit_with
from ._log_to_twisted import log_to_twisted
from ._server_service import CLOSE_TIMEOUT_S, ServerService
from ._services import TaskService
from ._stop_signals import StopSignals

__all__ = ["Program"]

_log = Logger()

# The bound of the loop's own shutdown after a second signal.
HURRIED_S = 0.5


class Program(MultiService):
    """
    The services of ``twistd txasync``: `ServerService` and, by `run`, coroutine functions.

    Args:
        graceful_s: How many seconds tasks and connections have to end by themselves when the program is stopped.
        log_level: As for `txasync.application.log_to_twisted`.

    Raises:
        CannotStart: By ``privilegedStartService()``: a server cannot listen.
    """

    def __init__(self, graceful_s: float, log_level: str | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._graceful_s = graceful_s
        self._log_level = log_level
        self._loop: Any = None
        self._hurried: Any = None
        self._signals: StopSignals | None = None

    def serve(self, server: ServerService) -> None:
        """Let *server* be a part of the program."""
        self.addService(server)  # type: ignore[no-untyped-call]

    def run(self, main: Callable[[], Awaitable[Any]]) -> None:
        """
        Let *main* be a part of the program, which ends with it.

        An integer that *main* returns is the exit code, as is what it raises SystemExit with; a failure is 1.
        """
        code = 0

        async def run_main() -> None:
            nonlocal code
            try:
                result = await main()
            except SystemExit as exit_:
                result = exit_.code
                if result is not None and not isinstance(result, int):
                    _log.error("{reason}", reason=str(result))
                    result = 1
            if isinstance(result, int):
                code = int(result)

        def ended(failure: Failure | None) -> None:
            from twisted.internet import reactor

            exit_with(code if failure is None else 1)
            is_told = self._signals is not None and self._signals.has_come
            if not is_told and not stop_was_called(reactor):
                reactor.stop()

        self.addService(TaskService(run_main, ended))  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """Let the servers listen."""
        try:
            super().privilegedStartService()  # type: ignore[no-untyped-call]
        except (CannotListenError, OSError) as error:
            raise CannotStart(str(error).rstrip(".")) from None

    def startService(self) -> None:
        """Start everything, when the reactor runs; from now on, what is logged by asyncio is in twistd's log."""
        from twisted.internet import reactor

        log_to_twisted(self._log_level)
        super().startService()  # type: ignore[no-untyped-call]
        reactor.callWhenRunning(self._start, reactor)

    def _start(self, reactor: Any) -> None:
        self._loop = install(reactor)
        self._hurried = self._loop.create_future()
        signals = self._signals = StopSignals(reactor, self._hurry)
        signals.watch()
        # Reactors of GLib install their handlers once more in their first turn.
        reactor.callLater(0, signals.watch)

    def stopService(self) -> Deferred[Any]:
        """
        End everything.

        Returns:
            A Deferred that fires when nothing is in flight any more, or after *graceful_s* seconds.
        """
        stopped: Deferred[Any] = super().stopService()  # type: ignore[no-untyped-call]
        if self._loop is None or self._loop.is_closed():
            return stopped
        return as_deferred(self._wait(as_future(stopped, loop=self._loop)), loop=self._loop)

    async def _wait(self, stopped: asyncio.Future[Any]) -> None:
        loop, hurried = self._loop, self._hurried
        deadline = loop.time() + self._graceful_s
        this = asyncio.current_task()
        while (left := deadline - loop.time()) > 0 and not hurried.done():
            in_flight = asyncio.all_tasks() - {this}
            if stopped.done() and not in_flight:
                return
            waited_for = {hurried, *in_flight} if stopped.done() else {hurried, stopped, *in_flight}
            await asyncio.wait(waited_for, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        # What was written when the connections were closed is on its way.
        await asyncio.wait({stopped, hurried}, timeout=CLOSE_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if not isinstance(loop, ReactorEventLoop):
            await self._cancel_tasks()

    async def _cancel_tasks(self) -> None:
        """What a loop of ours does when its reactor stops; a reactor on asyncio leaves the loop's tasks alone."""
        loop = self._loop
        deadline = loop.time() + (HURRIED_S if self._hurried.done() else ReactorEventLoop.shutdown_timeout_s)
        await cancel_tasks(loop, lambda: max(0.0, deadline - loop.time()))

    def _hurry(self) -> None:
        """Nothing is waited for any more."""
        for service in self:
            if isinstance(service, ServerService):
                service.abort_connections()
        if isinstance(self._loop, ReactorEventLoop):
            self._loop.shutdown_timeout_s = HURRIED_S
        if not self._hurried.done():
            self._hurried.set_result(None)
