"""What Twisted protocols see otherwise over asyncio's transports than over Twisted's own."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from ..conftest import Reports
from ..transports.recorders import Boom
from ..transports.traces import MUCH
from .any_loop import host
from .twisted_recorders import PushRecorder, RecordingFactory
from .twisted_stage import KINDS, TwistedScenario, TwistedStage, play_adapted, play_natively

__all__ = ["host"]


def boom() -> None:
    """What a protocol does that fails."""
    raise Boom


class Play:
    """Plays scenarios on both sides, over one kind of connection."""

    def __init__(self, kind: str, host: Any, reports: Reports) -> None:
        self.kind = kind
        self._host = host
        self._reports = reports

    def natively(self, scenario: TwistedScenario) -> list[str]:
        """The trace over Twisted's own transports."""
        trace = play_natively(scenario, self.kind)
        self._reports.clear()
        return trace

    def adapted(self, scenario: TwistedScenario) -> list[str]:
        """The trace over asyncio's."""
        trace = play_adapted(scenario, self.kind, self._host)
        self._reports.clear()
        return trace


@pytest.fixture(params=KINDS)
def play(request: pytest.FixtureRequest, host: Any, reports: Reports) -> Play:
    """Play a scenario, over each kind of connection and on each loop."""
    return Play(request.param, host, reports)


async def _half_close_of_the_peer(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder, is_narrow=True)
    recorder.transport.write(MUCH)
    peer.sock.shutdown(1)
    await stage.quiet()
    read = bytearray()
    while not peer.ending:
        read += peer.receive()
        await stage.a_round()
    await stage.end_of(recorder)
    stage.note(f"all has come: {read == MUCH}")


def test_what_is_unsent_when_the_peer_has_ended_is_sent(play: Play) -> None:
    """When the peer half-closes, what is buffered is sent before the end, where Twisted drops it."""
    assert play.natively(_half_close_of_the_peer)[-1] == "all has come: False"
    assert play.adapted(_half_close_of_the_peer) == [
        "connectionMade",
        "connectionLost ConnectionDone",
        "all has come: True",
    ]


async def _loseConnection_with_a_producer(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder)
    recorder.transport.registerProducer(PushRecorder(stage), True)
    recorder.transport.write(b"first, ")
    recorder.transport.loseConnection()
    peer.sock.shutdown(1)
    await stage.quiet()
    recorder.transport.write(b"second")
    recorder.transport.unregisterProducer()
    await stage.expect(peer)
    await stage.end_of(recorder)


def test_loseConnection_waits_for_a_push_producer_that_was_never_paused(play: Play) -> None:
    """A registered producer keeps the connection until it unregisters, as documented; Twisted's TCP stops it."""
    assert "stopProducing" in play.natively(_loseConnection_with_a_producer)
    assert play.adapted(_loseConnection_with_a_producer) == [
        "connectionMade",
        "the peer has read b'first, second' 'eof'",
        "connectionLost ConnectionDone",
    ] or play.adapted(_loseConnection_with_a_producer) == [
        "connectionMade",
        "connectionLost ConnectionDone",
        "the peer has read b'first, second' 'eof'",
    ]


async def _loseWriteConnection_with_a_producer(stage: TwistedStage) -> None:
    recorder = stage.half_closeable()
    peer = await stage.meet(recorder)
    recorder.transport.registerProducer(PushRecorder(stage), True)
    recorder.transport.loseWriteConnection()
    await stage.quiet()
    stage.note("the producer goes on")
    recorder.transport.write(b"produced")
    recorder.transport.unregisterProducer()
    await stage.expect(peer)
    await stage.quiet()


def test_loseWriteConnection_waits_for_a_producer(play: Play) -> None:
    """A registered producer keeps the write side until it unregisters, as documented; Twisted's TCP closes it."""
    assert play.natively(_loseWriteConnection_with_a_producer)[1] == "writeConnectionLost"
    trace = play.adapted(_loseWriteConnection_with_a_producer)
    assert trace[:2] == ["connectionMade", "the producer goes on"]
    assert sorted(trace[2:]) == ["the peer has read b'produced' 'eof'", "writeConnectionLost"]


