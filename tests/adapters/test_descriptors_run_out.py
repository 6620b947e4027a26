"""A Twisted port that has no descriptor for a connection: asyncio's protocols that have one are not concerned."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator

import txasync

from .endpoint_ways import Perform, perform

__all__ = ["perform"]


@contextlib.contextmanager
def no_descriptor_but(left: int) -> Iterator[None]:
    """Let the process have *left* descriptors more, and no others."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, limits[0]), limits[1]))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(left):
            os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back each line."""
    while line := await reader.readline():
        writer.write(line)
    writer.close()


def test_a_port_recovers_and_loses_nobody_whom_it_has_accepted(perform: Perform) -> None:
    """Twisted hangs up on who comes meanwhile; the others are served, and so is who comes afterwards."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await txasync.start_server(echo, "tcp:0:interface=127.0.0.1") as server:
            reader, writer = await asyncio.open_connection(*server.sockname)
            writer.write(b"before\n")
            assert await reader.readline() == b"before\n"
            with no_descriptor_but(1), socket.socket() as late:
                late.setblocking(False)
                await loop.sock_connect(late, server.sockname)
                with contextlib.suppress(ConnectionResetError):
                    assert await loop.sock_recv(late, 100) == b""
                writer.write(b"meanwhile\n")
                assert await reader.readline() == b"meanwhile\n"
            another_reader, another = await asyncio.open_connection(*server.sockname)
            another.write(b"afterwards\n")
            assert await another_reader.readline() == b"afterwards\n"
            for each in writer, another:
                each.close()
                await each.wait_closed()
            while server._factory.connections:
                await asyncio.sleep(0)

    perform(main)
