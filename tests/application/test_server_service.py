"""ServerService: asyncio's protocols and streams on an endpoint of Twisted's, as long as a service runs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import connectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from txasync.application import ServerService, _server_service

from ..adapters.endpoint_ways import Perform, Way, tls, way
from ..adapters.test_endpoints_on_twisted import sockets_are_left
from ..conftest import Reports
from ..test_running import in_child
from ..transports.tls_ends import ProtocolEnd
from .service_runs import (
    clock,
    combination,
    mode,
    on_asyncioreactor,
    perform,
    poller_factory,
    reactor,
    run_as_twistd,
    tree_of,
)

__all__ = ["clock", "combination", "mode", "perform", "poller_factory", "reactor", "tls", "way"]

pytestmark = pytest.mark.usefixtures("descriptor_in_reserve")

ANY_PORT = "tcp:0:interface=127.0.0.1"
LONG_S = 60.0
# More than the kernel keeps of what nobody reads.
VERY_MUCH = bytes(8_000_000)


def present_reactor() -> Any:
    """The reactor of the loop that runs."""
    loop: Any = asyncio.get_running_loop()
    return loop.reactor


class Address:
    """Where a service listens, as `Way` wants it."""

    def __init__(self, service: ServerService) -> None:
        host = service.port.getHost()
        self.sockname = (host.host, host.port) if hasattr(host, "host") else None


def port_of(service: ServerService) -> int:
    """The number of the port of *service*, which listens by TCP."""
    number: int = service.port.getHost().port
    return number


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send each line back, until the peer has ended."""
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


class EchoEnd(ProtocolEnd):
    """Sends back what it gets."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.send(data)


@contextlib.asynccontextmanager
async def serving(handler: Any, endpoint: Any = ANY_PORT, **options: Any) -> AsyncIterator[ServerService]:
    """A service of streams on the reactor that runs; it is stopped in the end, if it is not yet."""
    service = ServerService.for_streams(endpoint, handler, reactor=present_reactor(), **options)
    await service.startService()
    try:
        yield service
    finally:
        await service.stopService()


async def open_to(service: ServerService) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Streams of a client's, connected by the loop."""
    return await asyncio.open_connection("127.0.0.1", port_of(service))


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close it, whatever has become of its connection."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def turns(count: int = 3) -> None:
    """Let the reactor come by so often."""
    for _ in range(count):
        come_by = asyncio.Event()
        present_reactor().callLater(0, come_by.set)
        await come_by.wait()


def refuses(port: int) -> bool:
    """Whether nobody listens on *port* of 127.0.0.1 any more."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


@contextlib.contextmanager
def logged_errors() -> Any:
    """The messages of the events at the level of an error, of those that have no failure."""
    messages: list[str] = []

    def observe(event: Any) -> None:
        if event.get("log_level") is not None and event["log_level"].name == "error":
            messages.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]  # a function provides ILogObserver
    try:
        yield messages
    finally:
        globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]


# While the reactor runs


def test_a_stopped_service_has_left_nothing(perform: Perform, way: Way) -> None:
    """No port, no connection, no task; started again, it serves again."""

    async def main() -> None:
        service = ServerService(way.server, EchoEnd, reactor=present_reactor())
        before = asyncio.all_tasks()
        for _ in range(2):
            await service.startService()
            where: Any = Address(service)
            transport, client = await way.connect_by_loop(where, ProtocolEnd)
            client.send(b"hello")
            assert await client.receives(5) == b"hello"
            [server_end] = service.protocols
            assert isinstance(server_end, EchoEnd)
            await service.stopService()
            assert server_end.lost.done()
            assert service.port is None
            assert service.protocols == []
            await client.lost
            assert asyncio.all_tasks() == before
            if way.kind == "unix":
                assert not os.path.exists(way.path)
            else:
                assert refuses(where.sockname[1])

    perform(main)


def test_streams(perform: Perform, way: Way) -> None:
    """What ``start_server()`` takes: each connection has a task, which is gone when the service is stopped."""

    async def main() -> None:
        async with serving(echo, way.server) as service:
            where: Any = Address(service)
            _, client = await way.connect_by_loop(where, ProtocolEnd)
            client.send(b"to and fro\n")
            assert await client.receives_line() == b"to and fro\n"
            tasks = asyncio.all_tasks()
            await service.stopService()
            assert len([task for task in tasks if task.done()]) == 1
            await client.lost

    perform(main)


def test_functions_that_are_no_coroutine_functions(perform: Perform) -> None:
    """As asyncio has it; and the limit is the reader's."""

    async def main() -> None:
        readers: list[Any] = []

        def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            readers.append(reader)
            writer.write(b"hello\n")
            writer.close()

        async with serving(greet, limit=100) as service:
            reader, writer = await open_to(service)
            assert await reader.read() == b"hello\n"
            await closed(writer)
            assert "limit=100" in repr(readers[0])

    perform(main)


