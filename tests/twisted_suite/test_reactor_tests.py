"""
Twisted's own tests of reactors, those of the installed Twisted, on our reactor and on EPollReactor.

What they are, and what is left out of Twisted's test suite, is told in `chosen`. By hand, there are more ways to run
them: ``python tests/twisted_suite/run.py --help``.
"""

from __future__ import annotations

import pytest

from . import chosen, jobs

pytestmark = [
    pytest.mark.skipif(bool(jobs.why_not_here()), reason=jobs.why_not_here()),
    pytest.mark.timeout(900),
]

# In how many tests a reactor has to be run, and to be left in order. Twisted 24.7 and 26.10 have some more.
LEAST_RUN = {"txasync": 360, "txasync with asyncio": 180}
# In how many of them asyncio has to be served meanwhile.
LEAST_SHARED = 150

Outcomes = dict[str, jobs.Outcomes]


@pytest.mark.parametrize("configuration", LEAST_RUN)
def test_every_outcome_is_that_on_epollreactor(configuration: str, comparisons: dict[str, jobs.Comparison]) -> None:
    """Each test succeeds, fails or is skipped on our reactor as on EPollReactor, if the table does not say why not."""
    differing = comparisons[configuration].differing
    assert not differing, "\n".join(differing)


@pytest.mark.parametrize("configuration", LEAST_RUN)
def test_each_entry_of_the_table_explains_a_difference(
    configuration: str, comparisons: dict[str, jobs.Comparison]
) -> None:
    """Nothing is in the table that does not differ with the installed Twisted."""
    assert not comparisons[configuration].stale


@pytest.mark.parametrize("configuration", LEAST_RUN)
def test_hundreds_of_them_run_our_reactor(configuration: str, outcomes: Outcomes) -> None:
    """The tests are run, and the reactor that they start is ours."""
    records = [record for part in outcomes[configuration].values() for record in part.values()]
    assert sum(record.starts > 0 and record.outcome == "success" for record in records) >= LEAST_RUN[configuration]


def test_asyncio_is_served_meanwhile(outcomes: Outcomes) -> None:
    """Where the reactor has a loop, asyncio's bytes go to and fro while Twisted's tests run it."""
    records = [record for part in outcomes["txasync with asyncio"].values() for record in part.values()]
    assert sum(record.journeys > 0 for record in records) >= LEAST_SHARED


def test_an_outcome_that_differs_is_told() -> None:
    """What fails on our reactor alone is a difference, and so is a test that is run on one side only."""
    part, names = "built for each reactor", [f"module.Tests.test_{number}" for number in range(20)]
    baseline = {name: jobs.Record("success") for name in names}
    ours = {name: jobs.Record("failure (FailTest)", details="why") for name in names[1:]}
    comparison = jobs.compare("txasync", {part: ours}, {part: baseline})
    assert comparison.differing[0] == "module.Tests.test_0: not run on txasync, success on epoll\n"
    assert comparison.differing[1] == "module.Tests.test_1: failure (FailTest) on txasync, success on epoll\nwhy"
    assert len(comparison.differing) == 20
    assert len(comparison.stale) == len(chosen.DIFFERENCES)
