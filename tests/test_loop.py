"""The loop: running and stopping, scheduling, and the promises to both sides."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import subprocess
import sys
import threading
import time
import warnings
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactor, MemoryReactorClock

from txasync import ReactorEventLoop, new_event_loop
from txasync._ticker import QUIET_S, ROUNDS_PER_TICK

from .conftest import Reports, Runner

# Running and stopping


def test_a_task_sees_the_loop_as_running(run: Runner) -> None:
    """While the reactor runs, the loop is the thread's running loop."""

    async def main() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert run(main) is run.loop
    assert not run.loop.is_running()


def test_every_twisted_callback_sees_the_loop_as_running(run: Runner) -> None:
    """Startup triggers, timed calls, calls from threads and shutdown triggers are callbacks of the reactor too."""
    seen: dict[str, Any] = {}

    def note(name: str) -> None:
        seen[name] = asyncio.events._get_running_loop()

    run.reactor.addSystemEventTrigger("before", "startup", note, "before startup")
    run.reactor.addSystemEventTrigger("during", "startup", note, "during startup")
    run.reactor.callWhenRunning(note, "callWhenRunning")
    for phase in "before", "during", "after":
        run.reactor.addSystemEventTrigger(phase, "shutdown", note, f"{phase} shutdown")

    async def main() -> None:
        run.reactor.callLater(0, note, "callLater")
        run.reactor.callFromThread(note, "callFromThread")
        await run.loop.run_in_executor(None, run.reactor.callFromThread, note, "from a thread")
        await asyncio.sleep(0.01)
        run.reactor.iterate()

    run(main)
    if run.mode == "asyncio-first":
        seen.update(dict.fromkeys(["before shutdown", "during shutdown", "after shutdown"], run.loop))
    assert len(seen) == 9
    assert set(seen.values()) == {run.loop}


def test_a_loop_runs_and_stops_any_number_of_times(loop: ReactorEventLoop) -> None:
    """``stop()`` ends one run, and the next is like the first."""
    runs: list[int] = []
    for i in range(20):
        loop.call_soon(runs.append, i)
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert asyncio.events._get_running_loop() is None
        assert loop.run_until_complete(asyncio.sleep(0, i)) == i
    assert runs == list(range(20))


def test_stop_before_the_run_makes_one_round(loop: ReactorEventLoop) -> None:
    """A loop that was stopped already polls once, runs what is ready, and returns."""
    ran: list[str] = []
    loop.call_soon(lambda: (ran.append("first"), loop.call_soon(ran.append, "second")))
    loop.stop()
    loop.run_forever()
    assert ran == ["first"]
    loop.stop()
    loop.run_forever()
    assert ran == ["first", "second"]


def test_stop_inside_a_callback_finishes_its_round_only(loop: ReactorEventLoop) -> None:
    """Callbacks that were ready with the stopping one still run; those that they add wait for the next run."""
    ran: list[str] = []
    loop.call_soon(loop.stop)
    loop.call_soon(lambda: (ran.append("same round"), loop.call_soon(ran.append, "next run")))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["same round"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["same round", "next run"]


def test_stop_from_a_twisted_callback_wakes_a_sleeping_loop(loop: ReactorEventLoop) -> None:
    """``stop()`` outside of asyncio's callbacks ends the run at once, too."""
    loop.reactor.callLater(0.01, loop.stop)
    loop.run_forever()


def test_stop_in_somebody_elses_run_stops_the_reactor(loop: ReactorEventLoop) -> None:
    """In a run that ``reactor.run()`` began, ``loop.stop()`` is ``reactor.stop()``."""
    ended: list[str] = []
    loop.reactor.addSystemEventTrigger("after", "shutdown", ended.append, "stopped")
    loop.reactor.callWhenRunning(loop.call_soon, loop.stop)
    loop.reactor.run()
    assert ended == ["stopped"]


def test_reactor_crash_in_somebody_elses_run_leaves_the_loop_usable(loop: ReactorEventLoop) -> None:
    """After ``reactor.crash()``, which tells nobody, the reactor and the loop can be run again, by either side."""
    reactor = loop.reactor
    for _ in range(2):
        done: list[asyncio.AbstractEventLoop] = []
        reactor.callWhenRunning(lambda: done.append(asyncio.get_running_loop()))
        reactor.callLater(0.01, reactor.crash)
        reactor.run()
        assert done == [loop]
        assert loop.run_until_complete(asyncio.sleep(0.001, "fine")) == "fine"


def test_a_second_run_inside_a_run_is_refused(run: Runner) -> None:
    """The running loop cannot be run, and neither can another loop in its thread."""
    with ReactorLoopOf(run) as other:

        async def main() -> None:
            coroutine = asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="already running"):
                run.loop.run_until_complete(coroutine)
            with pytest.raises(RuntimeError, match="another loop is running"):
                other.run_until_complete(coroutine)
            coroutine.close()
            with pytest.raises(RuntimeError, match="[Cc]annot close a running"):
                run.loop.close()

        run(main)


