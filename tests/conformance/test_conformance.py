"""
CPython's own tests of asyncio, as this interpreter has them installed, on our loop.

Every module runs on private reactors of two kinds: our own, whose epoll object the loop shares, and Twisted's for
epoll, in which ours is nested. Those that do input and output also run on select, and on poll with the per-descriptor
poller, and a few on the process's own reactor. By hand, any runs on any: ``python tests/conformance/run.py --help``.
"""

from __future__ import annotations

import pytest

from . import jobs, report

_INPUT_AND_OUTPUT = (
    "test_events",
    "test_sendfile",
    "test_sock_lowlevel",
    "test_streams",
    "test_server",
    "test_buffered_proto",
    "test_unix_events",
)

_MODULES = {
    "select": _INPUT_AND_OUTPUT,
    "poll per-descriptor": ("test_subprocess", *_INPUT_AND_OUTPUT),
    "global": ("test_events", "test_runners", "test_base_events", "test_streams", "test_server"),
}

# Those in which a loop of ours has to run, on every version that has them.
_WITH_A_LOOP = {
    *_INPUT_AND_OUTPUT,
    *("test_base_events", "test_context", "test_eager_task_factory", "test_free_threading", "test_futures2"),
    *("test_graph", "test_locks", "test_pep492", "test_runners", "test_server_context", "test_ssl", "test_sslproto"),
    *("test_staggered", "test_subprocess", "test_taskgroups", "test_tasks", "test_threads", "test_timeouts"),
    "test_waitfor",
}

# The slowest modules are begun first, so that at the end no process is left alone with one of them.
_SLOWEST_FIRST = ("test_tasks", "test_events", "test_subprocess", "test_ssl", "test_taskgroups")


def _jobs() -> list[jobs.Job]:
    if jobs.why_not_here():
        return []
    here = jobs.modules()
    here.sort(key=lambda module: _SLOWEST_FIRST.index(module) if module in _SLOWEST_FIRST else len(_SLOWEST_FIRST))
    others = [jobs.Job(name, configuration) for configuration, names in _MODULES.items() for name in names]
    everywhere = [jobs.Job(module, configuration) for module in here for configuration in ("epoll", "txasync")]
    return everywhere + [job for job in others if job.module in here]


@pytest.mark.skipif(bool(jobs.why_not_here()), reason=jobs.why_not_here())
def test_the_interpreter_ships_the_tests() -> None:
    """There is something to run."""
    assert _jobs()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "job", _jobs(), ids=lambda job: f"{job.module}-{job.configuration.replace(' ', '-')}" if job else None
)
def test_what_passes_on_stock_asyncio_passes_on_our_loop(job: jobs.Job, outcome: jobs.Outcome) -> None:
    """Every test of the module passes on our loop, except those that are left out or fail on stock asyncio too."""
    assert outcome.is_good, report.failures(outcome)
    if job.module in _WITH_A_LOOP and not outcome.skipped_module:
        assert outcome.counted, f"no loop of ours ran in {job.module}"
