"""``examples/web_and_database.tac``: twisted.web and asyncpg in one twistd, with a real server."""

from __future__ import annotations

import asyncio
import http.client
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from ..application.twistd_process import LIMIT_S, TwistdProcess
from .conftest import PostgresAddress

asyncpg: Any = pytest.importorskip("asyncpg", reason="asyncpg is not installed")

EXAMPLE = Path(__file__).parents[2] / "examples" / "web_and_database.tac"
WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'visits'::regclass"


@pytest.fixture
def database(postgres: PostgresAddress, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database, which the environment names."""
    url = f"postgresql://tests@/postgres?host={postgres['directory']}&port={postgres['port']}"
    monkeypatch.setenv("DATABASE", url)
    monkeypatch.setenv("ENDPOINT", "tcp:0:interface=127.0.0.1")
    return url


def site(installed: Path, place: Path, reactor: str) -> TwistdProcess:
    """twistd with the example."""
    return TwistdProcess(installed, place, ["--reactor", reactor, "--python", str(EXAMPLE)])


def ask(port: int, method: str) -> tuple[int, str]:
    """The status and the text of the page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    try:
        connection.request(method, "/")
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


async def until_waiting(other: Any, how_many: int) -> None:
    """Wait until so many queries of the site wait for the lock."""
    while await other.fetchval(WAITS) != how_many:
        pass


@pytest.mark.parametrize("reactor", ["epoll", "asyncio"])
def test_pages_come_from_the_database(installed: Path, tmp_path: Path, database: str, reactor: str) -> None:
    """The site counts its visits; at the end, it closes its connections to the database."""
    with site(installed, tmp_path, reactor) as twistd:
        port = twistd.listens()
        twistd.says("the database is open")
        visits = int(ask(port, "GET")[1].split()[0])
        assert ask(port, "POST") == (200, f"{visits + 1} visits\n")
        assert ask(port, "GET") == (200, f"{visits + 1} visits\n")
        twistd.send(signal.SIGTERM)
        assert twistd.end() == -signal.SIGTERM
    assert "the database is closed" in twistd.text
    assert "Traceback" not in twistd.text


def test_a_page_in_flight_is_finished(installed: Path, tmp_path: Path, database: str) -> None:
    """At the end, its query is waited for; so the page is sent."""

    async def scenario(twistd: TwistdProcess, client: socket.socket) -> bytes:
        other = await asyncpg.connect(database)
        try:
            async with other.transaction():
                await other.execute("LOCK TABLE visits IN ACCESS EXCLUSIVE MODE")
                client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await until_waiting(other, 1)
                twistd.send(signal.SIGTERM)
                twistd.says("Port.*Closed")
        finally:
            await other.close()
        return b"".join(iter(lambda: client.recv(65536), b""))

    with site(installed, tmp_path, "select") as twistd:
        port = twistd.listens()
        twistd.says("the database is open")
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as client:
            answer = asyncio.run(scenario(twistd, client))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b" visits\n" in answer
        assert twistd.end() == -signal.SIGTERM
    assert "Traceback" not in twistd.text


def test_a_client_that_goes_takes_its_query_along(installed: Path, tmp_path: Path, database: str) -> None:
    """The database does not go on with it."""

    async def scenario(port: int) -> None:
        other = await asyncpg.connect(database)
        try:
            async with other.transaction():
                await other.execute("LOCK TABLE visits IN ACCESS EXCLUSIVE MODE")
                with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as client:
                    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    await until_waiting(other, 1)
                await until_waiting(other, 0)
        finally:
            await other.close()

    with site(installed, tmp_path, "epoll") as twistd:
        port = twistd.listens()
        twistd.says("the database is open")
        asyncio.run(asyncio.wait_for(scenario(port), LIMIT_S))
        assert ask(port, "GET")[0] == 200
        twistd.send(signal.SIGTERM)
        assert twistd.end() == -signal.SIGTERM
    assert "Traceback" not in twistd.text
