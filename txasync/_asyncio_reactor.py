"""An AsyncioSelectorReactor, whose loop is given out: what it needs so that both sides work on it."""

from __future__ import annotations

import asyncio
import atexit
import signal
import threading
import weakref
from typing import Any

from twisted.internet.process import reapAllProcesses
from twisted.python import threadable

from . import _reactors
from ._child_reaping import look_for_children
from ._hosted_reactor import HostedReactor, end_threads, use_daemonic_threads
from ._signals import install_handler, is_twisteds
from .bridge import eager_task_factory, task_factory

__all__ = ["use_host"]

_prepared: weakref.WeakSet[Any] = weakref.WeakSet()


def use_host(reactor: Any, host: asyncio.AbstractEventLoop) -> None:
    """
    Make all of txasync work on *host*, the loop of *reactor*; and start *reactor*, if its loop runs already.

    Raises:
        RuntimeError: *reactor* was stopped, *host* is closed, or something else runs in this thread.

    Context:
        The reactor's thread; any number of times.
    """
    _check(reactor, host)
    if not isinstance(reactor, HostedReactor) and reactor not in _prepared:
        reactor.callWhenRunning(_handle_sigchld, reactor)
        if not isinstance(host, asyncio.SelectorEventLoop):
            # uvloop takes SIGCHLD itself, below Python, with its first child.
            reactor.callWhenRunning(look_for_children, reactor, host)
    if not reactor.running and asyncio.events._get_running_loop() is host:
        _start(reactor, host)
    if reactor not in _prepared:
        _prepared.add(reactor)
        _let_tasks_await_deferreds(reactor, host)


def _check(reactor: Any, host: asyncio.AbstractEventLoop) -> None:
    """Check that *reactor* can run on *host*, in this thread, now or later."""
    running = asyncio.events._get_running_loop()
    if host.is_closed() or _reactors.was_stopped(reactor):
        what = f"ended with its loop, {host!r}" if host.is_closed() else "was stopped by reactor.stop()"
        raise RuntimeError(
            f"{reactor!r} {what}, and that is for ever: a process has one reactor. Keep to one asyncio.run(), "
            f"without reactor.stop(), for all that needs it; start a new process (in a notebook, restart the kernel); "
            f"or use a loop with a reactor of its own, txasync.new_event_loop(private=True)"
        )
    if reactor.running and not threadable.isInIOThread():
        raise RuntimeError(
            f"txasync.install() was called in another thread than the one in which {reactor!r} runs: "
            f"use reactor.callFromThread() or txasync.run_in_reactor_thread() to do there what needs it, "
            f"or txasync.new_event_loop(private=True) for a loop with a reactor of its own here"
        )
    if running is not None and running is not host:
        raise RuntimeError(
            f"{reactor!r} stands on {host!r}, but {running!r} runs in this thread: run this on the reactor's loop, or, "
            f"in a new process, call txasync.install() on the loop that runs, before anything installs a reactor"
        )


def _start(reactor: Any, host: asyncio.AbstractEventLoop) -> None:
    """Start *reactor* without a run of its own, as nobody else will: without that, name lookups wait for ever."""
    if not isinstance(reactor, HostedReactor):
        use_daemonic_threads(reactor.getThreadPool())
        atexit.register(end_threads, reactor)
        reactor.callWhenRunning(look_for_children, reactor, host)
    # Signals are the host's: Ctrl-C is to do what it does there.
    reactor.startRunning(installSignalHandlers=False)


def _handle_sigchld(reactor: Any) -> None:
    """
    Keep ``reactor.spawnProcess`` hearing of exits whatever the host loop does with signals.

    asyncio's own ``add_signal_handler`` takes ``signal.set_wakeup_fd``, by which Twisted hears of SIGCHLD, and does not
    give it back. A handler in Python works with either owner, so one is put in place of Twisted's, which does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # no signals here, and so none of Twisted's either
    if not is_twisteds(signal.getsignal(signal.SIGCHLD)):
        return  # the reactor does not handle signals, or somebody else has them: that is theirs to share

    def reap(signum: int, frame: object) -> None:
        reactor.callFromThread(reapAllProcesses)

    install_handler(signal.SIGCHLD, reap)


def _let_tasks_await_deferreds(reactor: Any, host: asyncio.AbstractEventLoop) -> None:
    """Give *host* our task factory, unless it has one that we do not know, until *reactor* is shut down."""
    before = host.get_task_factory()
    if before is None:
        ours: Any = task_factory
    elif before is getattr(asyncio, "eager_task_factory", None):
        ours = eager_task_factory
    else:
        return

    def put_back() -> None:
        if host.get_task_factory() is ours:
            host.set_task_factory(before)

    host.set_task_factory(ours)
    reactor.addSystemEventTrigger("after", "shutdown", put_back)
