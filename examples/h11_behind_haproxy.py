"""
An asyncio HTTP/1.1 server protocol, made of h11, behind a proxy that tells the clients' addresses: "haproxy:tcp:".

    pip install h11
    python examples/h11_behind_haproxy.py            a short dialogue
    python examples/h11_behind_haproxy.py --serve    serve until Ctrl-C

The protocol is of asyncio's kind, as the one of any ASGI server is. The endpoint is Twisted's: asyncio has none that
reads the PROXY header, with which HAProxy, nginx or a load balancer begins each connection. Our own client plays that
proxy here, and sends the header in its first version, which is text, and in its second one, which is not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

import h11

import txasync

Application = Callable[[h11.Request, bytes, str], tuple[int, bytes]]
"""Gets a request, its body and the client's address; returns a status and the body of the response."""


class HTTP(asyncio.Protocol):
    """HTTP/1.1: requests one after the other, on a connection that is kept as long as the client wants."""

    transport: asyncio.Transport

    def __init__(self, application: Application) -> None:
        self.application = application
        self.connection = h11.Connection(h11.SERVER)
        self.request: h11.Request | None = None
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.connection.receive_data(data)
        self.handle_events()

    def eof_received(self) -> None:
        self.connection.receive_data(b"")
        self.handle_events()

    def handle_events(self) -> None:
        while not self.transport.is_closing():
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                self.respond(error.error_status_hint, b"that is no HTTP\n")
                self.transport.close()
                return
            if isinstance(event, h11.Request):
                self.request, self.body = event, b""
            elif isinstance(event, h11.Data):
                self.body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert self.request is not None
                # Not before: the PROXY header comes after the connection is made.
                host, port = self.transport.get_extra_info("peername")[:2]
                self.respond(*self.application(self.request, self.body, f"{host} port {port}"))
                self.go_on()
            else:  # the client will send no more, or not all that it has begun to send has come
                if isinstance(event, h11.ConnectionClosed):
                    self.transport.close()
                return

    def respond(self, status: int, body: bytes) -> None:
        if self.connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
        if self.request is not None and self.request.method == b"HEAD":
            body = b""
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.connection.send(event) or b"")

    def go_on(self) -> None:
        if self.connection.our_state is h11.DONE and self.connection.their_state is h11.DONE:
            self.connection.start_next_cycle()
        else:
            self.transport.close()


def tell(request: h11.Request, body: bytes, client: str) -> tuple[int, bytes]:
    """The application: it tells who asks for what."""
    return 200, b"%s asks to %s %s\n" % (client.encode(), request.method, request.target) + body


def proxy_headers() -> dict[str, bytes]:
    """What a proxy sends first: that 203.0.113.7, or the like of IPv6, talks to 198.51.100.1."""
    addresses = socket.inet_aton("203.0.113.7") + socket.inet_aton("198.51.100.1") + struct.pack("!2H", 51234, 80)
    long_addresses = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    long_addresses += struct.pack("!2H", 51235, 80)
    signature = b"\r\n\r\n\0\r\nQUIT\n"
    return {
        "version 1": b"PROXY TCP4 203.0.113.7 198.51.100.1 51234 80\r\n",
        "version 2": signature + b"\x21\x11" + struct.pack("!H", len(addresses)) + addresses,
        "version 2, IPv6": signature + b"\x21\x21" + struct.pack("!H", len(long_addresses)) + long_addresses,
    }


async def ask(port: int, header: bytes) -> list[str]:
    """Be the proxy, and a client behind it that asks twice on its connection; the lines of the answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(header)
    writer.write(b"GET /page HTTP/1.1\r\nHost: example.com\r\n\r\n")
    writer.write(b"POST /form HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return [line for line in answer.decode().splitlines() if line and ": " not in line]


async def main(serve: bool) -> None:
    """Serve, and talk to the server, or leave that to others."""
    async with await txasync.serve("haproxy:tcp:0:interface=127.0.0.1", lambda: HTTP(tell)) as server:
        port = server.sockname[1]
        print(f"listening on 127.0.0.1:{port}, for proxies", flush=True)
        if serve:
            await server.serve_forever()
        for name, header in proxy_headers().items():
            print(f"PROXY header, {name}:")
            for line in await ask(port, header):
                print(f"    {line}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="HTTP by h11 on an endpoint that reads PROXY headers.")
    parser.add_argument("--serve", action="store_true", help="serve until Ctrl-C")
    with contextlib.suppress(KeyboardInterrupt):
        txasync.run(main(parser.parse_args().serve))