class ReactorLoopOf:
    """A second loop, on a reactor of its own of the same kind."""

    def __init__(self, run: Runner) -> None:
        self._run = run

    def __enter__(self) -> ReactorEventLoop:
        self.loop = new_event_loop(private=True)
        return self.loop

    def __exit__(self, *exc_info: object) -> None:
        self.loop.close()


def test_a_closed_loop_refuses_work(loop: ReactorEventLoop) -> None:
    """After ``close()``, which may be called twice, everything says that the loop is closed."""
    loop.close()
    loop.close()
    assert loop.is_closed()
    for use in (
        lambda: loop.call_soon(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.run_forever(),
        lambda: loop.add_signal_handler(2, print),
    ):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            use()


def test_the_running_loop_of_outside_is_put_back(loop: ReactorEventLoop) -> None:
    """What was there before a run is there after it: the running loop and the hooks for asynchronous generators."""

    def hook(agen: object) -> None:
        """Never called."""

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=hook, finalizer=hook)
    try:
        loop.run_until_complete(asyncio.sleep(0))
        assert sys.get_asyncgen_hooks() == (hook, hook)
    finally:
        sys.set_asyncgen_hooks(*before)


def test_a_loop_in_another_thread(loop: ReactorEventLoop) -> None:
    """A loop works in a thread that is not the main one, and other threads can talk to it."""
    threads: list[threading.Thread] = []
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def main() -> str:
        threads.append(threading.current_thread())
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 3")
        return f"exit {await process.wait()}"

    assert asyncio.run_coroutine_threadsafe(main(), loop).result(30) == "exit 3"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    assert threads == [thread]


# Errors


def test_system_exit_and_keyboard_interrupt_leave_the_run(loop: ReactorEventLoop) -> None:
    """They go up through ``run_forever()``, as in asyncio, and the loop can be run again."""
    for error in SystemExit(3), KeyboardInterrupt():

        def fail(error: BaseException = error) -> None:
            raise error

        loop.call_soon(fail)
        with pytest.raises(type(error)) as caught:
            loop.run_forever()
        assert caught.value is error
    assert loop.run_until_complete(asyncio.sleep(0.001, "fine")) == "fine"


def test_system_exit_of_the_main_task_is_not_lost(loop: ReactorEventLoop) -> None:
    """``sys.exit()`` in the main task is what ``run_until_complete()`` raises."""

    async def main() -> None:
        await asyncio.sleep(0.001)
        sys.exit(5)

    with pytest.raises(SystemExit) as caught:
        loop.run_until_complete(main())
    assert caught.value.code == 5


def test_system_exit_in_somebody_elses_run_is_reported(loop: ReactorEventLoop, reports: Reports) -> None:
    """A reactor that somebody else runs goes on, as it does when a callback of Twisted's raises SystemExit."""
    loop.reactor.callWhenRunning(loop.call_soon, sys.exit, 5)
    loop.reactor.callLater(0.05, loop.reactor.stop)
    loop.reactor.run()
    assert [failure.type for failure in reports.twisted] == [SystemExit]
    assert len(reports.asyncio) == 1
    reports.clear()


def test_an_error_in_a_callback_reaches_both_logs_once(run: Runner, reports: Reports) -> None:
    """It goes to the exception handler, whose default tells stdlib logging and the Twisted log, and nothing stops."""

    async def main() -> str:
        run.loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.01)
        return "still here"

    assert run(main) == "still here"
    assert [failure.type for failure in reports.twisted] == [ZeroDivisionError]
    assert "test_loop.py" in reports.twisted[0].traceback
    assert [record.exc_info[0] for record in reports.asyncio if record.exc_info] == [ZeroDivisionError]
    reports.clear()


