"""A loop with a reactor of its own."""

from __future__ import annotations

from . import _loops, _reactors
from .loop import ReactorEventLoop

__all__ = ["new_private_loop"]


def new_private_loop(kind: str | None = None) -> ReactorEventLoop:
    """
    Make a loop that owns its reactor, and disposes of it when it is closed.

    Args:
        kind: As for `_reactors.new_private_reactor`.

    Raises:
        ValueError: There is no such reactor here.
    """
    reactor = _reactors.new_private_reactor(kind)
    try:
        loop = ReactorEventLoop(reactor, owns_reactor=True)
    except BaseException:
        _reactors.dispose_private_reactor(reactor)
        raise
    _loops.remember(loop, reactor)
    return loop
