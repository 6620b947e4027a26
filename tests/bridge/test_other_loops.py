"""The bridge on the loops of others: what works, and what is said of the rest."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

import txasync

NEW_LOOP = {"stock": "asyncio.SelectorEventLoop()", "uvloop": "__import__('uvloop').new_event_loop()"}


@pytest.fixture(params=NEW_LOOP, scope="session")
def new_loop(request: pytest.FixtureRequest) -> str:
    """An expression for a loop of asyncio's own, and for one of uvloop's."""
    if request.param == "uvloop":
        uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")
        # It keeps a pipe from its first run on; that is not what a test leaves behind.
        first = uvloop.new_event_loop()
        first.run_until_complete(asyncio.sleep(0))
        first.close()
    return NEW_LOOP[request.param]


@pytest.fixture
def other_loop(new_loop: str) -> Iterator[asyncio.AbstractEventLoop]:
    """Such a loop."""
    loop: asyncio.AbstractEventLoop = eval(new_loop)
    yield loop
    loop.close()


def soon(value: object) -> Deferred[Any]:
    """A Deferred that asyncio fires, for there is no reactor."""
    deferred: Deferred[Any] = Deferred()
    asyncio.get_running_loop().call_soon(deferred.callback, value)
    return deferred


class TestWithoutAReactor:
    """A program of asyncio's, with Deferreds that its own code fires."""

    def test_the_explicit_functions_work(self, other_loop: asyncio.AbstractEventLoop) -> None:
        """``as_future`` and ``as_deferred`` need no reactor."""

        async def main() -> None:
            assert await txasync.as_future(soon("deferred")) == "deferred"
            results: set[object] = set()
            txasync.as_deferred(asyncio.sleep(0, "task")).addCallback(results.add)
            cancelled = txasync.as_deferred(asyncio.sleep(60))
            cancelled.cancel()
            cancelled.addErrback(lambda failure: results.add(failure.trap(CancelledError)))
            await asyncio.sleep(0.01)
            assert results == {"task", CancelledError}

        other_loop.run_until_complete(main())

    def test_an_await_says_what_is_missing(self, other_loop: asyncio.AbstractEventLoop) -> None:
        """A coroutine of ours that awaits a Deferred is told that no reactor runs, and does not hang."""

        async def awaits() -> None:
            with pytest.raises(
                RuntimeError, match=r"no reactor runs.*txasync\.run\(\).*txasync\.as_future\(deferred\)"
            ):
                await Deferred()

        async def main() -> None:
            await txasync.as_future(txasync.as_deferred(awaits()))

        other_loop.run_until_complete(main())

    def test_a_task_of_the_other_loop(self, other_loop: asyncio.AbstractEventLoop) -> None:
        """It gets asyncio's own error, which names the Deferred: a factory of ours can be set there, too."""

        async def awaits(deferred: Deferred[Any]) -> object:
            return await deferred

        async def main() -> None:
            with pytest.raises(RuntimeError, match="Task got bad yield: <Deferred"):
                await asyncio.create_task(awaits(Deferred()))

        other_loop.run_until_complete(main())

    def test_a_future_of_another_loop_is_refused(self, other_loop: asyncio.AbstractEventLoop) -> None:
        """``as_deferred`` would have it fire in the other's thread."""
        stranger = asyncio.SelectorEventLoop()
        future = stranger.create_future()

        async def main() -> None:
            with pytest.raises(RuntimeError, match="belongs to another loop than the one that runs here"):
                txasync.as_deferred(future)

        other_loop.run_until_complete(main())
        stranger.close()


def run(program: str) -> str:
    """Run *program* in a Python of its own, with every warning an error, and return what it printed."""
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert child.returncode == 0, child.stderr
    assert child.stderr == ""
    return child.stdout.strip()


def test_all_tasks_of_an_asyncioreactors_loop_can_await_deferreds(new_loop: str) -> None:
    """With our factory set, every task of the loop that an ``asyncioreactor`` stands on awaits both."""
    program = f"""
        import asyncio
        loop = {new_loop}
        asyncio.set_event_loop(loop)
        from twisted.internet import asyncioreactor
        asyncioreactor.install(loop)
        from twisted.internet import reactor
        from twisted.internet.task import deferLater
        import txasync

        async def awaits():
            return await deferLater(reactor, 0, lambda: "deferred"), await asyncio.sleep(0, "slept")

        async def main():
            print(*await txasync.as_future(txasync.as_deferred(awaits())))
            asyncio.get_running_loop().set_task_factory(txasync.task_factory)
            print(*await asyncio.create_task(awaits()))
            reactor.stop()

        reactor.callWhenRunning(lambda: txasync.as_deferred(main()))
        reactor.run()
        loop.close()
    """
    assert run(program).split() == ["deferred", "slept"] * 2


def test_a_thread_that_is_not_the_reactors() -> None:
    """A Deferred that a stock loop in another thread waits for raises an error that says how to do it."""
    program = """
        import asyncio, threading
        from twisted.internet import reactor
        from twisted.internet.defer import Deferred
        import txasync

        async def awaits():
            await deferred

        async def main():
            awaiting = txasync.as_deferred(awaits())
            for waited_for in deferred, awaiting:
                try:
                    await txasync.as_future(waited_for)
                except RuntimeError as error:
                    print("run_in_reactor_thread" in str(error))
            awaiting.addErrback(lambda failure: print("run_in_reactor_thread" in failure.getErrorMessage()))
            await asyncio.sleep(0)

        def in_thread():
            loop = asyncio.SelectorEventLoop()
            loop.run_until_complete(main())
            loop.close()
            reactor.callFromThread(reactor.stop)

        deferred = Deferred()
        thread = threading.Thread(target=in_thread)
        reactor.callWhenRunning(thread.start)
        reactor.run()
        thread.join()
    """
    assert run(program).split() == ["True"] * 3


def test_a_coroutine_can_be_started_before_the_reactor() -> None:
    """After ``install()`` it begins with the reactor; without, the error names that step."""
    program = """
        import txasync
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        @txasync.deferred_coroutine
        async def main():
            print(await deferLater(reactor, 0, lambda: "deferred"))

        try:
            main()
        except RuntimeError as error:
            print("install()" in str(error))
        txasync.install()
        main().addBoth(lambda _: reactor.stop())
        reactor.run()
    """
    assert run(program).split() == ["True", "deferred"]
