"""Tasks of a txasync loop look and live like any others."""

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
from collections.abc import Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred

import txasync
from txasync import ReactorEventLoop

from ..conftest import Reports, Runner
from .awaited import Outcome, fails_soon, soon, wait_for_it


def _close_and_collect(loop: ReactorEventLoop) -> None:
    loop.close()
    gc.collect()


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

    def test_the_coroutine_is_shown_while_the_task_is_made(self, run: Runner) -> None:
        """To a loop that looks at what it is to call, for one."""

        async def waits() -> None:
            pass

        async def main() -> None:
            loop: Any = asyncio.get_running_loop()

            def looking(callback: Any, *args: Any, **context: Any) -> Any:
                shown.append(repr(callback.__self__))
                return type(loop).call_soon(loop, callback, *args, **context)

            vars(loop)["call_soon"] = looking
            task = asyncio.create_task(waits())
            del vars(loop)["call_soon"]
            await task

        shown: list[str] = []
        run(main)
        assert len(shown) == 1
        assert "waits() running at" in shown[0]

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

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="before 3.11, who lets an error out is in its traceback")
    @pytest.mark.parametrize("waits_for", ["nothing", "a Deferred", "a Deferred that fails", "a Future that fails"])
    def test_a_task_that_failed_shows_where(self, run: Runner, waits_for: str) -> None:
        """Its stack, and the traceback of its error, begin with the coroutine."""

        async def fails() -> None:
            if waits_for == "a Deferred":
                await soon()
            elif waits_for == "a Deferred that fails":
                await fails_soon(ZeroDivisionError())
            elif waits_for == "a Future that fails":
                future = asyncio.get_running_loop().create_future()
                future.set_exception(ZeroDivisionError())
                await future
            raise ZeroDivisionError

        async def main() -> None:
            task = asyncio.create_task(fails())
            await asyncio.wait([task])
            assert task.get_stack()[0].f_code is fails.__code__
            error = task.exception()
            assert type(error) is ZeroDivisionError
            assert traceback.extract_tb(error.__traceback__)[0].name == "fails"

        run(main)

    def test_a_coroutine_of_no_module_fails(self, run: Runner) -> None:
        """One from a file that was executed without a name, as twistd does with a .tac."""
        names: dict[str, Any] = {}
        exec("async def fails(deferred):\n    await deferred\n    1 / 0", names)
        names.pop("__name__", None)

        async def main() -> None:
            task = asyncio.create_task(names["fails"](soon()))
            with pytest.raises(ZeroDivisionError):
                await task

        run(main)

    def test_an_error_without_a_frame_of_the_coroutine_shows_something(self, run: Runner) -> None:
        """Such as what a signal handler raises between two steps: the driver's frame is all there is."""

        class Odd(Coroutine[Any, Any, Any]):
            send = staticmethod(int)
            throw = close = __await__ = send  # type: ignore[assignment]

        async def main() -> None:
            with pytest.raises(TypeError) as caught:
                await asyncio.create_task(Odd())
            assert traceback.extract_tb(caught.value.__traceback__)[-1].line

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

    @pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs are new in 3.14")
    @pytest.mark.parametrize("waits_for", ["nothing", "a Future", "a Deferred", "a Deferred that fails"])
    def test_the_call_graph_of_the_running_task_has_the_coroutines(self, run: Runner, waits_for: str) -> None:
        """It ends with the task's coroutine, whatever that has waited for before."""
        graphs: Any = asyncio

        async def inner() -> list[str]:
            with contextlib.suppress(ZeroDivisionError):
                if waits_for == "a Future":
                    await asyncio.sleep(0)
                elif waits_for == "a Deferred":
                    await soon()
                elif waits_for == "a Deferred that fails":
                    await fails_soon(ZeroDivisionError())
            return [entry.frame.f_code.co_name for entry in graphs.capture_call_graph().call_stack]

        async def outer() -> list[str]:
            return await inner()

        async def main() -> list[str]:
            return await asyncio.create_task(outer())

        assert run(main) == ["inner", "outer"]

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

    def test_a_future_that_fails_with_generator_exit(self, run: Runner) -> None:
        """The coroutine gets it, though Python closes coroutines by it."""

        async def waits(future: asyncio.Future[None]) -> str:
            try:
                await future
            except GeneratorExit:
                return str(await soon("caught"))
            raise AssertionError

        async def main() -> str:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(waits(future))
            await asyncio.sleep(0)
            future.set_exception(GeneratorExit())
            return await task

        assert run(main) == "caught"

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
        coroutine = wait_for_it(Deferred())
        with pytest.raises(TypeError):
            loop.create_task(coroutine, colour="red")
        coroutine.close()

    def test_a_closed_loop_makes_no_tasks(self, loop: ReactorEventLoop) -> None:
        """It says that it is closed."""
        loop.close()
        coroutine = wait_for_it(Deferred())
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            loop.create_task(coroutine)
        coroutine.close()

    def test_outcomes_are_not_kept_alive(self, run: Runner) -> None:
        """A result and a task are gone when nobody holds them, without the garbage collector."""

        async def main() -> None:
            result = Outcome()
            watched: list[Any] = [weakref.ref(result)]
            deferred: Deferred[Outcome] = Deferred()
            task = asyncio.create_task(wait_for_it(deferred))
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


def test_a_deferred_may_outlive_the_loop(reports: Reports) -> None:
    """When the loop is closed, who fires the Deferred, and its later callbacks, notice nothing of who awaited it."""
    loop = txasync.new_event_loop(private=True)
    deferred: Deferred[str] = Deferred()
    task = loop.create_task(wait_for_it(deferred))
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
