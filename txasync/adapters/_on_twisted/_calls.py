"""How a protocol of asyncio's is called from wherever Twisted calls."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

__all__ = ["ProtocolCalls"]


class ProtocolCalls:
    """
    The calls of one protocol.

    Args:
        loop: The loop that the protocol belongs to.
        context: The context in which it is called.

    Attributes:
        entered: Whether it is being called. Who calls for each message sets this, and goes by `enter`: `run` would cost
            as much as the rest of an adapter.
        enter: Calls in the context, while it is not being called.
    """

    __slots__ = ("_loop", "enter", "entered")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self._loop = loop
        self.enter = context.run
        self.entered = False

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call *function* in the context: it is, or calls, a method of the protocol's."""
        if self.entered:  # Twisted has called back from within such a call
            return function(*args)
        self.entered = True
        try:
            return self.enter(function, *args)
        finally:
            self.entered = False

    def leave(self, error: BaseException) -> None:
        """
        End the loop's run with *error*, a SystemExit or KeyboardInterrupt of the protocol's.

        Twisted's reactors would log it and go on; the loop knows what to do.
        """
        self._loop.call_soon(_raise, error)


def _raise(error: BaseException) -> None:
    raise error
