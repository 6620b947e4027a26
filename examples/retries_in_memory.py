"""
Tests of a client that tries again, and of a server, with a clock and a network in memory: none sleeps or has a socket.

Run: pytest retries_in_memory.py
"""

from __future__ import annotations

import asyncio

import pytest

from txasync.testing import memory_loop


async def fetch(host: str) -> bytes:
    """Ask *host* for a line: three times, and longer apart each time."""
    for delay_s in (1, 2, 4):
        try:
            reader, writer = await asyncio.open_connection(host, 7000)
            writer.write(b"hello?\n")
            answer = await asyncio.wait_for(reader.readline(), 10)
            writer.close()
            return answer
        except OSError:
            await asyncio.sleep(delay_s)
    raise ConnectionError(f"{host} does not answer")


async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one client."""
    while line := await reader.readline():
        writer.write(line.upper())
    writer.close()


def test_a_client_tries_again_after_a_second() -> None:
    """The test plays the server, which refuses the first connection and answers on the second."""
    with memory_loop() as network:
        fetching = network.loop.create_task(fetch("example.com"))
        network.advance()
        network.refuse("example.com")
        network.advance(1)
        peer = network.accept(7000)
        network.advance()
        assert peer.read() == b"hello?\n"
        peer.write(b"hello\n")
        network.advance()
        assert fetching.result() == b"hello\n"
        assert network.loop.time() == 1


def test_a_client_gives_up() -> None:
    """After the third attempt there is none, and seven seconds have passed."""
    with memory_loop() as network:
        fetching = network.loop.create_task(fetch("example.com"))
        for delay_s in (1, 2, 4):
            network.advance()
            network.refuse()
            network.advance(delay_s)
        with pytest.raises(ConnectionError, match="does not answer"):
            fetching.result()
        assert network.loop.time() == 7


def test_a_server_shouts() -> None:
    """The test plays the client, which is slow to read at first."""
    with memory_loop() as network:
        server = network.run(asyncio.start_server(shout, port=7000))
        peer = network.connect(7000)
        peer.pause_reading()
        peer.write(b"hello\n")
        network.advance(60)
        assert peer.read() == b""
        peer.resume_reading()
        network.advance()
        assert peer.read() == b"HELLO\n"
        peer.close()
        server.close()
        network.run(server.wait_closed())


def test_they_talk_to_each_other() -> None:
    """Where a coroutine is run to its end, time jumps; and a client finds a server of its own program at localhost."""
    with memory_loop() as network:
        server = network.run(asyncio.start_server(shout, "localhost", 7000))
        assert network.run(fetch("localhost")) == b"HELLO?\n"
        network.run(asyncio.sleep(3600))
        server.close()
        network.run(server.wait_closed())
