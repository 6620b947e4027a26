"""Protocols and the log on our reactor: what they are told, and what is logged, is what it is on EPollReactor."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from twisted.internet import error, protocol, ssl
from twisted.internet.interfaces import IFileDescriptorReceiver
from twisted.protocols import wire
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python import context, log
from zope.interface import implementer

from .conftest import Reports
from .reactor_stage import Failing, Noting, Same, Stage, compare, fail, failures, received, tags


@pytest.fixture
def same(reports: Reports) -> Iterator[Same]:
    """Run a scenario on both reactors, compare the traces, and return them. Errors are expected."""
    yield compare
    reports.clear()


# What is logged


def test_the_log_context_of_each_callback(same: Same) -> None:
    """Callbacks are called under their connection's log prefix, writing included; the outer context shows through."""

    def scenario(stage: Stage) -> None:
        class Producer:
            def resumeProducing(self) -> None:
                made.note("resume", context.get("key"))
                made.link.unregisterProducer()

            def stopProducing(self) -> None: ...

        made = Noting(stage)
        peer = stage.connect(made)
        peer.send(b"hello")
        stage.until(lambda: made.received)
        made.link.registerProducer(Producer(), False)
        made.note_sends()
        stage.reactor.callWhenRunning(made.link.write, b"x")
        stage.until(lambda: received(peer) == b"x")
        peer.close()
        stage.until(lambda: made.lost)

    def inside(stage: Stage) -> None:
        outer = {"key": "mine", log.ILogContext: {"system": "outer", "more": 1}}
        context.call(outer, scenario, stage)

    trace = same(scenario)
    assert tags(trace) == ["made", "received", "resume", "sent", "lost"]
    assert trace[-1][2] != "-"
    assert {entry[-1]["more"] for entry in same(inside) if entry[0] != "log"} == {1}


@pytest.mark.parametrize("method", ["dataReceived", "connectionLost"])
def test_a_protocol_that_raises(same: Same, method: str) -> None:
    """It is logged under the connection's prefix, and the connection is closed."""

    def scenario(stage: Stage) -> None:
        made = Noting(stage)
        peer = stage.connect(made)
        setattr(made, method, fail)
        peer.send(b"x")
        peer.shutdown(socket.SHUT_WR)
        stage.until(lambda: received(peer))
        stage.note(stage.reactor.removeAll())

    assert [what for _, what in failures(same(scenario))] == [(Failing, "")]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_producer_that_raises(same: Same, streaming: bool) -> None:
    """It is logged under the connection's prefix, and the connection is closed with the exception as the reason."""

    def scenario(stage: Stage) -> None:
        class Producer:
            resumeProducing = fail

            def pauseProducing(self) -> None: ...
            def stopProducing(self) -> None: ...

        made = Noting(stage)
        peer = stage.connect(made)
        if streaming:
            made.link.registerProducer(Producer(), True)
            made.link.write(b"x" * 70_000)
        else:
            made.link.producer = Producer()
            made.link.write(b"x")
        stage.until(lambda: received(peer) and made.lost)
        stage.note(stage.reactor.removeAll())

    trace = same(scenario)
    assert [what[0] for _, what in failures(trace)] == [Failing]
    assert ("lost", Failing) in [entry[:2] for entry in trace]


@pytest.mark.parametrize("name", ["logPrefix", "fileno", "doRead", "doWrite"])
def test_a_connection_with_a_failing_method(same: Same, name: str) -> None:
    """What is logged and what is closed does not depend on the reactor."""

    def scenario(stage: Stage) -> None:
        made = Noting(stage)
        peer = stage.connect(made)
        if name == "doWrite":
            made.link.write(b"x")
        method = getattr(made.link, name)

        def fail_once() -> Any:
            setattr(made.link, name, method)
            raise Failing

        setattr(made.link, name, fail_once)
        if name != "doWrite":
            peer.send(b"x")
        stage.until(lambda: made.lost or made.received)

    assert Failing in [what[0] for _, what in failures(same(scenario))]


@pytest.mark.parametrize("result", [error.ConnectionDone(), error.ConnectionLost(), Failing()], ids=repr)
@pytest.mark.parametrize("reading", [True, False])
def test_what_do_write_returns_is_the_reason_for_the_loss(same: Same, result: Exception, reading: bool) -> None:
    """Also if there is something left to read, which is delivered first."""

    def scenario(stage: Stage) -> None:
        made = Noting(stage)
        peer = stage.connect(made)
        made.link.doWrite = lambda: result
        if not reading:
            made.link.pauseProducing()
        peer.send(b"last words")
        made.link.write(b"x")
        stage.until(lambda: made.lost)

    assert tags(same(scenario)) == ["made", *(["received"] if reading else []), "lost"]


