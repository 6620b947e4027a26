"""
What is to hold of every client and server endpoint of Twisted's that has TLS.

Those that are described by strings, and those of ``connectSSL()`` and ``listenSSL()``, take the process's reactor for
their clock, so they work on no other one: as a program, this checks them on that, and prints what it has checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet import endpoints
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

import txasync
from txasync.adapters._on_twisted import _protocol
from txasync.tls import TLSVerificationError

from ..tls.contexts import authority, certificate, client_context, server_context
from ..transports.tls_ends import ProtocolEnd

__all__ = ["CLIENT_CHECKS", "SERVER_CHECKS", "client_by_hand", "server_by_hand"]

Client = Callable[..., Any]
"""Makes the endpoint of a client: for a port of 127.0.0.1, and perhaps the ``host`` that it is to be."""

SHORT_S = 0.05


def present_reactor() -> Any:
    """The reactor of the loop that runs."""
    loop: Any = asyncio.get_running_loop()
    return loop.reactor


# Endpoints that work on any reactor


@implementer(IStreamClientEndpoint, IStreamServerEndpoint)
class WithTLS:
    """An endpoint with TLS above another one, as ``wrapClientTLS()`` and ``wrapServerTLS()``, but with a clock."""

    def __init__(self, below: Any, context: Any) -> None:
        self._below = below
        self._wrap = functools.partial(TLSMemoryBIOFactory, context, clock=present_reactor())

    def connect(self, protocolFactory: Any) -> Any:
        """Connect."""
        connecting = self._below.connect(self._wrap(isClient=True, wrappedFactory=protocolFactory))
        return connecting.addCallback(lambda tls: tls.wrappedProtocol)

    def listen(self, protocolFactory: Any) -> Any:
        """Listen."""
        return self._below.listen(self._wrap(isClient=False, wrappedFactory=protocolFactory))


def client_by_hand(port: int, host: str = "localhost", alpn: tuple[str, ...] = ()) -> WithTLS:
    """A `Client`."""
    below = endpoints.TCP4ClientEndpoint(present_reactor(), "127.0.0.1", port)
    return WithTLS(below, client_context("creator", host, alpn=alpn))


def server_by_hand() -> WithTLS:
    """Its server."""
    below = endpoints.TCP4ServerEndpoint(present_reactor(), 0, interface="127.0.0.1")
    return WithTLS(below, server_context("options"))


# Clients


@contextlib.asynccontextmanager
async def _tls_server(leaf: trustme.LeafCert | None = None) -> Any:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(ProtocolEnd, "127.0.0.1", 0, ssl=server_context("stdlib", leaf))
    async with server:
        yield server.sockets[0].getsockname()


@contextlib.asynccontextmanager
async def _plain_server(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> Any:
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def _read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionResetError):
        while await reader.read(65536):
            pass
    writer.close()
    with contextlib.suppress(ConnectionResetError):
        await writer.wait_closed()


async def connects_when_the_handshake_is_done(client: Client) -> None:
    """What was agreed upon is known, to the protocol, too."""
    ciphers = []

    class Looking(ProtocolEnd):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            ciphers.append(transport.get_extra_info("cipher"))

    async with _tls_server() as name:
        transport, protocol = await txasync.connect(client(name[1]), Looking)
        assert ciphers[0] is not None
        assert [transport.get_extra_info("cipher")] == ciphers
        connection = transport.get_extra_info("ssl_object")
        assert isinstance(connection, SSL.Connection)
        assert transport.get_extra_info("sslcontext") is connection.get_context()
        assert ("DNS", "localhost") in transport.get_extra_info("peercert")["subjectAltName"]
        assert transport.get_extra_info("peername") == name
        assert transport.get_extra_info("socket").getpeername() == name
        assert transport.get_extra_info("tls_version") in ("TLSv1.2", "TLSv1.3")
        assert not transport.can_write_eof()
        transport.close()
        assert await protocol.lost is None


async def exchanges_small_and_large(client: Client) -> None:
    """What is written arrives, though Twisted's TLS collects small writes."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context("stdlib")) as server:
        reader, writer = await txasync.open_connection(client(server.sockets[0].getsockname()[1]))
        for data in b"1", b"22", bytes(100_000):
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
        writer.close()
        await writer.wait_closed()


async def refuses_another_authority(client: Client) -> None:
    """The error is the standard library's, and Twisted's is its cause."""
    stranger = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    async with _tls_server(stranger) as (_, port):
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed") as caught:
            await txasync.connect(client(port), ProtocolEnd)
        assert isinstance(caught.value.__cause__, SSL.Error)


async def refuses_another_name(client: Client) -> None:
    """The error is the standard library's, and service_identity's is its cause."""
    async with _tls_server(certificate("elsewhere.test")) as (_, port):
        with pytest.raises(TLSVerificationError, match="mismatch") as caught:
            await txasync.connect(client(port), ProtocolEnd)
        assert caught.value.verify_code == 62
        assert isinstance(caught.value.__cause__, VerificationError)


async def refuses_a_peer_without_tls(client: Client) -> None:
    """What that says is no handshake."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        await _read_all(reader, writer)

    async with _plain_server(greet) as port:
        with pytest.raises(ssl.SSLError) as caught:
            await txasync.connect(client(port), ProtocolEnd)
        assert isinstance(caught.value.__cause__, SSL.Error)


async def is_told_that_the_peer_has_ended(client: Client) -> None:
    """During the handshake; asyncio has a reset connection there."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with _plain_server(hang_up) as port:
        with pytest.raises(ConnectionResetError):
            await txasync.connect(client(port), ProtocolEnd)