def test_an_exception_handler_of_the_user_replaces_both_logs(run: Runner) -> None:
    """``set_exception_handler`` works as in asyncio: nothing else is told."""
    contexts: list[dict[str, Any]] = []
    run.loop.set_exception_handler(lambda loop, context: contexts.append(context))

    async def main() -> None:
        run.loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.01)

    run(main)
    assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]


def test_call_exception_handler_works_after_close(loop: ReactorEventLoop, reports: Reports) -> None:
    """A late report, from a destructor most likely, is still a report."""
    loop.close()
    loop.call_exception_handler({"message": "late"})
    assert [record.getMessage() for record in reports.asyncio] == ["late"]
    assert [failure.value for failure in reports.twisted] == ["late"]
    reports.clear()


def test_a_lost_task_is_reported_to_both_logs(run: Runner, reports: Reports) -> None:
    """An exception that nobody retrieved is a failure in the Twisted log as well."""

    async def lost() -> None:
        raise LookupError("lost")

    async def main() -> None:
        asyncio.ensure_future(lost())
        await asyncio.sleep(0.01)
        gc.collect()

    run(main)
    assert [failure.type for failure in reports.twisted] == [LookupError]
    assert "never retrieved" in reports.asyncio[0].getMessage()
    reports.clear()


def test_a_slow_callback_is_named_in_debug_mode(run: Runner, reports: Reports) -> None:
    """The warning names the user's function, not one of ours."""
    run.loop.set_debug(True)
    run.loop.slow_callback_duration = 0.01

    def slow_function_of_the_user() -> None:
        time.sleep(0.03)

    async def main() -> None:
        run.loop.call_soon(slow_function_of_the_user)
        await asyncio.sleep(0.05)

    run(main)
    assert any("slow_function_of_the_user" in record.getMessage() for record in reports.asyncio)
    reports.clear()


def test_a_call_from_a_wrong_thread_is_refused_in_debug_mode(run: Runner) -> None:
    """``call_soon`` and ``call_later`` belong to the loop's thread."""
    run.loop.set_debug(True)
    run.loop.slow_callback_duration = 60.0  # a machine under load is not what this is about

    async def main() -> None:
        for use in (run.loop.call_soon, print), (run.loop.call_later, 1, print), (run.loop.call_at, 1, print):
            with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
                await run.loop.run_in_executor(None, *use)

    run(main)


def test_debug_mode_names_the_callers_frame(loop: ReactorEventLoop) -> None:
    """A handle's source traceback ends where the user scheduled it."""
    loop.set_debug(True)
    handles = [loop.call_soon(print), loop.call_later(9, print), loop.call_at(loop.time() + 9, print)]
    for handle in handles:
        assert handle._source_traceback[-1].name == "test_debug_mode_names_the_callers_frame"  # type: ignore[attr-defined]
        handle.cancel()


# Scheduling


def test_callbacks_run_in_order(run: Runner) -> None:
    """First in, first out: fifty callbacks that are added at one moment, and those of two rounds."""
    ran: list[object] = []

    async def main() -> None:
        for i in range(50):
            run.loop.call_soon(lambda i=i: (ran.append(i), run.loop.call_soon(ran.append, 100 + i)))
        await asyncio.sleep(0.01)

    run(main)
    assert ran == [*range(50), *range(100, 150)]


def test_callbacks_from_twisted_run_in_order(run: Runner) -> None:
    """A callback of the reactor that schedules several finds them run in that order, after itself."""
    ran: list[object] = []
    done = asyncio.Event()

    def from_twisted() -> None:
        for i in range(50):
            run.loop.call_soon(ran.append, i)
        run.loop.call_soon(done.set)
        assert ran == []

    async def main() -> None:
        run.reactor.callLater(0.001, from_twisted)
        await done.wait()

    run(main)
    assert ran == list(range(50))


