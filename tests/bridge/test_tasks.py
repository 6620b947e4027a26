"""Tasks of a txasync loop: one coroutine awaits both worlds, and looks like any other task."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import io
import os
import sys
import traceback
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

import txasync
from txasync import ReactorEventLoop

from ..conftest import Reports, Runner


def soon(value: object = None, seconds: float = 0) -> Deferred[Any]:
    """A Deferred that the reactor of the running loop fires with *value*."""
    loop: Any = asyncio.get_running_loop()
    return deferLater(loop.reactor, seconds, lambda: value)


def fails_soon(error: BaseException) -> Deferred[Any]:
    """A Deferred in which a callback raises *error*."""

    def raises(_: object) -> None:
        raise error

    return soon().addCallback(raises)


class Outcome:
    """Something that weak references can watch."""


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
            task = asyncio.create_task(_wait_for(deferred))
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
            task = asyncio.create_task(_wait_for(deferred))
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
            task = asyncio.create_task(_wait_for(deferred))
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
            task = asyncio.create_task(_wait_for(deferred))
            await asyncio.sleep(0.001)
            assert not task.done()
            deferred.unpause()
            assert await task == "result"

        run(main)


def _close_and_collect(loop: ReactorEventLoop) -> None:
    loop.close()
    gc.collect()


async def _wait_for(deferred: Deferred[Any]) -> Any:
    return await deferred


class TestAppearance:
    """Who looks at a task sees the user's coroutine."""

    def test_the_coroutine_is_what_is_shown(self, run: Runner) -> None:
        """``get_coro()``, ``repr``, ``get_stack()`` and ``print_stack()`` show it, and the class is called Task."""

        async def waits() -> None:
            await Deferred()

        async def main() -> None:
            coroutine = waits()
            task = asyncio.create_task(coroutine, name="by name")
            assert task.get_coro() is coroutine
            await asyncio.sleep(0)
            assert [frame.f_code.co_name for frame in task.get_stack()] == ["waits"]
            printed = io.StringIO()
            task.print_stack(file=printed)
            assert "await Deferred()" in printed.getvalue()
            assert repr(task).startswith("<Task pending name='by name' coro=<")
            assert "waits() running at" in repr(task)
            assert isinstance(task, asyncio.Task)
            assert task in asyncio.all_tasks()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.get_coro() is coroutine
            assert "waits() done" in repr(task)

        run(main)

    def test_names_are_asyncios(self, run: Runner) -> None:
        """A task without a name of its own has the one that asyncio gives it."""

        async def nothing() -> None:
            pass

        async def main() -> None:
            task = asyncio.create_task(nothing())
            assert task.get_name().startswith("Task-")
            await task

        run(main)

    def test_the_current_task(self, run: Runner) -> None:
        """It is the same before and after a Deferred."""

        async def main() -> None:
            task = asyncio.current_task()
            assert task is not None
            assert "_awaited" in repr(task.get_coro())
            await soon()
            assert asyncio.current_task() is task

        run(main)

    def test_the_traceback_has_the_frames_of_both_sides(self, run: Runner) -> None:
        """An error of a callback shows the callback and the coroutines that awaited its Deferred."""

        async def awaits() -> None:
            await fails_soon(ValueError("an error"))

        async def main() -> list[str]:
            try:
                await awaits()
            except ValueError as error:
                return [frame.name for frame in traceback.extract_tb(error.__traceback__)]
            raise AssertionError("no error")

        names = run(main)
        assert names[:2] == ["main", "awaits"]
        assert names[-1] == "raises"

    def test_an_error_has_no_context_that_is_not_the_coroutines(self, run: Runner) -> None:
        """What a coroutine raises after it has dealt with a cancellation does not name that as its context."""

        async def stubborn() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass
            assert sys.exc_info() == (None, None, None)
            raise ValueError("an error")

        async def main() -> None:
            task = asyncio.create_task(stubborn())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(ValueError, match="an error") as caught:
                await task
            assert caught.value.__context__ is None

        run(main)

    def test_debug_mode_names_the_line_that_created_the_task(self, run: Runner) -> None:
        """Its traceback ends in the caller, as asyncio's does."""

        async def nothing() -> None:
            pass

        async def main() -> None:
            asyncio.get_running_loop().set_debug(True)
            task: Any = asyncio.get_running_loop().create_task(nothing())
            assert task._source_traceback[-1].line == ("task: Any = asyncio.get_running_loop().create_task(nothing())")
            await task
            asyncio.get_running_loop().set_debug(False)

        run(main)

    @pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs are new in 3.14")
    def test_the_call_graph_has_the_coroutines(self, run: Runner) -> None:
        """3.14's graph of a task that waits has the user's frames alone."""

        async def inner() -> None:
            await Deferred()

        async def outer() -> None:
            await inner()

        graphs: Any = asyncio

        async def main() -> None:
            task = asyncio.create_task(outer())
            await asyncio.sleep(0)
            graph = graphs.capture_call_graph(task)
            assert [entry.frame.f_code.co_name for entry in graph.call_stack][-2:] == ["inner", "outer"]
            assert "_driver.py" not in graphs.format_call_graph(task)
            task.cancel()

        run(main)

    @pytest.mark.skipif(sys.version_info < (3, 14), reason="python -m asyncio ps is new in 3.14")
    @pytest.mark.parametrize("command", ["ps", "pstree"])
    def test_who_reads_the_memory_finds_the_tasks(self, run: Runner, command: str) -> None:
        """``python -m asyncio ps`` lists the tasks by name, and who waits for whom; it sees the driver only."""

        async def waits() -> None:
            await Deferred()

        async def group() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(waits(), name="a task of the group")

        async def main() -> tuple[int | None, str]:
            tasks = [asyncio.create_task(waits(), name="alone"), asyncio.create_task(group(), name="a group")]
            await asyncio.sleep(0.01)
            reader = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "asyncio", command, str(os.getpid())), stdout=-1, stderr=-2
            )
            output, _ = await reader.communicate()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            return reader.returncode, output.decode()

        status, output = run(main)
        if "PermissionError" in output or "Operation not permitted" in output:
            pytest.skip("this system does not let a process read the memory of another")
        assert status == 0, output
        for name in "alone", "a group", "a task of the group":
            assert name in output
        assert "driver" in output


