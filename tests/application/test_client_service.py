"""ClientService: one of asyncio's protocols that is connected, whatever becomes of its connections."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionRefusedError as TwistedConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

import txasync
from txasync.application import ClientService, ServerService, _client_service

from ..adapters.endpoint_ways import Perform, Way, tcp, tls, way
from ..adapters.test_endpoints_on_twisted import full_server, unused_port
from ..conftest import Reports
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

__all__ = ["clock", "combination", "mode", "perform", "poller_factory", "reactor", "tcp", "tls", "way"]

pytestmark = pytest.mark.usefixtures("descriptor_in_reserve")

# More than the kernel keeps of what nobody reads.
VERY_MUCH = bytes(8_000_000)
# More than the tasks of a service need for what is possible without waiting.
TURNS = 10


def present_reactor() -> Any:
    """The reactor of the loop that runs."""
    loop: Any = asyncio.get_running_loop()
    return loop.reactor


class Delays:
    """
    A retry policy that hardly waits.

    Attributes:
        failures: What it was called with.
    """

    def __init__(self, delay_s: float = 0.001) -> None:
        self.failures: list[int] = []
        self._delay_s = delay_s
        self._asked = asyncio.Event()

    def __call__(self, failures: int) -> float:
        self.failures.append(failures)
        self._asked.set()
        return self._delay_s

    async def asked(self, count: int) -> None:
        """Wait until it was called so often."""
        while len(self.failures) < count:
            self._asked.clear()
            await self._asked.wait()


class Served:
    """
    A server whose ends of the connections can be waited for.

    Attributes:
        server: The server.
        ends: The ends so far.
    """

    server: Any

    def __init__(self) -> None:
        self.ends: list[ProtocolEnd] = []
        self._more = asyncio.Event()

    def make_end(self) -> ProtocolEnd:
        """The protocol of another connection."""
        self.ends.append(ProtocolEnd())
        self._more.set()
        return self.ends[-1]

    async def end(self, number: int) -> ProtocolEnd:
        """Wait for the end of the connection with this number, from 0."""
        while len(self.ends) <= number:
            self._more.clear()
            await self._more.wait()
        end = self.ends[number]
        await end.connected
        return end


@contextlib.asynccontextmanager
async def served(way: Way) -> AsyncIterator[Served]:
    """A server that the clients of *way* reach; its connections are over in the end."""
    served = Served()
    served.server = await txasync.serve(way.server, served.make_end)
    try:
        yield served
    finally:
        served.server.abort_clients()
        served.server.close()
        for end in served.ends:
            await end.lost
        await served.server.wait_closed()


def client_of(endpoint: Any, protocol_factory: Any = ProtocolEnd, **options: Any) -> ClientService:
    """A service on the reactor of the loop that runs, which hardly waits between attempts."""
    options.setdefault("retry_policy", Delays())
    return ClientService(endpoint, protocol_factory, reactor=present_reactor(), **options)


def descriptors() -> set[str]:
    """The open descriptors of this process."""
    return set(os.listdir("/proc/self/fd"))


async def turns(count: int = 3) -> None:
    """Let the reactor come by so often."""
    for _ in range(count):
        come_by = asyncio.Event()
        present_reactor().callLater(0, come_by.set)
        await come_by.wait()


# Connected


def test_it_connects_and_stops(perform: Perform, way: Way) -> None:
    """Who waits gets the protocol; when stopService's Deferred has fired, the connection is over. And once more."""

    async def main() -> None:
        async with served(way) as server:
            service = client_of(way.client(server.server))
            for number in range(2):
                before = service.whenConnected() if number == 0 else None
                await service.startService()
                protocol = await service.whenConnected()
                assert before is None or await before is protocol
                assert await service.whenConnected() is protocol
                end = await server.end(number)
                end.send(b"hello")
                assert await protocol.receives(5) == b"hello"
                await service.stopService()
                assert protocol.lost.done()
                assert await end.lost is None
                with pytest.raises(CancelledError):
                    await service.whenConnected()

    perform(main)


def test_a_parent_starts_and_stops_it(perform: Perform, tcp: Way) -> None:
    """In a MultiService: with the parent, when it is added to a running one, and when it is taken out of it."""

    async def main() -> None:
        async with served(tcp) as server:
            endpoint = tcp.client(server.server)
            added: Any = client_of(endpoint)
            parent = tree_of(client_of(endpoint))
            parent.startService()
            await server.end(0)
            added.setServiceParent(parent)
            await (await server.end(1)).connected
            await added.disownServiceParent()
            await server.ends[1].lost
            assert not server.ends[0].lost.done()
            await parent.stopService()
            await server.ends[0].lost

    perform(main)


