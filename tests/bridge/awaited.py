"""What the tests of tasks await."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater


def soon(value: object = None, seconds: float = 0) -> Deferred[Any]:
    """A Deferred that the reactor of the running loop fires with *value*."""
    loop: Any = asyncio.get_running_loop()
    return deferLater(loop.reactor, seconds, lambda: value)


def fails_soon(error: BaseException) -> Deferred[Any]:
    """A Deferred in which a callback raises *error*."""

    def raises(_: object) -> None:
        raise error

    return soon().addCallback(raises)


class Outcome:
    """Something that weak references can watch."""


async def wait_for_it(deferred: Deferred[Any]) -> Any:
    return await deferred
