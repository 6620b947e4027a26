"""asyncio's protocols and streams, connected and served by Twisted's endpoints of every kind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import endpoints
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError as TwistedConnectionRefusedError
from twisted.internet.error import TimeoutError as TwistedTimeoutError
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import connectionDone
from twisted.internet.testing import StringTransport
from zope.interface import implementer

import txasync
from txasync.adapters import EndpointServer

from ..conftest import Reports, Runner
from ..test_running import in_child
from ..tls.contexts import client_context, server_context
from ..transports.tls_ends import ProtocolEnd
from ..transports.tls_interoperation import LIMIT_S, Perform
from . import tls_checks
from .endpoint_ways import Way, way, way_without_tls
from .tls_checks import CLIENT_CHECKS, SERVER_CHECKS, client_by_hand, present_reactor, server_by_hand

__all__ = ["way", "way_without_tls"]

# As in setup.cfg.
IGNORED = ("-W", "ignore:Passing pyOpenSSL:DeprecationWarning")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send each line back, until the peer has ended."""
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


@contextlib.asynccontextmanager
async def echoing(endpoint: Any) -> AsyncIterator[EndpointServer]:
    """A server that echoes."""
    async with await txasync.start_server(echo, endpoint) as server:
        yield server


async def is_echoed(endpoint: Any, line: bytes = b"to and fro\n") -> asyncio.StreamWriter:
    """Check that a server at *endpoint* echoes; the writer of the connection, which is closed."""
    reader, writer = await txasync.open_connection(endpoint)
    writer.write(line)
    assert await reader.readline() == line
    writer.close()
    await writer.wait_closed()
    return writer


async def asyncio_is_echoed(host: str, port: int, *, before: bytes = b"") -> None:
    """Check that a server echoes what asyncio's own client sends."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(before + b"line\n")
    assert await reader.readline() == b"line\n"
    writer.close()
    await writer.wait_closed()


@contextlib.asynccontextmanager
async def deaf_server() -> AsyncIterator[tuple[str, int]]:
    """The address of a server that accepts connections, and does nothing else."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()


@contextlib.contextmanager
def full_server() -> Iterator[tuple[str, int]]:
    """The address of a server that has no room for connections: Linux drops the first packet of any more."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, contextlib.ExitStack() as waiting:
        for _ in range(3):
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listening.getsockname())
        yield listening.getsockname()


@pytest.fixture
def perform(run: Runner) -> Perform:
    """Run a coroutine function, and wait for the tasks that it has left: before Python 3.12, servers do not."""

    async def performed(main: Callable[[], Awaitable[None]]) -> None:
        before = asyncio.all_tasks()
        await main()
        if left := asyncio.all_tasks() - before:
            await asyncio.wait(left)

    return lambda main: run(lambda: asyncio.wait_for(performed(main), LIMIT_S))


@contextlib.contextmanager
def sockets_are_left() -> Iterator[None]:
    """Twisted leaves some sockets that it could not bind, or listen on, to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@contextlib.contextmanager
def unused_port() -> Iterator[int]:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


# Endpoints of every kind


def test_descriptions_of_both_sides(perform: Perform, way: Way) -> None:
    """Streams over ``tcp:``, ``unix:``, and ``ssl:`` with ``tls:``."""

    async def main() -> None:
        async with echoing(way.server) as server:
            for _ in range(3):
                await is_echoed(way.client(server))

    perform(main)


def test_protocols_and_their_transports(perform: Perform, way: Way) -> None:
    """``connect()`` returns what ``create_connection()`` would: the transport and the protocol that it has."""

    async def main() -> None:
        async with await txasync.serve(way.server, ProtocolEnd) as server:
            transport, protocol = await txasync.connect(way.client(server), ProtocolEnd)
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(protocol, ProtocolEnd)
            assert protocol.transport is transport
            assert transport.get_protocol() is protocol
            transport.close()
            await protocol.lost

    perform(main)


def test_objects(perform: Perform, tmp_path: Path) -> None:
    """Endpoints that were made by hand."""

    async def main() -> None:
        reactor = present_reactor()
        async with echoing(endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")) as server:
            port = server.sockname[1]
            await is_echoed(endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port))
        async with echoing(endpoints.TCP6ServerEndpoint(reactor, 0, interface="::1")) as server:
            writer = await is_echoed(endpoints.TCP6ClientEndpoint(reactor, "::1", server.sockname[1]))
            assert writer.get_extra_info("peername") == server.sockname == ("::1", server.sockname[1], 0, 0)
        path = str(tmp_path / "socket")
        async with echoing(endpoints.UNIXServerEndpoint(reactor, path)):
            await is_echoed(endpoints.UNIXClientEndpoint(reactor, path))

    perform(main)


def test_a_child_process(perform: Perform) -> None:
    """An endpoint need not have to do with sockets: ``ProcessEndpoint`` connects to a program's standard streams."""

    async def main() -> None:
        writer = await is_echoed(endpoints.ProcessEndpoint(present_reactor(), "/bin/cat", ["cat"]))
        assert writer.get_extra_info("peername") is None
        assert writer.get_extra_info("socket") is None

    perform(main)