def test_what_goes_wrong_in_the_main_loop_is_logged_by_the_same_name(same: Same) -> None:
    """A ``timeout()`` that fails; and the end of the main loop."""

    def scenario(stage: Stage) -> None:
        timeout = stage.reactor.timeout

        def failing() -> Any:
            stage.reactor.timeout = timeout
            raise Failing

        def begin() -> None:
            stage.reactor.timeout = failing

        stage.reactor.callLater(0, begin)
        stage.until(lambda: stage.reactor.timeout == timeout)

    assert [what for _, what in failures(same(scenario))] == [(Failing, "")]


# Descriptors that are not connections


class Raw:
    """A descriptor of somebody's own."""

    def __init__(self, stage: Stage, sock: socket.socket) -> None:
        self.stage = stage
        self.sock = sock
        self.fileno = sock.fileno
        self.writes = 0

    def logPrefix(self) -> str:
        return "raw"

    def doRead(self) -> Any:
        data = self.sock.recv(100)
        self.stage.note("read", data)
        return None if data else error.ConnectionDone()

    def doWrite(self) -> Any:
        self.writes += 1
        try:
            self.sock.send(b"x" * 1000)
        except BlockingIOError:
            return Failing("asked to write where there is no room")
        return None

    def connectionLost(self, reason: Any) -> None:
        self.stage.note("lost", reason.type)
        self.stage.reactor.removeReader(self)
        self.stage.reactor.removeWriter(self)


def test_a_descriptor_that_is_no_connection_writes_only_when_there_is_room(same: Same) -> None:
    """Its ``doWrite`` may not know what to do with a full buffer."""

    def scenario(stage: Stage) -> None:
        ours, peer = socket.socketpair()
        stage.keep(ours, peer)
        ours.setblocking(False)
        peer.setblocking(False)
        raw = Raw(stage, ours)
        stage.reactor.addReader(raw)
        stage.reactor.addWriter(raw)
        full: list[int] = []

        def is_full() -> bool:
            full.append(raw.writes)
            return full[-10:] == [raw.writes] * 10

        stage.until(is_full)
        before = raw.writes
        assert received(peer)
        stage.until(lambda: raw.writes > before)
        stage.note(stage.reactor.getWriters() == [raw], stage.reactor.getReaders() != [])
        stage.reactor.removeWriter(raw)
        peer.send(b"hello")
        stage.until(lambda: ("read", b"hello") in stage.trace)
        assert received(peer)
        peer.close()
        stage.until(lambda: "lost" in tags(stage.trace))

    assert not failures(same(scenario))


def test_a_regular_file_is_polled_all_the_time(tmp_path: Path) -> None:
    """epoll refuses it. In a process of its own, since Twisted's timer for that imports the process's reactor."""
    program = """
import sys
from twisted.internet.abstract import FileDescriptor
from twisted.internet.epollreactor import EPollReactor
from txasync.reactor import SharedEPollReactor

class Regular(FileDescriptor):
    connected = 1
    def doRead(self):
        data = file.read(5)
        print(data)
        if not data:
            self.stopReading()
            self.write(b"written")
    def writeSomeData(self, data):
        print(self in reactor.getWriters(), self in reactor.getReaders())
        return file.write(data)
    def stopWriting(self):
        super().stopWriting()
        reactor.crash()

for reactor in EPollReactor(), SharedEPollReactor():
    with open(sys.argv[1], "r+b", buffering=0) as file:
        regular = Regular(reactor)
        regular.fileno = file.fileno
        regular.startReading()
        reactor.run(installSignalHandlers=False)
        print(reactor.removeAll())
"""
    (tmp_path / "file").write_bytes(b"0123456789")
    ended = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "file"], capture_output=True, text=True, timeout=60
    )
    assert ended.stderr == ""
    stock = ["b'01234'", "b'56789'", "b''", "True False", "[]"]
    ours = ["b'01234'", "b'56789'", "b'writt'", "b'en'", "b''", "True False", "[]"]
    assert ended.stdout.split("\n")[:-1] == stock + ours


# Other kinds


def test_a_descriptor_is_sent_with_the_data(same: Same) -> None:
    """Over a UNIX socket; and a descriptor without data is the end of the connection."""

    def scenario(stage: Stage) -> None:
        @implementer(IFileDescriptorReceiver)
        class Receiving(Noting):
            def fileDescriptorReceived(self, descriptor: int) -> None:
                self.note("descriptor")
                with open(descriptor) as file:
                    self.note(file.read(5))

        sending, receiving = Noting(stage), Receiving(stage)
        ours, theirs = socket.socketpair()
        for made, sock in (sending, ours), (receiving, theirs):
            sock.setblocking(False)
            factory = protocol.Factory()
            factory.protocol = lambda made=made: made
            with sock:
                stage.reactor.adoptStreamConnection(sock.fileno(), socket.AF_UNIX, factory)
        with open(__file__) as file:
            sending.link.sendFileDescriptor(file.fileno())
            sending.link.write(b"data")
            stage.until(lambda: receiving.received == b"data")
            sending.link.sendFileDescriptor(file.fileno())
            stage.until(lambda: sending.lost and receiving.lost)

    trace = same(scenario)
    assert ("lost", error.FileDescriptorOverrun) in [entry[:2] for entry in trace]
    assert tags(trace).count("descriptor") == 1


