"""Callbacks in the loop's queue, and timers: asyncio's, at what they cost where nothing is to be debugged."""

from __future__ import annotations

import asyncio
import asyncio.format_helpers
import contextvars
from collections.abc import Callable
from typing import Any, ClassVar

from . import _private

__all__ = ["Handle", "TimerHandle"]

format_helpers: Any = asyncio.format_helpers


class Handle(asyncio.Handle):
    """
    A callback to run in the next round.

    It holds what asyncio's does, without asking the loop whether it is in debug mode, and runs the callback without
    unpacking arguments where there are none, or one, as of tasks.

    Args:
        callback: What to run.
        args: Its arguments.
        loop: The loop, which is not in debug mode.
        context: The context to run it in. Default: a copy of the current one.
    """

    __slots__ = ()

    _callback: Callable[..., object]
    _args: tuple[Any, ...]

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None

    def _run(self) -> None:
        args = self._args
        try:
            if not args:
                self._context.run(self._callback)
            elif len(args) == 1:
                self._context.run(self._callback, args[0])
            else:
                self._context.run(self._callback, *args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.tell_of(error)
        # The traceback of an exception holds this frame.
        del self, args

    def tell_of(self, error: BaseException) -> None:
        """Tell the loop's exception handler of what the callback has raised."""
        what = format_helpers._format_callback_source(self._callback, self._args)
        self._loop.call_exception_handler(
            {"message": f"Exception in callback {what}", "exception": error, "handle": self}
        )


class TimerHandle(_private.TimerHandle):
    """
    A callback to run at a time.

    `txasync._timers.Timers` makes them, while the loop is not in debug mode.
    """

    __slots__ = ()

    _context: contextvars.Context
    _loop: Any
    _callback: Any
    _args: Any
    _repr: str | None
    _source_traceback: None

    # The same as of a handle that is no timer.
    _run: ClassVar[Callable[[TimerHandle], None]] = Handle._run  # type: ignore[assignment]
    tell_of: ClassVar[Callable[[TimerHandle, BaseException], None]] = Handle.tell_of  # type: ignore[assignment]

    def cancel(self) -> None:
        if self._cancelled:
            return
        if self._loop._debug:
            # It is in debug mode by now, and asyncio's own keeps what describes it.
            super().cancel()
            return
        self._cancelled = True
        self._callback = self._args = None
        if self._scheduled:
            self._loop._timers.cancelled += 1
