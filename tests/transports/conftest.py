"""
Six of the twelve ways to run a loop: each reactor and each poller in each mode, each poller on each reactor.

But for the per-descriptor poller on an epoll reactor, which `for_reactor` never chooses; tests/polling has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from txasync.polling import PollerFactory

from ..conftest import POLLERS, disposable_reactor


class Combination(NamedTuple):
    """One way to run a loop."""

    reactor: str
    poller: str
    mode: str


COMBINATIONS = (
    Combination("epoll", "nested", "asyncio-first"),
    Combination("epoll", "nested", "reactor-first"),
    Combination("poll", "per-descriptor", "asyncio-first"),
    Combination("poll", "nested", "reactor-first"),
    Combination("select", "nested", "asyncio-first"),
    Combination("select", "per-descriptor", "reactor-first"),
)


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
