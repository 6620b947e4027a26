"""TLS with others: asyncio's own loop, native Twisted, programs; sessions, names, and upgrades in mid-stream."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory
from twisted.internet.ssl import CertificateOptions
from twisted.protocols import tls
from zope.interface import implementer

from ..conftest import Runner, disposable_reactor
from ..tls.contexts import CLIENT_KINDS, SERVER_KINDS, authority, certificate, client_context, server_context
from .combinations import COMBINATIONS, Combination
from .recorders import describe
from .tls_programs import (
    CURL,
    LIMIT_S,
    OPENSSL,
    End,
    OurWorld,
    Outcome,
    Part,
    PEMFiles,
    Program,
    ProtocolEnd,
    StockWorld,
    StreamEnd,
    TwistedEnd,
    TwistedWorld,
    World,
    client_certificate,
    connected,
    factory_of,
    listen,
    memory_ends,
    needs_curl,
    needs_openssl,
    needs_stream_upgrade,
    pem_files,
    pipe_ends,
    play,
    running,
    shared_client_context,
)

Perform = Callable[[Callable[[], Awaitable[None]]], None]

SOME = os.urandom(512 * 1024)
MUCH = os.urandom(2_000_000)
# More than the kernel keeps of what nobody reads.
VERY_MUCH = os.urandom(8_000_000)
VERSIONS = {"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}
# Of OpenSSL 3; the ssl module has no name for it.
OP_ALLOW_CLIENT_RENEGOTIATION = 0x100

each_server = pytest.mark.parametrize("kind", SERVER_KINDS)
each_client = pytest.mark.parametrize("kind", CLIENT_KINDS)
each_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(params=COMBINATIONS[:2], ids="-".join)
def combination(request: pytest.FixtureRequest) -> Combination:
    """Each mode. What polls our sockets is nothing to the peers."""
    combination: Combination = request.param
    return combination


@pytest.fixture
def perform(run: Runner) -> Perform:
    """Run a coroutine function, which must end in time."""

    def perform(main: Callable[[], Awaitable[None]]) -> None:
        run(lambda: asyncio.wait_for(main(), LIMIT_S))

    return perform


@pytest.fixture(scope="session", autouse=True)
def _descriptor_in_reserve() -> None:
    """Twisted keeps a descriptor from its first port on; that is not what a test leaves behind."""
    with disposable_reactor("epoll") as reactor:
        reactor.listenTCP(0, Factory(), interface="127.0.0.1").stopListening()
        reactor.runUntilCurrent()


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> PEMFiles:
    """The certificates, for programs."""
    return pem_files(tmp_path_factory.mktemp("pem"))


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


# openssl s_client


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


def s_client(server: Serving, files: PEMFiles, *options: str) -> contextlib.AbstractAsyncContextManager[Program]:
    """The program as a client of that server."""
    common = ["-CAfile", files.authority, "-verify_return_error", "-verify_hostname", "localhost"]
    name = ["-connect", f"127.0.0.1:{server.port}", "-servername", "localhost"]
    return running(OPENSSL, "s_client", *name, *common, *options)


def info(end: ProtocolEnd, *names: str) -> list[Any]:
    """What the transport says of the connection."""
    return [end.transport.get_extra_info(name) for name in names]


@needs_openssl
@each_server
@each_version
def test_s_client_is_answered(kind: str, version: str, files: PEMFiles, perform: Perform) -> None:
    """It verifies our server, agrees with it on version, cipher and protocol, gets its echo, and ends in peace."""

    async def main() -> None:
        async with serving(server_context(kind, alpn=("h2", "echo"))) as server:
            async with s_client(server, files, version, "-alpn", "echo") as client:
                said = await client.says(r"New, \S+, Cipher is (\S+)")
                await client.says(r"ALPN protocol: echo")
                await client.says(r"Verify return code: 0 \(ok\)")
                client.send("hello\n")
                await client.says("hello\n")
                (end,) = server.ends
                version_seen, alpn, cipher = info(end, "tls_version", "alpn_protocol", "cipher")
                assert (version_seen, alpn, cipher[0]) == (VERSIONS[version], "echo", said[1])
                client.send("Q\n")
                assert await client.ends() == 0
            assert await end.lost is None
            assert end.callbacks == ["eof_received"]

    perform(main)


@needs_openssl
@each_server
def test_s_client_gets_all_of_what_is_written_before_close(kind: str, files: PEMFiles, perform: Perform) -> None:
    """Megabytes, and then a clean end."""
    text = "what is sent " * 250_000

    class Sending(ProtocolEnd):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(text.encode())
            transport.close()

    async def main() -> None:
        async with serving(server_context(kind), Sending) as server:
            async with s_client(server, files, "-quiet") as client:
                assert await client.ends() == 0
                assert text in client.printed
            assert await server.ends[0].lost is None

    perform(main)


@needs_openssl
@each_server
def test_s_client_changes_its_keys_and_asks_for_ours(kind: str, files: PEMFiles, perform: Perform) -> None:
    """The echo goes on after TLS 1.3's key updates, of one direction and of both."""

    async def main() -> None:
        async with serving(server_context(kind)) as server:
            async with s_client(server, files, "-tls1_3", "-brief") as client:
                await client.says("CONNECTION ESTABLISHED")
                for number, command in enumerate(("k\n", "K\n", "k\n"), 1):
                    client.send(command)
                    await client.says("KEYUPDATE", number)
                    client.send(f"{number * 'again'} {'much ' * 2000}\n")
                    await client.says(f"{number * 'again'} {'much ' * 2000}\n")
                client.send("Q\n")
                assert await client.ends() == 0
            assert await server.ends[0].lost is None

    perform(main)


