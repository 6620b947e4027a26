"""Signals and children: shared with the reactor, in both modes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.utils import getProcessValue

import txasync
from txasync import ReactorEventLoop

from .conftest import Reports, Runner


def future_of(deferred: Deferred[Any], loop: asyncio.AbstractEventLoop) -> asyncio.Future[Any]:
    """The result of *deferred*, for a task."""
    future: asyncio.Future[Any] = loop.create_future()
    deferred.addCallbacks(future.set_result, lambda failure: future.set_exception(failure.value))
    return future


class Exit(ProcessProtocol):
    """Fires with the exit code of its process."""

    def __init__(self) -> None:
        self.ended: Deferred[int | None] = Deferred()

    def processEnded(self, reason: Any) -> None:
        self.ended.callback(reason.value.exitCode)


# Children


def test_children_of_both_worlds_at_once(run: Runner) -> None:
    """No exit is lost, whoever spawned the child, with handlers coming and going meanwhile."""

    async def main() -> None:
        ended = []
        for code in range(10):
            protocol = Exit()
            run.reactor.spawnProcess(protocol, "/bin/sh", ["sh", "-c", f"exit {code}"], env=None)
            ended.append(future_of(protocol.ended, run.loop))
            process = await asyncio.create_subprocess_exec("/bin/sh", "-c", f"exit {code}")
            ended.append(asyncio.ensure_future(process.wait()))
            run.loop.add_signal_handler(signal.SIGUSR1, print)
            assert run.loop.remove_signal_handler(signal.SIGUSR1)
        codes = await asyncio.wait_for(asyncio.gather(*ended), 30)
        assert codes == [code for code in range(10) for _ in "ta"]

    run(main)


def test_a_child_that_closes_its_output_before_it_exits(run: Runner) -> None:
    """Twisted hears of this exit by SIGCHLD alone, and sleeps until then."""

    async def main() -> None:
        await asyncio.sleep(0)
        deferred = getProcessValue("/bin/sh", ["-c", "exec >&- 2>&- <&-; sleep 0.1; exit 7"], reactor=run.reactor)
        assert await asyncio.wait_for(future_of(deferred, run.loop), 30) == 7

    run(main)


def test_an_asyncio_child_with_pipes(run: Runner) -> None:
    """What it writes is read to the end, and its exit code is right."""

    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(4)",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate(b"x" * 1_000_000)
        assert output == b"X" * 1_000_000
        assert process.returncode == 4

    run(main)


def test_children_without_the_reactors_signal_handlers(reactor: Any) -> None:
    """``reactor.run(installSignalHandlers=False)`` is a thing of Twisted's children only."""
    loop = txasync.install(reactor)
    codes: list[int] = []

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 3")
        codes.append(await process.wait())
        reactor.stop()

    reactor.callWhenRunning(lambda: loop.create_task(main()))
    reactor.run(installSignalHandlers=False)
    assert codes == [3]


def test_a_user_handler_of_sigchld_stays_in_use(loop: ReactorEventLoop) -> None:
    """One that was there before the run is called during it, and still there after it; Twisted hears, too."""
    came: list[int] = []

    def handler(signum: int, frame: object) -> None:
        came.append(signum)

    signal.signal(signal.SIGCHLD, handler)

    async def main() -> int:
        deferred = getProcessValue("/bin/sh", ["-c", "exec >&- 2>&- <&-; exit 7"], reactor=loop.reactor)
        return int(await asyncio.wait_for(future_of(deferred, loop), 30))

    assert loop.run_until_complete(main()) == 7
    assert came
    assert signal.getsignal(signal.SIGCHLD) is handler


# add_signal_handler


def test_a_signal_handler_runs_in_the_loop(run: Runner) -> None:
    """With its arguments, each time that the signal comes, until it is removed."""
    came: list[str] = []

    async def main() -> None:
        run.loop.add_signal_handler(signal.SIGUSR1, came.append, "usr1")
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.sleep(0.01)
        run.loop.add_signal_handler(signal.SIGUSR1, came.append, "replaced")
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0.01)
        assert run.loop.remove_signal_handler(signal.SIGUSR1)
        assert not run.loop.remove_signal_handler(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL

    run(main)
    assert came == ["usr1"] * 3 + ["replaced"]


def test_a_signal_wakes_a_sleeping_loop(run: Runner) -> None:
    """Nothing else happens meanwhile."""

    async def main() -> None:
        event = asyncio.Event()
        run.loop.add_signal_handler(signal.SIGUSR1, event.set)
        threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR1]).start()
        await asyncio.wait_for(event.wait(), 30)
        run.loop.remove_signal_handler(signal.SIGUSR1)

    run(main)


