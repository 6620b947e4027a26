"""Libraries that people use, under ``twistd txasync``: installed, started, talked to, signalled, and their log read."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..application.twistd_process import LIMIT_S, TwistdProcess, run_to_end
from .conftest import TLSFiles
from .services import AIOHTTP, AIOHTTP_ALONE, ASGI, STREAMS, TCP, needs, place, tls_endpoint

# A fixture.
__all__ = ["place"]

EXAMPLES = Path(__file__).parents[2] / "examples"
REACTORS = ("txasync", "poll", "select")  # and EPollReactor in the other tests


class UnixHTTPConnection(http.client.HTTPConnection):
    """HTTP by a UNIX socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=LIMIT_S)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def asked(connection: http.client.HTTPConnection, path: str, body: Any = None) -> str:
    """The answer to a request, which must be a good one; the connection is kept."""
    connection.request("GET" if body is None else "POST", path, body)
    response = connection.getresponse()
    text = response.read().decode()
    assert response.status == 200, text
    return text


def get(port: int, path: str, body: Any = None) -> str:
    """The same, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    try:
        return asked(connection, path, body)
    finally:
        connection.close()


def told(twistd: TwistdProcess) -> None:
    """Tell it to end, and see it end well."""
    twistd.send(signal.SIGTERM)
    assert twistd.end() == -signal.SIGTERM
    assert "Server Shut Down." in twistd.text
    assert "Traceback" not in twistd.text


# An ASGI application


def asgi(installed: Path, place: Path, *options: str, endpoint: str = TCP, reactor: str = "epoll") -> TwistdProcess:
    """twistd with the application of Starlette's."""
    needs(*ASGI)
    command = ["txasync", "--listen", endpoint, "--asgi", "starlette_service:app", *options]
    return TwistdProcess(installed, place, ["--reactor", reactor, *command])


@pytest.mark.parametrize("reactor", REACTORS)
def test_an_asgi_application_is_served(installed: Path, place: Path, reactor: str) -> None:
    """
    Bodies of both directions come in pieces, the lifespan is around all, and each request is logged once.

    At the end, connections are closed between two requests: a client that keeps one does not keep the process.
    """
    with asgi(installed, place, "--graceful", "3600", reactor=reactor) as twistd:
        port = twistd.listens()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
        answer = json.loads(asked(connection, "/who"))
        client = list(connection.sock.getsockname())
        assert answer == {"scheme": "http", "client": client, "server": ["127.0.0.1", port], "ready": True}
        assert asked(connection, "/length", iter([b"x" * 100_000] * 10)) == "1000000"
        assert asked(connection, "/count") == "".join(f"{number}\n" for number in range(1000))
        told(twistd)
        connection.close()
    assert twistd.text.count("application has started on ReactorEventLoop") == 1
    assert twistd.text.count("application has ended") == 1
    for request in "GET /who", "POST /length", "GET /count":
        assert len(re.findall(rf'uvicorn\.access.*"{request} HTTP/1\.1" 200$', twistd.text, re.MULTILINE)) == 1


def test_an_asgi_application_on_asyncios_reactor(installed: Path, place: Path) -> None:
    """There, the loop is the one that the reactor stands on."""
    with asgi(installed, place, reactor="asyncio") as twistd:
        assert get(twistd.listens(), "/length", b"x" * 1000) == "1000"
        told(twistd)
    assert "application has ended" in twistd.text


def test_a_websocket_echoes(installed: Path, place: Path) -> None:
    """And is closed when the process is told to end."""
    websockets = pytest.importorskip("websockets", reason="websockets is not installed: the test extra has it")
    client = pytest.importorskip("websockets.sync.client")
    with asgi(installed, place) as twistd, client.connect(f"ws://127.0.0.1:{twistd.listens()}/echo") as websocket:
        for number in range(10):
            websocket.send(str(number))
            assert websocket.recv(LIMIT_S) == str(number)
        told(twistd)
        with pytest.raises(websockets.ConnectionClosedError, match="1012"):
            websocket.recv(LIMIT_S)
    assert "websocket closed" in twistd.text


def test_a_client_that_goes_ends_its_response(installed: Path, place: Path) -> None:
    """The application need not look for it: its body is not asked for more."""
    with asgi(installed, place) as twistd:
        with socket.create_connection(("127.0.0.1", twistd.listens()), timeout=LIMIT_S) as client:
            client.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(100)
        twistd.says("nobody reads any more")
        told(twistd)


