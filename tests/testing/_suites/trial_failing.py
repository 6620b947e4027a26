"""Tests for trial, each of which fails in its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.task import deferLater

from txasync.testing import AsyncTestCase

reactor: Any = installed


class FailingTests(AsyncTestCase):
    """The lines that fail are to be seen."""

    async def test_assertion(self) -> None:
        await deferLater(reactor, 0)
        raise self.failureException("left is not right")

    async def test_error_further_down(self) -> None:
        await self._fail()

    async def _fail(self) -> None:
        await asyncio.sleep(0)
        raise ValueError("this line is shown")

    def test_ordinary_function(self) -> None:
        raise ValueError("this one too")

    async def test_callback(self) -> None:
        asyncio.get_running_loop().call_soon(self._fail_in_callback)
        await asyncio.sleep(0.001)

    def _fail_in_callback(self) -> None:
        raise LookupError("in a callback")

    async def test_abandoned_task(self) -> None:
        async def fail_when_cancelled() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                raise LookupError("when cancelled")

        self.task = asyncio.create_task(fail_when_cancelled())
        await asyncio.sleep(0.001)

    async def test_abandoned_generator(self) -> None:
        async def numbers() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                raise LookupError("when closed")

        self.generator = numbers()
        await self.generator.__anext__()

    async def test_generator(self) -> AsyncIterator[int]:
        yield 1

    def test_ordinary_generator(self) -> Iterator[int]:
        yield 1


class TimeLimitTests(AsyncTestCase):
    """Trial's time limit."""

    timeout = 0.3

    async def test_cancels(self) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.001)
            print("the test was cancelled")

    async def test_waits_for_the_end_as_long_again(self) -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                print("the test goes on")

    async def test_shows_what_it_fails_with_then(self) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise LookupError("at the time limit")

    async def tearDown(self) -> None:  # type: ignore[override]  # of unittest
        print("torn down")


class SetUpTests(AsyncTestCase):
    """A test that is not set up is cleaned up, not torn down, and its tasks end."""

    async def setUp(self) -> None:  # type: ignore[override]  # of unittest
        async def never() -> None:
            try:
                await deferLater(reactor, 3600)
            finally:
                print("the task ends")

        self.task = asyncio.create_task(never())
        self.addCleanup(print, "cleaned up")
        await asyncio.sleep(0.001)
        raise ValueError("in setUp")

    async def test_it(self) -> None:
        print("never run")

    async def tearDown(self) -> None:  # type: ignore[override]  # of unittest
        print("never torn down")
        print("torn down")


class TearDownTests(AsyncTestCase):
    """A test whose tearDown fails; then what is left cannot be ended, either."""

    async def test_it(self) -> None:
        async def fail_when_cancelled() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                print("the task ends")

        self.task = asyncio.create_task(fail_when_cancelled())
        await asyncio.sleep(0.001)

    async def tearDown(self) -> None:  # type: ignore[override]  # of unittest
        await asyncio.sleep(0.001)
        raise ValueError("in tearDown")
