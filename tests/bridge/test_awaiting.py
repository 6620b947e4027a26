"""Deferreds and asyncio's awaitables, awaited by one coroutine."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred

from ..conftest import Runner
from .awaited import fails_soon, soon, wait_for_it


class TestBothAwaitables:
    """``await deferred`` and ``await future``, wherever asyncio lets one await."""

    def test_one_coroutine_awaits_both(self, run: Runner) -> None:
        """A task waits for Deferreds and Futures by turns, at any depth."""

        async def inner() -> list[object]:
            future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_result, "future")
            return [await soon("deferred"), await future, await defer.succeed("fired already")]

        async def main() -> list[object]:
            await asyncio.sleep(0)
            return [*await inner(), await asyncio.ensure_future(inner())]

        expected = ["deferred", "future", "fired already"]
        assert run(main) == [*expected, expected]

    def test_the_error_of_a_deferred_is_raised(self, run: Runner) -> None:
        """``await`` raises a failure, of a Deferred that had fired and of one that had not; nothing reports it."""

        async def main() -> None:
            with pytest.raises(ValueError, match="later"):
                await fails_soon(ValueError("later"))
            with pytest.raises(KeyError, match="already"):
                await defer.fail(KeyError("already"))

        run(main)

    def test_async_with_and_async_for(self, run: Runner) -> None:
        """Asynchronous generators and context managers may await Deferreds, and clean up by them."""
        steps: list[object] = []

        async def numbers() -> AsyncGenerator[int, None]:
            try:
                for number in range(3):
                    yield await soon(number)
                    await asyncio.sleep(0)
            finally:
                steps.append(await soon("closed"))

        @contextlib.asynccontextmanager
        async def resource() -> AsyncIterator[object]:
            yield await soon("entered")
            steps.append(await soon("left"))

        async def main() -> None:
            async with resource() as entered:
                steps.append(entered)
                async for number in numbers():
                    steps.append(number)
                steps.append([number async for number in numbers()])
                async with contextlib.aclosing(numbers()) as some:
                    async for _ in some:
                        break

        run(main)
        assert steps == ["entered", 0, 1, 2, "closed", "closed", [0, 1, 2], "closed", "left"]

    def test_asyncios_functions_take_deferreds(self, run: Runner) -> None:
        """``gather``, ``wait_for``, ``shield``, ``ensure_future`` and ``as_completed`` wait for a Deferred."""

        async def main() -> None:
            assert list(await asyncio.gather(soon(1), asyncio.sleep(0, 2), defer.succeed(3))) == [1, 2, 3]
            assert await asyncio.wait_for(soon(4), 60) == 4
            assert await asyncio.shield(soon(5)) == 5
            assert await asyncio.ensure_future(soon(6)) == 6
            assert sorted([await each for each in asyncio.as_completed([soon(7), soon(8)])]) == [7, 8]
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(Deferred(), 0.001)

        run(main)

    def test_wait_and_to_thread(self, run: Runner) -> None:
        """Tasks that await Deferreds are waited for by ``wait``; a thread's result is awaited beside them."""

        async def both() -> tuple[object, int]:
            return await soon("reactor"), await asyncio.to_thread(sum, [1, 2])

        async def main() -> set[tuple[object, int]]:
            tasks = [asyncio.create_task(both()) for _ in range(3)]
            done, pending = await asyncio.wait(tasks)
            assert not pending
            return {task.result() for task in done}

        assert run(main) == {("reactor", 3)}

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.TaskGroup and asyncio.timeout are new in 3.11")
    def test_task_groups_and_timeouts(self, run: Runner) -> None:
        """A TaskGroup runs tasks of both; ``asyncio.timeout`` ends the await of a Deferred."""

        async def main() -> list[object]:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(waits(soon(number))) for number in (1, 2)]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await Deferred()
            return [task.result() for task in tasks]

        async def waits(deferred: Deferred[object]) -> object:
            await asyncio.sleep(0)
            return await deferred

        assert run(main) == [1, 2]

    def test_two_tasks_await_one_deferred(self, run: Runner) -> None:
        """Each gets the result, and so does a later callback."""

        def changes(result: object, seen: list[object]) -> str:
            seen.append(result)
            return "changed"

        async def main() -> None:
            shared: Deferred[Any] = Deferred()

            async def waits() -> object:
                return await shared

            tasks = [asyncio.create_task(waits()) for _ in range(2)]
            await asyncio.sleep(0)
            later: list[object] = []
            shared.addCallback(changes, later)
            shared.callback("result")
            assert later == ["result"]
            assert await asyncio.gather(*tasks) == ["result", "result"]
            assert await shared == "changed"

        run(main)

    def test_objects_that_are_awaited_by_hand_written_iterators(self, run: Runner) -> None:
        """What stands between the coroutine and the Deferred need not be a coroutine."""

        class ByHand:
            def __init__(self, deferred: Deferred[object]) -> None:
                self.deferred = deferred

            def __await__(self) -> Generator[Any, None, object]:
                iterator = self.deferred.__await__()
                while True:
                    try:
                        waiting = next(iterator)
                    except StopIteration as stop:
                        return stop.value
                    yield waiting

        async def main() -> object:
            return await ByHand(soon("result"))

        assert run(main) == "result"

    def test_other_kinds_of_coroutines(self, run: Runner) -> None:
        """A task may run any object with the methods of a coroutine."""

        class Coro(Coroutine[Any, Any, object]):
            def __init__(self, coroutine: Coroutine[Any, Any, object]) -> None:
                self.coroutine = coroutine

            def send(self, value: Any) -> Any:
                return self.coroutine.send(value)

            def throw(self, *error: Any) -> Any:
                return self.coroutine.throw(*error)

            def close(self) -> None:
                self.coroutine.close()

            def __await__(self) -> Generator[Any, Any, object]:
                return self.coroutine.__await__()

        async def waits() -> object:
            return await soon("result")

        async def main() -> object:
            return await asyncio.create_task(Coro(waits()))

        assert run(main) == "result"


