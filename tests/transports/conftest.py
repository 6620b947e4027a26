"""A loop in each of `COMBINATIONS`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from txasync.polling import PollerFactory

from ..conftest import POLLERS, disposable_reactor
from .combinations import COMBINATIONS, Combination


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
