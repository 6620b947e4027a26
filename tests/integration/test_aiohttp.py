"""aiohttp, unmodified, on the loop."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path

import pytest

from .conftest import RunScenario, TLSFiles, result_of, run_program

pytest.importorskip("aiohttp", reason="aiohttp is not installed")

CHUNK = bytes(range(256)) * 1024


def test_requests_are_answered(run_scenario_everywhere: RunScenario) -> None:
    """Methods, JSON, cookies, redirects, error statuses and refused connections are as on any loop."""
    assert run_scenario_everywhere("with_aiohttp:requests") == {
        "greeting": {"hello": "world", "query": {"a": "1"}},
        "added": {"sum": 6, "cookie": "yes"},
        "redirected": {"hello": "again", "query": {}},
        "missing": 404,
        "refused": "ConnectionRefusedError",
    }


def test_tls_verifies_the_server(run_scenario: RunScenario, tls_files: TLSFiles) -> None:
    """An HTTPS request succeeds if the client trusts the server's authority, and is rejected if it does not."""
    # In debug mode asyncio itself logs the handshake that fails.
    seen = run_scenario("with_aiohttp:tls", dev=False, **tls_files)
    assert seen == {"secure": True, "cipher": "TLSv1.3", "rejected": True}


def test_a_websocket_echoes_1000_messages_in_order(run_scenario: RunScenario) -> None:
    """Messages come back in order; a large one, a ping and the closing handshake work too."""
    seen = run_scenario("with_aiohttp:websocket", dev=False, messages=1000)
    assert seen == {"in_order": True, "chunk_came_back": True, "close_code": 1000}


def test_bodies_of_20_megabytes_arrive_whole(run_scenario: RunScenario, tmp_path: Path) -> None:
    """What is uploaded in chunks, downloaded in chunks, and downloaded by sendfile() has the right hash."""
    chunks = 20 * 1024 * 1024 // len(CHUNK)
    expected = hashlib.sha256(CHUNK * chunks).hexdigest()
    seen = run_scenario("with_aiohttp:large_bodies", chunks=chunks, path=str(tmp_path / "body"))
    assert seen == {"uploaded": expected, "streamed": expected, "sent_file": expected}


def test_200_concurrent_requests_succeed_and_keep_their_connections(run_scenario: RunScenario) -> None:
    """200 requests that wait for each other all succeed, and 200 more use the same connections."""
    seen = run_scenario("with_aiohttp:load", dev=False, concurrency=200)
    assert seen == {"succeeded": 400, "connections": 200}


def test_a_handler_is_cancelled_when_its_client_goes_away(run_scenario: RunScenario) -> None:
    """A cancelled request closes its connection, and the server cancels what it was doing for it."""
    assert run_scenario("with_aiohttp:gone_client") == {"handler": "cancelled", "client_cancelled": True}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
def test_run_app_takes_our_loop(signum: int) -> None:
    """aiohttp's own way to run a server runs a reactor, and a signal ends it gracefully."""
    completed = run_program("aiohttp_run_app", str(int(signum)), dev=False)
    assert result_of(completed) == ["ReactorEventLoop", "cleaned up", "closed"]
