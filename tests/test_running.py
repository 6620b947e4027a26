"""install(), new_event_loop(), get_event_loop(), run(): which side is up, and clear errors where it is the wrong."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import subprocess
import sys
import textwrap
import threading
import unittest
from collections.abc import Iterator
from typing import Any

import pytest

import txasync
from txasync import ReactorEventLoop, _loops

from .conftest import open_descriptors


def in_child(program: str, *, warnings: str = "error", exit_code: int = 0) -> str:
    """Run *program* in a Python of its own, with every warning an error, and return what it printed."""
    child = subprocess.run(
        [sys.executable, "-W", warnings, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert child.returncode == exit_code, child.stderr
    assert "Exception ignored" not in child.stderr, child.stderr
    return child.stdout + child.stderr


@pytest.fixture
def own_reactor(reactor: Any) -> Iterator[Any]:
    """A reactor that has no loop yet, and whose loop is closed afterwards."""
    yield reactor
    loop = _loops.loop_of(reactor)
    if loop is not None:
        loop.close()


async def main() -> asyncio.AbstractEventLoop:
    """Sleep a little, and say on which loop."""
    await asyncio.sleep(0.001)
    return asyncio.get_running_loop()


# Importing


def test_importing_installs_nothing() -> None:
    """``import txasync`` imports no reactor and makes no descriptor, thread or loop."""
    printed = in_child(
        """
        import ctypes  # Twisted's; libffi may keep a file open for it
        import os, sys, threading
        before = sorted(os.listdir("/proc/self/fd"))
        import txasync
        assert "twisted.internet.reactor" not in sys.modules
        assert sorted(os.listdir("/proc/self/fd")) == before
        assert threading.active_count() == 1
        import asyncio
        assert asyncio.events._get_running_loop() is None
        print("clean")
        """
    )
    assert printed == "clean\n"


# install


def test_install_before_the_reactor_starts(own_reactor: Any) -> None:
    """asyncio works from the reactor's first callback on, and the loop is closed when the reactor has stopped."""
    loop = txasync.install(own_reactor)
    seen: list[Any] = []

    def start() -> None:
        seen.append(asyncio.get_running_loop())
        task = asyncio.ensure_future(main())
        task.add_done_callback(lambda task: (seen.append(task.result()), own_reactor.stop()))

    own_reactor.callWhenRunning(start)
    own_reactor.run()
    assert seen == [loop, loop]
    assert loop.is_closed()
    assert asyncio.events._get_running_loop() is None


def test_install_in_a_callback_of_a_running_reactor(own_reactor: Any) -> None:
    """asyncio works at once, and in every later callback."""
    seen: list[Any] = []

    def start() -> None:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        seen.append(txasync.install(own_reactor))
        seen.append(asyncio.get_running_loop())
        own_reactor.callLater(0.001, lambda: seen.append(asyncio.get_running_loop()))
        asyncio.ensure_future(asyncio.sleep(0.02)).add_done_callback(lambda task: own_reactor.stop())

    own_reactor.callWhenRunning(start)
    own_reactor.run()
    assert len(seen) == 3
    assert len(set(map(id, seen))) == 1


def test_install_twice_gives_the_same_loop(own_reactor: Any) -> None:
    """A reactor has one loop."""
    loop = txasync.install(own_reactor)
    assert txasync.install(own_reactor) is loop
    assert txasync.get_event_loop(own_reactor) is loop


def test_install_after_close_gives_a_new_loop(own_reactor: Any) -> None:
    """A closed loop is not the reactor's any more."""
    first = txasync.install(own_reactor)
    first.close()
    assert txasync.install(own_reactor) is not first


def test_install_inside_asyncio_first_gives_the_running_loop(own_reactor: Any) -> None:
    """A library that calls ``install()`` need not know who was first."""

    async def library() -> bool:
        return txasync.install(own_reactor) is asyncio.get_running_loop()

    assert txasync.run(library(), reactor=own_reactor)


def test_install_from_another_thread_is_refused(own_reactor: Any) -> None:
    """The error says how to call it in the reactor's thread."""
    caught: list[BaseException] = []

    def other_thread() -> None:
        try:
            txasync.install(own_reactor)
        except RuntimeError as error:
            caught.append(error)
        own_reactor.callFromThread(own_reactor.stop)

    thread = threading.Thread(target=other_thread)
    own_reactor.callWhenRunning(thread.start)
    own_reactor.run()
    thread.join(30)
    assert "reactor.callFromThread(txasync.install)" in str(caught[0])


