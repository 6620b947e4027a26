"""
The loops of programs that know nothing of reactors, and asyncio's default event loop, replaced by these.

That is done for a whole process, one that `python -m txasync` has to itself. Nothing else in the package does it: a
library asks for a loop of ours by name.
"""

from __future__ import annotations

import asyncio
import asyncio.events
import os
import warnings

from twisted.internet.interfaces import IReactorCore

from . import _reactors
from .running import get_event_loop, new_event_loop

__all__ = ["new_default_loop", "release_threads", "replace_default_loop"]

# Set in a process forked from one that had a reactor.
_reactor_is_the_parents = False


def replace_default_loop() -> None:
    """
    Make ``asyncio.new_event_loop()``, and so ``asyncio.run()`` and ``asyncio.Runner()``, give loops of ours.

    On the Python versions that have event-loop policies, a policy does it: there, ``asyncio.get_event_loop()`` and
    ``asyncio.set_event_loop()`` go on doing what they do on that version.

    Context:
        The main thread of a process that belongs to the caller, once, before the program begins.

    Source:
        asyncio, "Policies"; they warn from Python 3.14 and are to be gone from 3.16.
    """
    os.register_at_fork(after_in_child=_forked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        if hasattr(asyncio, "set_event_loop_policy"):
            _set_policy()
            return
    asyncio.new_event_loop = asyncio.events.new_event_loop = new_default_loop  # type: ignore[unreachable, unused-ignore]


def _set_policy() -> None:
    # Defined here because to name the base class is to be warned.
    class ReactorEventLoopPolicy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self) -> asyncio.AbstractEventLoop:
            return new_default_loop()

    asyncio.set_event_loop_policy(ReactorEventLoopPolicy())


def new_default_loop() -> asyncio.AbstractEventLoop:
    """Make a loop on the process's reactor if that is free, else on a reactor of its own: asyncio allows many loops."""
    return new_event_loop(private=not _process_reactor_is_free())


def release_threads() -> None:
    """
    End the thread pool of the process's reactor, whose idle threads would keep the process from exiting.

    Closing the loop does so; asyncio's programs may leave that out.
    """
    reactor = _reactors.installed_reactor()
    if reactor is not None and not reactor.running:
        _reactors.release_threads(reactor)


def _process_reactor_is_free() -> bool:
    """Whether this thread may begin a run of the process's reactor, which may have to be installed for it."""
    if _reactor_is_the_parents or not _reactors.may_use_installed_reactor():
        return False
    reactor = _reactors.installed_reactor()
    if reactor is None:
        return asyncio.events._get_running_loop() is None
    return not (reactor.running or _reactors.was_stopped(reactor) or _has_open_loop(reactor))


def _has_open_loop(reactor: IReactorCore) -> bool:
    try:
        get_event_loop(reactor)
    except RuntimeError:
        return False
    return True


def _forked() -> None:
    # The child's reactor shares its epoll set with the parent's: what one adds, the other hears of.
    global _reactor_is_the_parents
    _reactor_is_the_parents = _reactors.installed_reactor() is not None
