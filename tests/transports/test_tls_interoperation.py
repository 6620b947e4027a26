"""TLS with others: asyncio's own loop, native Twisted; and their sessions, and names."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions
from zope.interface import implementer

from ..tls.contexts import CLIENT_KINDS, SERVER_KINDS, authority, certificate, client_context, server_context
from .recorders import describe
from .tls_interoperation import (
    LIMIT_S,
    MUCH,
    SOME,
    VERSIONS,
    Perform,
    by_turns,
    client_of,
    each_client,
    each_server,
    info,
    resuming_context,
    serving,
    shared_client_context,
)
from .tls_worlds import OurWorld, Outcome, Part, StockWorld, TwistedWorld, World, play

combination = by_turns

# asyncio's own loop, and native Twisted

PAIRS = [
    *(("ours", kind, "stock", "stdlib") for kind in SERVER_KINDS),
    *(("ours", kind, "twisted", "creator") for kind in SERVER_KINDS),
    *(("stock", "stdlib", "ours", kind) for kind in CLIENT_KINDS),
    *(("twisted", "options", "ours", kind) for kind in CLIENT_KINDS),
    *(("ours", kind, "ours", kind) for kind in SERVER_KINDS),
    ("stock", "stdlib", "stock", "stdlib"),
    ("twisted", "options", "twisted", "creator"),
]


@pytest.fixture
def stock() -> Iterator[StockWorld]:
    """asyncio's own loop, in a thread."""
    with StockWorld() as stock:
        yield stock


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest, stock: StockWorld, reactor: Any) -> tuple[World, World]:
    """The world of the server, and that of the client."""
    server, server_kind, client, client_kind = request.param
    others: dict[str, World] = {"stock": stock, "twisted": TwistedWorld(reactor)}
    return (
        others.get(server) or OurWorld(server_kind=server_kind),
        others.get(client) or OurWorld(client_kind=client_kind),
    )


async def play_both_ways(pair: tuple[World, World], closes: Part, waits: Part) -> list[tuple[World, Outcome, Outcome]]:
    """Have either end close; each time, the world of the one that closes, what came of that, and of the other one."""
    server, client = pair
    ended, waited = await play(server, closes, client, waits)
    waited_again, ended_again = await play(server, waits, client, closes)
    return [(server, ended, waited), (client, ended_again, waited_again)]


def test_megabytes_are_exchanged_and_either_end_closes(pair: tuple[World, World], perform: Perform) -> None:
    """Both get what the other has sent, at the same time, and a clean end."""

    async def main() -> None:
        closes, waits = Part(MUCH, len(MUCH)), Part(MUCH[::-1], None)
        for _, ended, waited in await play_both_ways(pair, closes, waits):
            assert ended == (describe(waits.sends), None)
            assert waited == (describe(closes.sends), None)

    perform(main)


def test_what_was_written_before_close_arrives(pair: tuple[World, World], perform: Perform) -> None:
    """Half a megabyte is in flight when an end closes, and the other gets it all, and a clean end."""

    async def main() -> None:
        for _, ended, waited in await play_both_ways(pair, Part(SOME, 0), Part(b"", None)):
            assert ended == (describe(b""), None)
            assert waited == (describe(SOME), None)

    perform(main)


def test_what_was_written_before_close_arrives_though_the_other_end_sends(
    pair: tuple[World, World], perform: Perform
) -> None:
    """What comes after close() is dropped, and the end is as clean, however much of it there is."""

    async def main() -> None:
        for world, ended, waited in await play_both_ways(pair, Part(SOME, 0), Part(SOME[::-1], None)):
            if not isinstance(world, StockWorld):  # which loses some, and ends with an error
                assert ended.error is None
                assert waited == (describe(SOME), None)

    perform(main)


# Sessions


@each_server
@pytest.mark.parametrize("version", list(VERSIONS.values()))
def test_the_standard_library_resumes_its_sessions(kind: str, version: str, perform: Perform) -> None:
    """A blocking client that brings back the session of its connection before resumes it."""

    async def main() -> None:
        async with serving(resuming_context(kind)) as server:
            assert await asyncio.to_thread(connect_again, server.port, version) == [False, True, True]
            for end in server.ends:
                assert await end.lost is None

    perform(main)