def test_a_custom_client_endpoint(perform: Perform) -> None:
    """All that counts is ``connect()``; the protocol may be connected in it, or later."""

    @implementer(IStreamClientEndpoint)
    class Memory:
        def __init__(self, later: bool) -> None:
            self.later = later

        def connect(self, protocolFactory: Any) -> Deferred[Any]:
            self.iprotocol = iprotocol = protocolFactory.buildProtocol(None)
            iprotocol.makeConnection(itransport := StringTransport())
            self.itransport = itransport
            if not self.later:
                return succeed(iprotocol)
            deferred: Deferred[Any] = Deferred()
            asyncio.get_running_loop().call_soon(deferred.callback, iprotocol)
            return deferred

    async def main() -> None:
        for later in False, True:
            endpoint = Memory(later)
            transport, protocol = await txasync.connect(endpoint, ProtocolEnd)
            transport.write(b"hello")
            assert endpoint.itransport.value() == b"hello"
            transport.close()
            assert endpoint.itransport.disconnecting
            endpoint.iprotocol.connectionLost(connectionDone)
            assert await protocol.lost is None

    perform(main)


def test_the_proxy_protocol(perform: Perform) -> None:
    """Over ``haproxy:``, the names are those that the proxy tells of."""

    async def main() -> None:
        peers = []

        async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            line = await reader.readline()
            peers.append((writer.get_extra_info("peername"), writer.get_extra_info("sockname")))
            writer.write(line)
            writer.close()

        async with await txasync.start_server(note, "haproxy:tcp:0:interface=127.0.0.1") as server:
            header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 2222\r\n"
            await asyncio_is_echoed(*server.sockname, before=header)
            assert len(peers) == 1

    perform(main)


def test_an_adopted_socket(perform: Perform) -> None:
    """A descriptor that already listens, as ``systemd:`` has it."""

    async def main() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        name = listening.getsockname()
        endpoint = endpoints.AdoptedStreamServerEndpoint(present_reactor(), listening.detach(), socket.AF_INET)
        async with echoing(endpoint) as server:
            assert server.sockname == name
            await asyncio_is_echoed(*name)
        with pytest.raises(OSError) as caught:
            await txasync.serve(endpoint, ProtocolEnd)
        assert caught.value.errno is not None

    perform(main)


def test_socket_activation() -> None:
    """``systemd:`` takes the socket that the environment tells of."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        program = """
            import asyncio, os
            os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web")
            import txasync
            async def answer(reader, writer):
                writer.write(await reader.readline())
                writer.close()
            async def main():
                async with await txasync.start_server(answer, "systemd:domain=INET:index=0") as server:
                    reader, writer = await asyncio.open_connection(*server.sockname)
                    writer.write(b"activated\\n")
                    print((await reader.readline()).decode(), end="")
                    writer.close()
                    await writer.wait_closed()
            txasync.run(main())
            """
        assert run_with_descriptor_3(program, listening.fileno()) == "activated\n"


def run_with_descriptor_3(program: str, fd: int, input: bytes = b"") -> str:
    """What *program* prints, in a Python of its own that has inherited *fd*, as descriptor 3."""
    program = f"import os; os.dup2({fd}, 3)\n" + textwrap.dedent(program)
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], input=input, capture_output=True, timeout=60, pass_fds=[fd]
    )
    assert child.returncode == 0, child.stderr.decode()
    return child.stdout.decode()


def test_standard_input_and_output() -> None:
    """``stdio:`` has one connection, and nothing that could stop listening."""
    with tempfile.TemporaryFile() as unused:
        printed = run_with_descriptor_3(
            """
            import asyncio, txasync
            ended = None
            async def shout(reader, writer):
                while line := await reader.readline():
                    writer.write(line.upper())
                writer.close()
                await writer.wait_closed()
                ended.set()
            async def main():
                global ended
                ended = asyncio.Event()
                async with await txasync.start_server(shout, "stdio:") as server:
                    assert server.sockets == ()
                    assert server.sockname is None
                    await ended.wait()
            txasync.run(main())
            """,
            unused.fileno(),
            b"one\ntwo\n",
        )
    assert printed == "ONE\nTWO\n"


def test_half_closing_over_a_client_endpoint(perform: Perform) -> None:
    """The peer's end leaves the write side open if the protocol says so, whatever Twisted puts between."""

    class Patient(ProtocolEnd):
        def eof_received(self) -> Any:
            super().eof_received()
            self.send(b"after the end")
            self.transport.close()
            return True

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            reactor = present_reactor()
            for endpoint in (
                f"tcp:127.0.0.1:{port}",
                endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port),
            ):
                _, protocol = await txasync.connect(endpoint, Patient)
                peer, _ = listening.accept()
                reader, writer = await asyncio.open_connection(sock=peer)
                writer.write_eof()
                assert await reader.read() == b"after the end"
                writer.close()
                await writer.wait_closed()
                assert await protocol.lost is None

    perform(main)


