"""Which loop each reactor has."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from . import _reactors

__all__ = ["any_loop_of", "loop_of", "open_loops", "remember"]

# The values are weak: a loop holds its reactor, which would keep the entry for ever.
_loops: weakref.WeakKeyDictionary[Any, weakref.ref[asyncio.AbstractEventLoop]] = weakref.WeakKeyDictionary()


def remember(loop: asyncio.AbstractEventLoop, reactor: Any) -> None:
    """*loop* is the one of *reactor*, until it is closed."""
    _loops[reactor] = weakref.ref(loop)


def loop_of(reactor: Any) -> Any | None:
    """The loop of ours that *reactor* has, if that is not closed."""
    reference = _loops.get(reactor)
    loop = None if reference is None else reference()
    return None if loop is None or loop.is_closed() else loop


def any_loop_of(reactor: Any) -> Any | None:
    """The loop of ours that *reactor* has, or the one that it stands on, if that is not closed."""
    host = _reactors.host_loop(reactor)
    if host is None:
        return loop_of(reactor)
    return None if host.is_closed() else host


def open_loops() -> list[asyncio.AbstractEventLoop]:
    """The loops of ours that are not closed."""
    loops = [reference() for reference in list(_loops.values())]
    return [loop for loop in loops if loop is not None and not loop.is_closed()]