def test_a_parent_starts_and_stops_it(perform: Perform) -> None:
    """In a MultiService: with the parent, when it is added to a running one, and when it is taken out of it."""

    async def main() -> None:
        first = ServerService.for_streams(ANY_PORT, echo, reactor=present_reactor())
        parent = tree_of(first)
        parent.privilegedStartService()
        port = port_of(first)
        parent.startService()
        assert port_of(first) == port
        added: Any = ServerService.for_streams(ANY_PORT, echo, reactor=present_reactor())
        added.setServiceParent(parent)
        _, writer = await open_to(added)
        await added.disownServiceParent()
        assert not first.port.disconnected
        await parent.stopService()
        assert refuses(port)
        await closed(writer)

    perform(main)


def test_started_twice_listens_once(perform: Perform) -> None:
    """To start what is started changes nothing."""

    async def main() -> None:
        service = ServerService(ANY_PORT, EchoEnd, reactor=present_reactor())
        service.privilegedStartService()
        port = service.port
        service.privilegedStartService()
        await service.startService()
        await service.startService()
        assert service.port is port
        await service.stopService()

    perform(main)


def test_stopped_twice_waits_twice(perform: Perform) -> None:
    """The second Deferred means it, too; one that was never started is stopped at once."""

    async def main() -> None:
        let_go = asyncio.Event()
        handling = asyncio.Event()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            handling.set()
            await let_go.wait()
            writer.close()

        assert ServerService(ANY_PORT, EchoEnd, reactor=present_reactor()).stopService().called
        async with serving(handle, graceful_s=LONG_S) as service:
            _, writer = await open_to(service)
            await handling.wait()
            first, second = service.stopService(), service.stopService()
            await turns()
            third = service.stopService()
            assert not first.called | second.called | third.called
            let_go.set()
            for stopped in first, second, third:
                await stopped
            assert service.protocols == []
            await closed(writer)

    perform(main)


def test_started_again_it_listens_when_the_stop_is_done(perform: Perform) -> None:
    """On the same port, without waiting for the Deferred; unless it is stopped once more before."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        service = ServerService.for_streams(f"tcp:{port}:interface=127.0.0.1", echo, reactor=present_reactor())
        await service.startService()
        _, writer = await open_to(service)
        stopped = service.stopService()
        started = service.startService()
        assert not started.called
        assert service.port is None
        await started
        assert stopped.called
        assert port_of(service) == port
        await closed(writer)
        stopped = service.stopService()
        started = service.startService()
        stopped_again = service.stopService()
        assert started.called
        await stopped
        await stopped_again
        assert service.port is None
        assert refuses(port)

    perform(main)


# Before the reactor runs, and at its end


def test_privileged_start_binds_at_once(reactor: Any) -> None:
    """Whoever connects before the reactor runs is served when it does; the reactor's shutdown waits for the stop."""
    ended = []

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.write(await reader.readline())
        writer.close()
        ended.append(True)

    service = ServerService.for_streams(ANY_PORT, slow, graceful_s=LONG_S, reactor=reactor)
    parent = tree_of(service)
    service.privilegedStartService()
    with socket.create_connection(("127.0.0.1", port_of(service)), timeout=LONG_S) as client:
        client.sendall(b"before\n")

        async def main() -> None:
            while not service.protocols:
                await turns(1)
            client.sendall(b"the second line\n")
            client.setblocking(False)

        run_as_twistd(reactor, parent, main)
        client.setblocking(True)
        assert client.makefile("rb").read() == b"before\nthe second line\n"
    assert ended == [True]
    assert service.port is None