def test_started_before_the_reactor_runs(reactor: Any, tcp: Way) -> None:
    """It connects when the reactor runs, and the reactor's shutdown waits until the connection is over."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        port = listening.getsockname()[1]
        service = ClientService(f"tcp:127.0.0.1:{port}", ProtocolEnd, reactor=reactor)
        parent = tree_of(service)
        connected = service.whenConnected()

        async def main() -> Any:
            protocol = await txasync.as_future(connected)
            protocol.send(b"the last words")
            return protocol

        protocol = run_as_twistd(reactor, parent, main)
        assert protocol.lost.done()
        peer, _ = listening.accept()
        with peer:
            peer.setblocking(True)
            assert peer.makefile("rb").read() == b"the last words"


def test_stopped_before_the_reactor_ran(reactor: Any) -> None:
    """Then it never connects; who waits is told."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        service = ClientService(f"tcp:127.0.0.1:{listening.getsockname()[1]}", ProtocolEnd, reactor=reactor)
        failures: list[Failure] = []
        service.whenConnected().addErrback(failures.append)
        started = service.startService()
        assert service.stopService().called
        assert [failure.type for failure in failures] == [CancelledError]

        async def main() -> None:
            await turns()
            assert started.called

        run_as_twistd(reactor, tree_of(), main)
        with pytest.raises(BlockingIOError):
            listening.accept()


# Connecting again


def test_it_connects_again_after_a_loss(perform: Perform, way: Way) -> None:
    """However the connection was lost; each loss is the first failure of a row."""

    async def main() -> None:
        async with served(way) as server:
            delays = Delays()
            service = client_of(way.client(server.server), retry_policy=delays)
            await service.startService()
            protocols = []
            for number in range(4):
                end = await server.end(number)
                protocol = await service.whenConnected()
                protocols.append(protocol)
                (end.transport.close, end.transport.abort, protocol.transport.close, protocol.transport.abort)[number]()
                await protocol.lost
            await delays.asked(4)
            assert delays.failures == [1, 1, 1, 1]
            assert len(set(map(id, protocols))) == 4
            await service.stopService()

    perform(main)


def test_it_goes_on_until_there_is_a_server(perform: Perform) -> None:
    """The policy is told how many failures there were in a row, and a connection ends the row."""

    async def main() -> None:
        delays = Delays()
        with unused_port() as port:
            service = client_of(f"tcp:127.0.0.1:{port}", retry_policy=delays)
            await service.startService()
            connected = service.whenConnected()
            await delays.asked(3)
            assert delays.failures[:3] == [1, 2, 3]
            assert not connected.called
        ends: list[ProtocolEnd] = []

        def make() -> ProtocolEnd:
            ends.append(ProtocolEnd())
            return ends[-1]

        server = ServerService(f"tcp:{port}:interface=127.0.0.1", make, reactor=present_reactor())
        await server.startService()
        protocol = await connected
        del delays.failures[:]
        # A server that is restarted.
        await server.stopService()
        await protocol.lost
        await delays.asked(2)
        assert delays.failures[:2] == [1, 2]
        await server.startService()
        assert await service.whenConnected() is not protocol
        await service.stopService()
        await server.stopService()

    perform(main)


def test_the_delays_are_the_policys(clock: Any) -> None:
    """On MemoryReactorClock: not a moment earlier, nor later; Twisted's own policy is the default."""
    asked: list[int] = []

    def policy(failures: int) -> float:
        asked.append(failures)
        return 10.0 * failures

    def refuse() -> None:
        _, _, factory, _, _ = clock.tcpClients[-1]
        factory.clientConnectionFailed(clock.connectors[-1], Failure(TwistedConnectionRefusedError()))
        clock.pump([0] * TURNS)

    service = ClientService(TCP4ClientEndpoint(clock, "192.0.2.1", 80), ProtocolEnd, retry_policy=policy, reactor=clock)
    service.startService()
    clock.run()
    clock.pump([0] * TURNS)
    for attempt in 1, 2, 3:
        assert len(clock.tcpClients) == attempt
        refuse()
        assert asked == list(range(1, attempt + 1))
        clock.pump([10.0 * attempt - 0.125, *[0] * TURNS])
        assert len(clock.tcpClients) == attempt
        clock.pump([0.125, *[0] * TURNS])
    assert len(clock.tcpClients) == 4
    refuse()
    stopped = service.stopService()
    clock.pump([0] * TURNS)
    assert stopped.called
    default = ClientService(TCP4ClientEndpoint(clock, "192.0.2.1", 80), ProtocolEnd, reactor=clock)
    assert 1.5 <= default._retry_policy(1) <= 2.5


