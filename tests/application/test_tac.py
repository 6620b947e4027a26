"""examples/services.tac, by a real twistd."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

import txasync

from .twistd_process import LIMIT_S, TwistdProcess

EXAMPLE = Path(__file__).parents[2] / "examples" / "services.tac"
INSTALLED = Path(txasync.__file__).parents[1]


def next_connection(listening: socket.socket) -> socket.socket:
    """The connection that comes next."""
    connection, _ = listening.accept()
    connection.settimeout(LIMIT_S)
    return connection


@pytest.mark.parametrize("reactor", ["epoll", "select"])
def test_the_relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reactor: str) -> None:
    """Lines go on, also when the next station was away; at SIGTERM, who has connected has its lines taken."""
    with socket.create_server(("127.0.0.1", 0)) as station:
        station.settimeout(LIMIT_S)
        monkeypatch.setenv("RELAY_LISTEN", "tcp:0:interface=127.0.0.1")
        monkeypatch.setenv("RELAY_NEXT", f"tcp:127.0.0.1:{station.getsockname()[1]}")
        arguments = [f"--reactor={reactor}", "--python", str(EXAMPLE)]
        with TwistdProcess(INSTALLED, tmp_path, arguments) as twistd:
            port = twistd.listens()
            with next_connection(station) as connection, socket.create_connection(("127.0.0.1", port)) as peer:
                twistd.says("the next station is there")
                peer.sendall(b"one\ntwo\n")
                received = connection.makefile("rb")
                assert [received.readline(), received.readline()] == [b"one\n", b"two\n"]
                received.close()
            twistd.says("has sent 2 lines")
            twistd.says("the next station is gone")
            with next_connection(station) as connection, socket.create_connection(("127.0.0.1", port)) as peer:
                twistd.says("the next station is there")
                peer.sendall(b"three\n")
                received = connection.makefile("rb")
                assert received.readline() == b"three\n"
                twistd.send(signal.SIGTERM)
                twistd.says("Port .* Closed")
                peer.sendall(b"too late to go on, but taken\n")
                peer.shutdown(socket.SHUT_WR)
                twistd.says("has sent 2 lines")
                assert received.read() == b""
                received.close()
            twistd.end()
    assert "Traceback" not in twistd.text
    assert not list(tmp_path.iterdir())