@pytest.mark.usefixtures("descriptor_in_reserve")
def test_clients_that_connect_and_that_do_not(same: Same) -> None:
    """A connection is watched for writing while it is made."""

    def scenario(stage: Stage) -> None:
        class Client(Noting):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.link.write(b"hello")

        class Clients(protocol.ClientFactory):
            def buildProtocol(self, addr: Any) -> Noting:
                return made

            def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
                stage.note("failed", reason.type)

            def clientConnectionLost(self, connector: Any, reason: Any) -> None:
                stage.note("client lost", reason.type)

        made = Client(stage)
        echo = protocol.Factory.forProtocol(wire.Echo)
        listening = stage.reactor.listenTCP(0, echo, interface="127.0.0.1")
        port = listening.getHost().port
        stage.reactor.connectTCP("127.0.0.1", port, Clients(), timeout=10)
        stage.until(lambda: made.received)
        made.link.loseConnection()
        stage.until(lambda: made.lost)
        listening.stopListening()
        stage.turn()
        stage.reactor.connectTCP("127.0.0.1", port, Clients(), timeout=10)
        stage.until(lambda: "failed" in tags(stage.trace))
        # The ports differ.
        stage.trace = [entry for entry in stage.trace if entry[0] != "log"]

    assert tags(same(scenario)) == ["made", "received", "lost", "client lost", "failed"]


def test_tls_over_connections(same: Same) -> None:
    """Both sides send, and one closes in order."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate = ssl.PrivateCertificate.loadPEM(
        issued.private_key_pem.bytes() + b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    )

    def scenario(stage: Stage) -> None:
        server, client = Noting(stage), Noting(stage)
        for made, sock in zip((server, client), socket.socketpair(), strict=True):
            sock.setblocking(False)
            factory = protocol.Factory()
            factory.protocol = lambda made=made: made
            options = certificate.options() if made is server else ssl.CertificateOptions()
            # Without a clock it would be the process's reactor.
            secured = TLSMemoryBIOFactory(options, made is client, factory, clock=stage.reactor)
            with sock:
                stage.reactor.adoptStreamConnection(sock.fileno(), socket.AF_UNIX, secured)
        client.link.write(b"x" * 200_000)
        server.link.write(b"y" * 10)
        stage.until(lambda: len(server.received) == 200_000 and client.received)
        client.link.loseConnection()
        stage.until(lambda: server.lost and client.lost)
        stage.trace = [entry[:2] for entry in stage.trace if entry[0] == "lost"]

    assert len(same(scenario)) == 2


def test_datagrams_go_to_and_fro(same: Same) -> None:
    """Each under its port's log prefix."""

    def scenario(stage: Stage) -> None:
        class Datagrams(protocol.DatagramProtocol):
            def datagramReceived(self, datagram: bytes, addr: Any) -> None:
                stage.note("datagram", datagram, context.get(log.ILogContext))
                cast(Any, self.transport).write(datagram, addr)

            def doStop(self) -> None:
                super().doStop()  # type: ignore[no-untyped-call]
                stage.note("stopped")

        port = stage.reactor.listenUDP(0, Datagrams(), interface="127.0.0.1")
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.setblocking(False)
            peer.connect(("127.0.0.1", port.getHost().port))
            peer.send(b"one")
            stage.until(lambda: received_datagram(peer) == b"one")
        port.stopListening()
        stage.until(lambda: "stopped" in tags(stage.trace))
        # The port's number differs.
        stage.trace = [entry for entry in stage.trace if entry[0] != "log"]

    assert tags(same(scenario)) == ["datagram", "stopped"]


def received_datagram(peer: socket.socket) -> bytes | None:
    try:
        return peer.recv(100)
    except BlockingIOError:
        return None


def test_a_process_reads_as_slowly_as_it_likes(same: Same) -> None:
    """What its standard input does not take waits, and a producer with it."""

    def scenario(stage: Stage) -> None:
        class Cat(protocol.ProcessProtocol):
            size = 0
            ended = False
            transport: Any

            def outReceived(self, data: bytes) -> None:
                self.size += len(data)

            def resumeProducing(self) -> None:
                stage.note("resume")
                self.transport.closeStdin()

            def pauseProducing(self) -> None:
                stage.note("pause")

            def stopProducing(self) -> None: ...

            def processEnded(self, reason: Any) -> None:
                stage.note("ended", self.size, reason.type, reason.value.exitCode)
                self.ended = True

        cat: Any = Cat()
        with_signals = stage.reactor._signalsFactory()
        with_signals.install()
        try:
            process = stage.reactor.spawnProcess(cat, "/bin/cat", ["cat"])
            process.pipes[0].registerProducer(cat, True)
            process.write(b"x" * 1_000_000)
            stage.until(lambda: cat.ended)
        finally:
            with_signals.uninstall()

    trace = [entry for entry in same(scenario) if entry[0] != "log"]
    assert trace == [("pause",), ("resume",), ("ended", 1_000_000, error.ProcessDone, 0)]