def test_nobody_is_served_before_the_application_has_started(installed: Path, place: Path) -> None:
    """Clients may connect before that, and wait; others than the application's are not concerned."""
    needs(*ASGI)
    command = ["txasync", *STREAMS, "--listen", TCP, "--asgi", "starlette_service:slowly_starting"]
    with TwistdProcess(installed, place, command) as twistd:
        other_port, port = twistd.listens(), twistd.listens()
        twistd.says("application waits")
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as client:
            client.sendall(b"GET /who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            with socket.create_connection(("127.0.0.1", other_port), timeout=LIMIT_S) as other:
                other.sendall(b"hello\n")
                assert other.recv(100) == b"HELLO\n"
            twistd.send(signal.SIGUSR1)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b'"ready":true' in answer
        told(twistd)
    assert re.search(r"Application startup complete.*GET /who", twistd.text, re.DOTALL)


def test_an_application_that_cannot_start_ends_the_process(installed: Path, place: Path) -> None:
    """With uvicorn's exit code for it, and the traceback once."""
    needs(*ASGI)
    ended = run_to_end(installed, place, ["txasync", "--listen", TCP, "--asgi", "starlette_service:failing"])
    assert ended.returncode == 3
    assert ended.stdout.count("LookupError: no database") == 1
    assert "Server Shut Down." in ended.stdout


def test_endpoints_tell_the_application(installed: Path, place: Path, tls_files: TLSFiles) -> None:
    """TLS is the scheme; a UNIX socket has no clients' addresses; behind a proxy, they are the PROXY header's."""
    path = place / "socket"
    more = ["--listen", f"unix:{path}", "--listen", f"haproxy:{TCP}"]
    with asgi(installed, place, *more, endpoint=tls_endpoint(tls_files)) as twistd:
        port = twistd.listens()
        context = ssl.create_default_context(cafile=tls_files["ca"])
        secure = http.client.HTTPSConnection("127.0.0.1", port, timeout=LIMIT_S, context=context)
        answer = json.loads(asked(secure, "/who"))
        client = list(secure.sock.getsockname())
        assert answer == {"scheme": "https", "client": client, "server": ["127.0.0.1", port], "ready": True}
        assert asked(secure, "/length", iter([b"x" * 100_000] * 10)) == "1000000"
        secure.close()

        local = UnixHTTPConnection(path)
        answer = json.loads(asked(local, "/who"))
        assert answer == {"scheme": "http", "client": None, "server": [str(path), None], "ready": True}
        local.close()

        twistd.says("starting on .*socket")
        with socket.create_connection(("127.0.0.1", twistd.listens()), timeout=LIMIT_S) as proxy:
            proxy.sendall(b"PROXY TCP4 203.0.113.7 198.51.100.1 51234 80\r\n")
            proxy.sendall(b"GET /who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = json.loads(b"".join(iter(lambda: proxy.recv(65536), b"")).partition(b"\r\n\r\n")[2])
        client, server = ["203.0.113.7", 51234], ["198.51.100.1", 80]
        assert answer == {"scheme": "http", "client": client, "server": server, "ready": True}
        told(twistd)
    assert '203.0.113.7:51234 - "GET /who HTTP/1.1" 200' in twistd.text
    assert not path.exists()


def test_requests_are_not_waited_for_longer_than_told(installed: Path, place: Path) -> None:
    """They are cancelled then, and the application is shut down all the same."""
    with asgi(installed, place, "--graceful", "0.2") as twistd:
        with socket.create_connection(("127.0.0.1", twistd.listens()), timeout=LIMIT_S) as client:
            client.sendall(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
            twistd.says("hanging")
            twistd.send(signal.SIGTERM)
            twistd.says("not hanging any more")
            assert twistd.end() == -signal.SIGTERM
    assert "application has ended" in twistd.text


def until(condition: Any, what: str) -> None:
    """Wait until *condition* is true."""
    limit = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < limit, f"waited for {what}"
        time.sleep(0.01)


@pytest.fixture
def daemon(installed: Path, place: Path) -> Iterator[Path]:
    """A daemon with the application; the directory of its files. It is not there afterwards."""
    needs(*ASGI)
    pid_file = place / "pid"
    started = run_to_end(installed, place, ["--pidfile=pid", "--logfile=log", "txasync", *ASGI], daemon=True)
    assert (started.returncode, started.stdout + started.stderr) == (0, "")
    yield place
    if pid_file.exists():
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_a_daemon_serves_until_its_process_is_told(daemon: Path) -> None:
    """By the process id in its file; its log has its whole life."""
    log, pid_file = daemon / "log", daemon / "pid"
    until(lambda: log.exists() and re.search(r" starting on (\d+)$", log.read_text(), re.MULTILINE), "the port")
    found = re.search(r" starting on (\d+)$", log.read_text(), re.MULTILINE)
    assert found is not None
    assert json.loads(get(int(found[1]), "/who"))["ready"]
    os.kill(int(pid_file.read_text()), signal.SIGTERM)
    until(lambda: not pid_file.exists(), "the end")
    until(lambda: "Server Shut Down." in log.read_text(), "the last word")
    text = log.read_text()
    for line in "application has started on ReactorEventLoop", '"GET /who HTTP/1.1" 200', "application has ended":
        assert text.count(line) == 1, text
    assert "Traceback" not in text


# Servers that listen by themselves


def test_aiohttps_runner(installed: Path, place: Path) -> None:
    """Its cleanup is awaited when the function is cancelled."""
    needs(*AIOHTTP_ALONE)
    with TwistdProcess(installed, place, ["--reactor", "poll", "txasync", *AIOHTTP_ALONE]) as twistd:
        assert json.loads(get(twistd.listens(), "/who")) == {"secure": False, "remote": "127.0.0.1"}
        told(twistd)
    assert "application has ended" in twistd.text
    assert len(re.findall(r'aiohttp\.access.*"GET /who HTTP/1\.1" 200', twistd.text)) == 1


def test_uvicorns_server(installed: Path, place: Path) -> None:
    """It has signals for itself, and passes them on at its end: so it ends, and so does the process."""
    needs(*ASGI)
    with TwistdProcess(installed, place, ["txasync", "--run", "starlette_service:by_uvicorn"]) as twistd:
        port = int(twistd.says(r"Uvicorn running on http://127\.0\.0\.1:(\d+) ")[1])
        assert json.loads(get(port, "/who"))["ready"]
        told(twistd)
    assert "application has ended" in twistd.text
    assert "uvicorn has ended" in twistd.text


# Others on endpoints


def test_a_protocol_of_aiohttps(installed: Path, place: Path, tls_files: TLSFiles) -> None:
    """aiohttp's server makes the protocols of connections of any endpoint's: by TLS, and behind a proxy."""
    needs(*AIOHTTP)
    endpoints = ["--listen", tls_endpoint(tls_files), "--listen", f"haproxy:{TCP}"]
    command = ["txasync", *endpoints, "--protocol", "aiohttp_service:protocol"]
    with TwistdProcess(installed, place, command) as twistd:
        port = twistd.listens()
        context = ssl.create_default_context(cafile=tls_files["ca"])
        secure = http.client.HTTPSConnection("127.0.0.1", port, timeout=LIMIT_S, context=context)
        for _ in range(2):
            assert json.loads(asked(secure, "/who")) == {"secure": True, "remote": "127.0.0.1"}
        secure.close()
        with socket.create_connection(("127.0.0.1", twistd.listens()), timeout=LIMIT_S) as proxy:
            proxy.sendall(b"PROXY TCP4 203.0.113.7 198.51.100.1 51234 80\r\n")
            proxy.sendall(b"GET /who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = json.loads(b"".join(iter(lambda: proxy.recv(65536), b"")).partition(b"\r\n\r\n")[2])
        assert answer == {"secure": False, "remote": "203.0.113.7"}
        told(twistd)


def test_a_server_of_streams(installed: Path, place: Path) -> None:
    """``client_connected_cb``, as for ``asyncio.start_server()``."""
    with TwistdProcess(installed, place, ["--reactor", "select", "txasync", *STREAMS]) as twistd:
        with socket.create_connection(("127.0.0.1", twistd.listens()), timeout=LIMIT_S) as client:
            client.sendall(b"hello\n")
            assert client.recv(100) == b"HELLO\n"
            client.shutdown(socket.SHUT_WR)
            assert client.recv(100) == b""
        told(twistd)


# The examples


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A directory with them."""
    for name in "asgi_clock.py", "aiohttp_site.py":
        shutil.copy(EXAMPLES / name, tmp_path)
    return tmp_path


def test_the_clock(installed: Path, examples: Path) -> None:
    """It goes until all that was asked for has been told."""
    needs("starlette")
    command = ["txasync", "--listen", TCP, "--asgi", "asgi_clock:app", "--graceful", "60"]
    with TwistdProcess(installed, examples, command) as twistd:
        port = twistd.listens()
        assert re.fullmatch(r"\d\d:\d\d:\d\d, 127\.0\.0\.1, by http\n", get(port, "/"))
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as client:
            client.sendall(b"GET /ticks?every=0.1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = client.recv(65536)
            twistd.send(signal.SIGTERM)
            answer += b"".join(iter(lambda: client.recv(65536), b""))
        assert len(re.findall(rb"\d\d:\d\d:\d\d\n", answer)) == 5
        assert twistd.end() == -signal.SIGTERM
    assert twistd.text.count("the clock is wound up, in ReactorEventLoop") == 1
    assert twistd.text.count("the clock has stopped") == 1


def test_the_site_of_aiohttps(installed: Path, examples: Path) -> None:
    """In both of its forms, at once."""
    needs("aiohttp")
    command = ["--run", "aiohttp_site:main", "--listen", TCP, "--protocol", "aiohttp_site:protocol", "--", "0"]
    with TwistdProcess(installed, examples, ["txasync", *command]) as twistd:
        ports = [twistd.listens(), int(twistd.says(r"listening on port (\d+)")[1])]
        assert [get(port, "/") for port in ports] == ["hello, 127.0.0.1\n"] * 2
        told(twistd)
