"""asyncio's event loop with our way of being woken, and of calling threads. A subclass decides what drives it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ._address_literals import addresses_of_literal
from ._callbacks import CallbackLoop
from ._executor_futures import future_of
from ._handles import Handle
from ._wakeup import Wakeup
from .polling import Poller

if TYPE_CHECKING:
    from contextvars import Context

    from typing_extensions import TypeVarTuple, Unpack

    _Ts = TypeVarTuple("_Ts")

__all__ = ["ThreadsafeLoop"]

_T = TypeVar("_T")

if sys.version_info >= (3, 14):
    _events: Any = asyncio.events

    class _ThreadsafeHandle(Handle, _events._ThreadSafeHandle):  # type: ignore[misc]  # unknown to type checkers
        """A handle that any thread may cancel: if that comes too late, the thread waits for the callback's end."""

        __slots__ = ()

        def __init__(
            self, callback: Any, args: tuple[Any, ...], loop: asyncio.AbstractEventLoop, context: Context | None
        ) -> None:
            Handle.__init__(self, callback, args, loop, context)
            self._lock = _RLock()

        def _run(self) -> None:
            with self._lock:
                if not self._cancelled:
                    Handle._run(self)

    # threading.RLock() is a function round it.
    _RLock = type(threading.RLock())
else:
    _ThreadsafeHandle = Handle


class ThreadsafeLoop(CallbackLoop):
    """
    An event loop that other threads wake by a `Wakeup`, and which does without a thread where it can.

    In debug mode, calls from threads and of executors are asyncio's own.
    """

    _poller: Poller
    """What watches the wake-up. The subclass sets it before ``__init__`` is called here."""

    # What asyncio has a pair of sockets for

    def _make_self_pipe(self) -> None:
        self._wakeup = Wakeup(self._poller)

    def _close_self_pipe(self) -> None:
        self._wakeup.close()

    def _write_to_self(self) -> None:
        self._wakeup.wake()

    # From threads, and to threads

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[_Ts]], object], *args: Unpack[_Ts], context: Context | None = None
    ) -> asyncio.Handle:
        """
        Run *callback* in the next round, and wake the loop for it.

        Context:
            Any thread, and any signal handler.

        Source:
            asyncio, "Event Loop", "Scheduling callbacks".
        """
        handle: asyncio.Handle
        if self._debug or self._closed:
            handle = super().call_soon_threadsafe(callback, *args, context=context)
            self._forget_own_frame(handle)
            return handle
        handle = _ThreadsafeHandle(callback, args, self, context)
        self._ready.append(handle)
        wakeup = self._wakeup
        if not wakeup.pending:
            wakeup.wake()
        return handle

    def run_in_executor(
        self, executor: Any, func: Callable[[Unpack[_Ts]], _T], *args: Unpack[_Ts]
    ) -> asyncio.Future[_T]:
        """
        Run *func* in *executor*, or in the default executor if that is None.

        Cancellation:
            *func* is not called if it has not begun; else it goes on, and its result is dropped.

        Source:
            asyncio, "Event Loop", "Executing code in thread or process pools".
        """
        chosen = self._default_executor if executor is None and not self._executor_shutdown_called else executor
        if chosen is None or self._debug or self._closed:
            # There is no executor yet, or something to check.
            return super().run_in_executor(executor, func, *args)
        future = chosen.submit(func, *args)
        if isinstance(future, concurrent.futures.Future):
            return future_of(future, self, self._run_soon_from_thread)
        return asyncio.wrap_future(future, loop=self)

    def _run_soon_from_thread(self, callback: Callable[..., object], *args: Any) -> None:
        """What `call_soon_threadsafe` does, for a callback that nobody will cancel; nothing once the loop is closed."""
        if not self._closed:
            self._ready.append(Handle(callback, args, self, None))
            self._wakeup.wake()

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        """
        Resolve *host* and *port* in a thread; at once if they are an address and a number.

        Source:
            asyncio, "Event Loop", "DNS".
        """
        if not (self._debug or self._closed):
            found = addresses_of_literal(host, port, family, type, proto, flags)
            if found is not None:
                return found
        return await super().getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)
