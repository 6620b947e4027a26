"""@deferred_coroutine: an ``async def`` as a function that returns a Deferred."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred

from txasync import deferred_coroutine

from ..conftest import Runner

one_reactor = pytest.mark.parametrize(("reactor", "poller_factory"), [("epoll", "own")], indirect=True)


async def later(result: object) -> Any:
    """Await one of either side, and return *result*."""
    await asyncio.sleep(0)
    deferred: Deferred[object] = Deferred()
    asyncio.get_running_loop().call_soon(deferred.callback, result)
    return await deferred


class Service:
    """Methods of each kind."""

    name = "instance"

    @deferred_coroutine
    async def method(self, number: int, *, key: str = "key") -> tuple[object, ...]:
        """What a method does."""
        result: tuple[object, ...] = await later((self.name, number, key))
        return result

    @staticmethod
    @deferred_coroutine
    async def static_outside(number: int) -> object:
        """What a static method does."""
        return await later(number)

    @deferred_coroutine
    @staticmethod
    async def static_inside(number: int) -> object:
        """What a static method does."""
        return await later(number)

    @classmethod
    @deferred_coroutine
    async def class_outside(cls, number: int) -> object:
        """What a class method does."""
        return await later((cls, number))

    @deferred_coroutine
    @classmethod
    async def class_inside(cls, number: int) -> object:
        """What a class method does."""
        return await later((cls, number))


@one_reactor
def test_a_decorated_function_returns_a_deferred(run: Runner) -> None:
    """Methods, static methods and class methods too, whichever decorator comes first, on the class and on instances."""

    async def main() -> None:
        service: Any = Service()
        static: Any = Service
        deferred = service.method(1)
        assert isinstance(deferred, Deferred)
        assert await deferred == ("instance", 1, "key")
        assert await Service.method(service, number=2, key="other") == ("instance", 2, "other")
        for owner in service, static:
            for method in owner.static_outside, owner.static_inside:
                assert await method(3) == 3
            for method in owner.class_outside, owner.class_inside:
                assert await method(4) == (Service, 4)

    run(main)


@one_reactor
def test_a_decorated_function_is_one_of_twisteds(run: Runner) -> None:
    """It can be given where Twisted takes functions that may return Deferreds; what it raises is a failure."""

    async def main() -> None:
        @deferred_coroutine
        async def doubled(number: int) -> int:
            await later(None)
            if number < 0:
                raise ValueError(number)
            return 2 * number

        assert await defer.succeed(1).addCallback(doubled).addCallback(doubled) == 4
        failures: list[object] = []
        await defer.maybeDeferred(doubled, -1).addErrback(lambda failure: failures.append(failure.type))
        assert failures == [ValueError]

    run(main)


def test_a_decorated_function_looks_like_the_one_that_was_decorated() -> None:
    """Name, docstring and signature are kept; but it is no coroutine function, as it returns a Deferred."""
    decorated = Service.method
    assert decorated.__name__ == "method"
    assert decorated.__qualname__ == "Service.method"
    assert decorated.__doc__ == "What a method does."
    assert decorated.__module__ == __name__
    assert list(inspect.signature(decorated).parameters) == ["self", "number", "key"]
    assert inspect.iscoroutinefunction(inspect.unwrap(decorated))
    assert not inspect.iscoroutinefunction(decorated)
    for name in "static_outside", "static_inside", "class_outside", "class_inside":
        method: Any = getattr(Service, name)
        assert (method.__name__, method.__doc__[:6]) == (name, "What a")
        assert not inspect.iscoroutinefunction(method)
        kind = staticmethod if name.startswith("static") else classmethod
        assert isinstance(vars(Service)[name], kind)


def test_types_are_kept() -> None:
    """The type checker knows arguments and result: each line is checked when this module is."""

    @deferred_coroutine
    async def typed(number: int, *, key: str) -> bytes:
        return (key * number).encode()

    as_annotated: Callable[..., Deferred[bytes]] = typed

    def only_checked() -> None:
        result: Deferred[bytes] = typed(1, key="key")
        result = typed("1", key="key")  # type: ignore[arg-type]  # which is to be noticed
        result = typed(1)  # type: ignore[call-arg]  # which is to be noticed
        wrong: Deferred[str] = typed(1, key="key")  # type: ignore[assignment]  # which is to be noticed
        del result, wrong

    assert callable(only_checked)
    assert as_annotated is typed


def test_only_coroutine_functions_can_be_decorated() -> None:
    """What was decorated by mistake is named when the module is imported, not when the function is called."""

    def ordinary() -> None:
        raise AssertionError

    async def generator() -> Any:
        yield

    for wrong in ordinary, generator, staticmethod(ordinary), 5:
        with pytest.raises(TypeError, match=r"deferred_coroutine\(\) decorates an `async def`, got "):
            deferred_coroutine(wrong)  # type: ignore[arg-type]  # which is the point