@implementer(IStreamClientEndpoint)
class FailingEndpoint:
    """An endpoint that fails with *error*, at once."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Fail."""
        return fail(self.error)


def test_who_has_waited_for_enough_failures_is_told(perform: Perform) -> None:
    """Each after its own number, with the last failure as asyncio has it; the others wait on."""

    async def main() -> None:
        delays = Delays()
        service = client_of(FailingEndpoint(TwistedConnectionRefusedError()), retry_policy=delays)
        once, thrice, patient = service.whenConnected(1), service.whenConnected(3), service.whenConnected()
        await service.startService()
        with pytest.raises(ConnectionRefusedError):
            await once
        assert delays.failures == [1]
        with pytest.raises(ConnectionRefusedError):
            await thrice
        assert delays.failures == [1, 2, 3]
        with pytest.raises(ConnectionRefusedError):
            await service.whenConnected(1)
        assert not patient.called
        await service.stopService()
        with pytest.raises(CancelledError):
            await patient

    perform(main)


def test_an_endpoint_that_is_cancelled_by_somebody_else_has_failed(perform: Perform) -> None:
    """The service was not, and goes on."""

    async def main() -> None:
        delays = Delays()
        service = client_of(FailingEndpoint(CancelledError()), retry_policy=delays)
        await service.startService()
        with pytest.raises(ConnectionAbortedError):
            await service.whenConnected(2)
        await delays.asked(3)
        await service.stopService()

    perform(main)


def test_a_handshake_that_fails_is_a_failure(perform: Perform, tls: Way) -> None:
    """No protocol hears of such a connection."""

    async def main() -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.transport.abort()

        server = ServerService.for_streams("tcp:0:interface=127.0.0.1", hang_up, reactor=present_reactor())
        await server.startService()
        host = server.port.getHost()
        where: Any = type("Where", (), {"sockname": (host.host, host.port)})
        delays = Delays()
        made: list[ProtocolEnd] = []

        def make() -> ProtocolEnd:
            made.append(ProtocolEnd())
            return made[-1]

        service = client_of(tls.client(where), make, retry_policy=delays)
        await service.startService()
        with pytest.raises(ConnectionResetError):
            await service.whenConnected(2)
        await delays.asked(3)
        assert delays.failures[:3] == [1, 2, 3]
        await service.stopService()
        await server.stopService()
        assert not any(protocol.connected.done() for protocol in made)

    perform(main)


def test_an_error_that_is_not_the_networks_is_logged_with_its_traceback(perform: Perform, reports: Reports) -> None:
    """Each time; who waits gets it, too."""

    def boom() -> asyncio.Protocol:
        raise LookupError("no protocol")

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            service = client_of(f"tcp:127.0.0.1:{listening.getsockname()[1]}", boom, retry_policy=Delays(60.0))
            waiting = service.whenConnected(1)
            await service.startService()
            with pytest.raises(LookupError):
                await waiting
            await service.stopService()

    perform(main)
    assert [report.value for report in reports.twisted] == ["no protocol"]
    assert "in boom" in reports.twisted[0].traceback
    reports.clear()


def test_a_policy_that_fails_ends_the_service(perform: Perform, reports: Reports) -> None:
    """The failure is logged, and told to who waits: then, and later."""

    async def main() -> None:
        def policy(failures: int) -> float:
            raise LookupError("no delay")

        service = client_of(FailingEndpoint(TwistedConnectionRefusedError()), retry_policy=policy)
        waiting = service.whenConnected()
        await service.startService()
        with pytest.raises(LookupError):
            await waiting
        await turns()
        with pytest.raises(CancelledError):
            await service.whenConnected()
        await service.stopService()

    perform(main)
    assert [report.value for report in reports.twisted] == ["no delay"]
    reports.clear()


# Waiting for a connection


