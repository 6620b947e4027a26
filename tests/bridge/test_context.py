"""Context variables where the two worlds meet."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred

import txasync

from ..conftest import Runner

variable = contextvars.ContextVar("variable", default="outside")


def fired_elsewhere(result: object) -> Deferred[Any]:
    """A Deferred that is fired in another context."""
    deferred: Deferred[Any] = Deferred()
    context = contextvars.copy_context()
    context.run(variable.set, "where it is fired")
    asyncio.get_running_loop().call_soon(deferred.callback, result, context=context)
    return deferred


def test_inline_callbacks_keep_their_context_over_tasks(run: Runner) -> None:
    """A Twisted generator has its variables after it has waited for a coroutine, which sees them, too."""
    seen: list[str] = []

    async def looks() -> None:
        await asyncio.sleep(0)
        seen.append(variable.get())
        variable.set("in the task")

    @defer.inlineCallbacks
    def generator() -> Any:
        variable.set("in the generator")
        yield txasync.as_deferred(looks())
        seen.append(variable.get())

    async def main() -> None:
        await generator()
        assert variable.get() == "outside"

    run(main)
    assert seen == ["in the generator", "in the generator"]


def test_twisted_coroutines_keep_their_context_over_futures(run: Runner) -> None:
    """So does one that ``Deferred.fromCoroutine`` has begun."""

    async def coroutine() -> str:
        variable.set("in the coroutine")
        await txasync.as_deferred(asyncio.sleep(0))
        return variable.get()

    async def main() -> str:
        return await Deferred.fromCoroutine(coroutine())

    assert run(main) == "in the coroutine"


def test_a_task_keeps_its_context_whoever_fires_the_deferred(run: Runner) -> None:
    """The context in which a Deferred is fired is not the task's."""

    async def main() -> str:
        variable.set("in the task")
        await fired_elsewhere(None)
        return variable.get()

    assert run(main) == "in the task"


def test_a_plain_callback_runs_in_the_context_of_who_fires_it(run: Runner) -> None:
    """As everywhere in Twisted."""

    async def main() -> str:
        variable.set("where it is added")
        return await fired_elsewhere(None).addCallback(lambda _: variable.get())

    assert run(main) == "where it is fired"


def test_a_callback_with_context_runs_where_it_was_bound(run: Runner) -> None:
    """For ``addCallback`` and ``callLater``; what it sets stays in its copy, for its next call."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        variable.set("where it is bound")

        def look(_: object = None) -> str:
            found = variable.get()
            variable.set("set before")
            return found

        bound = txasync.with_context(look)
        variable.set("later")
        assert await fired_elsewhere(None).addCallback(bound) == "where it is bound"
        later: Deferred[str] = Deferred()
        loop.reactor.callLater(0, lambda: later.callback(bound()))
        assert await later == "set before"
        assert variable.get() == "later"

    run(main)


def test_with_context_keeps_name_arguments_and_errors() -> None:
    """It is the same function otherwise."""

    def divide(dividend: int, divisor: int = 1) -> float:
        """Divide."""
        return dividend / divisor

    bound = txasync.with_context(divide)
    assert (bound.__name__, bound.__doc__) == ("divide", "Divide.")
    assert bound(6, divisor=3) == 2
    with pytest.raises(ZeroDivisionError):
        bound(1, 0)


def test_a_call_inside_of_a_call_is_refused() -> None:
    """A context cannot be entered twice, as Python says."""
    calls: list[Any] = []

    def calls_itself() -> None:
        calls.append(None)
        bound()

    bound = txasync.with_context(calls_itself)
    with pytest.raises(RuntimeError, match="already entered"):
        bound()
    assert len(calls) == 1