# new_event_loop


def test_a_second_loop_on_a_reactor_is_refused(own_reactor: Any) -> None:
    """The error names both and says what to do instead."""
    loop = txasync.new_event_loop(own_reactor)
    with pytest.raises(RuntimeError, match=r"has a loop already.*private=True"):
        txasync.new_event_loop(own_reactor)
    loop.close()
    txasync.new_event_loop(own_reactor).close()


def test_a_new_loop_for_a_running_reactor_is_refused(own_reactor: Any) -> None:
    """It could not run it; the error points to ``install()``."""
    caught: list[str] = []

    def start() -> None:
        with pytest.raises(RuntimeError, match=r"running already.*txasync.install\(\)") as error:
            txasync.new_event_loop(own_reactor)
        caught.append(str(error.value))
        own_reactor.stop()

    own_reactor.callWhenRunning(start)
    own_reactor.run()
    assert caught


def test_a_private_loop_is_not_on_the_processes_reactor() -> None:
    """Neither is a loop that is made in another thread; ``twisted.internet.reactor`` is not even imported for them."""
    printed = in_child(
        """
        import sys, threading, txasync
        loops = [txasync.new_event_loop(private=True)]
        thread = threading.Thread(target=lambda: loops.append(txasync.new_event_loop()))
        thread.start(); thread.join()
        assert "twisted.internet.reactor" not in sys.modules
        from twisted.internet import reactor
        assert all(loop.reactor is not reactor for loop in loops)
        for loop in loops:
            loop.close()
        loop = txasync.new_event_loop()
        assert loop.reactor is reactor
        loop.close()
        print("fine")
        """
    )
    assert printed == "fine\n"


def test_a_private_reactor_with_a_given_one_is_refused(reactor: Any) -> None:
    """It is one or the other."""
    with pytest.raises(TypeError, match="leave out reactor="):
        txasync.new_event_loop(reactor, private=True)


def test_a_private_reactor_is_not_the_processes_io_thread() -> None:
    """A loop in another thread must not make Twisted take that for the reactor's."""
    from twisted.python import threadable

    before = threadable.ioThread

    def other_thread() -> None:
        loop = txasync.new_event_loop(private=True)
        loop.run_until_complete(main())
        loop.close()

    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join(30)
    assert threadable.ioThread == before


def test_a_reactor_without_descriptors_is_refused() -> None:
    """Everywhere, by an error that names it and says what to use."""
    from twisted.internet.task import Clock

    clock: Any = Clock()
    clock.running = False
    for use in txasync.install, txasync.new_event_loop:
        with pytest.raises(TypeError, match="IReactorFDSet"):
            use(clock)


# get_event_loop


def test_get_event_loop_makes_nothing(own_reactor: Any) -> None:
    """Without a loop it is an error that names the missing step."""
    with pytest.raises(RuntimeError, match=r"call txasync.install\(\)"):
        txasync.get_event_loop(own_reactor)
    loop = txasync.install(own_reactor)
    assert txasync.get_event_loop(own_reactor) is loop


def test_get_event_loop_without_a_reactor_installs_none() -> None:
    """It must not import ``twisted.internet.reactor``."""
    printed = in_child(
        """
        import sys, txasync
        try:
            txasync.get_event_loop()
        except RuntimeError as error:
            print(error)
        assert "twisted.internet.reactor" not in sys.modules
        """
    )
    assert "no reactor is installed" in printed


def test_get_event_loop_prefers_the_running_loop(own_reactor: Any) -> None:
    """Inside a loop of ours, that is the one."""

    async def library() -> bool:
        return txasync.get_event_loop() is asyncio.get_running_loop()

    assert txasync.run(library(), reactor=own_reactor)


# run


def test_run_returns_the_result_and_closes_the_loop(own_reactor: Any) -> None:
    """Any number of times on one reactor, ``asyncio.run`` included."""
    for _ in range(3):
        loop = txasync.run(main(), reactor=own_reactor)
        assert isinstance(loop, ReactorEventLoop)
        assert loop.is_closed()
        assert loop.reactor is own_reactor


def test_run_raises_what_the_coroutine_raises(own_reactor: Any) -> None:
    """And the reactor can be used again."""

    async def fail() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        txasync.run(fail(), reactor=own_reactor)
    txasync.run(main(), reactor=own_reactor)


