"""uvicorn and Starlette, unmodified, on the loop."""

from __future__ import annotations

import hashlib
import json
import signal

import pytest

from .conftest import PROGRAMS, RunScenario, run_python

for library in ("uvicorn", "starlette", "httpx"):
    pytest.importorskip(library, reason=f"{library} is not installed")

CHUNK = bytes(range(256)) * 1024


def test_a_starlette_application_is_served(run_scenario_everywhere: RunScenario) -> None:
    """Requests, streams, functions in threads, background tasks and the lifespan are as on any loop."""
    assert run_scenario_everywhere("with_uvicorn:requests", chunks=8) == {
        "echoed": {"json": {"a": [1, None]}, "query": {"q": "ü"}},
        "streamed": hashlib.sha256(CHUNK * 8).hexdigest(),
        "in_thread": {"in_a_thread": True},
        "missing": 404,
        "events": ["startup", "shutdown"],
    }


def test_an_asgi_websocket_echoes_in_order(run_scenario: RunScenario) -> None:
    """Messages to a websocket of the application come back in order."""
    pytest.importorskip("websockets", reason="websockets is not installed")
    seen = run_scenario("with_uvicorn:websocket", messages=100)
    assert seen == {"in_order": True, "events": ["startup", "shutdown"]}


def test_a_request_in_flight_is_answered_before_the_server_exits(run_scenario: RunScenario) -> None:
    """A graceful exit waits for the requests in flight, then ends the application, and nothing listens any more."""
    assert run_scenario("with_uvicorn:graceful_shutdown") == {
        "answer": {"slow": True},
        "events": ["startup", "slow request answered", "shutdown"],
        "refused": True,
    }


def test_100_concurrent_requests_succeed(run_scenario: RunScenario) -> None:
    """Requests on many connections at once are all answered."""
    assert run_scenario("with_uvicorn:load", dev=False, concurrency=100) == {"succeeded": 100}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
def test_the_command_line_takes_our_loop(signum: int) -> None:
    """With --loop, uvicorn's program runs on a reactor; a signal ends it gracefully, with the exit code as ever."""
    arguments = ["-m", "uvicorn", "starlette_app:app", "--app-dir", str(PROGRAMS), "--port", "0", "--ws", "none"]
    ours, stock = (
        run_python(*arguments, "--loop", loop, dev=False, signal_at=("Uvicorn running on", signum))
        for loop in ("txasync:new_event_loop", "asyncio")
    )
    assert json.loads(ours.stdout) == {"loop": "ReactorEventLoop", "ended": True}
    assert ours.returncode == stock.returncode
    assert "Application shutdown complete." in ours.stderr
    assert "Traceback" not in ours.stderr
