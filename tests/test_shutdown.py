"""The reactor's end with asyncio work in flight: all is ended, in order, within a bound, and nothing silently."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

import txasync
from txasync import ReactorEventLoop

from .conftest import Reports
from .test_running import in_child


@pytest.fixture
def installed(reactor: Any) -> Iterator[ReactorEventLoop]:
    """The loop of a reactor that is to be run by ``reactor.run()``."""
    loop = txasync.install(reactor)
    assert isinstance(loop, ReactorEventLoop)
    yield loop
    assert loop.is_closed()


def run_and_stop(loop: ReactorEventLoop, coroutine: Any, delay_s: float = 0.02) -> None:
    """Run the loop's reactor with *coroutine* as a task, and stop it while that is in flight."""
    reactor = loop.reactor
    tasks: list[Any] = []
    reactor.callWhenRunning(lambda: tasks.append(loop.create_task(coroutine)))
    reactor.callLater(delay_s, reactor.stop)
    reactor.run()


def test_tasks_are_cancelled_and_awaited(installed: ReactorEventLoop) -> None:
    """Their ``finally`` blocks run, to the end, on a loop that still works; so do asynchronous generators'."""
    ended: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0.001)
            ended.append("generator")

    async def main() -> None:
        generator = numbers()
        await generator.__anext__()
        generators.append(generator)
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.001)
            assert await installed.run_in_executor(None, threading.get_ident) != threading.get_ident()
            ended.append("task")

    generators: list[Any] = []
    run_and_stop(installed, main())
    assert ended == ["task", "generator"]


def test_tasks_that_start_in_the_end_are_ended_too(installed: ReactorEventLoop) -> None:
    """A ``finally`` block that starts a task does not leave it behind."""
    ended: list[str] = []

    async def late() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("late")

    async def main() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            tasks.append(asyncio.ensure_future(late()))
            await asyncio.sleep(0)

    tasks: list[Any] = []
    run_and_stop(installed, main())
    assert ended == ["late"]


def test_users_triggers_come_first_wherever_they_stand(reactor: Any) -> None:
    """
    "Before shutdown" triggers finish before a task is cancelled: those from before and after ``install()``, those
    that return a Deferred, and those that wait for asyncio's own work.
    """
    order: list[str] = []

    def slow_trigger(name: str) -> Deferred[None]:
        return deferLater(reactor, 0.02, order.append, name)

    def asyncio_trigger() -> Deferred[None]:
        deferred: Deferred[None] = Deferred()

        async def cleanup() -> None:
            await asyncio.sleep(0.03)
            order.append("awaited by a trigger")

        asyncio.ensure_future(cleanup()).add_done_callback(lambda task: deferred.callback(None))
        return deferred

    reactor.addSystemEventTrigger("before", "shutdown", slow_trigger, "early")
    reactor.addSystemEventTrigger("before", "shutdown", asyncio_trigger)
    loop = txasync.install(reactor)
    reactor.addSystemEventTrigger("before", "shutdown", slow_trigger, "late")
    reactor.addSystemEventTrigger("before", "shutdown", order.append, "at once")
    reactor.addSystemEventTrigger("during", "shutdown", order.append, "during")
    reactor.addSystemEventTrigger("after", "shutdown", lambda: order.append(f"after, closed={loop.is_closed()}"))
    assert isinstance(loop, ReactorEventLoop)

    async def main() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            order.append("task")

    run_and_stop(loop, main())
    assert sorted(order[1:4]) == ["awaited by a trigger", "early", "late"]
    assert [order[0], *order[4:]] == ["at once", "task", "during", "after, closed=False"]


@pytest.mark.parametrize("delay_s", [None, 0.001])
def test_a_failing_trigger_does_not_hinder_the_end(
    installed: ReactorEventLoop, reports: Reports, delay_s: float | None
) -> None:
    """Neither one that raises, nor one whose Deferred fails: Twisted reports it once, and tasks are ended."""

    def fail() -> None:
        raise LookupError("in a trigger")

    def trigger() -> Deferred[None] | None:
        return fail() if delay_s is None else deferLater(installed.reactor, delay_s, fail)

    installed.reactor.addSystemEventTrigger("before", "shutdown", trigger)
    ended: list[str] = []

    async def main() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("task")

    run_and_stop(installed, main())
    assert ended == ["task"]
    gc.collect()
    assert [failure.type for failure in reports.twisted] == [LookupError]
    reports.clear()


def test_an_error_in_the_end_is_reported(installed: ReactorEventLoop, reports: Reports) -> None:
    """A task that fails while it is cancelled is no lost task."""

    async def main() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise LookupError("in the end")

    run_and_stop(installed, main())
    assert [failure.type for failure in reports.twisted] == [LookupError]
    assert len(reports.asyncio) == 1
    reports.clear()


def test_a_task_that_does_not_end_is_left_in_time_and_named(installed: ReactorEventLoop, reports: Reports) -> None:
    """The bound holds, and the report says which task it was."""
    installed.shutdown_timeout_s = 0.1

    async def stubborn_task_of_the_user() -> None:
        # That asyncio complains of a pending task, when it is collected, is another test's affair.
        asyncio.current_task()._log_destroy_pending = False  # type: ignore[union-attr]
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass

    start = time.monotonic()
    run_and_stop(installed, stubborn_task_of_the_user())
    assert time.monotonic() - start < 30
    (record,) = reports.asyncio
    assert "did not end in time" in record.getMessage()
    assert "stubborn_task_of_the_user" in record.getMessage()
    reports.clear()