class TestLives:
    """Beginnings and ends of tasks are asyncio's."""

    def test_a_task_that_is_cancelled_before_it_has_begun(self, run: Runner, reports: Reports) -> None:
        """The coroutine is closed without a step and without a warning, and nothing is reported."""
        steps: list[str] = []

        async def never() -> None:
            steps.append("begun")

        async def main() -> None:
            task = asyncio.create_task(never())
            task.cancel("a reason")
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()

        run(main)
        assert steps == []

    def test_a_task_that_never_began_is_warned_of(self, loop: ReactorEventLoop, reports: Reports) -> None:
        """Python says that the user's coroutine was never awaited, and asyncio that the task was destroyed."""

        async def never() -> None:
            pass

        loop.create_task(never())
        with pytest.warns(RuntimeWarning, match="coroutine '.*never' was never awaited"):
            _close_and_collect(loop)
        assert ["Task was destroyed but it is pending!" in record.getMessage() for record in reports.asyncio] == [True]
        reports.clear()

    def test_a_task_that_is_destroyed_closes_its_coroutine(self, loop: ReactorEventLoop, reports: Reports) -> None:
        """The ``finally`` of a coroutine whose task is collected is run."""
        steps: list[str] = []

        async def waits() -> None:
            try:
                await Deferred()
            finally:
                steps.append("closed")

        async def main() -> None:
            asyncio.create_task(waits())
            await asyncio.sleep(0)
            gc.collect()

        loop.run_until_complete(main())
        assert steps == ["closed"]
        assert ["Task was destroyed but it is pending!" in record.getMessage() for record in reports.asyncio] == [True]
        reports.clear()

    def test_what_is_not_a_coroutine(self, loop: ReactorEventLoop) -> None:
        """``create_task()`` refuses it in asyncio's words, and an argument that tasks do not have."""
        with pytest.raises(TypeError, match="a coroutine was expected, got 42"):
            loop.create_task(42)
        coroutine = _wait_for(Deferred())
        with pytest.raises(TypeError):
            loop.create_task(coroutine, colour="red")
        coroutine.close()

    def test_a_closed_loop_makes_no_tasks(self, loop: ReactorEventLoop) -> None:
        """It says that it is closed."""
        loop.close()
        coroutine = _wait_for(Deferred())
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            loop.create_task(coroutine)
        coroutine.close()

    def test_outcomes_are_not_kept_alive(self, run: Runner) -> None:
        """A result and a task are gone when nobody holds them, without the garbage collector."""

        async def main() -> None:
            result = Outcome()
            watched: list[Any] = [weakref.ref(result)]
            deferred: Deferred[Outcome] = Deferred()
            task = asyncio.create_task(_wait_for(deferred))
            watched.append(weakref.ref(task))
            await asyncio.sleep(0)
            deferred.callback(result)
            assert await task is result
            del result, task, deferred
            await asyncio.sleep(0)
            gc.disable()
            try:
                assert [each() for each in watched] == [None, None]
            finally:
                gc.enable()

        run(main)

    def test_an_error_of_a_future_is_not_kept_alive(self, run: Runner) -> None:
        """The driver's frame, which is in the traceback of an error, does not hold the Future that raised it."""

        class Watched(Exception):
            pass

        async def raises(futures: list[asyncio.Future[None]]) -> None:
            await futures.pop()

        async def main() -> None:
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            task = asyncio.create_task(raises([future]))
            await asyncio.sleep(0)
            future.set_exception(Watched())
            await asyncio.wait([task])
            watched = weakref.ref(task.exception() or task)
            gc.disable()
            try:
                del future, task
                assert watched() is None
            finally:
                gc.enable()

        run(main)


