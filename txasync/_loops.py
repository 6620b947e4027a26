"""Which loop each reactor has."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

from . import _reactors

__all__ = ["any_loop_of", "loop_of", "remember"]

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
    """The loop of ours that *reactor* has, or the one that it stands on."""
    return _reactors.host_loop(reactor) or loop_of(reactor)