def with_option(context: Any, option: int) -> Any:
    """*context* with one of OpenSSL's options."""
    if isinstance(context, ssl.SSLContext):
        context.options |= option
    else:
        bare = context.getContext() if isinstance(context, CertificateOptions) else context
        bare.set_options(option)
    return context


@needs_openssl
@each_server
def test_s_client_renegotiates_if_it_may(kind: str, files: PEMFiles, perform: Perform) -> None:
    """The echo goes on after TLS 1.2's renegotiation, where a server's context allows it."""

    async def main() -> None:
        context = with_option(server_context(kind), OP_ALLOW_CLIENT_RENEGOTIATION)
        async with serving(context) as server:
            async with s_client(server, files, "-tls1_2", "-brief") as client:
                await client.says("CONNECTION ESTABLISHED")
                for number in range(1, 3):
                    client.send("R\n")
                    await client.says("RENEGOTIATING", number)
                    client.send(f"again {number}\n")
                    await client.says(f"again {number}\n")
                client.send("Q\n")
                assert await client.ends() == 0
            assert await server.ends[0].lost is None

    perform(main)


@needs_openssl
@each_server
def test_s_client_is_refused_to_renegotiate(kind: str, files: PEMFiles, perform: Perform) -> None:
    """As OpenSSL 3 has it, a server does not renegotiate when its client asks for it; s_client then gives up."""

    async def main() -> None:
        async with serving(server_context(kind)) as server:
            async with s_client(server, files, "-tls1_2", "-brief") as client:
                await client.says("CONNECTION ESTABLISHED")
                client.send("R\n")
                assert await client.ends() != 0
                assert "no renegotiation" in client.printed
            assert isinstance(await server.ends[0].lost, ssl.SSLError)

    perform(main)


def resuming_context(kind: str, **options: Any) -> Any:
    """What a server is given that resumes sessions; Twisted's options do so only when they are told."""
    given = server_context(kind, **options)
    if not isinstance(given, CertificateOptions):
        return given
    return CertificateOptions(
        privateKey=given.privateKey, certificate=given.certificate, enableSessions=True, enableSessionTickets=True
    )


