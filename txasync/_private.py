"""
The private names of asyncio and Twisted that txasync leans on: all of them, why, and where they were checked.

Each is here because no public name does the same. tests/test_private.py fails with a plain message when a version of
CPython or Twisted lacks one, and when the package uses one that is not listed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

__all__ = ["CHECKED_CPYTHON", "CHECKED_TWISTED", "PRIVATE_NAMES", "PrivateName", "SelectorEventLoop", "TimerHandle"]

CHECKED_CPYTHON = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
CHECKED_TWISTED = ("24.7.0", "26.10.0")


class PrivateName(NamedTuple):
    """A private attribute of somebody else's class or module."""

    owner: str
    name: str
    why: str
    until: tuple[int, int] = (3, 99)
    """The last version of CPython that has it."""
    since: tuple[int, int] = (3, 10)
    """The first one."""


_LOOP = "asyncio.SelectorEventLoop"
_REACTOR = "twisted.internet.epollreactor.EPollReactor"
_RUN = "run_forever() is one with its own way of waiting; a reactor's run needs the same set-up around it"
_TEST_CASE = "unittest.IsolatedAsyncioTestCase"
_TEST_LOOP = "where a test case makes its loop, before Python 3.13 has loop_factory for that"
_MADE = "overridden to learn of transports, which are to be closed with the reactor"

