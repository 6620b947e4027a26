"""
The private names of asyncio and Twisted that txasync leans on: all of them, why, and where they were checked.

Each is here because no public name does the same. tests/test_private.py fails with a plain message when a version of
CPython or Twisted lacks one, and when the package uses one that is not listed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

__all__ = ["CHECKED_CPYTHON", "CHECKED_TWISTED", "PRIVATE_NAMES", "PrivateName", "SelectorEventLoop"]

CHECKED_CPYTHON = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
CHECKED_TWISTED = ("24.7.0", "26.10.0")


class PrivateName(NamedTuple):
    """A private attribute of somebody else's class or module."""

    owner: str
    name: str
    why: str


_LOOP = "asyncio.SelectorEventLoop"
_REACTOR = "twisted.internet.epollreactor.EPollReactor"
_RUN = "run_forever() is one with its own way of waiting; a reactor's run needs the same set-up around it"
_MADE = "overridden to learn of transports, which are to be closed with the reactor"

PRIVATE_NAMES = (
    PrivateName(_LOOP, "_run_once", "one iteration: selector, timers, ready callbacks, debug mode, per version"),
    PrivateName(_LOOP, "_ready", "whether a callback is ready, so that the reactor must come back at once"),
    PrivateName(_LOOP, "_scheduled", "when the first timer is due, so that the reactor wakes for it"),
    PrivateName(_LOOP, "_stopping", "whether stop() was called"),
    PrivateName(_LOOP, "_write_to_self", "wakes the loop from other threads and signal handlers"),
    PrivateName(_LOOP, "_ssock", "kept alive until the loop is closed, whatever order the collector goes in"),
    PrivateName(_LOOP, "_csock", "as above"),
    PrivateName(_LOOP, "_transports", "the socket transports that are still open when the reactor shuts down"),
    PrivateName(_LOOP, "_thread_id", _RUN),
    PrivateName(_LOOP, "_check_closed", _RUN),
    PrivateName(_LOOP, "_check_running", _RUN),
    PrivateName(_LOOP, "_check_signal", "the validation of a signal number, with asyncio's own errors"),
    PrivateName(_LOOP, "_set_coroutine_origin_tracking", _RUN),
    PrivateName(_LOOP, "_asyncgen_firstiter_hook", _RUN),
    PrivateName(_LOOP, "_asyncgen_finalizer_hook", _RUN),
    PrivateName(_LOOP, "_default_executor", "shutdown_default_executor() keeps to no timeout before some 3.12.x"),
    PrivateName(_LOOP, "_executor_shutdown_called", "as above"),
    PrivateName(_LOOP, "_start_serving", "overridden to learn of servers, which are to be closed with the reactor"),
    PrivateName(_LOOP, "_make_ssl_transport", _MADE),
    PrivateName(_LOOP, "_make_read_pipe_transport", _MADE),
    PrivateName(_LOOP, "_make_write_pipe_transport", _MADE),
    PrivateName(_LOOP, "_make_subprocess_transport", _MADE),
    PrivateName("asyncio.TimerHandle", "_source_traceback", "debug mode names the caller's frame, not ours"),
    PrivateName("runpy", "_run_module_as_main", "what python -m itself calls, with its messages and its __main__"),
    PrivateName("asyncio.events", "_set_running_loop", "asyncio documents it for event loops, in the module's source"),
    PrivateName("asyncio.events", "_get_running_loop", "as above"),
    PrivateName(_REACTOR, "_addInternalReader", "a reader that survives disconnectAll and that trial does not mind"),
    PrivateName(_REACTOR, "_removeInternalReader", "as above"),
    PrivateName(_REACTOR, "_internalReaders", "what a reactor of our own must give back when its loop is closed"),
    PrivateName(_REACTOR, "_registerAsIOThread", "a reactor of our own must not become the process's I/O thread"),
    PrivateName(_REACTOR, "_startedBefore", "whether the reactor was stopped, so that no loop can run on it"),
    PrivateName(_REACTOR, "_stopThreadPool", "an idle thread pool would keep the process from exiting"),
    PrivateName(_REACTOR, "_poller", "the epoll object of a reactor of our own, to be closed with it"),
    PrivateName("twisted.internet.defer.DeferredList", "_deferredList", "the end of users' before-shutdown triggers"),
    PrivateName("twisted.internet.asyncioreactor.AsyncioSelectorReactor", "_asyncioEventloop", "that reactor's loop"),
)


if TYPE_CHECKING:
    import concurrent.futures
    import socket
    import weakref
    from collections import deque
    from collections.abc import AsyncGenerator

    class SelectorEventLoop(asyncio.SelectorEventLoop):
        """asyncio's own, with types for the names above."""

        _ready: deque[asyncio.Handle]
        _scheduled: list[asyncio.TimerHandle]
        _stopping: bool
        _ssock: socket.socket
        _csock: socket.socket
        _thread_id: int | None
        _transports: weakref.WeakValueDictionary[int, asyncio.Transport]
        _default_executor: concurrent.futures.Executor | None
        _executor_shutdown_called: bool

        def _run_once(self) -> None: ...
        def _write_to_self(self) -> None: ...
        def _check_closed(self) -> None: ...
        def _check_running(self) -> None: ...
        def _check_signal(self, sig: int) -> None: ...
        def _set_coroutine_origin_tracking(self, enabled: bool) -> None: ...
        def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any, Any]) -> None: ...
        def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None: ...
        def _start_serving(self, *args: Any, **kwargs: Any) -> None: ...
        def _make_ssl_transport(self, *args: Any, **kwargs: Any) -> asyncio.Transport: ...
        def _make_read_pipe_transport(self, *args: Any, **kwargs: Any) -> asyncio.ReadTransport: ...
        def _make_write_pipe_transport(self, *args: Any, **kwargs: Any) -> asyncio.WriteTransport: ...
        async def _make_subprocess_transport(self, *args: Any, **kwargs: Any) -> asyncio.SubprocessTransport: ...
else:
    SelectorEventLoop = asyncio.SelectorEventLoop
