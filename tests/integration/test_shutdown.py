"""``reactor.stop()`` while servers of asyncio libraries serve, as under twistd."""

from __future__ import annotations

import pytest

from .conftest import result_of, run_program


@pytest.mark.parametrize("server", ["aiohttp", "uvicorn-cancelled", "uvicorn-graceful"])
def test_a_server_is_cleaned_up_when_the_reactor_stops(server: str) -> None:
    """Requests in flight are ended, the application's cleanup runs, and the process ends well."""
    pytest.importorskip(server.partition("-")[0], reason=f"{server.partition('-')[0]} is not installed")
    completed = run_program("stop_while_serving", server)
    assert sorted(result_of(completed)) == ["application cleaned up", "request cleaned up"]