def test_the_clients_half_close_reaches_the_server(perform: Perform) -> None:
    """``write_eof()`` over ``tcp:``; what the server answers then still comes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.read()
        writer.write(question[::-1])
        writer.close()

    async def main() -> None:
        async with await txasync.start_server(answer, "tcp:0:interface=127.0.0.1") as server:
            reader, writer = await txasync.open_connection(f"tcp:127.0.0.1:{server.sockname[1]}")
            assert writer.can_write_eof()
            writer.write(b"olleh")
            writer.write_eof()
            assert await reader.read() == b"hello"
            writer.close()
            await writer.wait_closed()

    perform(main)


# TLS


@pytest.mark.parametrize("check", CLIENT_CHECKS, ids=lambda check: check.__name__)
def test_a_client_with_tls(perform: Perform, check: Callable[[Any], Awaitable[None]]) -> None:
    """Its connection is there when the handshake is done, and what goes wrong in that is told."""
    perform(lambda: check(client_by_hand))


@pytest.mark.parametrize("check", SERVER_CHECKS, ids=lambda check: check.__name__)
def test_a_server_with_tls(perform: Perform, check: Callable[[Any], Awaitable[None]]) -> None:
    """Protocols are connected when the handshake is done."""
    perform(lambda: check(server_by_hand()))


@pytest.mark.parametrize("first", ["asyncio-first", "reactor-first"])
def test_descriptions_with_tls(first: str) -> None:
    """All of that, of Twisted's own endpoints, on the process's reactor."""
    child = subprocess.run(
        [sys.executable, "-W", "error", *IGNORED, "-m", tls_checks.__name__, first],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert child.returncode == 0, child.stderr
    assert child.stderr == ""
    kinds = tls_checks.described_clients(Path())
    expected = [f"{kind} {check.__name__}" for kind in kinds for check in CLIENT_CHECKS]
    expected += [f"ssl: {check.__name__}" for check in SERVER_CHECKS]
    assert child.stdout.splitlines() == expected


def test_a_description_with_tls_on_another_reactor_is_refused(run: Any) -> None:
    """Twisted's TLS would wait for the process's reactor to send what is written, perhaps for ever."""

    async def main() -> None:
        for description in "tls:localhost:443", "ssl:host=localhost:port=443", "SSL:localhost:443":
            with pytest.raises(RuntimeError, match=r"the process's reactor.*clock="):
                await txasync.connect(description, ProtocolEnd)
        for description in "ssl:443", "haproxy:ssl:443", "tls:/etc/certificates:tcp=443":
            with pytest.raises(RuntimeError, match=r"the process's reactor.*clock="):
                await txasync.serve(description, ProtocolEnd)

    run(main)


def test_what_alpn_has_settled(perform: Perform) -> None:
    """``alpn_protocol``, as our transports have it."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        context = server_context("stdlib", alpn=("h2", "http/1.1"))
        async with await loop.create_server(ProtocolEnd, "127.0.0.1", 0, ssl=context) as server:
            endpoint = client_by_hand(server.sockets[0].getsockname()[1], alpn=("http/1.1",))
            transport, protocol = await txasync.connect(endpoint, ProtocolEnd)
            assert transport.get_extra_info("alpn_protocol") == "http/1.1"
            transport.close()
            await protocol.lost

    perform(main)


STARTED_BY = ("stdlib", "options")


@pytest.mark.parametrize("client_kind", ["stdlib", "creator"])
@pytest.mark.parametrize("server_kind", STARTED_BY)
def test_start_tls_on_both_sides(perform: Perform, server_kind: str, client_kind: str) -> None:
    """The loop upgrades Twisted's transports as it does its own, by contexts of either kind."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ends: list[ProtocolEnd] = []

        def make() -> ProtocolEnd:
            ends.append(ProtocolEnd())
            return ends[-1]

        async with await txasync.serve("tcp:0:interface=127.0.0.1", make) as server:
            transport, client = await txasync.connect(f"tcp:127.0.0.1:{server.sockname[1]}", make)
            accepted = next(end for end in ends if end is not client) if len(ends) > 1 else None
            while accepted is None:
                await asyncio.sleep(0)
                accepted = next((end for end in ends if end is not client), None)
            await accepted.connected
            accepted.transport, client.transport = await asyncio.gather(
                loop.start_tls(accepted.transport, accepted, server_context(server_kind), server_side=True),
                loop.start_tls(transport, client, client_context(client_kind), server_hostname="localhost"),
            )
            client.send(b"question")
            assert await accepted.receives(8) == b"question"
            accepted.send(b"answer")
            assert await client.receives(6) == b"answer"
            assert client.transport.get_extra_info("cipher") == accepted.transport.get_extra_info("cipher")
            assert client.transport.get_extra_info("peername") == server.sockname
            client.transport.close()
            assert await client.lost is None
            assert await accepted.lost is None

    perform(main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="StreamWriter.start_tls() is new in Python 3.11")
@pytest.mark.parametrize("server_kind", STARTED_BY)
def test_start_tls_of_a_stream_writer(perform: Perform, server_kind: str) -> None:
    """As STARTTLS: a line, the answer, and then TLS; on both sides by streams."""

    async def upgrade(reader: asyncio.StreamReader, writer: Any) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.start_tls(server_context(server_kind))
        await echo(reader, writer)

    async def main() -> None:
        async with await txasync.start_server(upgrade, "tcp:0:interface=127.0.0.1") as server:
            writer: Any
            reader, writer = await txasync.open_connection(f"tcp:127.0.0.1:{server.sockname[1]}")
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"go\n"
            await writer.start_tls(client_context("stdlib"), server_hostname="localhost")
            writer.write(b"in secret\n")
            assert await reader.readline() == b"in secret\n"
            assert writer.get_extra_info("ssl_object") is not None
            writer.close()
            await writer.wait_closed()

    perform(main)


# What goes wrong


async def failures(endpoint: Any, connecting: Any) -> tuple[BaseException, BaseException]:
    """What `txasync.connect` and *connecting*, which is asyncio's own, raise."""
    outcomes = []
    for attempt in txasync.connect(endpoint, ProtocolEnd), connecting:
        with pytest.raises(OSError) as caught:
            await attempt
        outcomes.append(caught.value)
    ours, asyncios = outcomes
    return ours, asyncios


