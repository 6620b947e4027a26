"""
A client for echo_server.py, in plain asyncio: it sends messages, one after the other, and prints what comes back.

    python examples/echo_client.py --port PORT hello world
    python -m txasync examples/echo_client.py --port PORT --stay hello
"""

from __future__ import annotations

import argparse
import asyncio
import time


class Messages(asyncio.Protocol):
    """
    Sends each message when the one before has come back whole.

    Args:
        messages: What to send.
        stay: Whether to wait, when all have come back, for the server to hang up.
    """

    def __init__(self, messages: list[str], stay: bool) -> None:
        self.unsent = [message.encode() for message in messages]
        self.stay = stay
        self.sent = self.echo = b""
        self.silent_since = time.monotonic()
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.send_next()

    def data_received(self, data: bytes) -> None:
        self.echo += data
        if len(self.echo) >= len(self.sent):
            print(f"sent {self.sent!r}, got {self.echo!r}", flush=True)
            self.send_next()

    def send_next(self) -> None:
        self.echo = b""
        if self.unsent:
            self.sent = self.unsent.pop(0)
            self.transport.write(self.sent)
        elif self.stay:
            print("silent until the server hangs up", flush=True)
            self.silent_since = time.monotonic()
        else:
            self.transport.close()

    def eof_received(self) -> None:
        if self.stay:
            print(f"the server hung up after {time.monotonic() - self.silent_since:.1f} seconds", flush=True)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.closed.cancelled():  # by Ctrl-C
            return
        if exc is None:
            self.closed.set_result(None)
        else:
            self.closed.set_exception(exc)


async def talk(host: str, port: int, messages: list[str], stay: bool) -> None:
    """Send the messages, print the echoes, return when the connection is closed."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(lambda: Messages(messages, stay), host, port)
    print(f"connected to {host}:{port}, with {type(loop).__name__}", flush=True)
    try:
        await protocol.closed
    finally:
        transport.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Send messages to an echo server.")
    parser.add_argument("--host", default="127.0.0.1", help="the server's address (default: %(default)s)")
    parser.add_argument("--port", type=int, required=True, help="the server's port")
    parser.add_argument("--stay", action="store_true", help="say nothing more, and wait for the server to hang up")
    parser.add_argument("message", nargs="+", help="what to send")
    options = parser.parse_args()
    try:
        asyncio.run(talk(options.host, options.port, options.message, options.stay))
    except KeyboardInterrupt:
        print("bye", flush=True)
    except OSError as error:
        parser.exit(1, f"{parser.prog}: error: {error}\n")


if __name__ == "__main__":
    main()
