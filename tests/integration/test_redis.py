"""redis-py, unmodified, on the loop, with a real server."""

from __future__ import annotations

import pytest

from .conftest import RunScenario

pytest.importorskip("redis", reason="redis is not installed")


def test_commands_are_answered(run_scenario: RunScenario, redis_path: str) -> None:
    """Values, pipelines, transactions, scans and large values are as on any loop."""
    assert run_scenario("with_redis:commands", path=redis_path) == {
        "value": "ü",
        "counted": True,
        "interfered": True,
        "found": ["a", "counter"],
        "large_came_back": True,
    }


def test_blocked_commands_and_subscribers_are_woken(run_scenario: RunScenario, redis_path: str) -> None:
    """A blocked command is woken or cancelled, and a subscriber hears what is published, in order."""
    assert run_scenario("with_redis:waiting", path=redis_path) == {
        "popped": "pushed",
        "cancelled": True,
        "still_usable": "yes",
        "heard": [str(number) for number in range(10)],
    }


def test_200_commands_share_10_connections(run_scenario: RunScenario, redis_path: str) -> None:
    """Commands that wait for a free connection are all answered."""
    assert run_scenario("with_redis:load", path=redis_path, commands=200) == {"in_order": True}