def test_what_fails_to_connect_fails_as_by_asyncio(perform: Perform) -> None:
    """The type and the number are those of ``create_connection()``; Twisted's error is the cause."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with unused_port() as unused:
            for host, port in (("127.0.0.1", unused), ("255.255.255.255", 1), ("nosuch.invalid", 1)):
                ours, asyncios = await failures(f"tcp:{host}:{port}", loop.create_connection(ProtocolEnd, host, port))
                assert type(ours) is type(asyncios)
                assert isinstance(ours, OSError)
                assert isinstance(asyncios, OSError)
                assert isinstance(ours, socket.gaierror) or ours.errno == asyncios.errno
                assert ours.__cause__ is not None
                assert type(ours.__cause__).__module__.startswith("twisted.")

    perform(main)


def test_a_path_where_nobody_listens_fails_as_by_asyncio(perform: Perform, tmp_path: Path) -> None:
    """It is not there, or is no socket, or is one that nobody listens on, or may not be reached."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        (tmp_path / "file").touch()
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(tmp_path / "left"))
        for name in "missing", "file", "left":
            path = str(tmp_path / name)
            ours, asyncios = await failures(f"unix:{path}", loop.create_unix_connection(ProtocolEnd, path))
            assert (type(ours), ours.errno) == (type(asyncios), asyncios.errno)  # type: ignore[attr-defined]

    perform(main)


def test_a_local_address_that_is_not_ours_fails_as_by_asyncio(perform: Perform) -> None:
    """``bindAddress=``, as ``local_addr=``."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with sockets_are_left():
            ours, asyncios = await failures(
                "tcp:127.0.0.1:1:bindAddress=192.0.2.1",
                loop.create_connection(ProtocolEnd, "127.0.0.1", 1, local_addr=("192.0.2.1", 0)),
            )
        assert (type(ours), ours.errno) == (type(asyncios), asyncios.errno)  # type: ignore[attr-defined]

    perform(main)


def test_the_endpoints_own_limit_of_time(perform: Perform) -> None:
    """``timeout=`` of an endpoint is a TimeoutError here."""

    async def main() -> None:
        with full_server() as (host, port):
            endpoint = endpoints.TCP4ClientEndpoint(present_reactor(), host, port, timeout=0.05)
            with pytest.raises(TimeoutError) as caught:
                await txasync.connect(endpoint, ProtocolEnd)
            assert isinstance(caught.value.__cause__, TwistedTimeoutError)

    perform(main)


def test_a_port_that_is_in_use_fails_as_by_asyncio(perform: Perform, tmp_path: Path) -> None:
    """And a path in a directory that is not there."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        missing = str(tmp_path / "nowhere" / "socket")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with sockets_are_left():
                ours = await outcome_of(txasync.serve(f"tcp:{port}:interface=127.0.0.1", ProtocolEnd))
                assert ours == await outcome_of(loop.create_server(ProtocolEnd, "127.0.0.1", port))
                ours = await outcome_of(txasync.serve(f"unix:{missing}", ProtocolEnd))
                assert ours == await outcome_of(loop.create_unix_server(ProtocolEnd, missing))

    async def outcome_of(serving: Any) -> Any:
        with pytest.raises(OSError) as caught:
            await serving
        return type(caught.value), caught.value.errno

    perform(main)


BAD_CLIENTS = [
    "",
    "\\",
    "80",
    "nosuch:1",
    "tcp",
    "tcp:",
    "tcp:localhost",
    "tcp:localhost:http",
    "tcp:localhost:80:nosuch=1",
    "tcp:1:2:3:4:5:6",
    "tls:localhost",
    "unix",
    "stdio:",
]
BAD_SERVERS = [
    "",
    "\\",
    "80",
    "nosuch:1",
    "tcp",
    "tcp:",
    "tcp:http",
    "tcp:80:nosuch=1",
    "ssl",
    "unix",
    "haproxy:",
    "haproxy:tcp",
    "systemd:domain=INET",
    "systemd:domain=INET:index=0",
]


