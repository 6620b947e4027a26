"""Which side is up: installing the loop on a reactor, and running a coroutine on one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from twisted.python import threadable

from . import _loops, _reactors
from ._private_loop import new_private_loop
from ._shutdown import end_and_close
from .loop import ReactorEventLoop

__all__ = ["get_event_loop", "install", "new_event_loop", "run"]

_T = TypeVar("_T")


def install(reactor: Any = None) -> asyncio.AbstractEventLoop:
    """
    Have a reactor and an asyncio loop in this thread, whichever is there already.

    Where a reactor is run - by twistd, trial, or the program - it gets a loop. From then on - at once if the reactor
    runs, else when it starts - asyncio works in every callback of the reactor, and ``asyncio.get_running_loop()`` is
    this loop. When the reactor stops, asyncio's tasks are cancelled and awaited after the "before shutdown" triggers of
    others have finished, and the loop is closed after everything else.

    Where a loop of others runs - under ``asyncio.run``, in a notebook - and no reactor is installed, one is put on
    that loop and started. ``reactor.stop()`` stops it, not the loop; at the loop's end it is stopped by itself, and its
    shutdown triggers are awaited. Tasks that are made from then on can await Deferreds, unless the loop has a task
    factory of its own; in those that were made before, the one that calls this included, there is `as_future`.

    Args:
        reactor: Default: the process's reactor; if there is none yet, one is installed: on the loop that runs here, or
            Twisted's default one.

    Returns:
        The loop of *reactor*: a new one, or the one that it has. An ``AsyncioSelectorReactor`` has the loop that it
        was made for; that one is returned, and *reactor* is started if that loop runs already.

    Raises:
        TypeError: *reactor* cannot watch file descriptors.
        RuntimeError: This is another thread than the reactor's, a loop of others runs here that *reactor* does not
            stand on, or *reactor* was stopped.

    Context:
        The reactor's thread. May be called before or after the reactor has started, and more than once.
    """
    running = asyncio.events._get_running_loop()
    if reactor is not None and getattr(running, "reactor", None) is reactor:
        return cast("ReactorEventLoop", running)  # of a private reactor, which is nobody's I/O thread
    if reactor is None:
        reactor = _reactors.installed_reactor()
        if reactor is None and running is not None and not isinstance(running, ReactorEventLoop):
            from ._hosted_reactor import put_reactor_on  # 1 ms, for programs on a loop of others only

            reactor = put_reactor_on(running)
        elif reactor is None:
            reactor = _process_reactor()
    host: asyncio.AbstractEventLoop | None = _reactors.host_loop(reactor)
    if host is not None:
        from ._asyncio_reactor import use_host  # as above

        use_host(reactor, host)
        return host
    if reactor.running and not threadable.isInIOThread():
        raise RuntimeError(
            f"txasync.install() was called in another thread than the one in which {reactor!r} runs: "
            f"use reactor.callFromThread(txasync.install)"
        )
    _check_that_no_other_loop_runs(reactor, running)
    loop = _loops.loop_of(reactor)
    if loop is None:
        loop = _new_loop_on(reactor)
        loop.close_with_reactor()
    return loop


def new_event_loop(reactor: Any = None, private: bool = False) -> ReactorEventLoop:
    """
    Make a loop that runs a reactor when it is run: a ``loop_factory`` for ``asyncio.run`` or ``asyncio.Runner``.

    Args:
        reactor: The reactor to run. Default: the process's (Twisted's default one, if none is installed) in the thread
            that may run it, and a reactor of the loop's own in any other thread.
        private: Use a reactor of the loop's own, which `ReactorEventLoop.close` disposes of.
            ``twisted.internet.reactor`` does not run then.

    Raises:
        TypeError: *reactor* cannot watch file descriptors, runs on asyncio itself, or was given as well as *private*.
        RuntimeError: *reactor* has a loop that is not closed, is running already, or was stopped.

    Context:
        Any thread; the loop belongs to the thread that runs it.
    """
    if private:
        if reactor is not None:
            raise TypeError(f"private=True makes a reactor for the loop alone; leave out reactor={reactor!r}")
        return new_private_loop()
    if reactor is None:
        if not _reactors.may_use_installed_reactor():
            return new_private_loop()
        reactor = _process_reactor()
    loop = _loops.loop_of(reactor)
    if loop is not None:
        raise RuntimeError(
            f"{reactor!r} has a loop already, {loop!r}: close that first, use it (txasync.get_event_loop()), "
            f"or give the second loop a reactor of its own: txasync.new_event_loop(private=True)"
        )
    if reactor.running:
        raise RuntimeError(
            f"{reactor!r} is running already, so a new loop cannot run it: txasync.install() gives you a loop that "
            f"runs with it; for a loop to be run in another thread, use txasync.new_event_loop(private=True)"
        )
    return _new_loop_on(reactor)


def get_event_loop(reactor: Any = None) -> asyncio.AbstractEventLoop:
    """
    Return the loop that *reactor* has.

    Args:
        reactor: Default: that of the running loop, if it is one of ours, else the process's.

    Raises:
        RuntimeError: There is none. Nothing is installed or created.

    Context:
        Any thread; but only the reactor's may call the loop's methods, except ``call_soon_threadsafe``.
    """
    if reactor is None:
        running = asyncio.events._get_running_loop()
        if isinstance(running, ReactorEventLoop):
            return running
        reactor = _reactors.installed_reactor()
        if reactor is None:
            raise RuntimeError("no reactor is installed, so there is no loop yet: call txasync.install()")
    loop: asyncio.AbstractEventLoop | None = _loops.any_loop_of(reactor)
    if loop is None:
        raise RuntimeError(f"{reactor!r} has no asyncio loop: call txasync.install()")
    return loop


def run(main: Coroutine[Any, Any, _T], *, debug: bool | None = None, reactor: Any = None) -> _T:
    """
    Run *main* on a reactor: ``asyncio.run`` with our loop, on every Python version.

    Args:
        main: A coroutine.
        debug: Whether asyncio's debug mode is on. Default: as ``PYTHONASYNCIODEBUG`` or ``-X dev`` says.
        reactor: As for `new_event_loop`.

    Returns:
        What *main* returns.

    Raises:
        ValueError: *main* is not a coroutine (up to Python 3.13; later, a TypeError if it cannot be awaited).
        RuntimeError: A loop or the reactor runs in this thread already; or ``reactor.stop()`` ended the run.
        KeyboardInterrupt: Ctrl-C was pressed; *main* has been cancelled.

    Context:
        A thread in which no loop runs. May be called any number of times.

    Source:
        asyncio, "Runners".
    """
    try:
        _check_that_nothing_runs()
        loop = new_event_loop(reactor)
    except BaseException:
        if asyncio.iscoroutine(main):
            main.close()  # it will never be awaited; the error says enough
        raise
    if sys.version_info >= (3, 11):
        with asyncio.Runner(debug=debug, loop_factory=lambda: loop) as runner:
            return runner.run(main)
    return _run_3_10(main, debug, loop)


def _check_that_no_other_loop_runs(reactor: Any, running: asyncio.AbstractEventLoop | None) -> None:
    if reactor.running or running is None or isinstance(running, ReactorEventLoop) or _reactors.is_fake(reactor):
        return
    raise RuntimeError(
        f"{reactor!r} is installed as the process's reactor and does not run, and cannot run in this thread, as "
        f"{running!r} runs here: call txasync.install() before anything imports twisted.internet.reactor (in a "
        f"notebook: restart the kernel, and do it in the first cell), or start the program with txasync.run()"
    )


def _check_that_nothing_runs() -> None:
    running = asyncio.events._get_running_loop()
    # A loop whose reactor was crashed only seems to run; it has not been told.
    if running is not None and not (isinstance(running, ReactorEventLoop) and not running.reactor.running):
        raise RuntimeError(
            f"txasync.run() cannot be called while {running!r} runs in this thread: "
            f"await the coroutine, or start it with asyncio.create_task()"
        )


def _run_3_10(main: Coroutine[Any, Any, _T], debug: bool | None, loop: ReactorEventLoop) -> _T:
    """``asyncio.run`` of 3.10, which takes no loop factory."""
    try:
        if not asyncio.iscoroutine(main):
            raise ValueError(f"a coroutine was expected, got {main!r}")
        asyncio.set_event_loop(loop)
        if debug is not None:
            loop.set_debug(debug)
        result: _T = loop.run_until_complete(main)
        return result
    finally:
        try:
            end_and_close(loop)
        finally:
            asyncio.set_event_loop(None)


def _process_reactor() -> Any:
    """The process's reactor; Twisted's default one is installed if there is none."""
    reactor = _reactors.installed_reactor()
    if reactor is not None:
        return reactor
    running = asyncio.events._get_running_loop()
    if running is not None:
        remedy = (
            "use txasync.install(txasync.get_event_loop().reactor) for the loop of its private reactor"
            if isinstance(running, ReactorEventLoop)
            else "call txasync.install(), which puts a reactor on that loop"
        )
        raise RuntimeError(
            f"{running!r} runs here and no reactor is installed, and Twisted's default one could never run in this "
            f"thread: {remedy}; or start the program with txasync.run()"
        )
    from twisted.internet import reactor  # the import installs it

    return reactor


def _new_loop_on(reactor: Any) -> ReactorEventLoop:
    if _reactors.was_stopped(reactor):
        raise RuntimeError(
            f"{reactor!r} was stopped by reactor.stop(), which is for ever, so no new loop can run on it: "
            f"use txasync.new_event_loop(private=True), or let the reactor run for as long as you need it"
        )
    loop = ReactorEventLoop(reactor)
    _loops.remember(loop, reactor)
    return loop