@needs_openssl
@each_server
@pytest.mark.parametrize("how", ["tickets", "identifiers"])
def test_s_client_reconnects_and_resumes_its_session(kind: str, how: str, files: PEMFiles, perform: Perform) -> None:
    """Of TLS 1.2, by tickets and by identifiers that our server remembers."""

    async def main() -> None:
        async with serving(resuming_context(kind)) as server:
            no_ticket = ["-no_ticket"] if how == "identifiers" else []
            async with s_client(server, files, "-tls1_2", "-reconnect", *no_ticket) as client:
                await client.says("New, TLSv1.2")
                await client.says("Reused, TLSv1.2", 5)
                client.send("hello\n")
                await client.says("hello\n")
                client.send("Q\n")
                assert await client.ends() == 0
            assert len(server.ends) == 6
            for end in server.ends:
                assert await end.lost is None

    perform(main)


@needs_openssl
@each_server
@pytest.mark.parametrize("how", ["tickets", "identifiers"])
def test_s_client_brings_back_a_session_of_tls_1_3(
    kind: str, how: str, files: PEMFiles, tmp_path: Path, perform: Perform
) -> None:
    """Of TLS 1.3, by tickets that carry the session and by such that name it."""

    async def main() -> None:
        path = str(tmp_path / "session")
        context = with_option(resuming_context(kind), SSL.OP_NO_TICKET if how == "identifiers" else 0)
        async with serving(context) as server:
            for option, begins in ("-sess_out", "New, TLSv1.3"), ("-sess_in", "Reused, TLSv1.3"):
                async with s_client(server, files, "-tls1_3", option, path) as client:
                    await client.says(begins)
                    client.send("hello\n")
                    await client.says("hello\n")
                    client.send("Q\n")
                    assert await client.ends() == 0

    perform(main)


@needs_openssl
@each_server
@each_version
def test_s_client_has_a_certificate_of_its_own(kind: str, version: str, files: PEMFiles, perform: Perform) -> None:
    """Our server sees whose it is; and a client that has none is refused."""

    async def main() -> None:
        async with serving(server_context(kind, clients_of=authority())) as server:
            async with s_client(server, files, version, "-brief", "-cert", files.client) as client:
                await client.says("CONNECTION ESTABLISHED")
                client.send("hello\n")
                await client.says("hello\n")
                assert info(server.ends[0], "peercert")[0]["subjectAltName"] == (("DNS", "client.test"),)
            async with s_client(server, files, version, "-brief") as client:
                assert await client.ends() != 0
                assert "alert" in client.printed
            assert not server.ends[1].connected.done()

    perform(main)


# openssl s_server


@contextlib.asynccontextmanager
async def s_server(files: PEMFiles, *options: str) -> AsyncIterator[tuple[Program, int]]:
    """The program as a server, and its port."""
    common = ["-cert", files.server, "-CAfile", files.authority]
    async with running(OPENSSL, "s_server", "-accept", "127.0.0.1:0", *common, *options) as server:
        said = await server.says(r"ACCEPT 127\.0\.0\.1:(\d+)\n")
        yield server, int(said[1])


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


@needs_openssl
@each_client
@each_version
def test_s_server_answers(kind: str, version: str, files: PEMFiles, perform: Perform) -> None:
    """Our client gets back what it sends, and ends in peace."""

    async def main() -> None:
        options = [version, "-rev", "-alpn", "h2,echo"]
        async with s_server(files, *options) as (server, port):
            async with client_of(port, shared_client_context(kind, alpn=("echo",))) as end:
                for number in range(3):
                    text = f"hello {number}"
                    end.send(f"{text}\n".encode())
                    assert await end.receives(len(text) + 1) == f"{text[::-1]}\n".encode()
                version_seen, alpn, cipher = info(end, "tls_version", "alpn_protocol", "cipher")
                assert (version_seen, alpn) == (VERSIONS[version], "echo")
                assert await server.says(f"Ciphersuite: {cipher[0]}")
                await end.close()

    perform(main)


