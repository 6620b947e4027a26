"""What the loop's methods for TLS refuse, before they touch anything."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from txasync import ReactorEventLoop

from .conftest import Runner
from .tls.contexts import client_context, server_context

LIMITS = ("ssl_handshake_timeout", "ssl_shutdown_timeout")


@contextlib.contextmanager
def connected_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection; whoever is given one may close it."""
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def starters(loop: ReactorEventLoop, sock: socket.socket) -> dict[str, Callable[..., Awaitable[Any]]]:
    """Each of the methods that take time limits, as a function of these."""
    client: dict[str, Any] = {"ssl": client_context("stdlib"), "server_hostname": "localhost", "sock": sock}
    server: dict[str, Any] = {"ssl": server_context("stdlib"), "sock": sock}
    make: Any = loop  # typeshed does not know all of them on each version
    return {
        "create_connection": lambda **limits: make.create_connection(asyncio.Protocol, **client, **limits),
        "create_unix_connection": lambda **limits: make.create_unix_connection(asyncio.Protocol, **client, **limits),
        "create_server": lambda **limits: make.create_server(asyncio.Protocol, **server, **limits),
        "create_unix_server": lambda **limits: make.create_unix_server(asyncio.Protocol, **server, **limits),
        "connect_accepted_socket": lambda **limits: make.connect_accepted_socket(asyncio.Protocol, **server, **limits),
    }


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("timeout_s", [0, -1.5])
def test_a_time_limit_is_positive(loop: ReactorEventLoop, limit: str, timeout_s: float) -> None:
    """One that is not is a ValueError that names it; the socket stays the caller's."""

    async def main() -> None:
        with connected_pair() as (sock, other):
            for start in starters(loop, sock).values():
                with pytest.raises(ValueError, match=rf"{limit} should be a positive number, got {timeout_s}"):
                    await start(**{limit: timeout_s})
            other.send(b"open")
            assert sock.recv(4) == b"open"

    loop.run_until_complete(main())


@pytest.mark.parametrize("limit", LIMITS)
def test_a_time_limit_of_start_tls_is_a_positive_number(run: Runner, limit: str) -> None:
    """What is none is refused, and the connection goes on without TLS."""

    async def main() -> None:
        with connected_pair() as (sock, other):
            transport, protocol = await run.loop.create_connection(asyncio.Protocol, sock=sock)
            upgrade: Any = run.loop.start_tls
            for wrong, error in (0, ValueError), ("1", TypeError), (object(), TypeError):
                with pytest.raises(error, match=f"{limit} should be a positive number"):
                    await upgrade(transport, protocol, client_context("stdlib"), server_hostname="a", **{limit: wrong})
            transport.write(b"plain")
            assert await run.loop.sock_recv(other, 5) == b"plain"
            transport.close()

    run(main)


def test_tls_is_not_started_when_nothing_more_can_be_written(run: Runner) -> None:
    """After write_eof() there is no way to say a word of the handshake; reading goes on."""

    async def main() -> None:
        with connected_pair() as (sock, other):
            reader, writer = await asyncio.open_connection(sock=sock)
            writer.write_eof()
            with pytest.raises(RuntimeError, match=r"TLS cannot be started on <.*> after its write_eof\(\)"):
                await run.loop.start_tls(
                    writer.transport, writer.transport.get_protocol(), client_context("stdlib"), server_hostname="a"
                )
            other.send(b"still here")
            assert await reader.readexactly(10) == b"still here"
            writer.close()
            await writer.wait_closed()

    run(main)
