"""The servers of the kinds that are native Twisted: its own protocols, on one reactor or another."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import tasks
import twisted_scheduling
from certificate import certificate_path
from twisted.internet import asyncioreactor, epollreactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import DatagramProtocol, Factory, ProcessProtocol, Protocol
from twisted.protocols.basic import LineOnlyReceiver
from zope.interface import implementer

CHUNK = bytes(64 * 1024)
TRUE = shutil.which("true") or "/bin/true"
PARALLEL = 20


class TcpProtocol(Protocol):
    """Sends at once, as asyncio's transports do from the start."""

    transport: Any  # Twisted's annotation has None in it, and not what only TCP has

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)


# Echo


class Echo(TcpProtocol):
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class UnixEcho(Protocol):
    transport: Any

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class LineEcho(LineOnlyReceiver):
    transport: Any
    delimiter = b"\n"
    MAX_LENGTH = 64 * 1024

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(line)  # type: ignore[no-untyped-call]


class DatagramEcho(DatagramProtocol):
    transport: Any

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.transport.write(datagram, addr)


# Requests: a number, of bytes or of things to do


@implementer(IPushProducer)
class Source(TcpProtocol):
    """Sends as many bytes as the client asks for, and heeds its consumer, the transport."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self.left = 0
        self.paused = False

    def dataReceived(self, data: bytes) -> None:
        self.left = int.from_bytes(data, "big")
        self.paused = False
        self.transport.registerProducer(self, True)
        self.send()

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        self.send()

    def stopProducing(self) -> None:
        self.left = 0

    def send(self) -> None:
        while self.left and not self.paused:
            chunk = CHUNK[: self.left]
            self.left -= len(chunk)
            self.transport.write(chunk)
        if not self.left:
            self.transport.unregisterProducer()


class Sink(TcpProtocol):
    """Takes as many bytes as the client announces, and says when it has them."""

    left = 0

    def dataReceived(self, data: bytes) -> None:
        if not self.left:
            self.left = int.from_bytes(data[:8], "big") + 8
        self.left -= len(data)
        if not self.left:
            self.transport.write(b".")


class Child(ProcessProtocol):
    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def processEnded(self, reason: Any) -> None:
        self.ended.callback(None)


async def spawn_one_after_another(reactor: Any, count: int) -> None:
    # Our environment and standard streams, which is what asyncio's children get: no pipes.
    descriptors: Any = {0: 0, 1: 1, 2: 2}
    for _ in range(count):
        child = Child()
        reactor.spawnProcess(child, TRUE, [TRUE], env=None, childFDs=descriptors)
        await child.ended


class Spawner(TcpProtocol):
    """Runs as many children as the client asks for, *concurrency* at a time."""

    concurrency = 1

    def dataReceived(self, data: bytes) -> None:
        from twisted.internet import reactor

        count = int.from_bytes(data, "big") // self.concurrency
        runs = [Deferred.fromCoroutine(spawn_one_after_another(reactor, count)) for _ in range(self.concurrency)]
        gatherResults(runs).addCallback(lambda _: self.transport.write(b"."))


class ParallelSpawner(Spawner):
    concurrency = PARALLEL


class Awaiter(TcpProtocol):
    """Awaits as many Deferreds as the client asks for, in a task of asyncio's."""

    def dataReceived(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        work = self.work(tasks.await_deferreds_by(lambda deferred: deferred.asFuture(loop)))
        done = Deferred.fromFuture(loop.create_task(work(int.from_bytes(data, "big"))))
        done.addCallback(lambda _: self.transport.write(b"."))

    def work(self, await_deferreds: tasks.Work) -> tasks.Work:
        return await_deferreds


class AwaiterAtOnce(Awaiter):
    """In many tasks."""

    def work(self, await_deferreds: tasks.Work) -> tasks.Work:
        return tasks.at_once(await_deferreds)


def worker(work: twisted_scheduling.ReactorWork) -> type[Protocol]:
    """A protocol that does *work* as often as the client asks for."""

    class Worker(TcpProtocol):
        def dataReceived(self, data: bytes) -> None:
            from twisted.internet import reactor

            done = Deferred.fromCoroutine(work(reactor, int.from_bytes(data, "big")))
            done.addCallback(lambda _: self.transport.write(b"."))

    return Worker


# Serving


def on_tcp(protocol: type[Protocol]) -> Callable[[Any], str]:
    def start(reactor: Any) -> str:
        port = reactor.listenTCP(0, Factory.forProtocol(protocol), interface="127.0.0.1")
        return f"tcp:{port.getHost().port}"

    return start


def on_tls(protocol: type[Protocol]) -> Callable[[Any], str]:
    def start(reactor: Any) -> str:
        # Here, so that the servers without TLS do not have it in their memory.
        from twisted.internet.ssl import PrivateCertificate

        with open(certificate_path(), "rb") as file:
            options = PrivateCertificate.loadPEM(file.read()).options()
        port = reactor.listenSSL(0, Factory.forProtocol(protocol), options, interface="127.0.0.1")
        return f"tls:{port.getHost().port}"

    return start


def on_unix(protocol: type[Protocol]) -> Callable[[Any], str]:
    def start(reactor: Any) -> str:
        path = os.path.join(tempfile.mkdtemp(), "socket")
        reactor.listenUNIX(path, Factory.forProtocol(protocol))
        return f"unix:{path}"

    return start


def on_udp(protocol: type[DatagramProtocol]) -> Callable[[Any], str]:
    def start(reactor: Any) -> str:
        port = reactor.listenUDP(0, protocol(), interface="127.0.0.1")
        return f"udp:{port.getHost().port}"

    return start


STARTERS = {
    "protocol": on_tcp(Echo),
    "lines": on_tcp(LineEcho),
    "unix": on_unix(UnixEcho),
    "udp": on_udp(DatagramEcho),
    "source": on_tcp(Source),
    "sink": on_tcp(Sink),
    "spawn": on_tcp(Spawner),
    "spawn-parallel": on_tcp(ParallelSpawner),
    "await-deferreds": on_tcp(Awaiter),
    "await-deferreds-at-once": on_tcp(AwaiterAtOnce),
    **{name: on_tcp(worker(work)) for name, work in twisted_scheduling.WORK.items()},
    "tls": on_tls(Echo),
    "tls-pyopenssl": on_tls(Echo),  # Twisted has no other
}


def serve(kind: str, services: list[str], announce: Callable[[dict[str, str]], None]) -> None:
    """Run the reactor that *kind* stands for."""
    if kind == "asyncioreactor":
        asyncioreactor.install()
    elif kind == "twisted-on-ours":
        import txasync.reactor

        txasync.reactor.install()
    else:
        epollreactor.install()
    from twisted.internet import reactor as installed

    reactor: Any = installed
    addresses = {service: STARTERS[service.partition("=")[0]](reactor) for service in services}
    reactor.callWhenRunning(announce, addresses)
    reactor.run()