COMMANDS = {"-tls1_3": ("k", "K"), "-tls1_2": ("r", "R")}


@needs_openssl
@each_client
@each_version
def test_s_server_changes_keys_or_renegotiates(kind: str, version: str, files: PEMFiles, perform: Perform) -> None:
    """Bytes go on, both ways, after TLS 1.3's key updates and TLS 1.2's renegotiation; and the end is in peace."""

    async def main() -> None:
        async with s_server(files, version) as (server, port), client_of(port, shared_client_context(kind)) as end:
            for number, command in enumerate(COMMANDS[version] * 2):
                server.send(f"{command}\n")
                if version == "-tls1_3":
                    # It looks at its input first, and says what it did there when it has something to print.
                    end.send(f"ping {number}\n".encode())
                    await server.says(f"ping {number}\n")
                await server.says("SSL_do_handshake -> 1", number + 1)
                text = f"{number} {'much ' * 1000}\n"
                server.send(text)
                assert await end.receives(len(text)) == text.encode()
                end.send(text.encode())
                await server.says(text)
            server.send("Q\n")
            assert await end.lost is None
            assert end.callbacks == ["eof_received"]
            assert await server.ends() == 0

    perform(main)


@needs_openssl
@each_client
@each_version
def test_keys_change_while_megabytes_are_on_their_way(
    kind: str, version: str, files: PEMFiles, perform: Perform
) -> None:
    """What our client writes before, in and after key updates and a renegotiation is all that arrives."""
    text = f"{'~' * 99}\n" * 10_000

    async def main() -> None:
        async with s_server(files, version) as (server, port):
            async with client_of(port, shared_client_context(kind)) as end:
                end.send(text.encode())
                for command in COMMANDS[version]:
                    server.send(f"{command}\n")
                end.send(text.encode())
                end.send(b"that is all\n")
                await server.says("that is all\n")
                # Something about the commands may be printed in the middle of a line.
                assert server.printed.count("~") == 2 * text.count("~")
                server.send("hello\n")
                assert await end.receives(6) == b"hello\n"

    perform(main)


@needs_openssl
@each_client
@each_version
def test_s_server_wants_a_certificate(kind: str, version: str, files: PEMFiles, perform: Perform) -> None:
    """It sees whose our client's is; and without one, it ends the connection."""

    async def main() -> None:
        async with s_server(files, version, "-Verify", "1", "-verify_return_error") as (server, port):
            async with client_of(port, shared_client_context(kind, leaf=client_certificate())) as end:
                end.send(b"hello\n")
                await server.says("hello\n")
                await server.says("verify return:1", 2)
            # By TLS 1.3, a client is connected before the server has seen that it has no certificate.
            with contextlib.suppress(ssl.SSLError):
                async with client_of(port, shared_client_context(kind)) as end:
                    error = await end.lost
                    assert isinstance(error, ssl.SSLError)
                    assert "alert" in str(error)

    perform(main)


@needs_openssl
@pytest.mark.parametrize("kind", ["stdlib", "memory"])
def test_s_server_wants_a_certificate_later(kind: str, files: PEMFiles, perform: Perform) -> None:
    """By TLS 1.3, a client that allows it is asked for its certificate when the connection is open already."""

    async def main() -> None:
        context = client_context(kind, leaf=client_certificate())
        context.post_handshake_auth = True
        async with s_server(files, "-tls1_3") as (server, port), client_of(port, context) as end:
            for number, command in enumerate(("c\n", "")):
                server.send(command)
                end.send(f"hello {number}\n".encode())
                await server.says(f"hello {number}\n")
            await server.says("verify return:1", 2)
            server.send("bye\n")
            assert await end.receives(4) == b"bye\n"

    perform(main)


# curl

