"""Jobs in the background while the other tests run, and the table of what ran, at the end of a session."""

from __future__ import annotations

import pytest

from . import jobs, report

_RUNNING = pytest.StashKey[jobs.Remote]()
_OUTCOMES = pytest.StashKey[list[jobs.Outcome]]()


def _job(item: pytest.Item) -> jobs.Job | None:
    """The job whose outcome *item* asks for."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    job = parameters.get("job")
    return job if isinstance(job, jobs.Job) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ask for outcomes last: the jobs mostly wait, and the other tests run meanwhile."""
    items.sort(key=lambda item: _job(item) is not None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin the jobs of all tests that were selected, two at a time, in the background."""
    wanted = dict.fromkeys(filter(None, map(_job, session.items)))
    if wanted and not session.config.option.collectonly:
        session.config.stash[_RUNNING] = jobs.Remote(wanted)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End those that nobody waited for."""
    if _RUNNING in session.config.stash:
        session.config.stash[_RUNNING].close()


@pytest.fixture
def outcome(job: jobs.Job, request: pytest.FixtureRequest) -> jobs.Outcome:
    """What came of *job*."""
    stash = request.config.stash
    outcome = stash[_RUNNING].outcome(job)
    stash.setdefault(_OUTCOMES, []).append(outcome)
    return outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table."""
    outcomes = config.stash.get(_OUTCOMES, None)
    if outcomes:
        terminalreporter.section("CPython's own tests of asyncio, on txasync")
        terminalreporter.write_line(report.table(outcomes))
        terminalreporter.write_line(report.reasons(outcomes))