class TestContext:
    """Context variables over waits for Deferreds."""

    def test_a_task_keeps_its_context(self, run: Runner) -> None:
        """What a task sets is there after a Deferred, which fired in another context, and a token is still valid."""
        variable = contextvars.ContextVar("variable", default="outside")

        async def sets(value: str) -> str:
            token = variable.set(value)
            await soon()
            found = variable.get()
            variable.reset(token)
            assert variable.get() == "outside"
            return found

        async def main() -> None:
            assert list(await asyncio.gather(sets("one"), sets("two"))) == ["one", "two"]
            assert variable.get() == "outside"

        run(main)

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="create_task(context=) is new in 3.11")
    def test_a_context_that_is_given(self, run: Runner) -> None:
        """``create_task(context=)`` is where the task runs."""
        variable = contextvars.ContextVar("variable", default="outside")

        async def main() -> None:
            context = contextvars.copy_context()

            async def sets() -> None:
                variable.set("inside")
                await soon()

            await asyncio.create_task(sets(), context=context)
            assert context[variable] == "inside"
            assert variable.get() == "outside"

        run(main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
class TestEagerTasks:
    """Tasks that begin at once."""

    def test_both_are_awaited(self, run: Runner) -> None:
        """An eager task runs to its first wait, of whichever kind, and shows its coroutine all the time."""

        async def waits(wait: Callable[[], Any]) -> list[object]:
            task = asyncio.current_task()
            assert task is not None
            assert "waits" in repr(task.get_coro())
            steps.append("begun")
            return [await wait(), await asyncio.sleep(0, "slept")]

        async def main() -> None:
            asyncio.get_running_loop().set_task_factory(txasync.eager_task_factory)
            task = asyncio.create_task(waits(lambda: soon("deferred")), name="eager")
            assert steps == ["begun"]
            assert task.get_name() == "eager"
            assert await task == ["deferred", "slept"]

        steps: list[str] = []
        run(main)

    def test_one_that_never_waits_is_done_at_once(self, run: Runner) -> None:
        """It has its result, and no coroutine any more, as asyncio's."""

        async def adds() -> int:
            return 1 + await defer.succeed(1)

        async def main() -> None:
            loop = asyncio.get_running_loop()
            task = txasync.eager_task_factory(loop, adds())
            assert task.done()
            assert await task == 2
            assert task.get_coro() is None
            assert repr(task).startswith("<Task finished name=")
            assert task.get_stack() == []

        run(main)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="eager tasks are there from 3.12 on")
def test_eager_tasks_need_a_newer_python(loop: ReactorEventLoop) -> None:
    """The eager factory says so."""
    coroutine = _wait_for(Deferred())
    with pytest.raises(RuntimeError, match=r"Python 3\.12"):
        txasync.eager_task_factory(loop, coroutine)
    coroutine.close()


def test_a_deferred_may_outlive_the_loop(reports: Reports) -> None:
    """When the loop is closed, who fires the Deferred, and its later callbacks, notice nothing of who awaited it."""
    loop = txasync.new_event_loop(private=True)
    deferred: Deferred[str] = Deferred()
    task = loop.create_task(_wait_for(deferred))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    later: list[str] = []
    deferred.addCallback(later.append)
    deferred.callback("result")
    assert later == ["result"]
    del task, loop
    gc.collect()
    assert [record.msg.partition("\n")[0] for record in reports.asyncio] == ["Task was destroyed but it is pending!"]
    reports.clear()


class TestWithoutTheBridge:
    """Tasks of other factories."""

    def test_the_factory_can_be_taken_away(self, run: Runner) -> None:
        """After ``set_task_factory(None)`` tasks are asyncio's own, and awaiting a Deferred says what to do."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            assert loop.get_task_factory() is txasync.task_factory
            loop.set_task_factory(None)
            assert loop.get_task_factory() is None
            coroutine = _wait_for(Deferred())
            task = loop.create_task(coroutine)
            assert type(task) is asyncio.Task
            with pytest.raises(RuntimeError, match=r"bad yield: <Deferred at .*txasync\.task_factory.*as_future"):
                await task
            assert await loop.create_task(_wait_for(txasync.as_future(soon("result")))) == "result"  # type: ignore[arg-type]
            loop.set_task_factory(txasync.task_factory)
            assert await loop.create_task(_wait_for(soon("again"))) == "again"
            assert "call_soon" not in vars(loop)

        run(main)

    def test_other_bad_yields_are_asyncios(self, run: Runner) -> None:
        """Nothing is added to what it says of other things."""

        class Odd:
            def __await__(self) -> Generator[int, None, None]:
                yield 42

        async def main() -> None:
            loop = asyncio.get_running_loop()
            for factory in txasync.task_factory, None:
                loop.set_task_factory(factory)
                with pytest.raises(RuntimeError, match="^Task got bad yield: 42$"):
                    await loop.create_task(_wait_for(Odd()))  # type: ignore[arg-type]
            loop.set_task_factory(txasync.task_factory)

        run(main)

    def test_what_is_not_callable(self, loop: ReactorEventLoop) -> None:
        """``set_task_factory()`` refuses it as asyncio's does, and leaves the factory as it was."""
        with pytest.raises(TypeError, match="task factory must be a callable or None"):
            loop.set_task_factory(42)
        assert loop.get_task_factory() is txasync.task_factory