# It offers this, and h2. Twisted's options without any protocol refuse a client that offers one, in Twisted, too.
OF_CURL = ("http/1.1",)


class PageEnd(ProtocolEnd):
    """Answers a request by HTTP/1.0 with its body, whose end is the end of the connection."""

    def __init__(self) -> None:
        super().__init__()
        self._request = b""

    def data_received(self, data: bytes) -> None:
        self._request += data
        head, separator, body = self._request.partition(b"\r\n\r\n")
        if separator and len(body) == int(head.lower().partition(b"content-length: ")[2].split()[0]):
            self.transport.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n")
            self.transport.write(body)
            self.transport.close()


def curl(server: Serving, files: PEMFiles, host: str, *options: str) -> contextlib.AbstractAsyncContextManager[Program]:
    """The program, which fetches a page from that server."""
    common = ["-sS", "--noproxy", "*", "--cacert", files.authority, "--resolve", f"{host}:{server.port}:127.0.0.1"]
    return running(CURL, *common, *options, f"https://{host}:{server.port}/")


@needs_curl
@each_server
def test_curl_gets_all_of_a_page_that_ends_with_the_connection(
    kind: str, files: PEMFiles, tmp_path: Path, perform: Perform
) -> None:
    """Megabytes, up and down; and no complaint of an end that nobody has announced."""
    (tmp_path / "up").write_bytes(MUCH)

    async def main() -> None:
        async with serving(server_context(kind, alpn=OF_CURL), PageEnd) as server:
            options = ["--data-binary", f"@{tmp_path / 'up'}", "-H", "Expect:", "-o", str(tmp_path / "down")]
            async with curl(server, files, "localhost", *options) as client:
                assert (await client.ends(), client.printed) == (0, "")
            assert describe((tmp_path / "down").read_bytes()) == describe(MUCH)
            assert info(server.ends[0], "alpn_protocol") == [*OF_CURL]
            assert await server.ends[0].lost is None

    perform(main)


@needs_curl
@each_server
def test_curl_refuses_another_host(kind: str, files: PEMFiles, perform: Perform) -> None:
    """It says so, and our server's end ends."""

    async def main() -> None:
        async with serving(server_context(kind, alpn=OF_CURL), PageEnd) as server:
            async with curl(server, files, "elsewhere.test") as client:
                assert await client.ends() == 60  # "peer certificate cannot be authenticated"
                assert "elsewhere.test" in client.printed
            (end,) = server.ends
            if end.connected.done():
                await end.lost

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


# Upgrades in mid-stream

# Each kind on either side, and some with others.
UPGRADES = [
    *((kind, kind) for kind in SERVER_KINDS),
    ("stdlib", "creator"),
    ("options", "stdlib"),
]
each_upgrade = pytest.mark.parametrize(("server_kind", "client_kind"), UPGRADES, ids=map("-".join, UPGRADES))


async def upgrade_and_talk(server: Any, client: Any, server_kind: str, client_kind: str) -> None:
    """Let two ends talk as mail servers and their clients do, first without TLS, then with it, and end in peace."""

    async def serve() -> None:
        server.send(b"220 hello\r\n")
        assert await server.receives(10) == b"STARTTLS\r\n"
        server.send(b"220 go on\r\n")
        await server.upgrade(server_context(server_kind), server_side=True)
        server.send(SOME)
        assert describe(await server.receives(len(SOME))) == describe(SOME[::-1])

    async def call() -> None:
        assert await client.receives(11) == b"220 hello\r\n"
        client.send(b"STARTTLS\r\n")
        assert await client.receives(11) == b"220 go on\r\n"
        await client.upgrade(shared_client_context(client_kind))
        client.send(SOME[::-1])
        assert describe(await client.receives(len(SOME))) == describe(SOME)

    await asyncio.gather(serve(), call())
    ending = asyncio.ensure_future(client.close())
    assert await server.receives(1) == b""
    await server.close()
    await ending