PRIVATE_NAMES = (
    PrivateName(_LOOP, "_ready", "the callbacks that are ready: a round of ours runs them"),
    PrivateName(_LOOP, "_scheduled", "the heap of timers: overridden, since ours are kept in another way"),
    PrivateName(_LOOP, "_timer_handle_cancelled", "overridden to count timers that asyncio's handles cancel"),
    PrivateName(_LOOP, "_check_thread", "what asyncio's call_at() checks in debug mode"),
    PrivateName(_LOOP, "_check_callback", "as above"),
    PrivateName(_LOOP, "_task_factory", "looked at for each task: get_task_factory() takes a call"),
    PrivateName("asyncio.Task", "_coro", "what stacks and representations show: the coroutine, not what drives it"),
    PrivateName("asyncio.Future", "_asyncio_future_blocking", "how a Future tells a task that it is awaited"),
    PrivateName("asyncio.Task", "_source_traceback", "debug mode names the caller's frame, not ours"),
    PrivateName(_LOOP, "_clock_resolution", "a timer is due if it is so within the clock's resolution"),
    PrivateName(_LOOP, "_closed", "looked at for each callback: is_closed() takes a call"),
    PrivateName(_LOOP, "_debug", "looked at in each round: get_debug() takes a call"),
    PrivateName(_LOOP, "_current_handle", "in debug mode, errors tell where the handle that runs was created"),
    PrivateName("asyncio.Handle", "_run", "what runs a callback, with asyncio's own report of what it raises"),
    PrivateName("asyncio.Handle", "_cancelled", "looked at for each callback: cancelled() takes a call"),
    PrivateName("asyncio.Handle", "_context", "set by a subclass of ours, and read by asyncio's methods"),
    PrivateName("asyncio.Handle", "_loop", "as above"),
    PrivateName("asyncio.Handle", "_callback", "as above"),
    PrivateName("asyncio.Handle", "_args", "as above"),
    PrivateName("asyncio.Handle", "_repr", "as above"),
    PrivateName("asyncio.format_helpers", "_format_callback_source", "how asyncio shows a callback that failed"),
    PrivateName("asyncio.TimerHandle", "_when", "looked at for each timer: when() takes a call"),
    PrivateName("asyncio.TimerHandle", "_scheduled", "whether a timer that is cancelled is pending"),
    PrivateName(
        "asyncio.base_events", "_format_handle", "how asyncio shows a slow callback: a task's step by its task"
    ),
    PrivateName(_LOOP, "_write_to_self", "wakes the loop from other threads and signal handlers"),
    PrivateName(_LOOP, "_make_self_pipe", "overridden: a descriptor of ours wakes the loop, not a pair of sockets"),
    PrivateName(_LOOP, "_close_self_pipe", "as above"),
    PrivateName("asyncio.events", "_ThreadSafeHandle", "what call_soon_threadsafe() returns", since=(3, 14)),
    PrivateName("asyncio.futures", "_copy_future_state", "how a Future takes what an executor's future has come to"),
    PrivateName("concurrent.futures.Future", "_state", "read when it is done: every public way takes its lock"),
    PrivateName("concurrent.futures.Future", "_exception", "as above"),
    PrivateName("concurrent.futures.Future", "_result", "as above"),
    PrivateName(_LOOP, "_thread_id", _RUN),
    PrivateName(_LOOP, "_check_closed", _RUN),
    PrivateName(_LOOP, "_check_running", _RUN),
    PrivateName(_LOOP, "_check_signal", "the validation of a signal number, with asyncio's own errors"),
    PrivateName(_LOOP, "_set_coroutine_origin_tracking", _RUN),
    PrivateName(_LOOP, "_asyncgen_firstiter_hook", _RUN),
    PrivateName(_LOOP, "_asyncgen_finalizer_hook", _RUN),
    PrivateName(_LOOP, "_default_executor", "shutdown_default_executor() keeps to no timeout before some 3.12.x"),
    PrivateName(_LOOP, "_executor_shutdown_called", "as above"),
    PrivateName(_LOOP, "_start_serving", "overridden: connections are accepted by a listener of ours"),
    PrivateName(_LOOP, "_add_reader", "watches a listening socket, as asyncio does; overridden to know new handles"),
    PrivateName(_LOOP, "_add_writer", "as above"),
    PrivateName(_LOOP, "_remove_reader", "as above"),
    PrivateName(_LOOP, "_ensure_fd_no_transport", "refuses a descriptor that a transport owns"),
    PrivateName(_LOOP, "_create_connection_transport", "overridden to close the socket if the protocol factory fails"),
    PrivateName(_LOOP, "_make_socket_transport", "overridden to make our own"),
    PrivateName(_LOOP, "_make_datagram_transport", "overridden to make our own"),
    PrivateName(_LOOP, "_sendfile_native", "overridden for our transports"),
    PrivateName(_LOOP, "_sendfile_fallback", "overridden for our transports"),
    PrivateName("asyncio.base_events.Server", "_attach", "a server counts its connections"),
    PrivateName("asyncio.base_events.Server", "_detach", "as above"),
    PrivateName("socket.socket", "_accept", "accept() makes two enumeration members anew for each connection"),
    PrivateName("asyncio.DefaultEventLoopPolicy", "_watcher", "the child watcher that was set", until=(3, 13)),
    PrivateName("asyncio.constants", "_SendfileMode", "what loop.sendfile() asks a transport for"),
    PrivateName(
        "asyncio.base_subprocess.BaseSubprocessTransport", "_process_exited", "when wait() returns, per version"
    ),
    PrivateName(_LOOP, "_make_ssl_transport", "overridden to make our own"),
    PrivateName("ssl.SSLContext", "_wrap_socket", "TLS on the socket itself, without the copies of a memory BIO"),
    PrivateName("ssl.SSLObject", "_sslobj", "set for one that stands on a socket; and its methods cost a call less"),
    PrivateName("ssl", "_txt2obj", "OpenSSL's names of what a certificate has, for the dictionary of getpeercert()"),
    PrivateName("OpenSSL.SSL", "_lib", "why OpenSSL refused a certificate: pyOpenSSL does not tell"),
    PrivateName("OpenSSL.SSL", "_ffi", "as above"),
    PrivateName("OpenSSL.SSL.Connection", "_ssl", "as above"),
    PrivateName("twisted.internet", "_sslverify", "for ClientTLSOptions, which optionsForClientTLS() returns"),
    PrivateName("twisted.internet._sslverify.ClientTLSOptions", "_hostnameASCII", "the host that it is to check"),
    PrivateName("asyncio.StreamReaderProtocol", "_stream_reader", "what was read before start_tls() moves over"),
    PrivateName("asyncio.StreamReader", "_buffer", "as above"),
    PrivateName(_LOOP, "_make_read_pipe_transport", _MADE),
    PrivateName(_LOOP, "_make_write_pipe_transport", _MADE),
    PrivateName(_LOOP, "_make_subprocess_transport", _MADE),
    PrivateName("asyncio.TimerHandle", "_source_traceback", "debug mode names the caller's frame, not ours"),
    PrivateName("runpy", "_run_module_as_main", "what python -m itself calls, with its messages and its __main__"),
    PrivateName(_TEST_CASE, "_setupAsyncioRunner", _TEST_LOOP, since=(3, 11), until=(3, 12)),
    PrivateName(_TEST_CASE, "_asyncioRunner", _TEST_LOOP, since=(3, 11), until=(3, 12)),
    PrivateName(_TEST_CASE, "_setupAsyncioLoop", _TEST_LOOP, until=(3, 10)),
    PrivateName(_TEST_CASE, "_asyncioLoopRunner", _TEST_LOOP, until=(3, 10)),
    PrivateName(_TEST_CASE, "_asyncioTestLoop", _TEST_LOOP, until=(3, 10)),
    PrivateName("asyncio.events", "_set_running_loop", "asyncio documents it for event loops, in the module's source"),
    PrivateName("asyncio.events", "_get_running_loop", "as above"),
    PrivateName(_REACTOR, "_addInternalReader", "a reader that survives disconnectAll and that trial does not mind"),
    PrivateName(_REACTOR, "_removeInternalReader", "as above"),
    PrivateName(_REACTOR, "_internalReaders", "what a reactor of our own must give back when its loop is closed"),
    PrivateName(_REACTOR, "_registerAsIOThread", "a reactor of our own must not become the process's I/O thread"),
    PrivateName(_REACTOR, "_startedBefore", "whether the reactor was stopped, so that no loop can run on it"),
    PrivateName(_REACTOR, "_stopThreadPool", "an idle thread pool would keep the process from exiting"),
    PrivateName(_REACTOR, "_started", "when to end the main loop of a reactor that the loop drives"),
    PrivateName(_REACTOR, "_newTimedCalls", "whether a reactor that the loop drives has timed calls"),
    PrivateName(_REACTOR, "_pendingTimedCalls", "as above"),
    PrivateName(_REACTOR, "_justStopped", "whether reactor.stop() waits for its reactor to notice"),
    PrivateName(_REACTOR, "_poller", "the epoll object of a reactor of our own, to be closed with it"),
    PrivateName(_REACTOR, "_selectables", "whose a descriptor is that the shared epoll object has found ready"),
    PrivateName(_REACTOR, "_reads", "what our reactor watches; corrected when the number has another owner"),
    PrivateName(_REACTOR, "_writes", "as above"),
    PrivateName(_REACTOR, "_doReadOrWrite", "what a reactor does with a descriptor that is ready: ours does the same"),
    PrivateName(_REACTOR, "_disconnectSelectable", "as above, after an exception"),
    PrivateName("twisted.internet.defer.DeferredList", "_deferredList", "the end of users' before-shutdown triggers"),
    PrivateName("twisted.internet.asyncioreactor.AsyncioSelectorReactor", "_asyncioEventloop", "that reactor's loop"),
    PrivateName(
        "twisted.logger.globalLogBeginner", "_temporaryObserver", "whether a log has been begun; twice is wrong"
    ),
)