def test_run_cancels_what_is_left_and_awaits_it(own_reactor: Any) -> None:
    """As ``asyncio.run`` does: tasks, then asynchronous generators."""
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            ended.append("task")

    async def numbers() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            ended.append("generator")

    async def main() -> None:
        asyncio.ensure_future(background())
        main.numbers = numbers()  # type: ignore[attr-defined]
        await main.numbers.__anext__()  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    txasync.run(main(), reactor=own_reactor)
    assert ended == ["task", "generator"]


def test_run_takes_debug(own_reactor: Any) -> None:
    """As ``asyncio.run`` does."""

    async def debug() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert txasync.run(debug(), debug=True, reactor=own_reactor)
    assert not txasync.run(debug(), debug=False, reactor=own_reactor)


def test_run_refuses_what_is_no_coroutine(own_reactor: Any) -> None:
    """With asyncio's own error."""
    not_a_coroutine: Any = 3
    with pytest.raises((ValueError, TypeError)):
        txasync.run(not_a_coroutine, reactor=own_reactor)


def test_run_on_a_running_reactor_is_refused(own_reactor: Any) -> None:
    """With a loop or without one; the error says what to do, and no coroutine is left un-awaited."""
    caught: list[str] = []

    def start() -> None:
        with pytest.raises(RuntimeError, match=r"running already.*txasync.install") as error:
            txasync.run(main(), reactor=own_reactor)
        caught.append(str(error.value))
        txasync.install(own_reactor)
        with pytest.raises(RuntimeError, match="asyncio.create_task") as error:
            txasync.run(main(), reactor=own_reactor)
        caught.append(str(error.value))
        own_reactor.stop()

    own_reactor.callWhenRunning(start)
    own_reactor.run()
    assert len(caught) == 2


def test_run_in_another_thread(own_reactor: Any) -> None:
    """There it has a reactor of its own, which is gone afterwards."""
    before = len(open_descriptors())
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(txasync.run(main())))
    thread.start()
    thread.join(30)
    assert isinstance(results[0], ReactorEventLoop)
    assert len(open_descriptors()) == before


def test_run_on_a_stopped_reactor_says_so(own_reactor: Any) -> None:
    """``reactor.stop()`` is for ever; the error says what to do."""
    own_reactor.callWhenRunning(own_reactor.stop)
    own_reactor.run()
    with pytest.raises(RuntimeError, match=r"for ever.*private=True"):
        txasync.run(main(), reactor=own_reactor)


def test_reactor_stop_ends_run_with_a_clear_error(own_reactor: Any) -> None:
    """Not with a hang, and not with "Event loop stopped before Future completed"; the task's ``finally`` has run."""
    ended: list[str] = []

    async def stopper() -> None:
        try:
            own_reactor.stop()
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.001)
            ended.append("finally")

    with pytest.raises(RuntimeError, match=r"reactor.stop\(\) was called while run_until_complete\(\) waited"):
        txasync.run(stopper(), reactor=own_reactor)
    assert ended == ["finally"]


def test_a_result_is_not_lost_to_reactor_stop(own_reactor: Any) -> None:
    """A main task that has its result when the reactor stops, returns it."""

    async def stopper() -> str:
        try:
            own_reactor.stop()
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
        return "result"

    assert txasync.run(stopper(), reactor=own_reactor) == "result"


def test_reactor_stop_at_the_end_of_the_coroutine_is_carried_out(own_reactor: Any) -> None:
    """A coroutine that stops the reactor and returns has its result, and the shutdown triggers are called."""
    called: list[str] = []
    for phase in "before", "during", "after":
        own_reactor.addSystemEventTrigger(phase, "shutdown", called.append, phase)

    async def stopper() -> str:
        own_reactor.stop()
        return "result"

    assert txasync.run(stopper(), reactor=own_reactor) == "result"
    assert called == ["before", "during", "after"]


def test_system_exit_after_reactor_stop_is_carried_out_as_well(own_reactor: Any) -> None:
    """First the reactor's end, then the exit."""
    called: list[str] = []
    own_reactor.addSystemEventTrigger("after", "shutdown", called.append, "after")

    async def stopper() -> None:
        own_reactor.stop()
        sys.exit(3)

    with pytest.raises(SystemExit) as caught:
        txasync.run(stopper(), reactor=own_reactor)
    assert caught.value.code == 3
    assert called == ["after"]