@each_upgrade
@pytest.mark.parametrize("by", ["tcp", "unix"])
@pytest.mark.parametrize("end", [ProtocolEnd, pytest.param(StreamEnd, marks=needs_stream_upgrade)])
def test_an_upgrade_in_mid_stream_loses_nothing(
    server_kind: str, client_kind: str, by: str, end: type[End], tmp_path: Path, perform: Perform
) -> None:
    """What was sent before it is read before it, and what comes after it is of TLS, on both sides."""

    async def main() -> None:
        path = str(tmp_path / "socket") if by == "unix" else None
        async with connected(end, path=path) as (server, client):
            await upgrade_and_talk(server, client, server_kind, client_kind)
            assert info(client, "tls_version") == info(server, "tls_version") == ["TLSv1.3"]

    perform(main)


@pytest.fixture
def _private_clock(monkeypatch: pytest.MonkeyPatch, reactor: Any) -> None:
    """Native startTLS() can be told no clock, and would take the global reactor, which nobody runs."""
    monkeypatch.setattr(tls, "_get_default_clock", lambda: reactor)


@each_server
@pytest.mark.usefixtures("_private_clock")
def test_a_client_of_twisteds_starts_tls_with_our_server(kind: str, reactor: Any, perform: Perform) -> None:
    """Its startTLS() and our start_tls() agree on where plain text ends."""

    async def main() -> None:
        accepted: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        server = await listen(ProtocolEnd, accepted)
        endpoint = TCP4ClientEndpoint(reactor, *server.sockets[0].getsockname())
        client = TwistedEnd()
        await endpoint.connect(factory_of(client)).asFuture(asyncio.get_running_loop())
        await upgrade_and_talk(await accepted, client, kind, "creator")
        server.close()
        await server.wait_closed()

    perform(main)


