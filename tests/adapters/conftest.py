"""A loop in each of `COMBINATIONS`, as for the transports."""

from __future__ import annotations

import pytest

from ..transports.conftest import combination, mode, poller_factory, reactor

__all__ = ["combination", "mode", "poller_factory", "reactor"]


@pytest.fixture(autouse=True, scope="session")
def _ports_keep_nothing(descriptor_in_reserve: None) -> None:
    """What Twisted keeps from the first port on is there before any test."""
