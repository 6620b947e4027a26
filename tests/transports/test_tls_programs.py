"""TLS with programs: those of openssl, as a client and as a server, and curl."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.ssl import CertificateOptions

from ..tls.contexts import authority, client_context, server_context
from .recorders import describe
from .tls_ends import ProtocolEnd
from .tls_interoperation import (
    MUCH,
    VERSIONS,
    Perform,
    Serving,
    by_turns,
    client_of,
    each_client,
    each_server,
    each_version,
    info,
    resuming_context,
    serving,
    shared_client_context,
)
from .tls_programs import CURL, OPENSSL, PEMFiles, Program, client_certificate, needs_curl, needs_openssl, running

# Of OpenSSL 3; the ssl module has no name for it.
OP_ALLOW_CLIENT_RENEGOTIATION = 0x100

combination = by_turns


# openssl s_client


def s_client(server: Serving, files: PEMFiles, *options: str) -> contextlib.AbstractAsyncContextManager[Program]:
    """The program as a client of that server."""
    common = ["-CAfile", files.authority, "-verify_return_error", "-verify_hostname", "localhost"]
    name = ["-connect", f"127.0.0.1:{server.port}", "-servername", "localhost"]
    return running(OPENSSL, "s_client", *name, *common, *options)


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