def test_who_waits_may_give_up(perform: Perform, tcp: Way) -> None:
    """One's own Deferred is cancelled, nothing else; and in the callback of one, another one may be."""

    async def main() -> None:
        async with served(tcp) as server:
            service = client_of(tcp.client(server.server))
            given_up, first, second, third = [service.whenConnected() for _ in range(4)]
            given_up.cancel()
            with pytest.raises(CancelledError):
                await given_up

            def cancel_another(protocol: Any) -> Any:
                second.cancel()
                return protocol

            first.addCallback(cancel_another)
            await service.startService()
            assert await first is await third
            with pytest.raises(CancelledError):
                await second
            await service.stopService()

    perform(main)


def test_who_is_told_of_a_failure_may_do_anything(perform: Perform) -> None:
    """Cancel another one that is to be told, wait again, or stop the service."""

    async def main() -> None:
        service = client_of(FailingEndpoint(TwistedConnectionRefusedError()), retry_policy=Delays(60.0))
        first, second, third = service.whenConnected(1), service.whenConnected(1), service.whenConnected(1)
        again: list[Deferred[Any]] = []

        def react(failure: Failure) -> None:
            assert failure.check(ConnectionRefusedError)
            second.cancel()
            again.append(service.whenConnected(1))
            again.append(service.stopService())

        first.addErrback(react)
        await service.startService()
        await first
        with pytest.raises(CancelledError):
            await second
        with pytest.raises((ConnectionRefusedError, CancelledError)):
            await third
        with pytest.raises(CancelledError):
            await again[0]
        await again[1]

    perform(main)


def test_who_is_told_of_a_connection_may_stop_the_service(perform: Perform, tcp: Way) -> None:
    """In the very callback."""

    async def main() -> None:
        async with served(tcp) as server:
            service = client_of(tcp.client(server.server))
            stopping: list[Any] = []

            def stop(protocol: Any) -> Any:
                stopping.append(service.stopService())
                return protocol

            connected = service.whenConnected().addCallback(stop)
            await service.startService()
            protocol = await connected
            await stopping[0]
            assert protocol.lost.done()

    perform(main)


def test_started_again_it_connects_when_the_connection_before_is_over(perform: Perform, tcp: Way) -> None:
    """Without waiting for stopService's Deferred; who waits from then on waits for the next connection."""

    async def main() -> None:
        async with served(tcp) as server:
            service = client_of(tcp.client(server.server))
            await service.startService()
            await service.startService()
            protocol = await service.whenConnected()
            stopped = service.stopService()
            assert not stopped.called
            stopped_twice = service.stopService()
            await service.startService()
            following = await service.whenConnected()
            assert stopped.called
            assert stopped_twice.called
            assert protocol.lost.done()
            assert following is not protocol
            assert len(server.ends) == 2
            await service.stopService()

    perform(main)


# Preparing


def test_preparing(perform: Perform, tcp: Way) -> None:
    """By a coroutine function, a function that returns a Deferred, or a function; nobody gets the protocol before."""

    async def main() -> None:
        ready: Deferred[None] = Deferred()
        may_go_on = asyncio.Event()
        prepared: list[Any] = []

        async def by_coroutine(protocol: Any) -> None:
            assert await protocol.receives(5) == b"hello"
            await may_go_on.wait()
            prepared.append(protocol)

        def by_deferred(protocol: Any) -> Deferred[None]:
            may_go_on.set()
            prepared.append(protocol)
            return ready

        def by_function(protocol: Any) -> None:
            prepared.append(protocol)

        for prepare in by_coroutine, by_deferred, by_function:
            async with served(tcp) as server:
                service = client_of(tcp.client(server.server), prepare=prepare)
                connected = service.whenConnected()
                await service.startService()
                (await server.end(0)).send(b"hello")
                if prepare is not by_function:
                    await turns()
                    assert not connected.called
                    may_go_on.set()
                if prepare is by_deferred:
                    while not prepared:
                        await turns(1)
                    ready.callback(None)
                assert await connected is prepared.pop()
                await service.stopService()

    perform(main)


