"""Loops for tests: loop factories for test runners that take one, and what the pytest plug-in's fixtures give."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from .. import _reactors
from .._default_loop import new_default_loop
from .._private_loop import new_private_loop
from .._shutdown import end_and_close
from ..loop import ReactorEventLoop
from ..running import new_event_loop

__all__ = ["loop_factory", "loop_factory_on", "loop_on", "private_reactor", "process_reactor"]


def loop_factory() -> asyncio.AbstractEventLoop:
    """
    Make a loop for a test: a loop factory for pytest-asyncio, AnyIO's plug-in, unittest and ``asyncio.Runner``.

    Its reactor is the process's, Twisted's default one if none is installed, so that a test may use whatever imports
    ``twisted.internet.reactor``. One loop after the other has it. While it has a loop that is not closed - loops of a
    module or a session overlap with those of functions - or if it was stopped, or in another thread than the main one,
    the new loop has a reactor of its own.

    Context:
        Any thread; the loop belongs to the thread that runs it.

    Source:
        asyncio, "Runners", *loop_factory*.
    """
    return new_default_loop()


def loop_factory_on(kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """
    Return a loop factory whose loops each have a reactor of their own, of one kind: to run tests on several reactors.

    ``twisted.internet.reactor`` does not run on such a loop.

    Args:
        kind: ``"txasync"``, ``"epoll"``, ``"poll"`` or ``"select"``.

    Raises:
        ValueError: There is no such reactor here.

    Context:
        Any thread.

    Source:
        asyncio, "Runners", *loop_factory*.
    """
    _reactors.check_private_kind(kind)
    return partial(new_private_loop, kind)


def process_reactor() -> Any:
    """The process's reactor; Twisted's default one is installed if there is none."""
    from twisted.internet import reactor

    return reactor


@contextlib.contextmanager
def private_reactor(kind: str) -> Iterator[Any]:
    """A reactor of the *kind*, disposed of at the end of the ``with`` block."""
    reactor = _reactors.new_private_reactor(kind)
    try:
        yield reactor
    finally:
        _reactors.release_threads(reactor)
        _reactors.dispose_private_reactor(reactor)


@contextlib.contextmanager
def loop_on(reactor: Any) -> Iterator[ReactorEventLoop]:
    """A new loop on *reactor*; at the end of the ``with`` block what is left in it is ended, and it is closed."""
    loop = new_event_loop(reactor)
    try:
        yield loop
    finally:
        if not loop.is_closed():
            end_and_close(loop)
