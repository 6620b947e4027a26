"""The task factories: eager tasks, and tasks without the bridge."""

from __future__ import annotations

import asyncio
import gc
import re
import sys
from collections.abc import Callable, Generator
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred

import txasync
from txasync import ReactorEventLoop

from ..conftest import Reports, Runner
from .awaited import soon, wait_for_it


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

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_one_that_ends_the_program_before_it_is_made(
        self, run: Runner, reports: Reports, kind: type[BaseException]
    ) -> None:
        """Who makes it gets what it raised, as from asyncio's own factory; it can be looked at, then and later."""

        async def ends() -> None:
            shown.append(repr(asyncio.current_task()))
            raise kind

        async def main() -> None:
            with pytest.raises(kind):
                txasync.eager_task_factory(asyncio.get_running_loop(), ends(), name="eager")

        shown: list[str] = []
        run(main)
        gc.collect()
        assert re.fullmatch(r"<Task pending name='eager' coro=<.*ends\(\) running at .*>", shown[0])
        report = reports.asyncio[0].getMessage()
        assert "was never retrieved" in report
        assert f"<Task finished name='eager' exception={kind.__name__}()" in report
        reports.clear()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="eager tasks are there from 3.12 on")
def test_eager_tasks_need_a_newer_python(loop: ReactorEventLoop) -> None:
    """The eager factory says so."""
    coroutine = wait_for_it(Deferred())
    with pytest.raises(RuntimeError, match=r"Python 3\.12"):
        txasync.eager_task_factory(loop, coroutine)
    coroutine.close()


class TestWithoutTheBridge:
    """Tasks of other factories."""

    def test_the_factory_can_be_taken_away(self, run: Runner) -> None:
        """After ``set_task_factory(None)`` tasks are asyncio's own, and awaiting a Deferred says what to do."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            assert loop.get_task_factory() is txasync.task_factory
            loop.set_task_factory(None)
            assert loop.get_task_factory() is None
            coroutine = wait_for_it(Deferred())
            task = loop.create_task(coroutine)
            assert type(task) is asyncio.Task
            with pytest.raises(RuntimeError, match=r"bad yield: <Deferred at .*txasync\.task_factory.*as_future"):
                await task
            assert await loop.create_task(wait_for_it(txasync.as_future(soon("result")))) == "result"  # type: ignore[arg-type]
            loop.set_task_factory(txasync.task_factory)
            assert await loop.create_task(wait_for_it(soon("again"))) == "again"
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
                    await loop.create_task(wait_for_it(Odd()))  # type: ignore[arg-type]
            loop.set_task_factory(txasync.task_factory)

        run(main)

    def test_what_is_not_callable(self, loop: ReactorEventLoop) -> None:
        """``set_task_factory()`` refuses it as asyncio's does, and leaves the factory as it was."""
        with pytest.raises(TypeError, match="task factory must be a callable or None"):
            loop.set_task_factory(42)
        assert loop.get_task_factory() is txasync.task_factory