def test_stopped_before_the_reactor_ran(reactor: Any) -> None:
    """Nothing listens any more, whether it was started with privileges, without, or both."""
    for privileged, started in (True, False), (False, True), (True, True):
        service = ServerService(ANY_PORT, EchoEnd, reactor=reactor)
        if privileged:
            service.privilegedStartService()
        if started:
            assert service.startService().called
        port = port_of(service)
        with socket.create_connection(("127.0.0.1", port)):
            stopped = service.stopService()
            reactor.runUntilCurrent()
            assert stopped.called
        assert refuses(port)


# What keeps it from listening


def test_a_port_in_use_is_told_at_once(perform: Perform) -> None:
    """By the call itself, privileged or not; when the port is free, the same service can be started."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            service = ServerService(f"tcp:{port}:interface=127.0.0.1", EchoEnd, reactor=present_reactor())
            for start in service.privilegedStartService, service.startService:
                with sockets_are_left(), pytest.raises(CannotListenError, match=str(port)):
                    start()
                assert not service.running
            assert service.stopService().called
        await service.startService()
        assert port_of(service) == port
        await service.stopService()

    perform(main)


def test_a_place_that_is_not_permitted() -> None:
    """The call itself fails with what the endpoint fails with, which need not be CannotListenError."""
    printed = in_child(
        """
        import os, tempfile
        from twisted.internet.error import CannotListenError
        from txasync.application import ServerService
        place = tempfile.mkdtemp()
        services = [ServerService(f"unix:{place}/socket{options}", object) for options in ("", ":lockfile=0")]
        if os.geteuid() == 0:
            os.setuid(65534)
        else:
            os.chmod(place, 0o500)
        for service in services:
            try:
                service.privilegedStartService()
            except OSError as error:
                print(type(error).__name__)
            except CannotListenError as error:
                print(type(error).__name__, type(error.socketError).__name__)
            assert not service.running
        """,
        warnings="error::DeprecationWarning",
    )
    assert printed.splitlines()[:2] == ["PermissionError", "CannotListenError PermissionError"]


@implementer(IStreamServerEndpoint)
class SlowEndpoint:
    """
    An endpoint that does not listen at once.

    Attributes:
        listening: The Deferreds that it has returned.
        factory: What it was given.
    """

    def __init__(self, canceller: Callable[[Any], None] | None = None) -> None:
        self.listening: list[Deferred[Any]] = []
        self._canceller = canceller

    def listen(self, protocolFactory: Any) -> Deferred[Any]:
        """Listen."""
        self.factory = protocolFactory
        self.listening.append(Deferred(self._canceller))
        return self.listening[-1]


def test_what_fails_later_is_told_by_the_deferred(perform: Perform) -> None:
    """Once, and nobody else is told; started again, the service asks the endpoint again."""

    async def main() -> None:
        endpoint = SlowEndpoint()
        service = ServerService(endpoint, EchoEnd, reactor=present_reactor())
        service.privilegedStartService()
        started = service.startService()
        assert not started.called
        endpoint.listening[0].errback(CannotListenError("", 1, OSError("no such interface")))
        with pytest.raises(CannotListenError):
            await started
        await service.stopService()
        started = service.startService()
        port = await TCP4ServerEndpoint(present_reactor(), 0, interface="127.0.0.1").listen(endpoint.factory)
        endpoint.listening[1].callback(port)
        await started
        assert service.port is port
        await service.stopService()
        assert port.disconnected

    perform(main)


def test_what_fails_later_in_a_tree_is_logged_once(perform: Perform, reports: Reports) -> None:
    """A MultiService does not look at the Deferreds of its services' starts."""

    async def main() -> None:
        endpoint = SlowEndpoint()
        parent = tree_of(ServerService(endpoint, EchoEnd, reactor=present_reactor()))
        parent.privilegedStartService()
        parent.startService()
        endpoint.listening.pop().errback(CannotListenError("", 1, OSError("no such interface")))
        await parent.stopService()

    perform(main)
    gc.collect()
    assert [report.type for report in reports.twisted] == [CannotListenError]
    reports.clear()


