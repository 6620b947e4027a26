"""What the tests of TLS with others have in common: what is sent, and our servers and clients, whatever ``ssl=`` is."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from twisted.internet.ssl import CertificateOptions

from ..tls.contexts import CLIENT_KINDS, SERVER_KINDS, client_context, server_context
from .combinations import COMBINATIONS, Combination
from .tls_ends import ProtocolEnd

Perform = Callable[[Callable[[], Awaitable[None]]], None]
"""Runs a coroutine function, which must end in time."""

LIMIT_S = 30.0
SOME = os.urandom(512 * 1024)
MUCH = os.urandom(2_000_000)
# More than the kernel keeps of what nobody reads.
VERY_MUCH = os.urandom(8_000_000)
VERSIONS = {"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}

each_server = pytest.mark.parametrize("kind", SERVER_KINDS)
each_client = pytest.mark.parametrize("kind", CLIENT_KINDS)
each_version = pytest.mark.parametrize("version", VERSIONS)

# The system's authorities, which some of them read, take a tenth of a second; and nobody changes a client's context.
shared_client_context = functools.cache(client_context)


@pytest.fixture
def by_turns(request: pytest.FixtureRequest) -> Combination:
    """
    One of the two modes for each test, by turns, and for the same test always the same: its name decides.

    What polls our sockets is nothing to the peers, and the mode is little to them. A module whose tests are to run so
    has this fixture as its `combination`.
    """
    return COMBINATIONS[zlib.crc32(request.node.name.encode()) % 2]


class EchoEnd(ProtocolEnd):
    """Sends back what it gets."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.send(data)


class Serving:
    """
    A server of ours.

    Attributes:
        port: Its port.
        ends: Its ends of the connections so far.
    """

    def __init__(self, kind: type[ProtocolEnd]) -> None:
        self._kind = kind
        self.port = 0
        self.ends: list[ProtocolEnd] = []

    def make_end(self) -> ProtocolEnd:
        """The protocol of another connection."""
        self.ends.append(self._kind())
        return self.ends[-1]


@contextlib.asynccontextmanager
async def serving(context: Any, kind: type[ProtocolEnd] = EchoEnd) -> AsyncIterator[Serving]:
    """A server of ours with *context*, whose ends are of that kind."""
    it = Serving(kind)
    server = await asyncio.get_running_loop().create_server(it.make_end, "127.0.0.1", 0, ssl=context)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        for end in it.ends:
            if end.transport is not None:
                end.transport.abort()
                await end.lost
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def client_of(port: int, context: Any, name: str = "localhost") -> AsyncIterator[ProtocolEnd]:
    """A client of ours that is connected to *port*."""
    loop = asyncio.get_running_loop()
    transport, end = await loop.create_connection(ProtocolEnd, "127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        yield end
    finally:
        transport.abort()
        await end.lost


def info(end: ProtocolEnd, *names: str) -> list[Any]:
    """What the transport says of the connection."""
    return [end.transport.get_extra_info(name) for name in names]


def resuming_context(kind: str, **options: Any) -> Any:
    """What a server is given that resumes sessions; Twisted's options do so only when they are told."""
    given = server_context(kind, **options)
    if not isinstance(given, CertificateOptions):
        return given
    return CertificateOptions(
        privateKey=given.privateKey, certificate=given.certificate, enableSessions=True, enableSessionTickets=True
    )