def test_the_wakeup_descriptor_stays_the_reactors(run: Runner) -> None:
    """``add_signal_handler`` and its removal leave ``signal.set_wakeup_fd`` alone."""

    async def main() -> None:
        await asyncio.sleep(0)
        theirs = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(theirs)
        assert theirs != -1
        run.loop.add_signal_handler(signal.SIGUSR1, print)
        run.loop.remove_signal_handler(signal.SIGUSR1)
        assert signal.set_wakeup_fd(theirs) == theirs

    run(main)


def test_sigchld_is_shared(run: Runner) -> None:
    """A handler for it is called, and neither world loses an exit while it is there or after it is removed."""
    came: list[str] = []

    async def children() -> None:
        deferred = getProcessValue("/bin/sh", ["-c", "exec >&- 2>&- <&-; exit 7"], reactor=run.reactor)
        process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 3")
        assert await asyncio.wait_for(process.wait(), 30) == 3
        assert await asyncio.wait_for(future_of(deferred, run.loop), 30) == 7

    async def main() -> None:
        await asyncio.sleep(0)
        run.loop.add_signal_handler(signal.SIGCHLD, came.append, "child")
        await children()
        assert came
        assert run.loop.remove_signal_handler(signal.SIGCHLD)
        await children()

    run(main)


def test_a_handler_added_before_the_start_survives_it(run: Runner) -> None:
    """The reactor takes SIGTERM and SIGCHLD when it starts; a handler of the user's is older."""
    came: list[str] = []
    run.loop.add_signal_handler(signal.SIGTERM, came.append, "term")
    run.loop.add_signal_handler(signal.SIGCHLD, came.append, "child")

    async def main() -> None:
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        deferred = getProcessValue("/bin/sh", ["-c", "exec >&- 2>&- <&-; exit 7"], reactor=run.reactor)
        assert await asyncio.wait_for(future_of(deferred, run.loop), 30) == 7
        await asyncio.sleep(0.01)

    run(main)
    assert set(came) == {"term", "child"}


def test_a_removed_handler_gives_the_signal_back_to_the_reactor(reactor: Any) -> None:
    """In a run of somebody else, SIGTERM is ``reactor.stop()`` again."""
    loop = txasync.install(reactor)

    async def main() -> None:
        theirs = signal.getsignal(signal.SIGTERM)
        loop.add_signal_handler(signal.SIGTERM, print)
        loop.remove_signal_handler(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == theirs
        os.kill(os.getpid(), signal.SIGTERM)

    reactor.callWhenRunning(lambda: loop.create_task(main()))
    reactor.run()
    assert loop.is_closed()


def test_close_removes_signal_handlers(loop: ReactorEventLoop) -> None:
    """What was there by default is there again."""
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_bad_signal_handlers_are_refused(loop: ReactorEventLoop) -> None:
    """With asyncio's errors; nothing is left of the attempt."""

    async def coroutine_function() -> None:
        """Never awaited."""

    not_a_number: Any = "SIGINT"
    for signum, error in (not_a_number, TypeError), (12345, ValueError), (0, ValueError):
        with pytest.raises(error):
            loop.add_signal_handler(signum, print)
    with pytest.raises(RuntimeError, match="cannot be caught"):
        loop.add_signal_handler(signal.SIGKILL, print)
    assert not loop.remove_signal_handler(signal.SIGKILL)
    with pytest.raises(TypeError, match="coroutines cannot be used"):
        loop.add_signal_handler(signal.SIGUSR1, coroutine_function)

    async def in_thread() -> None:
        await loop.run_in_executor(None, loop.add_signal_handler, signal.SIGUSR1, print)

    with pytest.raises(RuntimeError, match="main thread"):
        loop.run_until_complete(in_thread())
    loop.run_until_complete(loop.shutdown_default_executor())


# Ctrl-C


def interrupt_soon() -> None:
    """Ctrl-C, from outside, while the reactor sleeps."""
    threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT]).start()


