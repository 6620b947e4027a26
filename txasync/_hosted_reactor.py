"""A reactor on top of an asyncio loop that somebody else runs: ``asyncio.run``, a notebook, another library."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.error import ReactorAlreadyRunning, ReactorNotRestartable, ReactorNotRunning
from twisted.internet.main import installReactor
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger

from ._child_reaping import reap_at_exit
from ._host_end import EXIT_TIMEOUT_S, HostEnd

__all__ = ["HostedReactor", "end_threads", "put_reactor_on", "use_daemonic_threads"]

_log = Logger()


class HostedReactor(AsyncioSelectorReactor):
    """
    Twisted's own reactor on asyncio, for a loop that is not the reactor's to run or to stop.

    It has started when it is given out. ``stop()`` runs the whole of a reactor's shutdown, at the end of which its
    readers and delayed calls are gone; the loop goes on. At the end of the loop, the reactor is stopped by itself.

    Args:
        host: The loop, which runs in this thread.

    Context:
        A callback of *host*.

    Source:
        ``twisted.internet.asyncioreactor``.
    """

    def __init__(self, host: asyncio.AbstractEventLoop) -> None:
        self._host = host
        self._triggers_done = False
        self._has_ended = False
        self._ended = host.create_future()
        super().__init__(host)

    def begin(self) -> None:
        """Start, once; and be stopped at the end of the host."""
        self._host_end = HostEnd(self._host, self.shut_down, self._shut_down_without_host)
        self.addSystemEventTrigger("after", "shutdown", self._triggers_were_called)
        # Signals are the host's: Ctrl-C is to do what it does there.
        self.startRunning(installSignalHandlers=False)

    # The end

    async def shut_down(self) -> None:
        """Stop, unless that has been done, and wait until all shutdown triggers were called."""
        if not self._has_ended:
            with contextlib.suppress(ReactorNotRunning):  # it is being stopped already
                self.stop()  # type: ignore[no-untyped-call]  # Twisted's has no types
            await asyncio.shield(self._ended)

    def _shut_down_without_host(self) -> None:
        """Call the triggers when the host is closed, or is waiting for them in vain."""
        end_threads(self)
        self.fireSystemEvent("shutdown")
        if not self._triggers_done:
            # Triggers before the shutdown have returned Deferreds that nothing will fire any more: this goes on with
            # those that come after them.
            self.fireSystemEvent("shutdown")

    def _triggers_were_called(self) -> None:
        self._triggers_done = True
        if self._host.is_closed():
            self._finish()
        else:
            # Those triggers that were added after ours are called first.
            self._host.call_soon(self._finish)

    def _finish(self) -> None:
        self._has_ended = True
        for call in self.getDelayedCalls():
            call.cancel()
        self._host_end.forget()
        if not self._host.is_closed():
            self._ended.set_result(None)

    def crash(self) -> None:
        """
        Do not run any more; the host goes on.

        Source:
            ``IReactorCore.crash``. ``AsyncioSelectorReactor`` stops its loop here.
        """
        super(AsyncioSelectorReactor, self).crash()

    # What its host does for it

    def run(self, installSignalHandlers: bool = True) -> None:
        """
        Refuse: whoever runs the host runs this.

        Raises:
            ReactorAlreadyRunning: It runs.
            ReactorNotRestartable: It was stopped.
        """
        if self._has_ended or self._host.is_closed():
            raise ReactorNotRestartable(f"{self!r} was stopped, or ended with {self._host!r}; that is for ever")
        raise ReactorAlreadyRunning(
            f"{self!r} runs already, on {self._host!r}, for as long as that runs: leave out reactor.run(), and wait "
            f"for what you need in a task: await deferred"
        )

    def iterate(self, delay: float = 0.0) -> None:
        """
        Refuse: a loop that runs cannot be run inside of one of its callbacks.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError(
            f"{self!r} cannot be iterated, since {self._host!r}, on which it stands, cannot: "
            f"wait in a task, by asyncio.sleep() or by await deferred"
        )

    def installWaker(self) -> None:
        """Have none: asyncio wakes its loop itself, and a descriptor would be left when the host just ends."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object) -> Any:
        """
        Call *callable* in *delay* seconds; never, if this has been stopped.

        Source:
            ``IReactorTime.callLater``.
        """
        if self._has_ended or self._host.is_closed():
            # As on any reactor that has stopped. AsyncioSelectorReactor's own would go on with its loop, or fail.
            return PosixReactorBase.callLater(self, delay, callable, *args, **kwargs)
        # Twisted's has no types.
        return super().callLater(delay, callable, *args, **kwargs)  # type: ignore[no-untyped-call]

    def callFromThread(self, *args: Any, **kwargs: Any) -> None:
        """
        Call a function in the reactor's thread; never, if its host has ended.

        Args:
            args: The function, and its arguments.
            kwargs: Its keyword arguments.

        Source:
            ``IReactorFromThreads.callFromThread``.
        """
        try:
            super().callFromThread(*args, **kwargs)  # type: ignore[no-untyped-call]  # Twisted's has no types
        except RuntimeError:
            if not self._host.is_closed():
                raise
            # What any reactor that has stopped does. A thread of the pool that is done late is told of no error.

    def getThreadPool(self) -> Any:
        """
        Return the pool of daemonic threads.

        Raises:
            RuntimeError: The reactor was stopped, so that nothing would ever run in the pool.

        Source:
            ``IReactorThreads.getThreadPool``.
        """
        if self._has_ended:
            raise RuntimeError(f"{self!r} was stopped, so it starts no threads any more")
        is_new = self.threadpool is None
        pool = super().getThreadPool()
        if is_new:
            use_daemonic_threads(pool)
        return pool

    def spawnProcess(self, *args: Any, **kwargs: Any) -> Any:
        """
        Start a child, and hear of its end whatever the host does with signals.

        Source:
            ``IReactorProcess.spawnProcess``.
        """
        process = super().spawnProcess(*args, **kwargs)  # type: ignore[no-untyped-call]  # Twisted's has no types
        reap_at_exit(self, self._host, process)
        return process


def put_reactor_on(host: asyncio.AbstractEventLoop) -> HostedReactor:
    """
    Make a reactor on *host*, install it as the process's, and start it.

    Context:
        A callback of *host*. No reactor is installed.
    """
    reactor = HostedReactor(host)
    installReactor(reactor)
    reactor.begin()
    return reactor


def use_daemonic_threads(pool: Any) -> None:
    """
    Let *pool* have threads that do not keep the process from exiting.

    Nobody may stop the reactor before the interpreter waits for all threads, which is before ``atexit``.
    """
    pool.threadFactory = _daemonic_thread


def _daemonic_thread(*args: Any, **kwargs: Any) -> threading.Thread:
    return threading.Thread(*args, daemon=True, **kwargs)


def end_threads(reactor: Any) -> None:
    """
    Let the jobs in *reactor*'s thread pool finish, in a process that exits without a loop.

    A job that waits for the reactor would wait for ever; so this ends after a time, and that is told.
    """
    pool = reactor.threadpool
    if pool is None:
        return
    pool.adjustPoolsize(0, 0)
    deadline = time.monotonic() + EXIT_TIMEOUT_S
    for thread in pool.threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    busy = [thread.name for thread in pool.threads if thread.is_alive()]
    if busy:
        # The trigger would wait for them.
        reactor.removeSystemEventTrigger(reactor.threadpoolShutdownID)
        _log.error(
            "{busy} still busy {timeout_s} s after the process had ended, given up",
            busy=", ".join(busy),
            timeout_s=EXIT_TIMEOUT_S,
        )