@pytest.mark.parametrize("mode", ["asyncio-first"], ids=repr)
def test_bad_descriptions_are_value_errors(run: Any) -> None:
    """They name the description, and what Twisted has against it."""

    async def main() -> None:
        for use, descriptions, what in (
            (txasync.connect, BAD_CLIENTS, "client"),
            (txasync.serve, BAD_SERVERS, "server"),
        ):
            for description in descriptions:
                with pytest.raises(ValueError, match=f"does not describe a {what} endpoint: .") as caught:
                    await use(description, ProtocolEnd, reactor=present_reactor())
                assert repr(description) in str(caught.value)

    run(main)


def test_a_file_that_a_description_names_and_that_is_missing(perform: Perform, tmp_path: Path) -> None:
    """It is not the description that is wrong."""

    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            missing = tmp_path / "nowhere.pem"
            await txasync.serve(f"ssl:0:privateKey={missing}", ProtocolEnd, reactor=present_reactor())

    perform(main)


def test_what_is_no_endpoint_is_a_type_error(perform: Perform) -> None:
    """A server's endpoint is none of a client's."""

    async def main() -> None:
        reactor = present_reactor()
        wrong: Any
        for wrong in 80, None, ("localhost", 80), b"tcp:localhost:80", endpoints.TCP4ServerEndpoint(reactor, 0):
            with pytest.raises(TypeError, match="IStreamClientEndpoint"):
                await txasync.connect(wrong, ProtocolEnd)
        for wrong in 80, None, b"tcp:0", endpoints.TCP4ClientEndpoint(reactor, "localhost", 1):
            with pytest.raises(TypeError, match="IStreamServerEndpoint"):
                await txasync.serve(wrong, ProtocolEnd)

    perform(main)


def test_a_loop_without_a_reactor_says_what_is_missing() -> None:
    """Nothing hangs in silence."""

    async def main() -> None:
        for use in txasync.connect, txasync.serve:
            with pytest.raises(RuntimeError, match=r"has no reactor.*txasync\.run\(\)"):
                await use("tcp:1:1", ProtocolEnd)

    loop = asyncio.SelectorEventLoop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_a_reactor_that_is_named_is_the_one(run: Any) -> None:
    """``reactor=``, of whatever kind."""
    from twisted.internet.testing import MemoryReactor

    async def main() -> None:
        reactor: Any = MemoryReactor()
        server = await txasync.serve("tcp:80", ProtocolEnd, reactor=reactor)
        [(port, factory, backlog, interface)] = reactor.tcpServers
        assert port == 80
        iprotocol = factory.buildProtocol(None)
        iprotocol.makeConnection(itransport := StringTransport())
        [connection] = server._factory.connections
        protocol: Any = connection.protocol
        protocol.send(b"hello")
        assert itransport.value() == b"hello"
        connecting = asyncio.ensure_future(txasync.connect("tcp:192.0.2.1:80", ProtocolEnd, reactor=reactor))
        while not reactor.tcpClients:
            await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        server.close()
        server.abort_clients()
        iprotocol.connectionLost(connectionDone)
        await server.wait_closed()

    run(main)


def test_a_protocol_factory_that_fails_when_a_client_connects(perform: Perform) -> None:
    """It is who connects that is told; and nothing stays open."""

    def boom() -> asyncio.Protocol:
        raise LookupError("no protocol")

    async def main() -> None:
        async with await txasync.serve("tcp:0:interface=127.0.0.1", ProtocolEnd) as server:
            with pytest.raises(LookupError, match="no protocol"):
                await txasync.connect(f"tcp:127.0.0.1:{server.sockname[1]}", boom)

    perform(main)


def test_a_protocol_factory_that_fails_when_a_server_accepts(perform: Perform, reports: Reports) -> None:
    """The loop is told, the connection is closed, and the server goes on."""
    fails = [True, False]

    def make() -> asyncio.Protocol:
        if fails.pop(0):
            raise LookupError("no protocol")
        return ProtocolEnd()

    async def main() -> None:
        contexts: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
        async with await txasync.serve("tcp:0:interface=127.0.0.1", make) as server:
            reader, writer = await asyncio.open_connection(*server.sockname)
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            assert isinstance(contexts[0]["exception"], LookupError)
            transport, protocol = await txasync.connect(f"tcp:127.0.0.1:{server.sockname[1]}", ProtocolEnd)
            transport.close()
            await protocol.lost

    perform(main)
    assert not reports.twisted


# Cancelling


async def cancelled_when(condition: Callable[[], bool], connecting: Any) -> None:
    """Cancel *connecting*, as soon as *condition* holds."""
    task = asyncio.ensure_future(connecting)
    while not condition():
        assert not task.done()
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # Twisted looks up addresses by a timed call, and leaves it to find that there is nothing to do any more.
    reactors_turn = asyncio.Event()
    present_reactor().callLater(0, reactors_turn.set)
    await reactors_turn.wait()


@pytest.mark.parametrize("rounds", range(4))
def test_cancelling_while_the_name_is_looked_up(perform: Perform, rounds: int) -> None:
    """Or right before, or right after it."""

    async def main() -> None:
        with full_server() as (_, port):
            left = iter(range(rounds))
            await cancelled_when(
                lambda: next(left, None) is None, txasync.connect(f"tcp:localhost:{port}", ProtocolEnd)
            )

    perform(main)