def test_stopped_before_it_listens(perform: Perform) -> None:
    """The endpoint is told so; a port that comes all the same is not kept; startService's Deferred fires."""

    async def main() -> None:
        deaf = SlowEndpoint()
        service = ServerService(deaf, EchoEnd, reactor=present_reactor())
        started = service.startService()
        await service.stopService()
        assert started.called
        assert await started is None
        port = await TCP4ServerEndpoint(present_reactor(), 0, interface="127.0.0.1").listen(deaf.factory)
        late = SlowEndpoint(canceller=lambda listening: listening.callback(port))
        service = ServerService(late, EchoEnd, reactor=present_reactor())
        started = service.startService()
        await service.stopService()
        assert started.called
        assert port.disconnected
        assert service.port is None

    perform(main)


@pytest.mark.parametrize("mode", ["asyncio-first"], ids=repr)
def test_bad_arguments_are_told_when_it_is_made(perform: Perform, tmp_path: Path) -> None:
    """Descriptions that say nothing, and objects of another kind."""

    async def main() -> None:
        reactor = present_reactor()
        for description in "", "80", "nosuch:1", "tcp:http", "unix":
            make: Any
            for make in ServerService, ServerService.for_streams:
                with pytest.raises(ValueError, match="does not describe a server endpoint"):
                    make(description, echo, reactor=reactor)
        wrong: Any
        for wrong in 80, None, b"tcp:80":
            with pytest.raises(TypeError, match="IStreamServerEndpoint"):
                ServerService(wrong, EchoEnd, reactor=reactor)
            with pytest.raises(TypeError, match="callable"):
                ServerService(ANY_PORT, wrong, reactor=reactor)
            with pytest.raises(TypeError, match="reader and a writer"):
                ServerService.for_streams(ANY_PORT, wrong, reactor=reactor)
        with pytest.raises(FileNotFoundError):
            ServerService(f"ssl:0:privateKey={tmp_path}/nowhere.pem", EchoEnd, reactor=reactor)

    perform(main)


# The end


def test_connections_in_flight_may_end_by_themselves(perform: Perform) -> None:
    """Nobody new is let in; the Deferred fires with the end of the last one."""

    async def main() -> None:
        may_answer = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            question = await reader.readline()
            await may_answer.wait()
            writer.write(b"answer to " + question)
            writer.close()

        async with serving(answer, graceful_s=LONG_S) as service:
            port = port_of(service)
            clients = [await open_to(service) for _ in range(3)]
            for _, writer in clients:
                writer.write(b"question\n")
            await turns()
            stopped = service.stopService()
            while not refuses(port):
                await turns(1)
            assert not stopped.called
            may_answer.set()
            await stopped
            for reader, writer in clients:
                assert await reader.read() == b"answer to question\n"
                await closed(writer)

    perform(main)


def test_connections_that_last_too_long_are_closed(perform: Perform) -> None:
    """What serves streams is cancelled, and can say goodbye before its connection is closed."""

    async def main() -> None:
        async def say_goodbye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                writer.write(b"goodbye")
                raise

        async with serving(say_goodbye, graceful_s=0.01) as service:
            reader, writer = await open_to(service)
            await turns()
            await service.stopService()
            assert await reader.read() == b"goodbye"
            await closed(writer)
        protocols = ServerService(ANY_PORT, EchoEnd, graceful_s=0.01, reactor=present_reactor())
        await protocols.startService()
        reader, writer = await open_to(protocols)
        await protocols.stopService()
        assert await reader.read() == b""
        await closed(writer)

    perform(main)


