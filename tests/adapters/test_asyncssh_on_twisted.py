"""asyncssh's connections, of servers and of clients, on Twisted's endpoints: its ``tunnel=`` is what makes them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("asyncssh", reason="asyncssh is not installed: the test extra has it")

import asyncssh

import txasync
from txasync.adapters import EndpointServer

from .endpoint_ways import Perform, Way, all_lost, perform, way

__all__ = ["perform", "way"]

MEGABYTE = bytes(range(256)) * 4096


@functools.cache
def host_key() -> Any:
    """The server's key."""
    return asyncssh.generate_private_key("ssh-ed25519")


class TunnelByTwisted:
    """
    What asyncssh is given as its ``tunnel=``: there it gets connections and servers from Twisted.

    Attributes:
        listening: What listens.
    """

    def __init__(self, way: Way, listening: EndpointServer | None = None) -> None:
        self._way = way
        self.listening = listening

    async def create_server(self, protocol_factory: Callable[[str, int], Any], host: str, port: int) -> EndpointServer:
        """Listen, wherever asyncssh thinks that it listens."""
        self.listening = await txasync.serve(self._way.server, lambda: protocol_factory("", 0))
        return self.listening

    async def create_connection(self, protocol_factory: Callable[[], Any], host: str, port: int) -> Any:
        """Connect, likewise."""
        assert self.listening is not None
        return await txasync.connect(self._way.client(self.listening), protocol_factory)


class OpenServer(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        return False


async def command(process: Any) -> None:
    """Answer with the command, with what comes, and with an exit status."""
    process.stdout.write(f"this is {process.command}\n".encode())
    process.stderr.write(b"on the other channel\n")
    process.stdout.write(await process.stdin.read())
    process.exit(7)


@contextlib.asynccontextmanager
async def serving(way: Way, **options: Any) -> AsyncIterator[EndpointServer]:
    """A server of asyncssh's on a Twisted endpoint."""
    tunnel = TunnelByTwisted(way)
    acceptor = await asyncssh.listen(
        tunnel=tunnel, server_factory=OpenServer, server_host_keys=[host_key()], encoding=None, config=[], **options
    )
    assert tunnel.listening is not None
    try:
        yield tunnel.listening
    finally:
        acceptor.close()
        await all_lost(tunnel.listening)


@contextlib.asynccontextmanager
async def connected(way: Way, listening: EndpointServer, key: Any = None) -> AsyncIterator[Any]:
    """A client of asyncssh's that Twisted has connected."""
    known_hosts: Any = ([(key or host_key()).convert_to_public()], [], [])
    tunnel = TunnelByTwisted(way, listening)
    options: dict[str, Any] = {
        "known_hosts": known_hosts,
        "username": "user",
        "client_keys": None,
        "agent_path": None,
        "config": [],
    }
    async with await asyncssh.connect("server.test", tunnel=tunnel, **options) as connection:
        yield connection


def test_a_command_runs_with_its_streams_and_exit_status(perform: Perform, way: Way) -> None:
    """Input, output, the output of errors, and a megabyte both ways."""

    async def main() -> None:
        async with serving(way, process_factory=command) as listening, connected(way, listening) as connection:
            for data in b"input", MEGABYTE:
                result = await connection.run("a command", input=data, encoding=None)
                assert result.stdout == b"this is a command\n" + data
                assert result.stderr == b"on the other channel\n"
                assert result.exit_status == 7

    perform(main)


def test_files_are_copied(perform: Perform, way: Way, tmp_path: Path) -> None:
    """SFTP puts a megabyte, and gets it back."""

    async def main() -> None:
        root = tmp_path / "root"
        root.mkdir()
        serve_files = functools.partial(asyncssh.SFTPServer, chroot=str(root).encode())
        async with serving(way, sftp_factory=serve_files) as listening, connected(way, listening) as connection:
            async with connection.start_sftp_client() as client:
                (tmp_path / "sent").write_bytes(MEGABYTE)
                await client.put(str(tmp_path / "sent"), "stored")
                assert (root / "stored").read_bytes() == MEGABYTE
                await client.get("stored", str(tmp_path / "got"))
                assert (tmp_path / "got").read_bytes() == MEGABYTE
        await asyncio.get_running_loop().shutdown_default_executor()

    perform(main)


def test_a_server_with_another_key_is_refused(perform: Perform, way: Way) -> None:
    """The error is asyncssh's own, and nothing of the connection is left."""

    async def main() -> None:
        other = asyncssh.generate_private_key("ssh-ed25519")
        async with serving(way, process_factory=command) as listening:
            with pytest.raises(asyncssh.HostKeyNotVerifiable):
                async with connected(way, listening, other):
                    raise AssertionError

    perform(main)


def test_a_lost_connection_ends_what_runs(perform: Perform, way: Way) -> None:
    """Twisted's side aborts, and on both sides what waits for the other one is told."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        entered, ended = loop.create_future(), loop.create_future()

        async def wait(process: Any) -> None:
            entered.set_result(None)
            try:
                await process.stdin.read()
            except asyncssh.ConnectionLost as error:
                ended.set_result(error)

        async with serving(way, process_factory=wait) as listening, connected(way, listening) as connection:
            process = await connection.create_process("wait", encoding=None)
            await entered
            listening.abort_clients()
            # Twisted aborts TCP with a RST.
            with pytest.raises((asyncssh.ConnectionLost, ConnectionResetError)):
                await process.stdout.read()
            assert isinstance(await ended, asyncssh.ConnectionLost)

    perform(main)


def test_a_client_that_reads_slowly_holds_the_command_up(perform: Perform, way: Way) -> None:
    """SSH's window is what bounds a channel; the connection beneath has nothing to add, and nothing is lost."""

    async def main() -> None:
        written = 0

        async def write(process: Any) -> None:
            nonlocal written
            for _ in range(20):
                process.stdout.write(MEGABYTE)
                await process.stdout.drain()
                written += 1
            process.exit(0)

        async with serving(way, process_factory=write) as listening, connected(way, listening) as connection:
            process = await connection.create_process("write", encoding=None)
            got = len(await process.stdout.readexactly(1))
            for _ in range(200):
                await asyncio.sleep(0)
            assert written < 10
            got += len(await process.stdout.read())
            assert (written, got) == (20, 20 * len(MEGABYTE))

    perform(main)
