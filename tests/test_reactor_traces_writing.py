"""Writing and closing on our reactor: what protocols, producers and peers see is what they see on EPollReactor."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator

import pytest
from twisted.internet.interfaces import IHalfCloseableProtocol
from zope.interface import implementer

from .conftest import Reports
from .reactor_stage import Noting, Same, Stage, compare, received, reset, tags


@pytest.fixture
def same(reports: Reports) -> Iterator[Same]:
    """Run a scenario on both reactors, compare the traces, and return them. Errors are expected."""
    yield compare
    reports.clear()


# Writing


@pytest.mark.parametrize("way", ["write", "writeSequence"])
@pytest.mark.parametrize("when", ["made", "received", "called", "before"])
def test_small_writes_are_sent_together(same: Same, way: str, when: str) -> None:
    """Whatever a connection writes in one iteration goes to the kernel at once, wherever that is done."""

    def scenario(stage: Stage) -> None:
        class Writing(Noting):
            def write(self) -> None:
                self.note_sends()
                for _ in range(100):
                    if way == "write":
                        self.link.write(b"x")
                    else:
                        self.link.writeSequence([b"x"])

            def connectionMade(self) -> None:
                super().connectionMade()
                if when == "made":
                    self.write()

            def dataReceived(self, data: bytes) -> None:
                self.write()

        made = Writing(stage)
        peer = stage.connect(made)
        if when == "received":
            peer.send(b"x")
        elif when == "called":
            stage.reactor.callLater(0, made.write)
        elif when == "before":
            made.write()
        got: list[bytes] = []
        stage.until(lambda: got.append(received(peer)) or len(b"".join(got)) == 100)
        stage.turn()

    assert [entry[1] for entry in same(scenario) if entry[0] == "sent"] == [100]


def test_a_slow_reader_gets_everything(same: Same) -> None:
    """What the kernel does not take waits until there is room."""
    whole = os.urandom(3_000_000)

    def scenario(stage: Stage) -> None:
        made = Noting(stage)
        peer = stage.connect(made)
        made.link.write(whole[:100])
        made.link.write(whole[100:])
        got = bytearray()

        def is_there() -> bool:
            try:
                got.extend(peer.recv(50_000))
            except BlockingIOError:
                pass
            return len(got) == len(whole)

        stage.until(is_there)
        stage.note(hashlib.sha256(got).hexdigest(), stage.reactor.getWriters())

    assert (hashlib.sha256(whole).hexdigest(), []) in same(scenario)


class Producer:
    """Writes pieces of data to a connection, and notes when it is asked to."""

    def __init__(self, made: Noting, pieces: int) -> None:
        self.made = made
        self.pieces = pieces

    def resumeProducing(self) -> None:
        self.made.stage.note("resume")
        self.pieces -= 1
        if self.pieces >= 0:
            self.made.link.write(b"x" * 100_000)
        else:
            self.made.link.unregisterProducer()
            self.made.link.loseConnection()

    def pauseProducing(self) -> None:
        self.made.stage.note("pause")

    def stopProducing(self) -> None:
        self.made.stage.note("stop")


@pytest.mark.parametrize("streaming", [False, True])
def test_producers_are_paused_and_resumed(same: Same, streaming: bool) -> None:
    """Once for each piece, and the connection ends after the last one."""

    def scenario(stage: Stage) -> None:
        made = Noting(stage)
        peer = stage.connect(made)
        producer = Producer(made, 10)
        made.link.registerProducer(producer, streaming)
        if streaming:
            producer.resumeProducing()
        got: list[bytes] = []
        stage.until(lambda: got.append(received(peer)) or got[-1].endswith(b"EOF"))
        stage.until(lambda: made.lost)
        stage.note(len(b"".join(got)))

    trace = same(scenario)
    assert tags(trace).count("resume") == 11
    assert tags(trace).count("pause") == (10 if streaming else 0)
    assert trace[-1] == (1_000_003,)


def test_a_producer_is_stopped_when_its_connection_is_lost(same: Same) -> None:
    """While it is paused, too."""

    def scenario(stage: Stage) -> None:
        made = Noting(stage)
        peer = stage.connect(made)
        made.link.registerProducer(Producer(made, 10), True)
        made.link.write(b"x" * 10_000_000)
        stage.turn()
        reset(peer)
        stage.until(lambda: made.lost)

    assert tags(same(scenario)) == ["made", "pause", "stop", "lost"]


# Closing


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
@pytest.mark.parametrize("way", ["loseConnection", "abortConnection", "loseWriteConnection"])
def test_closing_after_a_write(same: Same, size: int, way: str) -> None:
    """What was written is sent before an orderly end, and is not before another."""

    def scenario(stage: Stage) -> None:
        made = Noting(stage)
        peer = stage.connect(made)

        def close() -> None:
            made.link.write(b"x" * size)
            getattr(made.link, way)()

        stage.reactor.callLater(0, close)
        got: list[bytes] = []
        stage.until(lambda: got.append(received(peer)) or got[-1].endswith((b"EOF", b"RESET")))
        peer.close()
        stage.until(lambda: made.lost)
        stage.note(hashlib.sha256(b"".join(got)).hexdigest())

    end = b"RESET" if way == "abortConnection" else b"x" * size + b"EOF"
    assert same(scenario)[-1] == (hashlib.sha256(end).hexdigest(),)


def test_half_closes_of_both_sides(same: Same) -> None:
    """One after the other, and then the loss."""

    def scenario(stage: Stage) -> None:
        @implementer(IHalfCloseableProtocol)
        class HalfClosing(Noting):
            def readConnectionLost(self) -> None:
                self.note("read lost")
                self.link.write(b"answer")
                self.link.loseWriteConnection()

            def writeConnectionLost(self) -> None:
                self.note("write lost")
                self.link.loseConnection()

        made = HalfClosing(stage)
        peer = stage.connect(made)
        peer.send(b"question")
        peer.shutdown(socket.SHUT_WR)
        got: list[bytes] = []
        stage.until(lambda: got.append(received(peer)) or got[-1].endswith(b"EOF"))
        stage.note(*filter(None, got))
        stage.until(lambda: made.lost)

    assert tags(same(scenario))[:4] == ["made", "received", "read lost", "write lost"]


@pytest.mark.parametrize("words", [b"", b"last words"])
@pytest.mark.parametrize("end", [reset, socket.socket.close])
@pytest.mark.parametrize("paused_until", ["never", "write", "resume"])
def test_a_peer_that_is_gone_while_we_write(
    same: Same, words: bytes, end: Callable[[socket.socket], None], paused_until: str
) -> None:
    """What it has sent is delivered before the loss, whose reason is that of a stock reactor."""

    def scenario(stage: Stage) -> None:
        made = Noting(stage)
        peer = stage.connect(made)

        def leave() -> None:
            if paused_until != "never":
                made.link.pauseProducing()
            peer.send(words)
            end(peer)
            made.link.write(b"too late")

        stage.reactor.callLater(0, leave)
        stage.turn()
        if paused_until == "write":
            made.link.write(b"again")
        elif paused_until == "resume" and not made.lost:
            made.link.resumeProducing()
        stage.until(lambda: made.lost)

    trace = same(scenario)
    if words and paused_until == "never":
        assert trace[1][:2] == ("received", words)


# What the reactor watches


def test_a_connection_with_something_to_send_is_a_writer(same: Same) -> None:
    """As is one that waits for room; ``stopWriting()`` ends it, and what was written waits for the next start."""

    def scenario(stage: Stage) -> None:
        made = Noting(stage)
        peer = stage.connect(made)
        reactor = stage.reactor
        made.link.write(b"x")
        stage.note(reactor.getWriters() == [made.link], made.link in reactor.getReaders())
        made.link.stopWriting()
        stage.note(reactor.getWriters() == [])
        stage.turn()
        stage.note(received(peer))
        made.link.startWriting()
        made.link.startWriting()
        stage.turn()
        stage.note(received(peer), reactor.getWriters() == [])
        made.link.write(b"y" * 10_000_000)
        stage.turn()
        made.link.write(b"z")
        stage.note(reactor.getWriters() == [made.link])
        made.link.stopWriting()
        stage.note(reactor.getWriters() == [])

    flat = [what for entry in same(scenario) for what in entry if isinstance(what, bool | bytes)]
    assert flat == [True, True, True, b"", b"x", True, True, True]


@pytest.mark.parametrize("way", ["removeAll", "disconnectAll"])
@pytest.mark.parametrize("reading", [True, False])
def test_a_connection_with_something_to_send_is_removed_with_all_others(same: Same, way: str, reading: bool) -> None:
    """Once, though it was not watched for that yet."""

    def scenario(stage: Stage) -> None:
        made = Noting(stage)
        peer = stage.connect(made)
        made.link.write(b"x")
        if not reading:
            made.link.pauseProducing()
        removed = getattr(stage.reactor, way)()
        stage.note(removed == [made.link], stage.reactor.getWriters(), made.lost)
        stage.turn()
        stage.note(received(peer))
        if not made.lost:
            made.link.startReading()
            made.link.startWriting()
            stage.until(lambda: received(peer) == b"x")

    same(scenario)
