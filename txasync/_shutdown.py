"""The end of a loop whose reactor stops: tasks, asynchronous generators, the executor, servers, transports."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loop import ReactorEventLoop

__all__ = ["OpenTransports", "cancel_tasks", "end_and_close", "shut_down"]


class OpenTransports:
    """
    The transports of a loop, as long as they are alive, in the order in which they are to be closed.

    Args:
        tls: Called, returns those of TLS, which say goodbye through the ones below them.
        sockets: Called, returns those of sockets.

    Attributes:
        tls: As given.
        others: Those of pipes and processes.
        sockets: As given.
    """

    def __init__(
        self,
        tls: Callable[[], Iterable[asyncio.BaseTransport]],
        sockets: Callable[[], Iterable[asyncio.BaseTransport]],
    ) -> None:
        self.tls = tls
        self.others: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()
        self.sockets = sockets


async def shut_down(
    loop: ReactorEventLoop,
    timeout_s: float,
    servers: Iterable[asyncio.AbstractServer],
    open_: OpenTransports,
) -> None:
    """
    End what is in flight on *loop*, each step within what is left of *timeout_s* seconds.

    What does not end in time, or fails, is told to the loop's exception handler by name.

    Args:
        loop: The running loop.
        timeout_s: The bound for everything together.
        servers: Closed first, so that nothing new comes in.
        open_: The transports that are open, to be closed last; what they hold unsent by the end of the time is dropped.

    Context:
        As a task of *loop*.
    """
    deadline = loop.time() + timeout_s

    def left() -> float:
        return max(0.0, deadline - loop.time())

    for server in list(servers):
        server.close()
    await cancel_tasks(loop, left)
    await _finish(loop, loop.shutdown_asyncgens(), left(), "asynchronous generators")
    await _shut_down_executor(loop, left())
    await _close_transports(loop, open_, left)


async def cancel_tasks(loop: asyncio.AbstractEventLoop, left: Callable[[], float | None]) -> None:
    """
    Cancel all tasks of *loop* but the current one, and wait until they are done.

    Args:
        loop: The running loop.
        left: How many seconds are left to wait, during which those that are started meanwhile are cancelled, too. None:
            for ever, but only for the tasks that there are now, as ``asyncio.run`` does.
    """
    cancelled: set[asyncio.Task[Any]] = set()
    current = asyncio.current_task(loop)
    while tasks := asyncio.all_tasks(loop) - cancelled - {current}:
        for task in tasks:
            task.cancel()
        cancelled |= tasks
        _, late = await asyncio.wait(tasks, timeout=left())
        for task in tasks:
            _report(loop, task, late)
        if not left():
            break


def end_and_close(loop: asyncio.AbstractEventLoop) -> None:
    """Do what ``asyncio.run`` does at its end: with tasks, asynchronous generators, the executor, and *loop* itself."""
    try:
        loop.run_until_complete(cancel_tasks(loop, lambda: None))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def _report(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any], late: set[asyncio.Task[Any]]) -> None:
    if task in late:
        message = "task did not end in time after it was cancelled at shutdown"
        loop.call_exception_handler({"message": message, "task": task})
    elif not task.cancelled() and (error := task.exception()) is not None:
        message = "unhandled exception while tasks were cancelled at shutdown"
        loop.call_exception_handler({"message": message, "exception": error, "task": task})


async def _finish(loop: asyncio.AbstractEventLoop, ending: Any, timeout_s: float, what: str) -> None:
    task = asyncio.ensure_future(ending, loop=loop)
    if (await asyncio.wait([task], timeout=timeout_s))[1]:
        task.cancel()
        loop.call_exception_handler({"message": f"{what} did not end in time at shutdown"})


async def _shut_down_executor(loop: ReactorEventLoop, timeout_s: float) -> None:
    # shutdown_default_executor() has a timeout from 3.12 on, and keeps to it in later releases of that only.
    executor = loop._default_executor
    loop._executor_shutdown_called = True
    if executor is None:
        return
    done = loop.create_future()

    def set_done() -> None:
        if not done.done():
            done.set_result(None)

    def wait() -> None:
        executor.shutdown(wait=True)
        if not loop.is_closed():
            loop.call_soon_threadsafe(set_done)

    threading.Thread(target=wait, name="asyncio executor shutdown", daemon=True).start()
    if (await asyncio.wait([done], timeout=timeout_s))[1]:
        done.cancel()
        loop.call_exception_handler({"message": "threads of the default executor did not end in time at shutdown"})


async def _close_transports(loop: asyncio.AbstractEventLoop, open_: OpenTransports, left: Callable[[], float]) -> None:
    await _close(open_.tls(), left)
    closing = await _close([*open_.others, *open_.sockets()], left)
    for transport in closing:
        if _unsent(transport):
            transport.abort()
    # connection_lost() is called in a later turn, and a process's after those of its pipes.
    for _ in range(4):
        await asyncio.sleep(0)


async def _close(transports: Iterable[Any], left: Callable[[], float]) -> list[Any]:
    """Close *transports*, and wait until they hold nothing any more."""
    closing = list(transports)
    for transport in closing:
        if not transport.is_closing():
            transport.close()
    while any(map(_is_busy, closing)) and left():
        await asyncio.sleep(min(0.01, left()))
    return closing


def _is_busy(transport: Any) -> bool:
    """Whether *transport*, which is closing, has unsent bytes or a child that was killed and is not reaped yet."""
    if isinstance(transport, asyncio.SubprocessTransport):
        return transport.get_returncode() is None
    return _unsent(transport) > 0


def _unsent(transport: Any) -> int:
    """How many bytes *transport* holds that its peer has not taken; 0 if it does not write."""
    size = getattr(transport, "get_write_buffer_size", None)
    return 0 if size is None else int(size())
