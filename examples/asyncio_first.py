"""An asyncio program that uses Twisted: here, a timed call, a thread of the reactor's and a child process."""

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet.defer import Deferred

import txasync


def result_of(deferred: Deferred[Any]) -> asyncio.Future[Any]:
    """What *deferred* fires with, to be awaited."""
    future = asyncio.get_running_loop().create_future()
    deferred.addCallbacks(future.set_result, lambda failure: future.set_exception(failure.value))
    return future


async def main() -> None:
    """Everything of Twisted's works: the reactor is running, because the loop runs on it."""
    from twisted.internet import reactor, task, threads, utils

    print(await result_of(task.deferLater(reactor, 0.1, lambda: "a timed call")))
    print(await result_of(threads.deferToThread(lambda: "a thread")))
    print((await result_of(utils.getProcessOutput("/bin/echo", ["a child process"]))).decode().strip())


txasync.run(main())
