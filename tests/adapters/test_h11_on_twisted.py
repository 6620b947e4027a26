"""The HTTP/1.1 protocol of ``examples/h11_behind_haproxy.py`` on Twisted's endpoints, and behind a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("h11", reason="h11 is not installed: the test extra has it")

import txasync
from txasync.adapters import EndpointServer

from .endpoint_ways import Perform, Way, all_lost, perform

__all__ = ["perform"]

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

GET = b"GET /page HTTP/1.1\r\nHost: example.com\r\n\r\n"
LAST_GET = b"GET /last HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n"
BEHIND_PROXY = "haproxy:tcp:0:interface=127.0.0.1"


def _example() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "h11_behind_haproxy.py"
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


EXAMPLE = _example()
HEADERS: dict[str, bytes] = EXAMPLE.proxy_headers()
CLIENTS = {
    "version 1": "203.0.113.7 port 51234",
    "version 2": "203.0.113.7 port 51234",
    "version 2, IPv6": "2001:db8:0:0:0:0:0:7 port 51235",
}


class Told:
    """
    The application: it answers with what it was told, and remembers it.

    Attributes:
        protocols: Those that were made.
        clients: The clients' addresses.
    """

    def __init__(self) -> None:
        self.protocols: list[Any] = []
        self.clients: list[str] = []

    def __call__(self, request: Any, body: bytes, client: str) -> tuple[int, bytes]:
        self.clients.append(client)
        return 200, b"%s %s %d" % (request.method, request.target, len(body))

    def make_protocol(self) -> Any:
        """The protocol of another connection."""
        self.protocols.append(EXAMPLE.HTTP(self))
        return self.protocols[-1]


@contextlib.asynccontextmanager
async def serving(endpoint: Any) -> AsyncIterator[tuple[EndpointServer, Told]]:
    """A server of such protocols."""
    told = Told()
    async with await txasync.serve(endpoint, told.make_protocol) as server:
        yield server, told
    await all_lost(server)


@contextlib.asynccontextmanager
async def connected(client: Any) -> AsyncIterator[Streams]:
    """A client of endpoint *client*."""
    reader, writer = await txasync.open_connection(client)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The status and the body of a response."""
    head = await reader.readuntil(b"\r\n\r\n")
    status, length = head.split()[1], head.lower().partition(b"content-length: ")[2].split()[0]
    return int(status), await reader.readexactly(int(length))


def by_tcp(server: EndpointServer) -> str:
    """The endpoint that reaches *server*."""
    return f"tcp:127.0.0.1:{server.sockname[1]}"


@pytest.fixture(params=["tcp", "ssl"])
def way_with_names(request: pytest.FixtureRequest, tmp_path: Path) -> Way:
    """A way whose ends have a host and a port, which the example tells."""
    return Way(request.param, tmp_path / "socket")


def test_requests_are_answered_one_after_the_other(perform: Perform, way_with_names: Way) -> None:
    """The connection is kept until the client says that it was the last request."""

    async def main() -> None:
        async with serving(way_with_names.server) as (server, told):
            async with connected(way_with_names.client(server)) as (reader, writer):
                for _ in range(3):
                    writer.write(GET)
                    assert await answer(reader) == (200, b"GET /page 0")
                body = bytes(1_000_000)
                writer.write(b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                assert await answer(reader) == (200, b"POST /form 1000000")
                writer.write(LAST_GET)
                assert await answer(reader) == (200, b"GET /last 0")
                assert await reader.read() == b""
            assert len(told.protocols) == 1

    perform(main)


def test_requests_may_come_all_at_once_or_in_pieces(perform: Perform, way_with_names: Way) -> None:
    """The answers come in the order of the requests."""

    async def main() -> None:
        async with serving(way_with_names.server) as (server, _):
            async with connected(way_with_names.client(server)) as (reader, writer):
                writer.write(GET * 10 + LAST_GET)
                answers = [await answer(reader) for _ in range(11)]
                assert answers == [(200, b"GET /page 0")] * 10 + [(200, b"GET /last 0")]
                assert await reader.read() == b""
            async with connected(way_with_names.client(server)) as (reader, writer):
                for position in range(0, len(GET), 7):
                    writer.write(GET[position : position + 7])
                    await asyncio.sleep(0)
                assert await answer(reader) == (200, b"GET /page 0")

    perform(main)


def test_what_is_no_request_is_refused(perform: Perform, way_with_names: Way) -> None:
    """With a status, and the end of the connection; another connection is served."""

    async def main() -> None:
        async with serving(way_with_names.server) as (server, told):
            async with connected(way_with_names.client(server)) as (reader, writer):
                writer.write(b"what is this?\r\n\r\n")
                assert (await answer(reader))[0] == 400
                assert await reader.read() == b""
            async with connected(way_with_names.client(server)) as (reader, writer):
                writer.write(LAST_GET)
                assert await answer(reader) == (200, b"GET /last 0")
            assert len(told.clients) == 1

    perform(main)


@pytest.mark.parametrize("version", HEADERS)
@pytest.mark.parametrize("size", [1, 1000])
def test_the_application_sees_the_client_behind_the_proxy(perform: Perform, version: str, size: int) -> None:
    """Its address is the one of the PROXY header, in whatever pieces that comes, and still when it is gone."""

    async def main() -> None:
        async with serving(BEHIND_PROXY) as (server, told), connected(by_tcp(server)) as (reader, writer):
            writer.get_extra_info("twisted_transport").setTcpNoDelay(True)
            # Twisted looks for the header in the first sixteen bytes, which must come at once.
            begin, rest = HEADERS[version][:16], HEADERS[version][16:]
            writer.write(begin)
            for position in range(0, len(rest), size):
                await asyncio.sleep(0)
                writer.write(rest[position : position + size])
            writer.write(GET)
            assert await answer(reader) == (200, b"GET /page 0")
            writer.write(LAST_GET)
            assert await answer(reader) == (200, b"GET /last 0")
            assert await reader.read() == b""
            assert told.clients == [CLIENTS[version]] * 2
            transport = told.protocols[0].transport
            while server.is_serving() and not transport.is_lost():
                await asyncio.sleep(0)
            peer = transport.get_extra_info("peername")
            assert f"{peer[0]} port {peer[1]}" == CLIENTS[version]
            assert transport.get_extra_info("sockname")[:2] in {("198.51.100.1", 80), ("2001:db8:0:0:0:0:0:1", 80)}

    perform(main)


def test_a_connection_that_does_not_come_from_the_proxy_is_closed(perform: Perform) -> None:
    """The application never hears of a request without a PROXY header."""

    async def main() -> None:
        async with serving(BEHIND_PROXY) as (server, told), connected(by_tcp(server)) as (reader, writer):
            writer.write(GET)
            assert await reader.read() == b""
            assert told.clients == []

    perform(main)


def test_the_example_says_what_its_docstring_says(perform: Perform, capsys: pytest.CaptureFixture[str]) -> None:
    """On a loop of each kind, its dialogue has the client's address of each header."""
    perform(lambda: EXAMPLE.main(serve=False))
    printed = capsys.readouterr().out
    for version, client in CLIENTS.items():
        assert f"PROXY header, {version}:\n    HTTP/1.1 200 \n    {client} asks to GET /page\n" in printed