async def ends_a_handshake_that_does_not_end(client: Client) -> None:
    """After as long as asyncio would wait."""
    async with _plain_server(_read_all) as port:
        with _short_handshakes(), pytest.raises(ConnectionAbortedError, match="handshake"):
            await txasync.connect(client(port), ProtocolEnd)


async def can_be_cancelled_during_the_handshake(client: Client) -> None:
    """The peer is cut off."""
    hello: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        hello.set_result(None)
        await _read_all(reader, writer)
        over.set()

    async with _plain_server(listen) as port:
        connecting = asyncio.ensure_future(txasync.connect(client(port), ProtocolEnd))
        await hello
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await over.wait()


# Servers


async def serves_when_the_handshake_is_done(endpoint: Any) -> None:
    """A client that has none is never told of."""
    ciphers = []

    class Looking(ProtocolEnd):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            ciphers.append(transport.get_extra_info("cipher"))
            transport.write(b"welcome\n")
            transport.close()

    async with await txasync.serve(endpoint, Looking) as server:
        plain_reader, plain = await asyncio.open_connection(*server.sockname)
        plain.write(b"no TLS at all\n")
        await _read_all(plain_reader, plain)
        reader, writer = await asyncio.open_connection(
            *server.sockname, ssl=client_context("stdlib"), server_hostname="localhost"
        )
        assert await reader.readline() == b"welcome\n"
        assert ciphers == [writer.get_extra_info("cipher")]
        await _read_all(reader, writer)


async def cuts_off_clients_that_never_end_the_handshake(endpoint: Any) -> None:
    """Their protocols never hear of them."""
    protocols: list[ProtocolEnd] = []

    def make() -> ProtocolEnd:
        protocols.append(ProtocolEnd())
        return protocols[-1]

    with _short_handshakes():
        async with await txasync.serve(endpoint, make) as server:
            await _read_all(*await asyncio.open_connection(*server.sockname))
    assert len(protocols) == 1
    assert not protocols[0].connected.done()


@contextlib.contextmanager
def _short_handshakes() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        assert _protocol.HANDSHAKE_TIMEOUT_S == asyncio.constants.SSL_HANDSHAKE_TIMEOUT
        patch.setattr(_protocol, "HANDSHAKE_TIMEOUT_S", SHORT_S)
        yield


CLIENT_CHECKS: tuple[Callable[[Client], Awaitable[None]], ...] = (
    connects_when_the_handshake_is_done,
    exchanges_small_and_large,
    refuses_another_authority,
    refuses_another_name,
    refuses_a_peer_without_tls,
    is_told_that_the_peer_has_ended,
    ends_a_handshake_that_does_not_end,
    can_be_cancelled_during_the_handshake,
)
SERVER_CHECKS: tuple[Callable[[Any], Awaitable[None]], ...] = (
    serves_when_the_handshake_is_done,
    cuts_off_clients_that_never_end_the_handshake,
)


# The program


def described_clients(trusted: Path) -> dict[str, Client]:
    """The kinds of clients that need the process's reactor."""

    def old(port: int, host: str = "localhost") -> Any:
        return endpoints.SSL4ClientEndpoint(present_reactor(), "127.0.0.1", port, client_context("creator", host))

    def wrapped(port: int, host: str = "localhost") -> Any:
        below = endpoints.HostnameEndpoint(present_reactor(), "127.0.0.1", port)
        return endpoints.wrapClientTLS(client_context("creator", host), below)

    return {
        "tls:": lambda port,
        host="localhost": f"tls:{host}:{port}:endpoint=tcp\\:127.0.0.1\\:{port}:trustRoots={trusted}",
        "ssl:": lambda port, host="localhost": f"ssl:127.0.0.1:{port}:hostname={host}:caCertsDir={trusted}",
        "SSL4ClientEndpoint": old,
        "wrapClientTLS": wrapped,
    }


async def check_names() -> None:
    """Check a client endpoint that looks up a name, and half-closing over it: it has the reactor for its clock, too."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    async with await asyncio.start_server(answer, "localhost", 0, family=socket.AF_INET) as server:
        port = server.sockets[0].getsockname()[1]
        endpoint = endpoints.HostnameEndpoint(present_reactor(), "localhost", port)
        reader, writer = await txasync.open_connection(endpoint)
        writer.write(b"question")
        writer.write_eof()
        assert await reader.read() == b"question"
        writer.close()
        await writer.wait_closed()
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            await txasync.connect(endpoint, ProtocolEnd)
    with pytest.raises(socket.gaierror):
        await txasync.connect(endpoints.HostnameEndpoint(present_reactor(), "nosuch.invalid", 1), ProtocolEnd)


async def check_descriptions(directory: Path) -> None:
    """Check all clients and servers, and print which."""
    authority().cert_pem.write_to_path(str(directory / "authority.pem"))
    pem = directory / "server" / "server.pem"
    pem.parent.mkdir()
    certificate().private_key_and_cert_chain_pem.write_to_path(str(pem))
    await check_names()
    for kind, client in described_clients(directory).items():
        for client_check in CLIENT_CHECKS:
            await asyncio.wait_for(client_check(client), 20)
            print(kind, client_check.__name__)
    for server_check in SERVER_CHECKS:
        await asyncio.wait_for(server_check(f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"), 20)
        print("ssl:", server_check.__name__)


def main(mode: str) -> None:
    """Check all on the process's reactor, in *mode*."""
    with tempfile.TemporaryDirectory() as directory:
        if mode == "asyncio-first":
            txasync.run(check_descriptions(Path(directory)))
            return
        loop = txasync.install()
        from twisted.internet import reactor

        task = loop.create_task(check_descriptions(Path(directory)))
        task.add_done_callback(lambda task: reactor.stop())
        reactor.run()
        task.result()


if __name__ == "__main__":
    main(sys.argv[1])