def test_a_peer_that_does_not_read_is_not_waited_for_for_ever(
    perform: Perform, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    """A connection that cannot be closed is aborted."""
    monkeypatch.setattr(_server_service, "CLOSE_TIMEOUT_S", 0.05)

    class Flooding(ProtocolEnd):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.send(VERY_MUCH)

    async def main() -> None:
        service = ServerService(way.server, Flooding, reactor=present_reactor())
        await service.startService()
        where: Any = Address(service)
        transport, client = await way.connect_by_loop(where, ProtocolEnd)
        transport.pause_reading()
        while not service.protocols:
            await turns(1)
        protocol: Any = service.protocols[0]
        await protocol.connected
        await service.stopService()
        assert protocol.lost.done()
        transport.abort()
        await client.lost

    perform(main)


def test_a_task_that_does_not_heed_its_cancellation_is_told(perform: Perform, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not hold the stop for ever; the log names it."""
    for limit in "CLOSE_TIMEOUT_S", "ABORT_TIMEOUT_S":
        monkeypatch.setattr(_server_service, limit, 0.02)

    async def main() -> None:
        let_go = asyncio.Event()

        async def stubborn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while not let_go.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await let_go.wait()

        with logged_errors() as messages:
            async with serving(stubborn) as service:
                reader, writer = await open_to(service)
                await turns()
                await service.stopService()
                assert service.protocols == []
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
                await closed(writer)
                assert ["does not end, though it was cancelled" in message for message in messages] == [True]
                let_go.set()
            assert len(messages) == 1

    perform(main)


def test_connections_that_wait_to_be_accepted_are_served(perform: Perform) -> None:
    """To their clients they are connected; the kernel would reset them when the port is closed."""

    async def main() -> None:
        async with serving(echo, graceful_s=LONG_S) as service:
            clients = [socket.create_connection(("127.0.0.1", port_of(service))) for _ in range(20)]
            # No turn of the reactor so far.
            stopped = service.stopService()
            for number, client in enumerate(clients):
                client.sendall(b"line %d\n" % number)
                client.shutdown(socket.SHUT_WR)
            await stopped
            for number, client in enumerate(clients):
                with client, client.makefile("rb") as received:
                    assert received.read() == b"line %d\n" % number

    perform(main)


def test_a_task_that_has_hardly_begun_is_cancelled_like_the_others(perform: Perform) -> None:
    """Connections that are accepted at the last moment, and have no time, leave nothing behind."""

    async def main() -> None:
        before = asyncio.all_tasks()
        async with serving(echo) as service:
            clients = [socket.create_connection(("127.0.0.1", port_of(service))) for _ in range(3)]
            await service.stopService()
            assert asyncio.all_tasks() == before
            for client in clients:
                with client:
                    assert client.recv(1) == b""

    perform(main)


def test_abort_connections_hurries_the_stop(perform: Perform) -> None:
    """What the stop waits for ends at once."""

    async def main() -> None:
        async with serving(echo, graceful_s=LONG_S) as service:
            reader, writer = await open_to(service)
            writer.write(b"line\n")
            assert await reader.readline() == b"line\n"
            stopped = service.stopService()
            await turns()
            assert not stopped.called
            service.abort_connections()
            await stopped
            await closed(writer)

    perform(main)


def test_a_port_that_cannot_stop_listening_is_told(perform: Perform, reports: Reports, tmp_path: Path) -> None:
    """Such as one whose file is gone; the connections are ended all the same."""

    async def main() -> None:
        path = tmp_path / "socket"
        async with serving(echo, f"unix:{path}") as service:
            reader, writer = await asyncio.open_unix_connection(str(path))
            path.unlink()
            await service.stopService()
            assert await reader.read() == b""
            await closed(writer)

    perform(main)
    assert [report.type for report in reports.twisted] == [FileNotFoundError]
    reports.clear()


# Connections


def test_paused_it_accepts_nobody(perform: Perform) -> None:
    """The kernel lets clients wait, until it is resumed."""

    async def main() -> None:
        service = ServerService(ANY_PORT, EchoEnd, reactor=present_reactor())
        service.pause()
        await service.startService()
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port_of(service))) as client:
                client.sendall(b"hello")
                await turns()
                assert service.protocols == []
                service.resume()
                while not service.protocols:
                    await turns(1)
                [end] = service.protocols
                assert isinstance(end, EchoEnd)
                assert await end.receives(5) == b"hello"
            await end.lost
            service.pause()
        with socket.create_connection(("127.0.0.1", port_of(service))) as client:
            await service.stopService()
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        service.resume()

    perform(main)


def test_a_task_that_fails_is_told_once_and_its_connection_closed(perform: Perform, reports: Reports) -> None:
    """On every Python version, with the transport; and the service goes on."""

    async def main() -> None:
        contexts: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))

        async def fails(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raise LookupError(await reader.readline())

        def fails_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raise LookupError(b"at once")

        async def gives_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task: Any = asyncio.current_task()
            task.cancel()

        for handler, told in (fails, b"one\n"), (fails, b"two\n"), (fails_at_once, b"at once"), (gives_up, None):
            async with serving(handler) as service:
                reader, writer = await open_to(service)
                writer.write(told or b"")
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read() == b""
                await closed(writer)
            if told is not None:
                context = contexts.pop()
                assert context["exception"].args == (told,)
                assert isinstance(context["transport"], asyncio.Transport)
            assert not contexts

    perform(main)
    gc.collect()
    assert not reports.twisted


def test_a_handshake_that_fails(perform: Perform, tls: Way) -> None:
    """It is nothing to the service, which goes on; one that does not end is ended by the stop."""

    async def main() -> None:
        service = ServerService(tls.server, EchoEnd, reactor=present_reactor())
        await service.startService()
        reader, writer = await open_to(service)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            await reader.read()
        await closed(writer)
        strange = ssl.create_default_context()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port_of(service), ssl=strange, server_hostname="localhost")
        where: Any = Address(service)
        transport, client = await tls.connect_by_loop(where, ProtocolEnd)
        client.send(b"hello")
        assert await client.receives(5) == b"hello"
        transport.close()
        await client.lost
        _, silent = await open_to(service)
        while not service.protocols:
            await turns(1)
        await service.stopService()
        assert service.protocols == []
        await closed(silent)

    perform(main)


# Other reactors, other ports


def test_standard_input_and_output() -> None:
    """``stdio:`` has one connection, and nothing that could stop listening."""
    printed = in_child(
        """
        import os, txasync
        readable, writable = os.pipe()
        os.write(writable, b"one\\ntwo\\n")
        os.close(writable)
        os.dup2(readable, 0)
        os.close(readable)
        from txasync.application import ServerService
        from twisted.internet import reactor
        async def shout(reader, writer):
            while line := await reader.readline():
                writer.write(line.upper())
            service.stopService().addCallback(lambda stopped: reactor.stop())
        service = ServerService.for_streams("stdio:", shout)
        # Its connection is there at once, and needs the loop.
        reactor.callWhenRunning(txasync.install)
        reactor.callWhenRunning(service.startService)
        reactor.run()
        """
    )
    assert printed == "ONE\nTWO\n"


def test_on_a_fake_reactor(clock: Any) -> None:
    """MemoryReactorClock: what the factory builds is counted, and waited for by a clock that is moved by hand."""
    service = ServerService.for_streams("tcp:80", echo, graceful_s=5.0, reactor=clock)
    assert service.startService().called
    clock.run()
    [(port, factory, backlog, interface)] = clock.tcpServers
    assert port == 80
    iprotocol = factory.buildProtocol(None)
    iprotocol.makeConnection(itransport := StringTransport())
    iprotocol.dataReceived(b"line\n")
    clock.pump([0, 0])
    assert itransport.value() == b"line\n"
    stopped = service.stopService()
    clock.pump([0, 4.9, 0])
    assert not itransport.disconnecting
    clock.pump([0.2, 0, 0])
    assert itransport.disconnecting
    assert not stopped.called
    iprotocol.connectionLost(Failure(connectionDone.value))
    assert stopped.called


def test_on_a_reactor_that_stands_on_asyncio() -> None:
    """AsyncioSelectorReactor, with the loop that it has."""
    printed = on_asyncioreactor(
        """
        ended = []
        async def echo(reader, writer):
            try:
                while line := await reader.readline():
                    writer.write(line)
            finally:
                ended.append(asyncio.get_running_loop() is host)
        parent = MultiService()
        service = ServerService.for_streams("tcp:0:interface=127.0.0.1", echo)
        service.setServiceParent(parent)
        parent.privilegedStartService()
        parent.startService()
        reactor.addSystemEventTrigger("before", "shutdown", parent.stopService)
        async def main():
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port.getHost().port)
            writer.write(b"line\\n")
            print(await reader.readline())
            await parent.stopService()
            print(await reader.read(), ended)
            writer.close()
            await writer.wait_closed()
        """
    )
    assert printed == "b'line\\n'\nb'' [True]\n"
