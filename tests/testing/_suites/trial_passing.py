"""Tests for trial, all of which pass: each says of AsyncTestCase what test_trial.py wants to be true."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import unittest
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater

import txasync
from txasync.testing import AsyncTestCase, IsolatedAsyncioTestCase

reactor: Any = installed
variable = contextvars.ContextVar("variable", default="unset")

# What tests leave for later ones to look at.
left: dict[str, Any] = {}


class CoroutineTests(AsyncTestCase):
    """All functions of the test are coroutines."""

    async def setUp(self) -> None:  # type: ignore[override]  # of unittest
        await super().setUp()
        self.loop = asyncio.get_running_loop()
        self.calls = ["setUp"]
        self.token = variable.set("by setUp")
        await deferLater(reactor, 0.001)

    async def asyncSetUp(self) -> None:
        await asyncio.sleep(0.001)
        assert variable.get() == "by setUp"
        variable.set("by asyncSetUp")
        self.calls.append("asyncSetUp")

    async def test_awaits_both(self) -> None:
        await self._await_both()
        await asyncio.create_task(self._await_both())
        assert asyncio.get_running_loop() is self.loop
        assert variable.get() == "by asyncSetUp"
        assert self.calls == ["setUp", "asyncSetUp"]

    async def _await_both(self) -> None:
        await asyncio.sleep(0.001)
        assert await deferLater(reactor, 0.001, lambda: 5) == 5

    async def test_cleanups(self) -> None:
        self.addCleanup(self._clean_up, 1)
        self.addAsyncCleanup(self._clean_up, number=2)
        self.addCleanup(self.calls.append, "ordinary")
        self.addCleanup(lambda: deferLater(reactor, 0.001, self.calls.append, "Deferred"))
        left["cleanups"] = self.calls

    async def _clean_up(self, number: int) -> None:
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(0.001)
        self.calls.append(f"cleanup {number}")

    async def test_cleanups_came_in_reverse(self) -> None:
        assert left["cleanups"][2:6] == ["Deferred", "ordinary", "cleanup 2", "cleanup 1"]
        assert left["cleanups"][6:] == ["asyncTearDown", "tearDown"]

    async def test_context_manager(self) -> None:
        left["manager"] = []

        @asynccontextmanager
        async def manager() -> AsyncIterator[int]:
            yield 5
            await asyncio.sleep(0.001)
            left["manager"].append("left")

        assert await self.enterAsyncContext(manager()) == 5
        try:
            await self.enterAsyncContext(5)  # type: ignore[arg-type]  # that is the point
        except TypeError:
            return
        raise AssertionError("5 is no context manager")

    async def test_context_manager_was_left(self) -> None:
        assert left["manager"] == ["left"]

    async def test_skipped(self) -> None:
        raise unittest.SkipTest("not today")

    async def test_todo(self) -> None:
        await asyncio.sleep(0.001)
        raise ValueError("expected")

    test_todo.todo = "some day"  # type: ignore[attr-defined]  # as trial has it

    async def asyncTearDown(self) -> None:
        await asyncio.sleep(0.001)
        self.calls.append("asyncTearDown")

    async def tearDown(self) -> None:  # type: ignore[override]  # of unittest
        await super().tearDown()
        self.calls.append("tearDown")
        if sys.version_info >= (3, 11):
            variable.reset(self.token)


class OrdinaryFunctionTests(AsyncTestCase):
    """No function of the test is a coroutine."""

    def setUp(self) -> None:
        super().setUp()
        self.loop = asyncio.get_running_loop()
        variable.set("by setUp")

    def test_runs_in_the_loop(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        assert txasync.get_event_loop() is self.loop
        assert variable.get() == "by setUp"
        assert asyncio.current_task() is None

    def test_returns_a_deferred(self) -> Deferred[None]:
        self.fired: list[str] = []
        self.addCleanup(self._look_at_what_fired)
        return deferLater(reactor, 0.001, self.fired.append, "it")

    def _look_at_what_fired(self) -> None:
        assert self.fired == ["it"]

    def test_returns_a_fired_deferred(self) -> Deferred[None]:
        return succeed(None)

    def test_returns_a_task(self) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(asyncio.sleep(0.001))

    def tearDown(self) -> None:
        super().tearDown()
        assert asyncio.get_running_loop() is self.loop
        assert variable.get() == "by setUp"


class LeavingTests(AsyncTestCase):
    """What a test leaves is ended; the names are in the order in which they run."""

    async def test_1_leaves_much(self) -> None:
        left.update(loop=asyncio.get_running_loop(), ended=[])

        async def never(wait: Any) -> None:
            try:
                await wait
            finally:
                await asyncio.sleep(0.001)
                left["ended"].append("task")

        async def numbers() -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0.001)
                left["ended"].append("generator")

        left["tasks"] = [
            asyncio.create_task(never(deferLater(reactor, 3600))),
            asyncio.create_task(never(asyncio.sleep(3600))),
        ]
        left["generator"] = numbers()
        assert await left["generator"].__anext__() == 1
        await asyncio.to_thread(lambda: left.update(thread=threading.current_thread()))
        asyncio.get_running_loop().call_later(3600, print)

    def test_2_all_of_it_was_ended(self) -> None:
        assert sorted(left["ended"]) == ["generator", "task", "task"]
        assert all(task.cancelled() for task in left["tasks"])

    def test_3_a_loop_of_its_own_was_closed(self) -> None:
        on_asyncio = type(reactor).__name__ == "AsyncioSelectorReactor"
        assert left["loop"].is_closed() is (not on_asyncio)
        assert (asyncio.get_running_loop() is left["loop"]) is on_asyncio
        assert left["thread"].is_alive() is on_asyncio

    async def test_4_streams(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"hello"
        writer.close()
        await writer.wait_closed()
        server.close()


class ErrorTests(AsyncTestCase):
    """What asyncio's callbacks raise."""

    async def test_an_error_can_be_flushed(self) -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.001)
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1


@unittest.skip("as a whole")
class SkippedTests(AsyncTestCase):
    """Nothing of it runs."""

    async def test_it(self) -> None:
        raise AssertionError("this was to be skipped")


class IsolatedTests(IsolatedAsyncioTestCase):
    """Between the others: whose loop is on the same reactor, if that can be."""

    async def test_awaits_both_on_a_loop_of_its_own(self) -> None:
        loop: Any = asyncio.get_running_loop()
        await asyncio.sleep(0.001)
        assert (loop.reactor is reactor) is (type(reactor).__name__ != "AsyncioSelectorReactor")
        await deferLater(loop.reactor, 0.001)


class PlainTests(unittest.TestCase):
    """After the others: no loop runs."""

    def test_a_program_of_asyncios(self) -> None:
        asyncio.run(asyncio.sleep(0.001))