def test_timers_run_when_they_are_due(run: Runner) -> None:
    """In the order of their times, not of their creation, and never early."""
    ran: list[tuple[str, float]] = []

    async def main() -> None:
        start = run.loop.time()
        for name, delay in ("b", 0.02), ("a", 0.01), ("now", 0), ("past", -5), ("d", 0.04), ("c", 0.03):
            run.loop.call_at(start + delay, lambda name=name: ran.append((name, run.loop.time() - start)))
        await asyncio.sleep(0.06)

    run(main)
    assert [name for name, _ in ran] == ["past", "now", "a", "b", "c", "d"]
    for (_, took), due in zip(ran, (0, 0, 0.01, 0.02, 0.03, 0.04), strict=True):
        assert took >= due - 0.001


def test_a_cancelled_timer_does_not_run(run: Runner) -> None:
    """Neither one in the future nor one that was due in the same round."""
    ran: list[str] = []

    async def main() -> None:
        now = run.loop.time()
        handle = run.loop.call_at(now + 0.005, ran.append, "cancelled")
        run.loop.call_at(now + 0.001, handle.cancel)
        soon = run.loop.call_soon(ran.append, "cancelled")
        soon.cancel()
        await asyncio.sleep(0.02)

    run(main)
    assert ran == []


@pytest.mark.parametrize("delay", [1e12, float("inf")])
def test_a_timer_of_a_million_years_is_kept(run: Runner, delay: float) -> None:
    """A delay beyond what the kernel or Twisted can wait for is no error, and it can be cancelled."""

    async def main() -> None:
        handle = run.loop.call_later(delay, print)
        await asyncio.sleep(0.01)
        handle.cancel()

    run(main)


@pytest.mark.parametrize("reactor", ["epoll", "select"], indirect=True)
@pytest.mark.parametrize("poller_factory", ["own"], indirect=True)
def test_there_is_one_delayed_call_at_most(run: Runner) -> None:
    """20,000 timers and 20,000 callbacks are the loop's own affair."""
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, len(run.reactor.getDelayedCalls()))

    async def main() -> None:
        look()
        ran: list[int] = []
        timers = [run.loop.call_later(60 + i, look) for i in range(20_000)]
        for i in range(20_000):
            run.loop.call_soon(ran.append, i)
        look()
        await asyncio.sleep(0.001)
        look()
        for timer in timers:
            timer.cancel()
        await asyncio.sleep(0)
        assert len(ran) == 20_000
        assert len(run.loop._timers) < 1000

    run(main)
    assert most <= 1


def test_an_idle_loop_holds_no_delayed_call(run: Runner) -> None:
    """trial fails a test that leaves one."""
    woken: list[list[Any]] = []

    async def main() -> None:
        done = run.loop.create_future()

        def look() -> None:
            woken.append(run.reactor.getDelayedCalls())
            run.loop.call_soon_threadsafe(done.set_result, None)

        threading.Timer(0.05, run.reactor.callFromThread, [look]).start()
        await done

    run(main)
    assert woken == [[]]


def test_a_busy_loop_does_not_starve_the_reactor(run: Runner) -> None:
    """A callback that always schedules itself leaves the reactor its turn, again and again."""
    turns = 0

    async def main() -> None:
        nonlocal turns
        rounds = 0
        finished = run.loop.create_future()

        def again() -> None:
            nonlocal rounds
            rounds += 1
            began = time.monotonic()
            while time.monotonic() < began + QUIET_S / 4:
                pass
            if turns < 5:
                run.loop.call_soon(again)
            else:
                finished.set_result(rounds)

        def turn() -> None:
            nonlocal turns
            turns += 1
            run.reactor.callLater(0, turn) if turns < 5 else None

        again()
        turn()
        assert await finished <= 8 * (ROUNDS_PER_TICK + 4)

    run(main)
    assert turns == 5


def test_a_busy_reactor_does_not_starve_the_loop(run: Runner) -> None:
    """A DelayedCall that always makes another leaves asyncio its turn."""

    async def main() -> None:
        calls = 0
        going = True

        def again() -> None:
            nonlocal calls
            calls += 1
            if going:
                run.reactor.callLater(0, again)

        again()
        for _ in range(50):
            await asyncio.sleep(0.0001)
        going = False
        await asyncio.sleep(0.01)
        assert calls > 10

    run(main)


