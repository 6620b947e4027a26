"""All of Twisted's tests are run once for the tests here; the table of what ran, at the end of a session."""

from __future__ import annotations

import pytest

from . import jobs, report

_OUTCOMES = pytest.StashKey[dict[str, jobs.Outcomes]]()
_COMPARISONS = pytest.StashKey[dict[str, jobs.Comparison]]()


@pytest.fixture(scope="session")
def outcomes(pytestconfig: pytest.Config) -> dict[str, jobs.Outcomes]:
    """What came of all tests, on all configurations."""
    outcomes = jobs.run_all()
    pytestconfig.stash[_OUTCOMES] = outcomes
    return outcomes


@pytest.fixture(scope="session")
def comparisons(outcomes: dict[str, jobs.Outcomes], pytestconfig: pytest.Config) -> dict[str, jobs.Comparison]:
    """How each configuration of ours differs from EPollReactor."""
    baseline = outcomes[jobs.BASELINE]
    comparisons = {name: jobs.compare(name, outcomes[name], baseline) for name in outcomes if name != jobs.BASELINE}
    pytestconfig.stash[_COMPARISONS] = comparisons
    return comparisons


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table, and each difference with its reason."""
    outcomes = config.stash.get(_OUTCOMES, None)
    if outcomes:
        terminalreporter.section("Twisted's own tests of reactors, on txasync.reactor")
        terminalreporter.write_line(report.table(outcomes))
    for configuration, comparison in config.stash.get(_COMPARISONS, {}).items():
        terminalreporter.write_line(report.excused(configuration, comparison))