def test_cancelling_while_a_connection_is_being_made(perform: Perform) -> None:
    """The attempt is given up; its socket is closed."""

    async def main() -> None:
        with full_server() as (host, port):
            descriptors = set(os.listdir("/proc/self/fd"))
            await cancelled_when(
                lambda: len(set(os.listdir("/proc/self/fd")) - descriptors) > 0,
                txasync.connect(f"tcp:{host}:{port}", ProtocolEnd),
            )

    perform(main)


def test_cancelling_when_the_connection_is_there_already(perform: Perform, way: Way) -> None:
    """The protocol has heard of its connection, and hears of the end of it."""

    class Cancelling(ProtocolEnd):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            task.cancel()

    async def main() -> None:
        nonlocal task
        protocols: list[Cancelling] = []

        def make() -> Cancelling:
            protocols.append(Cancelling())
            return protocols[-1]

        async with await txasync.serve(way.server, ProtocolEnd) as server:
            task = asyncio.ensure_future(txasync.connect(way.client(server), make))
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await protocols[0].lost is None

    task: Any = None
    perform(main)


def test_cancelling_an_endpoint_that_does_not_heed_it(perform: Perform) -> None:
    """A connection that it makes all the same is not kept, and no protocol hears of it."""

    @implementer(IStreamClientEndpoint)
    class Deaf:
        def connect(self, protocolFactory: Any) -> Deferred[Any]:
            self.factory = protocolFactory
            return Deferred()

    async def main() -> None:
        endpoint = Deaf()
        await cancelled_when(lambda: hasattr(endpoint, "factory"), txasync.connect(endpoint, ProtocolEnd))
        assert endpoint.factory.buildProtocol(None) is None

    perform(main)


def test_cancelling_an_endpoint_that_has_built_its_protocol(perform: Perform) -> None:
    """A connection that comes for it all the same is aborted."""

    @implementer(IStreamClientEndpoint)
    class Slow:
        def connect(self, protocolFactory: Any) -> Deferred[Any]:
            self.iprotocol = protocolFactory.buildProtocol(None)
            return Deferred()

    async def main() -> None:
        endpoint = Slow()
        await cancelled_when(lambda: hasattr(endpoint, "iprotocol"), txasync.connect(endpoint, ProtocolEnd))
        itransport = StringTransport()
        endpoint.iprotocol.makeConnection(itransport)
        assert itransport.disconnecting
        endpoint.iprotocol.connectionLost(connectionDone)

    perform(main)


def test_an_endpoint_that_fails_after_it_has_connected(perform: Perform) -> None:
    """The failure counts, and the connection is aborted."""

    @implementer(IStreamClientEndpoint)
    class Fickle:
        def connect(self, protocolFactory: Any) -> Deferred[Any]:
            protocolFactory.buildProtocol(None).makeConnection(itransport)
            return fail(TwistedConnectionRefusedError())

    itransport = StringTransport()

    async def main() -> None:
        with pytest.raises(ConnectionRefusedError):
            await txasync.connect(Fickle(), ProtocolEnd)
        assert itransport.disconnected or itransport.disconnecting

    perform(main)


def test_cancelling_serve(perform: Perform) -> None:
    """A port that comes all the same, in the very moment, is stopped; one that never comes is not waited for."""

    class Port:
        stopped = False

        def stopListening(self) -> None:
            self.stopped = True

    @implementer(IStreamServerEndpoint)
    class Slow:
        def listen(self, protocolFactory: Any) -> Deferred[Any]:
            self.listening: Deferred[Any] = Deferred()
            return self.listening

    async def main() -> None:
        endpoint = Slow()
        await cancelled_when(lambda: hasattr(endpoint, "listening"), txasync.serve(endpoint, ProtocolEnd))
        assert endpoint.listening.called
        for cancel_first in False, True:
            endpoint, port = Slow(), Port()
            serving = asyncio.ensure_future(txasync.serve(endpoint, ProtocolEnd))
            while not hasattr(endpoint, "listening"):
                await asyncio.sleep(0)
            if cancel_first:
                serving.cancel()
            endpoint.listening.callback(port)
            serving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await serving
            assert port.stopped

    perform(main)


# Servers


@pytest.fixture
def tcp() -> str:
    """The description of a server's endpoint."""
    return "tcp:0:interface=127.0.0.1"