def test_context_variables_are_kept(run: Runner) -> None:
    """A callback runs in the context that it was scheduled in, or was given."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def main() -> None:
        variable.set("task")
        run.loop.call_soon(lambda: seen.append(variable.get()))
        run.loop.call_later(0.001, lambda: seen.append(variable.get()))
        other = contextvars.Context()
        run.loop.call_soon(lambda: seen.append(variable.get()), context=other)
        run.loop.call_at(0, lambda: seen.append(variable.get()), context=other)
        run.loop.call_soon_threadsafe(lambda: seen.append(variable.get()), context=other)
        await asyncio.sleep(0.01)

    run(main)
    assert sorted(seen) == ["task", "task", "unset", "unset", "unset"]


# Other threads


def test_a_thread_wakes_a_sleeping_reactor(run: Runner) -> None:
    """``call_soon_threadsafe`` does not wait for the next timer, here one of an hour."""

    async def main() -> None:
        run.loop.call_later(3600, print)
        done = run.loop.create_future()
        threading.Timer(0.05, lambda: run.loop.call_soon_threadsafe(done.set_result, None)).start()
        await asyncio.wait_for(done, 30)

    run(main)


def test_a_thread_wakes_a_reactor_that_was_idle_for_minutes(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes pass on every clock while the reactor sleeps, with nothing to wake it but the thread."""
    offset = 0.0
    seconds = reactor.seconds
    monkeypatch.setattr(reactor, "seconds", lambda: seconds() + offset)
    loop = ReactorEventLoop(reactor)
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + offset)
    woken: list[float] = []

    def other_thread() -> None:
        nonlocal offset
        offset = 600.0
        loop.call_soon_threadsafe(lambda: (woken.append(loop.time() - start), loop.stop()))

    thread = threading.Timer(0.1, other_thread)
    start = loop.time()
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join(30)
    assert 600 < woken[0] < 660
    loop.close()


def test_a_call_from_a_thread_before_the_start_is_kept(run: Runner) -> None:
    """The reactor is woken only while it runs; the loop finds what was scheduled before."""
    ran: list[str] = []
    thread = threading.Thread(target=run.loop.call_soon_threadsafe, args=(ran.append, "kept"))
    thread.start()
    thread.join()

    async def main() -> None:
        await asyncio.sleep(0)

    run(main)
    assert ran == ["kept"]


def test_the_executor_is_shut_down(run: Runner) -> None:
    """At the end of ``asyncio.run`` and of the reactor alike."""

    async def main() -> int:
        return await asyncio.get_running_loop().run_in_executor(None, threading.get_ident)

    assert run(main) != threading.get_ident()
    if run.mode == "asyncio-first":
        run.loop.run_until_complete(run.loop.shutdown_default_executor())


# Nested reactor iterations


def test_a_nested_reactor_iteration_steps_no_task(run: Runner) -> None:
    """A dialog inside a callback iterates the reactor: no other asyncio callback runs, and nothing spins or is lost."""
    ran: list[str] = []
    inside: list[list[str]] = []

    async def other() -> None:
        ran.append("other")

    async def main() -> None:
        task = asyncio.ensure_future(other())
        run.loop.call_soon_threadsafe(ran.append, "from a thread")
        for _ in range(5):
            run.reactor.iterate(0.001)
        inside.append(list(ran))
        await task
        await asyncio.sleep(0.01)

    run(main)
    assert inside == [[]]
    assert ran == ["other", "from a thread"]


def test_a_nested_reactor_iteration_serves_twisted(run: Runner) -> None:
    """Inside a callback, an iterated reactor still runs its own calls."""
    ran: list[str] = []

    async def main() -> None:
        run.reactor.callLater(0, ran.append, "call")
        deferred: Deferred[None] = Deferred()
        deferred.addCallback(lambda _: ran.append("deferred"))
        run.reactor.callLater(0, deferred.callback, None)
        for _ in range(3):
            run.reactor.iterate()
        assert ran == ["call", "deferred"]

    run(main)


# Descriptors


