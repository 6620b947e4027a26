"""A loop in each of `COMBINATIONS`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from txasync import ReactorEventLoop
from txasync.polling import PollerFactory

from ..conftest import POLLERS, disposable_reactor
from .combinations import COMBINATIONS, Combination

RunIntoExit = Callable[[Coroutine[Any, Any, None], dict[str, Callable[..., Any]], str], "asyncio.Task[None]"]


@pytest.fixture(params=COMBINATIONS, ids="-".join)
def combination(request: pytest.FixtureRequest) -> Combination:
    """Each combination."""
    combination: Combination = request.param
    return combination


@pytest.fixture
def reactor(combination: Combination) -> Iterator[Any]:
    """Its reactor."""
    with disposable_reactor(combination.reactor) as reactor:
        yield reactor


@pytest.fixture
def poller_factory(combination: Combination) -> PollerFactory:
    """Its poller."""
    return POLLERS[combination.poller]


@pytest.fixture
def mode(combination: Combination) -> str:
    """Its mode."""
    return combination.mode


@pytest.fixture
def run_into_exit(loop: ReactorEventLoop) -> RunIntoExit:
    """Run the loop until a callback, of a protocol that does what a mapping says, has raised SystemExit."""

    def run_into_exit(
        main: Coroutine[Any, Any, None], on: dict[str, Callable[..., Any]], callback: str
    ) -> asyncio.Task[None]:
        def leave() -> None:
            on.clear()
            raise SystemExit(callback)

        on[callback] = leave
        task = loop.create_task(main)
        with pytest.raises(SystemExit, match=callback):
            loop.run_until_complete(task)
        return task

    return run_into_exit