@each_client
@pytest.mark.usefixtures("_private_clock")
def test_our_client_starts_tls_with_a_server_of_twisteds(kind: str, reactor: Any, perform: Perform) -> None:
    """Our start_tls() and its startTLS() agree on where plain text ends."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = TwistedEnd()
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await endpoint.listen(factory_of(server)).asFuture(loop)
        _, client = await loop.create_connection(ProtocolEnd, "127.0.0.1", port.getHost().port)
        await server.begun
        await upgrade_and_talk(server, client, "options", kind)
        await port.stopListening().asFuture(loop)

    perform(main)


@needs_openssl
@each_server
@pytest.mark.parametrize("end", [ProtocolEnd, pytest.param(StreamEnd, marks=needs_stream_upgrade)])
def test_s_client_starts_tls_as_mail_clients_do(kind: str, end: type[End], files: PEMFiles, perform: Perform) -> None:
    """It speaks SMTP with our server until it is told to go on, and then TLS."""

    async def main() -> None:
        accepted: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        server = await listen(end, accepted)
        at = ["-connect", f"127.0.0.1:{server.sockets[0].getsockname()[1]}", "-CAfile", files.authority]
        async with running(OPENSSL, "s_client", "-brief", "-verify_return_error", "-starttls", "smtp", *at) as client:
            mail = await accepted
            mail.send(b"220 ready\r\n")
            assert (await mail.receives_line()).startswith(b"EHLO")
            mail.send(b"250-here\r\n250 STARTTLS\r\n")
            assert await mail.receives_line() == b"STARTTLS\r\n"
            mail.send(b"220 go on\r\n")
            await mail.upgrade(server_context(kind), server_side=True)
            await client.says("Verification: OK")
            client.send("hello\n")
            assert await mail.receives_line() == b"hello\n"
            mail.send(b"bye\n")
            await client.says("bye\n")
            client.send("Q\n")
            assert await client.ends() == 0
        await mail.close()
        server.close()
        await server.wait_closed()

    perform(main)


@each_upgrade
@pytest.mark.parametrize("ends", [memory_ends, pipe_ends])
def test_a_transport_that_is_not_ours_is_upgraded(
    server_kind: str, client_kind: str, ends: Any, perform: Perform
) -> None:
    """All that TLS wants is an asyncio.Transport: one that joins two pipes, or one that is in memory only."""

    async def main() -> None:
        async with ends() as (server, client):
            assert info(client, "peername") == ["elsewhere"]
            await upgrade_and_talk(server, client, server_kind, client_kind)

    perform(main)


IN_EACH_OTHER = [
    (("stdlib", "stdlib"), ("options", "options")),
    (("options", "options"), ("stdlib", "stdlib")),
    (("stdlib", "stdlib"), ("stdlib", "stdlib")),
    (("context", "creator"), ("options", "context")),
    (("memory", "memory"), ("context", "creator")),
]


@pytest.mark.parametrize(("outer", "inner"), IN_EACH_OTHER, ids=[f"{outer}-{inner}" for outer, inner in IN_EACH_OTHER])
@pytest.mark.parametrize("end", [ProtocolEnd, pytest.param(StreamEnd, marks=needs_stream_upgrade)])
def test_tls_goes_through_tls(outer: tuple[str, str], inner: tuple[str, str], end: type[End], perform: Perform) -> None:
    """A TLS transport is upgraded as any other, with each library inside of the other; it tells of the inner one."""

    async def main() -> None:
        contexts = {"server_tls": server_context(outer[0]), "client_tls": shared_client_context(outer[1])}
        async with connected(end, **contexts) as (server, client):
            outer_object, peername = info(client, "ssl_object", "peername")
            await upgrade_and_talk(server, client, *inner)
            inner_object, peername_then = info(client, "ssl_object", "peername")
            assert inner_object is not outer_object
            assert peername_then == peername

    perform(main)


async def handshake_by_hand(end: ProtocolEnd, sent: Callable[[bytes], None]) -> Callable[[bytes], Awaitable[bytes]]:
    """
    Do the client's handshake over *end*, whose transport does not know of it.

    Args:
        end: The end.
        sent: Called with the ClientHello, which it has to send.

    Returns:
        Sends something, and returns as many bytes as come back.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    by_hand = shared_client_context("stdlib").wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        by_hand.do_handshake()
    sent(outgoing.read())

    async def until_done(step: Callable[[], Any]) -> Any:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                incoming.write(await end.receives_some())
            else:
                end.send(outgoing.read())
                return result

    async def echoed(data: bytes) -> bytes:
        by_hand.write(data)
        end.send(outgoing.read())
        read: bytes = await until_done(lambda: by_hand.read(len(data)))
        return read

    await until_done(by_hand.do_handshake)
    return echoed


@needs_stream_upgrade
@each_server
@pytest.mark.parametrize("early", [1, 5, 100, None])
def test_a_handshake_may_begin_with_the_last_line_of_plain_text(kind: str, early: int | None, perform: Perform) -> None:
    """What the server's reader has of the handshake when the upgrade begins belongs to the handshake."""

    async def main() -> None:
        async with connected(StreamEnd, ProtocolEnd) as (server, client):
            hello = asyncio.get_running_loop().create_future()
            first = asyncio.ensure_future(handshake_by_hand(client, hello.set_result))
            data = await hello
            client.send(b"STARTTLS\r\n" + data[:early])
            assert await server.reader.readline() == b"STARTTLS\r\n"
            assert bytes(server.reader._buffer) == data[:early]
            upgrade = asyncio.ensure_future(server.upgrade(server_context(kind), server_side=True))
            await asyncio.sleep(0)  # for it to begin
            client.send(data[len(data[:early]) :])
            echoed, _ = await asyncio.gather(first, upgrade)
            reply = asyncio.ensure_future(echoed(b"hello"))
            assert await server.receives(5) == b"hello"
            server.send(b"HELLO")
            assert await reply == b"HELLO"

    perform(main)