async def _loseConnection_after_the_half_close(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder)
    recorder.transport.loseWriteConnection()
    await stage.expect(peer)
    await stage.quiet()
    recorder.transport.loseConnection()
    stage.note("loseConnection has returned")
    await stage.end_of(recorder)


def test_connectionLost_never_comes_inside_loseConnection(play: Play) -> None:
    """``loseConnection()`` returns before ``connectionLost()`` is called; after a half-close Twisted's does not."""
    returned, lost = "loseConnection has returned", "connectionLost ConnectionDone"
    assert play.natively(_loseConnection_after_the_half_close)[-2:] == [lost, returned]
    assert play.adapted(_loseConnection_after_the_half_close)[-2:] == [returned, lost]


async def _write_long_after_loseConnection(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder, is_narrow=True)
    recorder.transport.write(MUCH)
    recorder.transport.loseConnection()
    await stage.quiet()
    recorder.transport.write(b"late")
    read = bytearray()
    while not peer.ending:
        read += peer.receive()
        await stage.a_round()
    stage.note(f"what came after: {bytes(read[len(MUCH) :])!r}")


def test_what_is_written_in_a_later_turn_than_loseConnection_is_dropped(play: Play) -> None:
    """What is written in a later turn is dropped; Twisted's TCP sends it if it still has something else to send."""
    assert play.natively(_write_long_after_loseConnection)[-1] == "what came after: b'late'"
    assert play.adapted(_write_long_after_loseConnection)[-1] == "what came after: b''"


async def _write_and_abort(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder)
    recorder.transport.write(b"sent at once")
    recorder.transport.abortConnection()
    await stage.end_of(recorder)
    stage.note(f"the peer has read {peer.receive()!r}")


def test_what_was_sent_before_abortConnection_is_sent(play: Play) -> None:
    """asyncio's transports send at once what they can, or in the same turn; Twisted's drop it at an abort."""
    assert play.natively(_write_and_abort)[-1] == "the peer has read b''"
    assert play.adapted(_write_and_abort)[-1] == "the peer has read b'sent at once'"


async def _server_fails_in_connectionMade(stage: TwistedStage) -> None:
    recorder = stage.recorder(connectionMade=boom)
    peer = await stage.meet(recorder)
    await stage.quiet()
    with contextlib.suppress(BrokenPipeError):
        peer.send(b"are you there?")
    await stage.quiet()


def test_a_server_that_fails_in_connectionMade_loses_the_connection(play: Play) -> None:
    """What ``connectionMade()`` raises is the end, on a server as well; Twisted's ports log it, and go on."""
    assert "dataReceived b'are you there?'" in play.natively(_server_fails_in_connectionMade)
    assert play.adapted(_server_fails_in_connectionMade) == [
        "connectionMade",
        "reported, from connectionMade: Boom",
        "connectionLost Boom",
    ]


async def _factory_fails(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    address, _ = await stage.listen(RecordingFactory(stage, Boom(), recorder))
    await stage.expect(stage.dial(address))
    stage.dial(address)
    await stage.until(lambda: recorder.state == "open")


def test_a_connection_without_a_protocol_is_closed_at_once(play: Play) -> None:
    """The socket of a factory that fails is closed; Twisted leaves it to the garbage collector. Others are served."""
    assert play.adapted(_factory_fails) == [
        "startFactory",
        "buildProtocol",
        "reported, from buildProtocol: Boom",
        "stopFactory",
        "the peer has read b'' 'eof'",
        "startFactory",
        "buildProtocol",
        "connectionMade",
    ]


async def _producer_fails_in_stopProducing(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder)
    recorder.transport.registerProducer(PushRecorder(stage, stopProducing=boom), True)
    peer.sock.close()
    await stage.end_of(recorder)


def test_a_producer_that_cannot_be_stopped_does_not_hide_the_loss(play: Play) -> None:
    """What ``stopProducing()`` raises is reported; natively the protocol would not hear of the loss."""
    assert play.adapted(_producer_fails_in_stopProducing) == [
        "connectionMade",
        "stopProducing",
        "reported, from stopProducing: Boom",
        "connectionLost Boom",
    ]
