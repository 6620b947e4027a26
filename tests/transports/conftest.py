"""A loop in each of `COMBINATIONS`, and what connections by TLS to others need."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

from txasync import ReactorEventLoop
from txasync.polling import PollerFactory

from ..conftest import POLLERS, Runner, disposable_reactor
from .combinations import COMBINATIONS, Combination
from .tls_interoperation import LIMIT_S, Perform
from .tls_programs import PEMFiles, pem_files

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


@pytest.fixture
def perform(descriptor_in_reserve: None, run: Runner) -> Perform:
    """Run a coroutine function, which must end in time."""

    def perform(main: Callable[[], Awaitable[None]]) -> None:
        run(lambda: asyncio.wait_for(main(), LIMIT_S))

    return perform


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> PEMFiles:
    """The certificates, for programs."""
    return pem_files(tmp_path_factory.mktemp("pem"))