def test_tasks_that_always_start_another_are_left_in_time(installed: ReactorEventLoop, reports: Reports) -> None:
    """The bound holds for them together."""
    installed.shutdown_timeout_s = 0.1
    going = True

    async def hydra() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            if going:
                tasks.append(asyncio.ensure_future(hydra()))
                await asyncio.sleep(0)

    tasks: list[Any] = []
    start = time.monotonic()
    run_and_stop(installed, hydra())
    assert time.monotonic() - start < 30
    going = False
    for task in tasks:
        task._log_destroy_pending = False
    tasks.clear()
    reports.clear()


def test_a_thread_that_does_not_end_does_not_hold_the_reactor_up() -> None:
    """The executor's threads are waited for within the bound, as asyncio itself does from 3.12 on."""
    printed = in_child(
        """
        import threading, time, warnings
        warnings.simplefilter("default")
        from twisted.internet import reactor
        import txasync
        loop = txasync.install()
        loop.shutdown_timeout_s = 0.2
        go_on = threading.Event()
        reactor.callWhenRunning(lambda: loop.run_in_executor(None, go_on.wait, 60))
        reactor.callLater(0.05, reactor.stop)
        start = time.monotonic()
        reactor.run()
        print("stopped", time.monotonic() - start < 30)
        go_on.set()
        """
    )
    assert "stopped True" in printed


def test_servers_and_connections_are_closed(installed: ReactorEventLoop) -> None:
    """What was written is sent, then ``connection_lost`` is called; nobody can connect any more."""
    lost: list[Exception | None] = []
    received: list[int] = []
    addresses: list[Any] = []

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.write(b"x" * 10_000_000)
            installed.reactor.callLater(0, installed.reactor.stop)

        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(exc)

    def read_all() -> None:
        with socket.create_connection(addresses[0]) as client:
            received.append(sum(map(len, iter(lambda: client.recv(65536), b""))))

    async def main() -> None:
        server = await installed.create_server(Server, "127.0.0.1", 0)
        addresses.append(server.sockets[0].getsockname())
        reader.start()

    reader = threading.Thread(target=read_all)
    installed.reactor.callWhenRunning(lambda: installed.create_task(main()))
    installed.reactor.run()
    reader.join(30)
    assert received == [10_000_000]
    assert lost == [None]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(addresses[0])


def test_a_peer_that_does_not_read_does_not_hold_the_end_up(installed: ReactorEventLoop) -> None:
    """What it has not taken within the bound is dropped."""
    installed.shutdown_timeout_s = 0.2
    lost: list[Any] = []

    class Writer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.write(b"x" * 50_000_000)

        def connection_lost(self, exc: Exception | None) -> None:
            lost.append(exc)

    left, right = socket.socketpair()

    async def main() -> None:
        keep.append(await installed.create_connection(Writer, sock=left))

    keep: list[Any] = []
    run_and_stop(installed, main())
    assert len(lost) == 1
    right.close()


def test_a_child_is_killed_and_reaped(installed: ReactorEventLoop) -> None:
    """A subprocess transport that is open is closed: no child is left, and no zombie."""
    pids: list[int] = []

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("/bin/sleep", "3600", stdout=subprocess.PIPE)
        pids.append(process.pid)
        keep.append(process)

    keep: list[Any] = []
    run_and_stop(installed, main(), delay_s=0.3)
    with pytest.raises(ProcessLookupError):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            os.kill(pids[0], 0)
            time.sleep(0.01)


def test_reactor_stop_before_anything_ran(installed: ReactorEventLoop) -> None:
    """A reactor that stops in its first turn ends the loop like any other."""
    installed.reactor.callWhenRunning(installed.reactor.stop)
    installed.reactor.run()
    assert installed.is_closed()


def test_a_loop_that_is_installed_in_the_end(reactor: Any) -> None:
    """A "before shutdown" trigger may still ``install()``, and its task is ended like any other."""
    ended: list[str] = []
    loops: list[Any] = []

    async def main() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("task")

    def trigger() -> None:
        loops.append(txasync.install(reactor))
        tasks.append(loops[0].create_task(main()))
        loops[0].call_soon(ended.append, "call")

    tasks: list[Any] = []
    reactor.addSystemEventTrigger("before", "shutdown", trigger)
    reactor.callWhenRunning(reactor.stop)
    reactor.run()
    assert ended == ["call", "task"]
    assert loops[0].is_closed()
    with pytest.raises(RuntimeError, match="for ever"):
        txasync.install(reactor)


def test_twistd_like_daemons_end_cleanly() -> None:
    """In a process of its own, with the real reactor and warnings as errors: exit 0, and nothing on stderr."""
    printed = in_child(
        """
        import asyncio
        from twisted.internet import reactor
        import txasync
        async def serve():
            server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
            reactor.callLater(0.05, reactor.stop)
            try:
                await server.serve_forever()
            finally:
                print("cleaned up")
        txasync.install()
        reactor.callWhenRunning(lambda: tasks.append(asyncio.get_running_loop().create_task(serve())))
        tasks = []
        reactor.run()
        """
    )
    assert printed == "cleaned up\n"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.Runner is new in 3.11")
def test_a_runner_can_be_closed_after_reactor_stop(reactor: Any) -> None:
    """What the owner of the loop does in the end still works: the reactor is iterated by hand."""
    with pytest.raises(RuntimeError, match=r"reactor.stop\(\)"):
        with asyncio.Runner(loop_factory=lambda: txasync.new_event_loop(reactor)) as runner:
            runner.get_loop().call_soon(reactor.stop)
            runner.run(asyncio.sleep(3600))
    with asyncio.Runner(loop_factory=lambda: txasync.new_event_loop(private=True)) as runner:
        assert runner.run(asyncio.sleep(0, "other")) == "other"
