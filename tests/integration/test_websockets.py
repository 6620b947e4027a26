"""websockets, unmodified, on the loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import RunScenario, TLSFiles

pytest.importorskip("websockets", reason="websockets is not installed")


def test_1000_messages_come_back_in_order(run_scenario: RunScenario) -> None:
    """An echo keeps the order; a megabyte, a message in fragments, and a ping are answered."""
    assert run_scenario("with_websockets:messages", dev=False, count=1000) == {
        "in_order": True,
        "large_came_back": True,
        "fragmented": "fragmented",
        "close_code": 1000,
    }


def test_a_server_sends_to_all_its_clients_and_closes_them(run_scenario: RunScenario) -> None:
    """Every client gets the message, and then the code of a server that goes away."""
    seen = run_scenario("with_websockets:broadcast", clients=50)
    assert seen == {"heard": [["news", 1001]], "listeners": 50}


def test_a_lost_connection_is_told_from_a_closed_one(run_scenario: RunScenario) -> None:
    """A peer that vanishes without a closing handshake is an error to the server, and code 1006 to the client."""
    assert run_scenario("with_websockets:lost_connection") == {"server": "ConnectionClosedError", "client": 1006}


def test_messages_pass_over_tls_and_unix_sockets(
    run_scenario: RunScenario, tls_files: TLSFiles, tmp_path: Path
) -> None:
    """A websocket works on any stream transport."""
    seen = run_scenario("with_websockets:tls_and_unix", path=str(tmp_path / "socket"), **tls_files)
    assert seen == {"tls": "over TLS", "version": "TLSv1.3", "unix": "over UNIX"}
