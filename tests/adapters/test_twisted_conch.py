"""Conch, Twisted's SSH, on the transports of every asyncio loop: its own client, and OpenSSH's."""

# Most of this part of Twisted has no annotations.
# mypy: allow-untyped-calls

from __future__ import annotations

import asyncio
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted, ConnectionDone, ProcessTerminated

from ..conftest import Reports
from .any_loop import LIMIT_S, Perform, connect, host, listening, perform, serving
from .conch_server import MUCH, Client, Server, host_key, logged_in, run_command, start_command, strange_key, user_key

__all__ = ["host", "perform"]

COUNT = b"count %d" % len(MUCH)
COUNTED = b"%d bytes, crc %08x\n" % (len(MUCH), zlib.crc32(MUCH))


@pytest.mark.parametrize("password", [b"secret", None], ids=["password", "key"])
def test_conchs_client_runs_commands(perform: Perform, password: bytes | None) -> None:
    """Several at once on one connection; each has its exit code, and more than a channel's window goes either way."""

    async def main() -> None:
        async with listening(Server()) as port:
            client = await logged_in(port, password=password)
            (counted, end), (much, _), (nothing, _) = await asyncio.gather(
                run_command(client, COUNT, MUCH), run_command(client, b"much"), run_command(client, b"count 0")
            )
            client.loseConnection()
            (await client.lost).trap(ConnectionDone)
        assert counted == COUNTED
        assert much == MUCH
        assert nothing == b"0 bytes, crc 00000000\n"
        end.trap(ProcessTerminated)
        assert end.value.exitCode == 3  # type: ignore[union-attr]

    perform(main)


def test_a_client_hangs_up_on_a_strange_host(perform: Perform, reports: Reports) -> None:
    """Before it has said who it is."""

    async def main() -> None:
        async with serving(Server()) as port:
            client = await connect(port, Client(known_key=strange_key()))
            await client.lost
            assert not client.connection.ready.done()

    perform(main)


def test_a_connection_that_is_lost_ends_what_runs(perform: Perform) -> None:
    """On the client, and on the server, which has nothing left."""

    async def main() -> None:
        async with serving(Server()) as port:
            client = await logged_in(port)
            running = await start_command(client, b"never")
            client.transport.abortConnection()  # type: ignore[union-attr]
            assert (await client.lost).check(ConnectionAborted)
            assert await running.ended

    perform(main)


@pytest.fixture
def ssh(tmp_path: Path) -> list[str]:
    """The beginning of a command line of OpenSSH's client, which knows the server and has the user's key."""
    program = shutil.which("ssh")
    if program is None:
        pytest.skip("OpenSSH is not installed")
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_bytes(user_key().toString("openssh"))
    (tmp_path / "known_hosts").write_bytes(b"tests " + host_key().public().toString("openssh") + b"\n")
    options = {
        "BatchMode": "yes",
        "HostKeyAlias": "tests",
        "IdentitiesOnly": "yes",
        "IdentityFile": key,
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": tmp_path / "known_hosts",
    }
    return [program, "-F", "none", *(f"-o{name}={value}" for name, value in options.items()), "user@127.0.0.1"]


def test_openssh_runs_commands(perform: Perform, ssh: list[str]) -> None:
    """Its input, its output, its errors and its exit code go over."""

    def call(port: int, command: str, data: bytes = b"") -> tuple[int, bytes, bytes]:
        done: Any = subprocess.run(
            [*ssh, "-p", str(port), command], input=data, capture_output=True, timeout=LIMIT_S, check=False
        )
        return done.returncode, done.stdout, done.stderr

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with serving(Server()) as port:
            counted = await loop.run_in_executor(None, call, port, COUNT.decode(), MUCH)
            much = await loop.run_in_executor(None, call, port, "much")
        assert counted == (3, COUNTED, b"that was all\n")
        assert much == (3, MUCH, b"")

    perform(main)