async def connection_to(server: EndpointServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that *server* has accepted."""
    return await asyncio.open_connection(*server.sockname)


class Holding(ProtocolEnd):
    """Says that it is there, and keeps its connection."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.write(b"here\n")


def test_what_a_server_says_of_itself(perform: Perform, tcp: str) -> None:
    """As ``asyncio.Server``: its sockets, its loop, whether it serves."""

    async def main() -> None:
        server = await txasync.serve(tcp, ProtocolEnd)
        assert isinstance(server, asyncio.AbstractServer)
        assert server.is_serving()
        assert server.get_loop() is asyncio.get_running_loop()
        [sock] = server.sockets
        assert isinstance(sock, asyncio.trsock.TransportSocket)
        assert sock.getsockname() == server.sockname
        assert "serving=True" in repr(server)
        await server.start_serving()
        server.close()
        server.close()
        assert not server.is_serving()
        assert server.sockets == ()
        assert server.sockname[0] == "127.0.0.1"
        assert "serving=False" in repr(server)
        await server.wait_closed()
        with pytest.raises(RuntimeError, match="is closed"):
            await server.start_serving()
        with pytest.raises(RuntimeError, match="is closed"):
            await server.serve_forever()

    perform(main)


def test_the_address_can_be_bound_again_after_wait_closed(perform: Perform, way_without_tls: Way) -> None:
    """At once, and more than once."""
    way = way_without_tls

    async def main() -> None:
        async with await txasync.serve(way.server, ProtocolEnd) as server:
            endpoint = way.server
            if way.kind != "unix":
                endpoint = f"tcp:{server.sockname[1]}:interface=127.0.0.1"
        for _ in range(3):
            async with echoing(endpoint) as server:
                writer = await is_echoed(endpoint if way.kind == "unix" else f"tcp:127.0.0.1:{server.sockname[1]}")
                assert writer.get_extra_info("peername") == server.sockname

    perform(main)


def test_connections_stay_when_the_server_is_closed(perform: Perform, tcp: str) -> None:
    """How long ``wait_closed()`` waits for them is as in each Python version."""

    async def main() -> None:
        server = await txasync.start_server(echo, tcp)
        reader, writer = await connection_to(server)
        writer.write(b"before\n")
        assert await reader.readline() == b"before\n"
        early = asyncio.ensure_future(server.wait_closed())
        await asyncio.sleep(0)
        server.close()
        late = asyncio.ensure_future(server.wait_closed())
        writer.write(b"after\n")
        assert await reader.readline() == b"after\n"
        if sys.version_info < (3, 12):
            await late
        else:
            assert not late.done()
        assert not early.done()
        with pytest.raises(ConnectionRefusedError):
            await connection_to(server)
        writer.close()
        await writer.wait_closed()
        await asyncio.gather(early, late)

    perform(main)


def test_wait_closed_waits_for_close(perform: Perform, tcp: str) -> None:
    """That there are no connections is not enough; and who waits can be cancelled."""

    async def main() -> None:
        server = await txasync.serve(tcp, ProtocolEnd)
        waiting = [asyncio.ensure_future(server.wait_closed()) for _ in range(3)]
        await is_echoed_by_nobody(server)
        assert not any(waiter.done() for waiter in waiting)
        waiting[0].cancel()
        server.close()
        await asyncio.gather(*waiting[1:])
        assert waiting[0].cancelled()

    async def is_echoed_by_nobody(server: EndpointServer) -> None:
        _, writer = await connection_to(server)
        writer.close()
        await writer.wait_closed()

    perform(main)


@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
def test_all_connections_can_be_ended(perform: Perform, way: Way, method: str) -> None:
    """To close them sends what is left; to abort them does not wait for that."""

    async def main() -> None:
        async with await txasync.serve(way.server, Holding) as server:
            ends = [(await txasync.connect(way.client(server), ProtocolEnd))[1] for _ in range(3)]
            for end in ends:
                assert await end.receives_line() == b"here\n"
            getattr(server, method)()
            for end in ends:
                loss = await end.lost
                assert loss is None or (method == "abort_clients" and isinstance(loss, OSError))

    perform(main)


def test_connections_whose_handshake_is_not_done_can_be_ended(perform: Perform) -> None:
    """Their protocols have not heard of them."""

    async def main() -> None:
        for method in "close_clients", "abort_clients":
            async with await txasync.serve(server_by_hand(), ProtocolEnd) as server:
                reader, writer = await connection_to(server)
                while not server._factory.connections:
                    await asyncio.sleep(0)
                getattr(server, method)()
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
                writer.close()
                with contextlib.suppress(ConnectionResetError):
                    await writer.wait_closed()

    perform(main)


def test_serve_forever_until_cancelled(perform: Perform, tcp: str) -> None:
    """The server is closed then; and one that is being served for ever is not served so twice."""

    async def main() -> None:
        server = await txasync.start_server(echo, tcp)
        serving = asyncio.ensure_future(server.serve_forever())
        await is_echoed(f"tcp:127.0.0.1:{server.sockname[1]}")
        with pytest.raises(RuntimeError, match="already being awaited"):
            await server.serve_forever()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not server.is_serving()

    perform(main)


def test_serve_forever_until_closed(perform: Perform, tcp: str) -> None:
    """Whoever serves for ever is cancelled, as by ``asyncio.Server``."""

    async def main() -> None:
        server = await txasync.serve(tcp, ProtocolEnd)
        serving = asyncio.ensure_future(server.serve_forever())
        await asyncio.sleep(0)
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await serving

    perform(main)


def test_cancelling_serve_forever_with_connections(perform: Perform, tcp: str) -> None:
    """From Python 3.14 on, they are closed; before, whoever cancels waits for them as ``wait_closed()`` does."""

    async def main() -> None:
        server = await txasync.serve(tcp, Holding)
        serving = asyncio.ensure_future(server.serve_forever())
        reader, writer = await connection_to(server)
        assert await reader.readline() == b"here\n"
        serving.cancel()
        if sys.version_info >= (3, 14):
            assert await reader.read() == b""
        else:
            await asyncio.wait([serving], timeout=None if sys.version_info < (3, 12) else 0)
            writer.write(b"still there")
        writer.close()
        await writer.wait_closed()
        with pytest.raises(asyncio.CancelledError):
            await serving
        while server._factory.connections:
            await asyncio.sleep(0)

    perform(main)


def test_closing_from_a_callback(perform: Perform, tcp: str) -> None:
    """A connection may close its server, and all connections, while it is being told of."""

    async def main() -> None:
        server: EndpointServer

        class Closing(ProtocolEnd):
            def data_received(self, data: bytes) -> None:
                server.close()
                server.close_clients()

        server = await txasync.serve(tcp, Closing)
        reader, writer = await connection_to(server)
        writer.write(b"close")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await server.wait_closed()

    perform(main)


def test_closing_before_anything_is_accepted(perform: Perform, tcp: str) -> None:
    """A connection that the kernel holds is reset, and no protocol is made."""

    async def main() -> None:
        server = await txasync.serve(tcp, ProtocolEnd)
        with socket.create_connection(server.sockname) as sock:
            server.close()
            await server.wait_closed()
            sock.setblocking(False)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.get_running_loop().sock_recv(sock, 1) == b""

    perform(main)


def test_a_port_that_cannot_stop_is_reported(perform: Perform, reports: Reports) -> None:
    """And it counts as closed."""

    class Stuck:
        def getHost(self) -> None:
            return None

        def stopListening(self) -> Deferred[None]:
            return fail(LookupError("no"))

    @implementer(IStreamServerEndpoint)
    class Strange:
        def listen(self, protocolFactory: Any) -> Deferred[Any]:
            return succeed(Stuck())

    async def main() -> None:
        contexts: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
        async with await txasync.serve(Strange(), ProtocolEnd) as server:
            assert server.sockname is None
            assert server.sockets == ()
        assert isinstance(contexts[0]["exception"], LookupError)
        assert contexts[0]["server"] is server

    perform(main)


# Files


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_sendfile(perform: Perform, way: Way, size: int) -> None:
    """A file goes over an adapted transport by reading and writing; what was paused is resumed then."""
    content = bytes(range(250)) * (size // 250) + b"x" * (size % 250)

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with tempfile.TemporaryFile() as file:
                file.write(b"skipped" + content)
                assert await loop.sendfile(writer.transport, file, 7) == len(content)
                assert file.tell() == 7 + len(content)
            assert await loop.sendfile(writer.transport, io.BytesIO(b"0123456789"), 2, 3) == 3
            assert await reader.readline() == b"thanks\n"
            writer.close()
            await writer.wait_closed()
            sent.set()

        sent = asyncio.Event()
        async with await txasync.start_server(send, way.server) as server:
            reader, writer = await txasync.open_connection(way.client(server))
            assert await reader.readexactly(len(content) + 3) == content + b"234"
            writer.write(b"thanks\n")
            assert await reader.read() == b""
            await sent.wait()
            writer.close()
            await writer.wait_closed()

    perform(main)


def test_sendfile_to_a_peer_that_goes_away(perform: Perform, way: Way) -> None:
    """It is told that the connection is lost, and so is the protocol."""

    class Leaving(ProtocolEnd):
        def data_received(self, data: bytes) -> None:
            self.transport.abort()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with await txasync.serve(way.server, Leaving) as server:
            _, end = await txasync.connect(way.client(server), ProtocolEnd)
            with pytest.raises(ConnectionError):
                await loop.sendfile(end.transport, io.BytesIO(bytes(50_000_000)))
            await end.lost

    perform(main)


# The host loop of an AsyncioSelectorReactor


def test_on_a_reactor_that_stands_on_asyncio() -> None:
    """Descriptions are opened by the process's reactor, if it stands on the loop that runs."""
    printed = in_child(
        """
        import asyncio
        from twisted.internet import asyncioreactor
        host = asyncio.SelectorEventLoop()
        asyncioreactor.install(host)
        from twisted.internet import reactor
        import txasync

        async def echo(reader, writer):
            writer.write(await reader.readline())
            writer.close()
            await writer.wait_closed()

        async def main():
            async with await txasync.start_server(echo, "tcp:0:interface=127.0.0.1") as server:
                for host in "127.0.0.1", "localhost":
                    reader, writer = await txasync.open_connection(f"tcp:{host}:{server.sockname[1]}")
                    writer.write(b"over a host\\n")
                    print((await reader.read()).decode(), end="")
                    writer.close()
                    await writer.wait_closed()
            try:
                await txasync.connect("tcp:127.0.0.1:1", asyncio.Protocol)
            except ConnectionRefusedError as error:
                print(type(error.__cause__).__name__)

        def start():
            task = host.create_task(main())
            task.add_done_callback(lambda task: reactor.stop())
            task.add_done_callback(lambda task: task.result())

        reactor.callWhenRunning(start)
        reactor.run()
        host.close()
        """,
        warnings="default",
    )
    assert printed.splitlines()[:3] == ["over a host", "over a host", "ConnectionRefusedError"]