def connect_again(port: int, version: str) -> list[bool | None]:
    """Connect three times, each time with the last session; which were resumed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version.replace(".", "_"))
    session, reused = None, []
    for _ in range(3):
        sock = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
        with context.wrap_socket(sock, server_hostname="localhost", session=session) as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"  # and, by TLS 1.3, the session with it
            session = client.session
            reused.append(client.session_reused)
            client.unwrap().close()
    return reused


@implementer(IOpenSSLClientConnectionCreator)
class Resuming:
    """
    A creator that resumes a session.

    Attributes:
        session: The session.
    """

    def __init__(self) -> None:
        self._context = client_context("context")
        self.session: SSL.Session | None = None

    def clientConnectionForTLS(self, _protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if self.session is not None:
            connection.set_session(self.session)
        return connection


@pytest.mark.parametrize("version", list(VERSIONS.values()))
def test_a_creator_resumes_its_sessions(version: str, perform: Perform) -> None:
    """What a creator does with its connections before it gives them to us is done."""

    async def main() -> None:
        context, creator = server_context("stdlib"), Resuming()
        context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version.replace(".", "_"))
        async with serving(context) as server:
            for _ in range(2):
                async with client_of(server.port, creator) as end:
                    end.send(b"hello")
                    assert await end.receives(5) == b"hello"
                    creator.session = info(end, "ssl_object")[0].get_session()
                    await end.close()
            assert [info(end, "ssl_object")[0].session_reused for end in server.ends] == [False, True]

    perform(main)


# Names


def choosing_context(kind: str) -> Any:
    """What a server is given that has another certificate for other.test than for localhost."""
    given, other = server_context(kind), server_context(kind, certificate("other.test"))
    if isinstance(given, ssl.SSLContext):

        def choose(ssl_object: Any, name: str, _context: ssl.SSLContext) -> None:
            if name == "other.test":
                ssl_object.context = other

        given.sni_callback = choose
        return given
    bare, other = (each.getContext() if isinstance(each, CertificateOptions) else each for each in (given, other))

    def choose_bare(connection: SSL.Connection) -> None:
        if connection.get_servername() == b"other.test":
            connection.set_context(other)

    bare.set_tlsext_servername_callback(choose_bare)
    return given


@each_server
@pytest.mark.parametrize("client_kind", ["stdlib", "creator"])
def test_a_server_chooses_its_certificate_by_the_name(kind: str, client_kind: str, perform: Perform) -> None:
    """The callbacks of SNI, which both libraries have, choose another context."""

    async def main() -> None:
        async with serving(choosing_context(kind)) as server:
            for name in "localhost", "other.test":
                async with client_of(server.port, shared_client_context(client_kind, name), name) as end:
                    assert ("DNS", name) in info(end, "peercert")[0]["subjectAltName"]
                    end.send(b"hello")
                    assert await end.receives(5) == b"hello"
                    await end.close()

    perform(main)


NAMES = {"bücher.test": "xn--bcher-kva.test", "127.0.0.1": None, "::1": None}


@each_client
@pytest.mark.parametrize("name", NAMES)
def test_a_server_may_have_a_foreign_name_or_an_address(kind: str, name: str, perform: Perform) -> None:
    """A name is told by SNI in its form for machines, an address is not told; and either is verified."""
    told: list[str | None] = []

    async def main() -> None:
        context = server_context("stdlib", certificate(name))
        context.sni_callback = lambda _ssl_object, name, _context: told.append(name)
        async with serving(context) as server:
            async with client_of(server.port, shared_client_context(kind, name), name) as end:
                end.send(b"hello")
                assert await end.receives(5) == b"hello"
                await end.close()
            with pytest.raises(ssl.SSLCertVerificationError):
                async with client_of(server.port, shared_client_context(kind), "localhost"):
                    raise AssertionError("it is connected")

    perform(main)
    assert told == [NAMES[name], "localhost"]
