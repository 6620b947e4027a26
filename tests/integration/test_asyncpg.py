"""asyncpg, unmodified, on the loop, with a real server."""

from __future__ import annotations

import pytest

from .conftest import PostgresAddress, RunScenario, TLSFiles

pytest.importorskip("asyncpg", reason="asyncpg is not installed")


def test_queries_are_answered(run_scenario: RunScenario, postgres: PostgresAddress) -> None:
    """Types, statements, transactions, cursors and COPY are as on any loop."""
    assert run_scenario("with_asyncpg:queries", **postgres) == {
        "row": [42, ["a", "ü", None], "2000-02-29", "00ff"],
        "doubled": [0, 2, 4, 6, 8],
        "rejected": True,
        "in_order": True,
        "copied": "COPY 100",
    }


def test_a_pool_serves_more_queries_than_it_has_connections(
    run_scenario_everywhere: RunScenario, postgres: PostgresAddress
) -> None:
    """Queries that wait for a free connection are all answered."""
    seen = run_scenario_everywhere("with_asyncpg:pool", size=5, queries=100, **postgres)
    assert seen == {"in_order": True, "few_connections": True}


def test_a_connection_survives_a_timeout_and_a_cancellation(
    run_scenario: RunScenario, postgres: PostgresAddress
) -> None:
    """A query that times out or whose task is cancelled ends on the server too; the server's own end is noticed."""
    assert run_scenario("with_asyncpg:cancellation", **postgres) == {
        "timed_out": True,
        "cancelled": True,
        "still_usable": "yes",
        "closed_by_server": True,
    }


def test_notifications_arrive_in_order(run_scenario: RunScenario, postgres: PostgresAddress) -> None:
    """A listener is called for each notification, without asking."""
    seen = run_scenario("with_asyncpg:notifications", **postgres)
    assert seen == {"payloads": [str(number) for number in range(10)]}


def test_a_connection_is_upgraded_to_tls(
    run_scenario: RunScenario, postgres: PostgresAddress, tls_files: TLSFiles
) -> None:
    """Over TCP, asyncpg asks the server for TLS in the middle of the stream, and verifies its certificate."""
    seen = run_scenario("with_asyncpg:tls", ca=tls_files["ca"], **postgres)
    assert seen == {"encrypted": True, "length": 10_000_000}