def test_preparing_that_fails_is_a_failure(perform: Perform, tcp: Way, reports: Reports) -> None:
    """The connection is over before the next attempt; also if what prepares it is cancelled by somebody else."""

    async def main() -> None:
        async def by_coroutine(protocol: Any) -> None:
            raise ConnectionRefusedError("not you")

        def by_deferred(protocol: Any) -> Deferred[None]:
            return fail(ConnectionRefusedError("not you"))

        def by_function(protocol: Any) -> None:
            raise ConnectionRefusedError("not you")

        def cancelled(protocol: Any) -> Deferred[None]:
            return fail(CancelledError())

        def wrongly(protocol: Any) -> None:
            raise LookupError("wrong")

        for prepare, error in (
            (by_coroutine, ConnectionRefusedError),
            (by_deferred, ConnectionRefusedError),
            (by_function, ConnectionRefusedError),
            (cancelled, ConnectionAbortedError),
            (wrongly, LookupError),
        ):
            async with served(tcp) as server:
                delays = Delays(60.0)
                service = client_of(tcp.client(server.server), prepare=prepare, retry_policy=delays)
                waiting = service.whenConnected(1)
                await service.startService()
                with pytest.raises(error):
                    await waiting
                await (await server.end(0)).lost
                assert delays.failures == [1]
                await service.stopService()

    perform(main)
    assert [report.type for report in reports.twisted] == [LookupError]
    reports.clear()


def test_preparing_ends_when_the_connection_is_lost(perform: Perform, tcp: Way) -> None:
    """It is cancelled: nobody would tell it otherwise."""

    async def main() -> None:
        cancelled = []

        async def prepare(protocol: Any) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                cancelled.append(protocol)
                raise

        async with served(tcp) as server:
            service = client_of(tcp.client(server.server), prepare=prepare)
            waiting = service.whenConnected(1)
            await service.startService()
            (await server.end(0)).transport.close()
            with pytest.raises(ConnectionResetError, match="while it was prepared"):
                await waiting
            assert len(cancelled) == 1
            await service.stopService()

    perform(main)


# Stopping


def test_stopped_while_it_connects(perform: Perform) -> None:
    """The attempt is given up; its socket is closed."""

    async def main() -> None:
        with full_server() as (host, port):
            before = descriptors()
            service = client_of(TCP4ClientEndpoint(present_reactor(), host, port))
            waiting = service.whenConnected()
            await service.startService()
            while not descriptors() - before:
                await turns(1)
            await service.stopService()
            assert not descriptors() - before
            with pytest.raises(CancelledError):
                await waiting

    perform(main)


def test_stopped_during_the_handshake(perform: Perform, tls: Way) -> None:
    """The connection is over when the Deferred fires, and no protocol has heard of it."""

    async def main() -> None:
        hello, may_notice, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # of asyncio.Transport
            hello.set()
            await may_notice.wait()
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            ended.set()
            writer.close()

        server = ServerService.for_streams("tcp:0:interface=127.0.0.1", listen, reactor=present_reactor())
        await server.startService()
        host = server.port.getHost()
        where: Any = type("Where", (), {"sockname": (host.host, host.port)})
        made: list[ProtocolEnd] = []

        def make() -> ProtocolEnd:
            made.append(ProtocolEnd())
            return made[-1]

        service = client_of(tls.client(where), make)
        await service.startService()
        await hello.wait()
        before = descriptors()
        await service.stopService()
        assert len(before - descriptors()) == 1
        may_notice.set()
        await ended.wait()
        await server.stopService()
        assert not made[0].connected.done()

    perform(main)


def test_stopped_while_it_waits(perform: Perform) -> None:
    """At once, however long it was to wait."""

    async def main() -> None:
        delays = Delays(3600.0)
        service = client_of(FailingEndpoint(TwistedConnectionRefusedError()), retry_policy=delays)
        waiting = service.whenConnected()
        await service.startService()
        await delays.asked(1)
        await turns()
        await service.stopService()
        with pytest.raises(CancelledError):
            await waiting

    perform(main)


def test_stopped_while_it_prepares(perform: Perform, tcp: Way) -> None:
    """What prepares the connection is cancelled and awaited, and the connection is over when the Deferred fires."""

    async def main() -> None:
        log: list[str] = []
        protocols: list[ProtocolEnd] = []

        async def prepare(protocol: ProtocolEnd) -> None:
            protocols.append(protocol)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await turns(1)
                log.append("cleaned up")

        async with served(tcp) as server:
            service = client_of(tcp.client(server.server), prepare=prepare)
            await service.startService()
            while not protocols:
                await turns(1)
            await service.stopService()
            assert log == ["cleaned up"]
            assert protocols[0].lost.done()

    perform(main)