def test_closing_a_loop_that_never_ran_leaves_the_thread_pool_alone(own_reactor: Any) -> None:
    """What was queued for the reactor's threads before it runs is still done."""
    done: list[str] = []
    own_reactor.callInThread(done.append, "done")
    txasync.install(own_reactor).close()
    own_reactor.callWhenRunning(own_reactor.callInThread, own_reactor.callFromThread, own_reactor.stop)
    own_reactor.run()
    assert done == ["done"]


def test_a_loop_for_which_there_are_no_descriptors_leaves_none(own_reactor: Any) -> None:
    """EMFILE at any point of its making is an OSError, and what was made before is given back."""
    before = open_descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(before)
    made = 0
    try:
        for limit in range(highest + 1, highest + 10):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            try:
                loop = txasync.new_event_loop(own_reactor)
            except OSError as error:
                assert error.errno == errno.EMFILE
            else:
                made += 1
                loop.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert made
    assert open_descriptors().keys() == before.keys()


def test_run_forever_returns_after_reactor_stop(own_reactor: Any) -> None:
    """It waits for nothing, so this is no error; the loop's tasks have been ended."""
    loop = txasync.new_event_loop(own_reactor)
    task = loop.create_task(asyncio.sleep(3600))
    own_reactor.callLater(0.01, own_reactor.stop)
    loop.run_forever()
    assert task.cancelled()
    assert loop.run_until_complete(asyncio.sleep(0.01, "by hand")) == "by hand"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run() takes a loop_factory from 3.12 on")
def test_asyncio_run_with_our_loop_factory() -> None:
    """``twisted.internet.reactor`` is the reactor that the loop runs on."""
    printed = in_child(
        """
        import asyncio, txasync
        async def main():
            from twisted.internet import reactor
            assert reactor.running
            assert asyncio.get_running_loop().reactor is reactor
            await asyncio.sleep(0.01)
            return "again"
        for _ in range(3):
            print(asyncio.run(main(), loop_factory=txasync.new_event_loop))
        """
    )
    assert printed == "again\n" * 3


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner is new in 3.11")
def test_asyncio_runner_with_our_loop_factory() -> None:
    """Several runs on one loop, and several runners one after the other."""
    for _ in range(3):
        with asyncio.Runner(loop_factory=lambda: txasync.new_event_loop(private=True)) as runner:
            first = runner.run(main())
            assert runner.run(main()) is first


@pytest.mark.skipif(sys.version_info < (3, 13), reason="IsolatedAsyncioTestCase has a loop_factory from 3.13 on")
def test_isolated_asyncio_test_case_with_our_loop_factory() -> None:
    """The test case's own attribute is all that is needed."""

    class Case(unittest.IsolatedAsyncioTestCase):
        loop_factory = staticmethod(lambda: txasync.new_event_loop(private=True))

        async def asyncSetUp(self) -> None:
            self.loop = asyncio.get_running_loop()

        async def test_it(self) -> None:
            assert await main() is self.loop
            assert isinstance(self.loop, ReactorEventLoop)

    result = unittest.TestResult()
    Case("test_it").run(result)
    assert result.testsRun == 1
    assert result.wasSuccessful(), result.errors


@pytest.mark.parametrize("reactor", ["epoll"], indirect=True)
def test_a_thousand_loops_leave_nothing(own_reactor: Any) -> None:
    """Made, run and closed in one process: on one reactor, on private ones, in threads."""

    async def busy() -> None:
        await asyncio.get_running_loop().run_in_executor(None, os.getpid)
        await asyncio.sleep(0.0001)

    def private() -> None:
        loop = txasync.new_event_loop(private=True)
        loop.run_until_complete(main())
        loop.close()

    txasync.run(busy(), reactor=own_reactor)
    before = open_descriptors()
    threads = threading.active_count()
    for i in range(250):
        txasync.run(busy(), reactor=own_reactor)
        txasync.run(main(), reactor=own_reactor)
        private()
        thread = threading.Thread(target=private)
        thread.start()
        thread.join(30)
        if not i % 50:
            gc.collect()
    assert len(open_descriptors()) == len(before)
    assert threading.active_count() == threads
    assert own_reactor.getDelayedCalls() == []


# Shutting down with work in flight: see test_shutdown.py
