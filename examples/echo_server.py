"""
An echo server in plain asyncio: it sends back what it gets, and hangs up on a client that is silent for two seconds.

    python examples/echo_server.py                                 on asyncio's own event loop
    python -m txasync examples/echo_server.py                      on a Twisted reactor
    python -m txasync --reactor select examples/echo_server.py     on the reactor of your choice
"""

from __future__ import annotations

import argparse
import asyncio

IDLE_S = 2.0


class Echo(asyncio.Protocol):
    """Serves one client, and is in *clients* while it does."""

    def __init__(self, clients: set[Echo]) -> None:
        self.clients = clients

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.clients.add(self)
        self.peer = "{}:{}".format(*transport.get_extra_info("peername"))
        print(f"{self.peer} connected", flush=True)
        self.wait_for_data()

    def data_received(self, data: bytes) -> None:
        self.idle.cancel()
        self.transport.write(data)
        self.wait_for_data()

    def wait_for_data(self) -> None:
        self.idle = asyncio.get_running_loop().call_later(IDLE_S, self.hang_up)

    def hang_up(self) -> None:
        print(f"{self.peer} was silent for {IDLE_S:g} seconds", flush=True)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.idle.cancel()
        self.clients.discard(self)
        print(f"{self.peer} disconnected", flush=True)


async def serve(host: str, port: int) -> None:
    """Serve until this task is cancelled, as Ctrl-C does."""
    loop = asyncio.get_running_loop()
    clients: set[Echo] = set()
    server = await loop.create_server(lambda: Echo(clients), host, port)
    host, port = server.sockets[0].getsockname()[:2]
    print(f"listening on {host}:{port}, with {type(loop).__name__}; Ctrl-C ends", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        server.close()
        for client in clients:
            client.transport.close()
        await server.wait_closed()


def main() -> None:
    parser = argparse.ArgumentParser(description="Echo what clients send.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="the port to listen on (default: any that is free)")
    options = parser.parse_args()
    try:
        asyncio.run(serve(options.host, options.port))
    except KeyboardInterrupt:
        print("bye", flush=True)


if __name__ == "__main__":
    main()