def test_ctrl_c_ends_a_run_of_the_loop(loop: ReactorEventLoop) -> None:
    """A plain run raises KeyboardInterrupt, though the reactor would log it; the loop can be run again."""
    for _ in range(2):
        interrupt_soon()
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(30))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    interrupt_soon()
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    assert loop.run_until_complete(asyncio.sleep(0, "again")) == "again"


def test_ctrl_c_interrupts_a_callback(loop: ReactorEventLoop) -> None:
    """Code that does not come back is interrupted where it is, as in asyncio."""
    where: list[str] = []

    async def busy() -> None:
        interrupt_soon()
        try:
            threading.Event().wait(30)
        except KeyboardInterrupt:
            where.append("in the callback")
            raise

    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(busy())
    assert where == ["in the callback"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner, which handles Ctrl-C, is new in 3.11")
def test_ctrl_c_cancels_the_main_task_of_a_runner(reactor: Any) -> None:
    """Under ``asyncio.run`` the first Ctrl-C cancels the main task; KeyboardInterrupt is raised after its end."""
    ended: list[str] = []

    async def main() -> None:
        interrupt_soon()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            ended.append("cancelled")
            raise

    with pytest.raises(KeyboardInterrupt):
        txasync.run(main(), reactor=reactor)
    assert ended == ["cancelled"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner, which handles Ctrl-C, is new in 3.11")
def test_a_second_ctrl_c_ends_a_runner_at_once(reactor: Any) -> None:
    """A main task that does not end when it is cancelled is left, and the reactor's own wait does not swallow it."""

    async def main() -> None:
        interrupt_soon()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            interrupt_soon()
            await asyncio.sleep(30)
            raise

    with pytest.raises(KeyboardInterrupt):
        txasync.run(main(), reactor=reactor)


def test_ctrl_c_under_the_reactor_is_the_reactors(reactor: Any) -> None:
    """In a run of somebody else it is ``reactor.stop()``: tasks are cancelled and awaited."""
    ended: list[str] = []

    async def main() -> None:
        interrupt_soon()
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.01)
            ended.append("finally")

    loop = txasync.install(reactor)
    reactor.callWhenRunning(lambda: loop.create_task(main()))
    reactor.run()
    assert ended == ["finally"]


def test_a_run_of_the_loop_leaves_sigterm_alone(loop: ReactorEventLoop) -> None:
    """``reactor.run()`` would take it; under ``asyncio.run`` it does what it does without a reactor."""
    came: list[int] = []

    def handler(signum: int, frame: object) -> None:
        came.append(signum)

    seen: list[Any] = []

    async def main() -> None:
        await asyncio.sleep(0.01)
        seen.append(signal.getsignal(signal.SIGTERM))
        if seen == [signal.SIG_DFL, handler]:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.01)

    loop.run_until_complete(main())
    signal.signal(signal.SIGTERM, handler)
    loop.run_until_complete(main())
    assert seen == [signal.SIG_DFL, handler]
    assert came == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is handler


def test_stop_from_a_signal_handler(loop: ReactorEventLoop) -> None:
    """A Python handler of the user's may call ``loop.stop()``, asyncio's handlers too."""
    signal.signal(signal.SIGUSR1, lambda signum, frame: loop.stop())
    threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR1]).start()
    loop.run_forever()
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGUSR1]).start()
    loop.run_forever()


def test_signals_in_a_burst(run: Runner, reports: Reports) -> None:
    """A few hundred signals from outside, at any moment of the loop's work, disturb nothing."""
    came: list[int] = []

    async def main() -> None:
        run.loop.add_signal_handler(signal.SIGUSR1, came.append, 1)
        killer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", f"import os\nfor _ in range(500): os.kill({os.getpid()}, {signal.SIGUSR1:d})"
        )
        wait: Callable[[], Any] = killer.wait
        ended = asyncio.ensure_future(wait())
        while not ended.done():
            await asyncio.sleep(0.0001)
        assert ended.result() == 0
        await asyncio.sleep(0.01)
        run.loop.remove_signal_handler(signal.SIGUSR1)

    run(main)
    assert came