if TYPE_CHECKING:
    import concurrent.futures
    from collections import deque
    from collections.abc import AsyncGenerator

    class TimerHandle(asyncio.TimerHandle):
        """asyncio's own, with types for the names above."""

        _when: float
        _scheduled: bool

    class SelectorEventLoop(asyncio.SelectorEventLoop):
        """asyncio's own, with types for the names above."""

        _ready: deque[Any]
        _task_factory: Any

        @property
        def _scheduled(self) -> list[TimerHandle]: ...
        @_scheduled.setter
        def _scheduled(self, timers: list[TimerHandle]) -> None: ...

        _clock_resolution: float
        _current_handle: asyncio.Handle | None
        _debug: bool
        _closed: bool
        slow_callback_duration: float
        _thread_id: int | None
        _default_executor: concurrent.futures.Executor | None
        _executor_shutdown_called: bool

        def _make_self_pipe(self) -> None: ...
        def _close_self_pipe(self) -> None: ...
        def _write_to_self(self) -> None: ...
        def _add_reader(self, *args: Any, **kwargs: Any) -> asyncio.Handle: ...
        def _add_writer(self, *args: Any, **kwargs: Any) -> asyncio.Handle: ...
        def _remove_reader(self, fd: int) -> bool: ...
        def _ensure_fd_no_transport(self, fd: Any) -> None: ...
        async def _create_connection_transport(self, *args: Any, **kwargs: Any) -> Any: ...
        def _make_socket_transport(self, *args: Any, **kwargs: Any) -> asyncio.Transport: ...
        def _make_datagram_transport(self, *args: Any, **kwargs: Any) -> asyncio.DatagramTransport: ...
        async def _sendfile_native(self, *args: Any, **kwargs: Any) -> int: ...
        async def _sendfile_fallback(self, *args: Any, **kwargs: Any) -> int: ...
        def _check_closed(self) -> None: ...
        def _check_thread(self) -> None: ...
        def _check_callback(self, callback: Any, method: str) -> None: ...
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
    TimerHandle = asyncio.TimerHandle
