"""AnyIO, unmodified, on the loop: started by us, by a reactor, and by anyio.run()."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import MODES_AND_REACTORS, RunScenario, ScenarioServer, scenario_runner

pytest.importorskip("anyio", reason="anyio is not installed")


@pytest.fixture(params=[*MODES_AND_REACTORS, ("anyio-run", "epoll")], ids="-".join)
def run_anyio(request: pytest.FixtureRequest, scenario_servers: dict[bool, ScenarioServer]) -> RunScenario:
    """Run a scenario in each mode, and by anyio.run() with our loop factory."""
    return scenario_runner(scenario_servers, *request.param)


def test_task_groups_and_cancel_scopes_hold(run_anyio: RunScenario) -> None:
    """A group ends with its tasks, a failing task cancels the others, a scope ends at its deadline or is shielded."""
    assert run_anyio("with_anyio:tasks") == {
        "started": "producing",
        "received": [0, 1, 2, 3, 4],
        "moved_on": True,
        "failed": True,
        "order": ["shielded", "cancelled"],
        "errors": ["ValueError('on purpose')"],
    }


def test_threads_are_reached_and_come_back(run_anyio: RunScenario) -> None:
    """Functions run in threads, eight at once; a thread calls into the loop, and runs a loop of its own."""
    assert run_anyio("with_anyio:threads") == {
        "there": True,
        "back_here": True,
        "portal_elsewhere": True,
        "portal_loop": "ReactorEventLoop",
    }


def test_processes_are_talked_to_and_waited_for(run_anyio: RunScenario) -> None:
    """A process gets its input, its output and exit code are seen, and a killed one is reaped."""
    assert run_anyio("with_anyio:processes") == {
        "printed": "ONE\nTWO\n",
        "answer": "THREE\n",
        "exit_code": 0,
        "killed": True,
    }


def test_streams_and_datagrams_are_exchanged(run_anyio: RunScenario, tmp_path: Path) -> None:
    """TCP and UNIX streams echo after a half-close, datagrams come and go, a closed port refuses."""
    seen = run_anyio("with_anyio:sockets", path=str(tmp_path / "socket"))
    assert seen == {"tcp": True, "unix": True, "udp": "ping pong", "refused": True}


def test_signals_are_received(run_anyio: RunScenario) -> None:
    """Signals come in order, and their default is restored."""
    assert run_anyio("with_anyio:signals") == {"received": ["SIGUSR1", "SIGUSR2"], "restored": True}