class TestResultsAtTheirPlace:
    """An await has its place among the callbacks, though the coroutine goes on only later."""

    def test_later_callbacks_do_not_change_what_is_awaited(self, run: Runner) -> None:
        """A callback that was added after the await changes the Deferred, not the result of the await."""

        async def main() -> None:
            deferred: Deferred[Any] = Deferred()
            deferred.addCallback(str.upper)
            task = asyncio.create_task(wait_for_it(deferred))
            await asyncio.sleep(0)
            deferred.addCallback(len)
            deferred.callback("four")
            assert deferred.result == 4
            assert await task == "FOUR"
            assert await deferred == 4

        run(main)

    def test_a_later_errback_does_not_take_the_error_away(self, run: Runner) -> None:
        """The coroutine gets the error that an errback behind it deals with."""

        async def main() -> None:
            deferred: Deferred[Any] = Deferred()
            task = asyncio.create_task(wait_for_it(deferred))
            await asyncio.sleep(0)
            deferred.addErrback(lambda failure: "dealt with")
            deferred.errback(ValueError("an error"))
            with pytest.raises(ValueError, match="an error"):
                await task
            assert await deferred == "dealt with"

        run(main)

    @pytest.mark.parametrize("fires_in_the_step", [False, True])
    def test_a_later_callback_returns_a_deferred(self, run: Runner, fires_in_the_step: bool) -> None:
        """The coroutine gets what came before that; the Deferred goes on waiting for the other."""

        async def main() -> None:
            deferred: Deferred[Any] = Deferred()
            other: Deferred[Any] = Deferred()

            async def waits() -> object:
                result = await deferred
                if fires_in_the_step:
                    other.callback("other")
                return result

            task = asyncio.create_task(waits())
            await asyncio.sleep(0)
            seen: list[object] = []
            deferred.addCallback(lambda _: other)
            deferred.addCallback(seen.append)
            deferred.callback("first")
            assert await task == "first"
            if not fires_in_the_step:
                assert seen == []
                assert deferred.paused
                other.callback("other")
            assert seen == ["other"]
            assert not deferred.paused
            assert await deferred is None

        run(main)

    def test_a_deferred_that_is_paused_after_it_has_fired(self, run: Runner) -> None:
        """Pausing comes too late for the coroutine, and in time for later callbacks."""

        async def main() -> None:
            deferred: Deferred[Any] = Deferred()
            task = asyncio.create_task(wait_for_it(deferred))
            await asyncio.sleep(0)
            deferred.callback("result")
            deferred.pause()
            later: list[object] = []
            deferred.addCallback(later.append)
            assert await task == "result"
            assert later == []
            deferred.unpause()
            assert later == ["result"]

        run(main)

    def test_a_paused_deferred_is_waited_for(self, run: Runner) -> None:
        """One that has fired and is paused has no result yet."""

        async def main() -> None:
            deferred: Deferred[str] = Deferred()
            deferred.pause()
            deferred.callback("result")
            task = asyncio.create_task(wait_for_it(deferred))
            await asyncio.sleep(0.001)
            assert not task.done()
            deferred.unpause()
            assert await task == "result"

        run(main)