def test_readers_and_writers_of_socket_objects(run: Runner) -> None:
    """A socket object is as good as its number, to add, replace and remove."""
    left, right = socket.socketpair()
    called: list[str] = []

    async def main() -> None:
        run.loop.add_reader(left, called.append, "old")
        run.loop.add_reader(left, lambda: called.append(f"new {left.recv(10)!r}"))
        right.send(b"x")
        await asyncio.sleep(0.01)
        assert called == ["new b'x'"]
        assert run.loop.remove_reader(left)
        assert not run.loop.remove_reader(left.fileno())
        run.loop.add_writer(left.fileno(), called.append, "writable")
        await asyncio.sleep(0.01)
        assert "writable" in called
        assert run.loop.remove_writer(left)

    run(main)
    left.close()
    right.close()


def test_a_socket_that_was_closed_first_can_be_removed(reactor: Any) -> None:
    """By the object, which does not know its number any more."""
    loop = ReactorEventLoop(reactor)
    left, right = socket.socketpair()
    loop.add_reader(left, print)
    left.close()
    assert loop.remove_reader(left)
    loop.close()
    right.close()


# Clocks


def test_a_step_of_the_wall_clock_does_not_move_a_timer(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reactor's clock is the wall's: set back by an hour during a sleep, it does not hold asyncio's timer up."""
    offset = 0.0
    real = reactor.seconds
    monkeypatch.setattr(reactor, "seconds", lambda: real() + offset)
    loop = ReactorEventLoop(reactor)

    async def main() -> float:
        nonlocal offset
        start = time.monotonic()
        for step in -3600.0, 7200.0, -3600.0:
            sleep = asyncio.ensure_future(asyncio.sleep(0.03))
            await asyncio.sleep(0)
            offset += step
            await sleep
        return time.monotonic() - start

    assert 0.09 <= loop.run_until_complete(main()) < 30
    loop.close()


def test_time_is_read_through_the_method(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of users patch ``loop.time``; timers go by it."""
    real = run.loop.time
    offset = 0.0
    monkeypatch.setattr(run.loop, "time", lambda: real() + offset)

    async def main() -> None:
        nonlocal offset
        sleep = asyncio.ensure_future(asyncio.sleep(3600))
        await asyncio.sleep(0)
        offset = 3600
        await sleep

    run(main)


def test_a_fake_reactors_clock_drives_the_loop() -> None:
    """On MemoryReactorClock nothing waits: time is what the test makes it."""
    clock = MemoryReactorClock()
    loop = ReactorEventLoop(clock)
    try:
        ran: list[float] = []

        async def main() -> None:
            for _ in range(3):
                await asyncio.sleep(10)
                ran.append(loop.time())

        task = loop.create_task(main())
        clock.advance(0)
        clock.pump([5] * 7)
        assert ran == [10, 20, 30]
        assert task.done()
        assert clock.getDelayedCalls() == []
    finally:
        loop.close()


# What is given back


@pytest.mark.parametrize("times", [1, 20])
def test_an_unclosed_loop_warns_and_gives_everything_back(times: int) -> None:
    """As asyncio's own loops do when they are collected, in whatever order the collector takes their parts."""
    for _ in range(times):
        loop = new_event_loop(private=True)
        loop.run_until_complete(asyncio.sleep(0))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del loop
            gc.collect()
        assert [str(warning.message) for warning in caught if "unclosed event loop" not in str(warning.message)] == []
        assert len(caught) == 1


def test_an_unclosed_loop_does_not_disturb_the_interpreters_end() -> None:
    """Nothing is printed if a loop is collected when hardly anything is left, or not at all."""
    program = (
        "import threading, txasync\n"
        "loop = txasync.new_event_loop(private=True)\n"
        "threading.main_thread().loop = txasync.new_event_loop(private=True)\n"
        "kept = [txasync.new_event_loop(private=True)]\n"
        "kept.append(kept)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_reactor_that_watches_no_descriptors_is_refused() -> None:
    """The error names the reactor and says what to use."""
    from twisted.internet.task import Clock

    with pytest.raises(TypeError, match=r"IReactorFDSet.*Clock.*use"):
        ReactorEventLoop(Clock())


def test_a_reactor_without_timed_calls_is_refused() -> None:
    """By a message that names what to use; nothing is left of the attempt."""
    reactor: Any = MemoryReactor()
    with pytest.raises(TypeError, match=r"IReactorTime.*MemoryReactorClock"):
        ReactorEventLoop(reactor)
