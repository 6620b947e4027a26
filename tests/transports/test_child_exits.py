"""How a loop hears of the end of its children: by descriptor, and by thread."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from txasync import ReactorEventLoop
from txasync.transports import _child_exits
from txasync.transports._child_exits import ChildExits, reap

from ..conftest import Runner


@pytest.fixture(params=["descriptor", "thread"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to wait."""
    if request.param == "thread":
        monkeypatch.delattr(os, "pidfd_open")
    way: str = request.param
    return way


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Children to be seen to when the test is over; they have been reaped by then."""
    children: list[subprocess.Popen[bytes]] = []
    yield children
    for child in children:
        assert is_reaped(child.pid)
        child.returncode = 0  # no warning from Popen, which has not heard of it


def is_reaped(pid: int) -> bool:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


async def exit_of(loop: ReactorEventLoop, child: subprocess.Popen[bytes]) -> int | None:
    """What `ChildExits` tells of *child*."""
    told: asyncio.Future[int | None] = loop.create_future()

    def exited(returncode: int | None) -> None:
        assert threading.current_thread() is threading.main_thread()
        assert is_reaped(child.pid)
        told.set_result(returncode)

    ChildExits(loop._services).watch(child.pid, exited)
    return await told


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("command", "returncode"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -signal.SIGKILL), ("kill -STOP $$", -15)]
)
def test_an_exit_is_told_once_with_the_return_code(
    run: Runner, children: list[subprocess.Popen[bytes]], command: str, returncode: int
) -> None:
    """As ``subprocess`` has it, negative for a signal; being stopped is no end."""

    async def main() -> None:
        child = subprocess.Popen(["/bin/sh", "-c", command])
        children.append(child)
        if "STOP" in command:
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
            run.loop.call_soon(child.terminate)
            run.loop.call_soon(child.send_signal, signal.SIGCONT)
        assert await exit_of(run.loop, child) == returncode

    run(main)


@pytest.mark.usefixtures("way")
def test_a_child_that_somebody_else_has_reaped_has_no_return_code(
    run: Runner, children: list[subprocess.Popen[bytes]]
) -> None:
    """Its end is told nevertheless."""

    async def main() -> None:
        child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
        children.append(child)
        assert child.stdin is not None
        telling = asyncio.ensure_future(exit_of(run.loop, child))
        await asyncio.sleep(0)
        child.stdin.close()
        child.wait()
        assert await telling is None

    run(main)


@pytest.mark.usefixtures("way")
def test_a_child_that_was_reaped_before_is_told_as_well(run: Runner, children: list[subprocess.Popen[bytes]]) -> None:
    """There is no descriptor for it any more, and nothing to wait for."""

    async def main() -> None:
        child = subprocess.Popen(["/bin/true"])
        children.append(child)
        child.wait()
        assert await exit_of(run.loop, child) is None

    run(main)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSYS, errno.EPERM])
def test_without_a_descriptor_a_thread_waits(
    run: Runner, children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The descriptor limit, an old kernel and a guarded one are no reason to lose a child."""

    def refuse(pid: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refuse)

    async def main() -> None:
        child = subprocess.Popen(["/bin/sh", "-c", "exit 3"])
        children.append(child)
        assert await exit_of(run.loop, child) == 3

    run(main)


def test_a_descriptor_that_cannot_be_watched_is_closed(
    run: Runner, children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a thread waits."""

    def refuse(fd: int, callback: Any) -> None:
        raise OSError(errno.ENOSPC, "no watches left")

    async def main() -> None:
        child = subprocess.Popen(["/bin/sh", "-c", "exit 3"])
        children.append(child)
        with monkeypatch.context() as refusing:
            refusing.setattr(run.loop._poller, "set_reader", refuse)
            telling = asyncio.ensure_future(exit_of(run.loop, child))
            await asyncio.sleep(0)
        assert await telling == 3

    run(main)


def test_a_descriptor_that_is_ready_too_early_is_watched_on(
    run: Runner, children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a debugger sees the child's end before we may; the loop does not block meanwhile."""
    calls: list[int] = []

    def not_yet(pid: int) -> tuple[bool, int | None]:
        calls.append(pid)
        return (False, None) if len(calls) < 3 else reap(pid)

    monkeypatch.setattr(_child_exits, "reap", not_yet)

    async def main() -> None:
        child = subprocess.Popen(["/bin/true"])
        children.append(child)
        assert await exit_of(run.loop, child) == 0

    run(main)
    assert len(calls) == 3


def test_a_running_child_is_not_reaped() -> None:
    """`reap` does not wait."""
    child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
    assert child.stdin is not None
    assert reap(child.pid) == (False, None)
    child.stdin.close()
    child.wait()


@pytest.mark.usefixtures("way")
def test_what_the_callable_raises_is_reported(run: Runner, children: list[subprocess.Popen[bytes]]) -> None:
    """The exit counts as told."""

    async def main() -> None:
        reported: asyncio.Future[Any] = run.loop.create_future()
        run.loop.set_exception_handler(lambda _, context: reported.set_result(context["exception"]))
        child = subprocess.Popen(["/bin/true"])
        children.append(child)
        ChildExits(run.loop._services).watch(child.pid, lambda returncode: 1 / 0)
        assert isinstance(await reported, ZeroDivisionError)

    run(main)


@pytest.mark.usefixtures("way")
def test_system_exit_out_of_the_callable_ends_the_run(
    loop: ReactorEventLoop, children: list[subprocess.Popen[bytes]]
) -> None:
    """As out of any callback."""

    def leave(returncode: int | None) -> None:
        raise SystemExit(returncode)

    async def main() -> None:
        child = subprocess.Popen(["/bin/sh", "-c", "exit 5"])
        children.append(child)
        ChildExits(loop._services).watch(child.pid, leave)
        await asyncio.get_running_loop().create_future()

    task = loop.create_task(main())
    with pytest.raises(SystemExit, match="5"):
        loop.run_until_complete(task)
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))


def test_a_child_that_outlives_its_loop_is_reaped_by_its_thread(
    loop: ReactorEventLoop, monkeypatch: pytest.MonkeyPatch, children: list[subprocess.Popen[bytes]]
) -> None:
    """Nobody is told, and no zombie stays."""
    monkeypatch.delattr(os, "pidfd_open")
    before = set(threading.enumerate())
    child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
    children.append(child)
    ChildExits(loop._services).watch(child.pid, lambda returncode: 1 / 0)
    (waiting,) = set(threading.enumerate()) - before
    assert waiting.daemon
    loop.close()
    assert child.stdin is not None
    child.stdin.close()
    waiting.join(20)
    assert not waiting.is_alive()
    gc.collect()
