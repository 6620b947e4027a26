"""Tests for every runner of the standard library's test cases: the class is imported from here or from there."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

from twisted.internet.task import deferLater

import txasync
from txasync.testing import IsolatedAsyncioTestCase

variable = contextvars.ContextVar("variable", default="unset")
loops: list[Any] = []


class LoopTests(IsolatedAsyncioTestCase):
    """Each test has a loop on the process's reactor."""

    def setUp(self) -> None:
        variable.set("by setUp")

    async def asyncSetUp(self) -> None:
        self.token = variable.set("by asyncSetUp")
        loops.append(asyncio.get_running_loop())

    async def test_awaits_both(self) -> None:
        from twisted.internet import reactor

        loop: Any = asyncio.get_running_loop()
        assert loop is loops[-1]
        assert loop.reactor is reactor
        assert loop.get_debug()
        await asyncio.sleep(0.001)
        await deferLater(loop.reactor, 0.001)
        assert variable.get() == "by asyncSetUp"

    async def test_leaves_a_task(self) -> None:
        self.task = asyncio.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0)
        self.addAsyncCleanup(asyncio.sleep, 0.001)

    async def test_that_each_has_its_own(self) -> None:
        assert len(set(loops)) == len(loops)
        assert all(loop.is_closed() for loop in loops[:-1])

    def test_without_async(self) -> None:
        assert type(loops[-1]) is txasync.ReactorEventLoop

    async def asyncTearDown(self) -> None:
        variable.reset(self.token)

    @classmethod
    def tearDownClass(cls) -> None:
        assert len(loops) == 4
        assert loops[-1].is_closed()
