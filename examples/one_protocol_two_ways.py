"""
One asyncio protocol class, served at once on a Twisted endpoint and by loop.create_server(), with a client on each.

    python examples/one_protocol_two_ways.py
    python examples/one_protocol_two_ways.py --endpoint unix:/tmp/upper.sock

The class knows nothing of either. Twisted's endpoint is any that a string can describe, and so is the client's: here it
is TCP by default, because every machine has that.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import txasync


class Upper(asyncio.Protocol):
    """Sends each line back in capitals; after "bye" it closes the connection."""

    transport: asyncio.Transport
    rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.transport.write(line.upper() + b"\n")
            if line == b"bye":
                self.transport.close()


class Ask(asyncio.Protocol):
    """Sends lines, and has what came back when the server has ended the connection."""

    def __init__(self, *lines: bytes) -> None:
        self.lines = lines
        self.received = b""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.writelines([line + b"\n" for line in self.lines])

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


async def talk(what: str, connection: Any) -> None:
    """Let the client that *connection* gives talk to its server."""
    transport, client = await connection
    name = transport.get_extra_info("peername")
    await client.lost
    print(f"{what} at {name!r}: sent {client.lines}, got {client.received.splitlines()}")


async def main(endpoint: str) -> None:
    """Serve twice, and talk to both servers from both worlds."""
    loop = asyncio.get_running_loop()
    by_loop = await loop.create_server(Upper, "127.0.0.1", 0)
    by_twisted = await txasync.serve(endpoint, Upper)
    async with by_loop, by_twisted:
        port = by_loop.sockets[0].getsockname()[1]
        name = by_twisted.sockname
        client = f"unix:{name}" if isinstance(name, str) else f"tcp:127.0.0.1:{name[1]}"
        await talk("Twisted's server, by Twisted", txasync.connect(client, lambda: Ask(b"hello", b"bye")))
        if isinstance(name, str):
            connection: Any = loop.create_unix_connection(lambda: Ask(b"guten Tag", b"bye"), name)
        else:
            connection = loop.create_connection(lambda: Ask(b"guten Tag", b"bye"), "127.0.0.1", name[1])
        await talk("Twisted's server, by the loop", connection)
        await talk(
            "the loop's server, by Twisted",
            txasync.connect(f"tcp:127.0.0.1:{port}", lambda: Ask(b"bonjour", b"bye")),
        )
        await talk(
            "the loop's server, by the loop",
            loop.create_connection(lambda: Ask(b"hola", b"bye"), "127.0.0.1", port),
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="One asyncio protocol class on both kinds of servers.")
    parser.add_argument("--endpoint", default="tcp:0:interface=127.0.0.1", help="where Twisted listens: tcp: or unix:")
    txasync.run(main(parser.parse_args().endpoint))