def test_what_was_written_before_the_stop_is_sent(perform: Perform, way: Way) -> None:
    """All of it, if the peer reads."""

    async def main() -> None:
        async with served(way) as server:
            service = client_of(way.client(server.server))
            await service.startService()
            protocol = await service.whenConnected()
            end = await server.end(0)
            end.transport.pause_reading()
            protocol.send(VERY_MUCH)
            stopped = service.stopService()
            await turns()
            assert not stopped.called
            end.transport.resume_reading()
            await stopped
            assert len(await end.receives(len(VERY_MUCH) + 1)) == len(VERY_MUCH)

    perform(main)


def test_a_peer_that_does_not_read_is_not_waited_for_for_ever(
    perform: Perform, monkeypatch: pytest.MonkeyPatch, way: Way
) -> None:
    """The connection is aborted after a while."""
    monkeypatch.setattr(_client_service, "CLOSE_TIMEOUT_S", 0.05)

    async def main() -> None:
        async with served(way) as server:
            service = client_of(way.client(server.server))
            await service.startService()
            protocol = await service.whenConnected()
            (await server.end(0)).transport.pause_reading()
            protocol.send(VERY_MUCH)
            await service.stopService()
            assert protocol.lost.done()

    perform(main)


def test_a_transport_that_does_not_heed_its_abortion(perform: Perform, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not hold the stop for ever."""
    for limit in "CLOSE_TIMEOUT_S", "ABORT_TIMEOUT_S":
        monkeypatch.setattr(_client_service, limit, 0.01)

    @implementer(IStreamClientEndpoint)
    class Memory:
        def connect(self, protocolFactory: Any) -> Deferred[Any]:
            iprotocol = protocolFactory.buildProtocol(None)
            iprotocol.makeConnection(itransport)
            return succeed(iprotocol)

    async def main() -> None:
        service = client_of(Memory())
        await service.startService()
        await service.whenConnected()
        await service.stopService()
        assert itransport.disconnecting

    itransport = StringTransport()
    perform(main)


def test_the_loops_end_without_a_stop_is_told_to_who_waits(perform: Perform, reports: Reports) -> None:
    """Somebody else has cancelled the service's task."""

    async def main() -> None:
        delays = Delays(3600.0)
        service = client_of(FailingEndpoint(TwistedConnectionRefusedError()), retry_policy=delays)
        waiting = service.whenConnected()
        await service.startService()
        await delays.asked(1)
        task: Any = service._task
        task.cancel()
        with pytest.raises(CancelledError):
            await waiting
        await service.stopService()

    perform(main)
    assert ["was not stopped" in report.value for report in reports.twisted] == [True]
    reports.clear()


@pytest.mark.parametrize("mode", ["asyncio-first"], ids=repr)
def test_bad_arguments_are_told_when_it_is_made(perform: Perform) -> None:
    """Descriptions that say nothing, and objects of another kind."""

    async def main() -> None:
        reactor = present_reactor()
        for description in "", "80", "nosuch:1", "tcp:localhost:http":
            with pytest.raises(ValueError, match="does not describe a client endpoint"):
                ClientService(description, ProtocolEnd, reactor=reactor)
        wrong: Any
        for wrong in 80, None, b"tcp:localhost:80":
            with pytest.raises(TypeError, match="IStreamClientEndpoint"):
                ClientService(wrong, ProtocolEnd, reactor=reactor)
            with pytest.raises(TypeError, match="callable"):
                ClientService("tcp:localhost:80", wrong, reactor=reactor)

    perform(main)
    gc.collect()


def test_on_a_reactor_that_stands_on_asyncio() -> None:
    """AsyncioSelectorReactor, with the loop that it has."""
    printed = on_asyncioreactor(
        """
        class Client(asyncio.Protocol):
            def connection_made(self, transport):
                transport.write(b"hello\\n")
            def connection_lost(self, error):
                print("lost", error)
        async def main():
            lines = asyncio.Queue()
            async def note(reader, writer):
                lines.put_nowait(await reader.readline())
                await reader.read()
                writer.close()
            parent = MultiService()
            server = ServerService.for_streams("tcp:0:interface=127.0.0.1", note)
            server.setServiceParent(parent)
            parent.startService()
            port = server.port.getHost().port
            client = ClientService(f"tcp:127.0.0.1:{port}", Client, retry_policy=lambda failures: 0.001)
            client.setServiceParent(parent)
            for _ in range(2):
                print(await lines.get())
                server.abort_connections()
            print(await lines.get())
            await txasync.as_future(client.stopService())
            await txasync.as_future(parent.stopService())
        """
    )
    assert [line for line in printed.splitlines() if "hello" in line] == ["b'hello\\n'"] * 3
    assert printed.count("lost") == 3
