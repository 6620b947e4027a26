"""What asyncio's tasks have the loop call, for which it makes no handle."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from typing import Any

import pytest

from txasync._task_callbacks import WAKEUP_NAME, TaskStep, WakeupType
from txasync.loop import ReactorEventLoop

CALLER: contextvars.ContextVar[str] = contextvars.ContextVar("CALLER")


def queued(loop: Any) -> list[Any]:
    """What the loop has in its queue."""
    return list(loop._ready)


async def waiting(future: asyncio.Future[int]) -> int:
    return await future


def test_this_python_has_them(loop: ReactorEventLoop) -> None:
    """Without them nothing is wrong, but each turn of a task costs a handle more: a new version is told plainly."""

    async def main() -> None:
        future = loop.create_future()
        task = asyncio.create_task(waiting(future))
        (step,) = (entry for entry in queued(loop) if type(entry) is tuple)
        assert type(step[1]) is TaskStep, f"tasks have the loop call {step[1]!r}"
        await asyncio.sleep(0)
        wakeup = future._callbacks[0][0]
        assert type(wakeup) is WakeupType and wakeup.__name__ == WAKEUP_NAME, f"Futures call {wakeup!r}"
        future.set_result(1)
        assert await task == 1

    loop.run_until_complete(main())


def test_a_task_that_wakes_up_makes_no_handle(loop: ReactorEventLoop) -> None:
    """It has its context, its Future, and its place in the queue."""
    order: list[Any] = []

    async def main() -> None:
        future: asyncio.Future[int] = loop.create_future()

        async def wait() -> None:
            CALLER.set("the task")
            order.append(await future)
            order.append(CALLER.get())

        CALLER.set("main")
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        loop.call_soon(order.append, "before")
        future.set_result(1)
        loop.call_soon(order.append, "after")
        assert [type(entry) is tuple for entry in queued(loop)] == [False, True, False]
        await task
        assert order == ["before", 1, "the task", "after"]

    loop.run_until_complete(main())


@pytest.mark.parametrize("end", [ValueError("wrong"), asyncio.CancelledError("enough")])
def test_what_a_future_ends_with_reaches_the_task(loop: ReactorEventLoop, end: BaseException) -> None:
    """An error, or a cancellation."""

    async def main() -> None:
        future: asyncio.Future[int] = loop.create_future()
        task = asyncio.create_task(waiting(future))
        await asyncio.sleep(0)
        if isinstance(end, asyncio.CancelledError):
            future.cancel(*end.args)
        else:
            future.set_exception(end)
        with pytest.raises(type(end)):
            await task

    loop.run_until_complete(main())


def test_a_system_exit_in_a_woken_task_leaves_the_run(loop: ReactorEventLoop) -> None:
    """As from any other callback."""
    future: asyncio.Future[int] = loop.create_future()

    async def leave() -> None:
        await future
        raise SystemExit(3)

    task = loop.create_task(leave())
    loop.call_soon(future.set_result, 1)
    with pytest.raises(SystemExit):
        loop.run_until_complete(asyncio.sleep(10))
    with pytest.raises(SystemExit):
        task.result()
    for other in asyncio.all_tasks(loop):
        other.cancel()
    loop.run_until_complete(asyncio.sleep(0))


def test_other_methods_of_tasks_have_handles(loop: ReactorEventLoop) -> None:
    """Whoever calls ``call_soon()`` can cancel it, whatever he calls, with a context of his or without."""

    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(0.01))
        for handle in (
            loop.call_soon(task.cancel),
            loop.call_soon(task.cancel, context=contextvars.copy_context()),
            loop.call_soon(task.set_name, "other", context=contextvars.copy_context()),
        ):
            assert isinstance(handle, asyncio.Handle)
            handle.cancel()
        await task
        assert task.get_name() != "other"

    loop.run_until_complete(main())


def test_what_a_task_waits_for_is_not_kept_by_the_round(loop: ReactorEventLoop) -> None:
    """As soon as the task has woken up, and no later than when the round's next callback runs."""

    async def main() -> None:
        class Result:
            pass

        future: asyncio.Future[Result] | None = loop.create_future()
        assert future is not None

        async def wait(future: asyncio.Future[Result]) -> None:
            await future

        task = asyncio.create_task(wait(future))
        await asyncio.sleep(0)
        result: Result | None = Result()
        seen = weakref.ref(result)
        assert result is not None
        future.set_result(result)
        future = result = None
        gone: list[bool] = []
        loop.call_soon(lambda: gone.append(seen() is None))
        await task
        await asyncio.sleep(0)
        assert gone == [True]

    loop.run_until_complete(main())


def test_debug_mode_that_begins_between_runs_both_kinds(loop: ReactorEventLoop) -> None:
    """Steps and wake-ups that were queued before it begins."""

    async def main() -> None:
        future: asyncio.Future[int] = loop.create_future()
        waits = asyncio.create_task(waiting(future))
        await asyncio.sleep(0)
        future.set_result(1)
        begins = asyncio.create_task(asyncio.sleep(0, 2))
        loop.set_debug(True)
        assert list(await asyncio.gather(waits, begins)) == [1, 2]

    loop.run_until_complete(main())
