"""The table of what ran, at the end of a session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from . import jobs, report

_OUTCOMES = pytest.StashKey[list[jobs.Outcome]]()


@pytest.fixture(scope="session")
def running_jobs(request: pytest.FixtureRequest) -> Iterator[jobs.Remote]:
    """The jobs of all tests that were selected, two at a time, in the background."""
    items: list[Any] = request.session.items
    parameters = [item.callspec.params for item in items if hasattr(item, "callspec")]
    running = jobs.Remote(dict.fromkeys(each["job"] for each in parameters if isinstance(each.get("job"), jobs.Job)))
    yield running
    running.close()


@pytest.fixture
def outcome(job: jobs.Job, running_jobs: jobs.Remote, request: pytest.FixtureRequest) -> jobs.Outcome:
    """What came of *job*."""
    outcome = running_jobs.outcome(job)
    request.config.stash.setdefault(_OUTCOMES, []).append(outcome)
    return outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table."""
    outcomes = config.stash.get(_OUTCOMES, None)
    if outcomes:
        terminalreporter.section("CPython's own tests of asyncio, on txasync")
        terminalreporter.write_line(report.table(outcomes))
        terminalreporter.write_line(report.reasons(outcomes))