@needs_stream_upgrade
@each_server
def test_plain_text_behind_the_last_line_is_not_taken_for_secret(kind: str, perform: Perform) -> None:
    """What somebody on the way has put there is no handshake, so the upgrade fails; and nobody reads it later."""

    async def main() -> None:
        async with connected(StreamEnd, ProtocolEnd) as (server, client):
            client.send(b"STARTTLS\r\nMAIL FROM:<mallory>\r\n")
            assert await server.reader.readline() == b"STARTTLS\r\n"
            with pytest.raises(ssl.SSLError):
                await server.upgrade(server_context(kind), server_side=True)
            with contextlib.suppress(ssl.SSLError):
                assert await server.reader.read() == b""
            await client.lost

    perform(main)


@each_upgrade
@pytest.mark.parametrize("over", ["tcp", "tls", "pipes"])
def test_a_server_may_be_paused_when_the_upgrade_begins(
    server_kind: str, client_kind: str, over: str, perform: Perform
) -> None:
    """What it has written arrives first; it is paused until that is gone, and then asked to go on."""

    async def upgrade(server: ProtocolEnd, client: ProtocolEnd) -> None:
        client.transport.pause_reading()
        server.send(VERY_MUCH)
        assert server.callbacks == ["pause_writing"]
        upgrade = asyncio.ensure_future(server.upgrade(server_context(server_kind), server_side=True))
        await asyncio.sleep(0)  # for it to begin
        client.transport.resume_reading()
        assert describe(await client.receives(len(VERY_MUCH))) == describe(VERY_MUCH)
        await asyncio.gather(client.upgrade(shared_client_context(client_kind)), upgrade)
        server.send(b"hello")
        assert await client.receives(5) == b"hello"
        assert server.callbacks == ["pause_writing", "resume_writing"]
        await client.close()
        assert await server.lost is None

    async def main() -> None:
        if over == "pipes":
            async with pipe_ends() as ends:
                await upgrade(*ends)
            return
        contexts = {"server_tls": server_context("stdlib"), "client_tls": shared_client_context("stdlib")}
        async with connected(ProtocolEnd, **(contexts if over == "tls" else {})) as ends:
            await upgrade(*ends)

    perform(main)


@needs_stream_upgrade
@each_upgrade
def test_a_client_may_be_paused_when_the_upgrade_begins(server_kind: str, client_kind: str, perform: Perform) -> None:
    """Its part of the handshake follows what it has written, without a word from the server."""

    async def main() -> None:
        async with connected(StreamEnd, ProtocolEnd) as (server, client):
            client.send(VERY_MUCH)
            assert client.callbacks == ["pause_writing"]
            upgrade = asyncio.ensure_future(client.upgrade(shared_client_context(client_kind)))
            assert describe(await server.receives(len(VERY_MUCH))) == describe(VERY_MUCH)
            await asyncio.gather(server.upgrade(server_context(server_kind), server_side=True), upgrade)
            client.send(b"hello")
            assert await server.receives(5) == b"hello"
            assert client.callbacks == ["pause_writing", "resume_writing"]

    perform(main)


@needs_stream_upgrade
@each_upgrade
def test_a_slow_reader_holds_up_the_peer_after_an_upgrade(server_kind: str, client_kind: str, perform: Perform) -> None:
    """A stream's reader has no more in its buffer than it would have without TLS, and a few records."""

    async def main() -> None:
        async with connected(StreamEnd) as (server, client):
            await asyncio.gather(
                server.upgrade(server_context(server_kind), server_side=True),
                client.upgrade(shared_client_context(client_kind)),
            )
            client.send(VERY_MUCH)
            largest = left = 0
            for left in range(len(VERY_MUCH), 0, -64 * 1024):
                await server.receives(min(left, 64 * 1024))
                for _ in range(5):
                    await asyncio.sleep(0)
                largest = max(largest, len(server.reader._buffer))
            assert largest < 1024 * 1024

    perform(main)
