"""The same Twisted protocols do the same over asyncio's transports as over Twisted's own: closing."""

from __future__ import annotations

import contextlib
from typing import Any

from ..conftest import Reports
from ..transports.traces import MUCH
from .any_loop import host
from .twisted_stage import TwistedScenario, TwistedScenarios, TwistedStage, play_both

__all__ = ["host"]

scenarios = TwistedScenarios()


@scenarios.every
def test_the_end_is_that_of_twisteds_own_transport(
    scenario: TwistedScenario, kind: str, host: Any, reports: Reports
) -> None:
    """Over asyncio's transports, a Twisted protocol is told of the end what it is told natively."""
    played, expected = play_both(scenario, kind, host, reports)
    assert played == expected


# Our end


@scenarios
async def what_is_written_after_loseConnection_in_the_same_turn_is_sent(stage: TwistedStage) -> None:
    def leave() -> None:
        recorder.transport.write(b"before, ")
        recorder.transport.loseConnection()
        recorder.transport.write(b"after, ")
        recorder.transport.writeSequence([b"and ", b"after"])

    recorder = stage.recorder(dataReceived=lambda data: leave())
    peer = await stage.meet(recorder)
    peer.send(b"go")
    await stage.expect(peer)
    await stage.end_of(recorder)


@scenarios
async def what_is_buffered_is_sent_before_the_end(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder, is_narrow=True)
    recorder.attempt("write", MUCH)
    recorder.attempt("loseConnection")
    stage.note(f"disconnecting {bool(recorder.transport.disconnecting)}")
    await stage.quiet()
    await stage.expect(peer)
    await stage.end_of(recorder)


@scenarios
async def loseConnection_comes_twice_and_after_the_end(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder)
    recorder.attempt("loseConnection")
    recorder.attempt("loseConnection")
    await stage.end_of(recorder)
    await stage.expect(peer)
    recorder.attempt("loseConnection")
    recorder.attempt("abortConnection")
    recorder.attempt("write", b"nobody reads this")
    recorder.attempt("writeSequence", [b"nor this"])
    recorder.attempt("unregisterProducer")
    await stage.quiet()


@scenarios
async def loseConnection_in_connectionMade(stage: TwistedStage) -> None:
    def bye() -> None:
        recorder.attempt("write", b"bye")
        recorder.attempt("loseConnection")

    recorder = stage.recorder(connectionMade=bye)
    peer = await stage.meet(recorder)
    await stage.expect(peer)
    await stage.end_of(recorder)


@scenarios
async def stopProducing_is_loseConnection(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder)
    recorder.attempt("write", b"the last")
    recorder.attempt("stopProducing")
    await stage.expect(peer)
    await stage.end_of(recorder)


@scenarios
async def abortConnection_drops_what_is_buffered(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder, is_narrow=True)
    recorder.attempt("write", MUCH)
    await stage.quiet()
    recorder.attempt("abortConnection")
    recorder.attempt("abortConnection")
    recorder.attempt("write", b"more")
    await stage.end_of(recorder)
    stage.note(f"all has come: {len(peer.receive()) >= len(MUCH)}")


@scenarios
async def abortConnection_tells_the_peer(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder)
    recorder.attempt("abortConnection")
    await stage.expect(peer)
    await stage.end_of(recorder)


@scenarios
async def abortConnection_after_loseConnection(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    await stage.meet(recorder, is_narrow=True)
    recorder.attempt("write", MUCH)
    recorder.attempt("loseConnection")
    await stage.quiet()
    recorder.attempt("abortConnection")
    recorder.attempt("loseConnection")
    await stage.end_of(recorder)


@scenarios
async def abortConnection_in_connectionMade(stage: TwistedStage) -> None:
    recorder = stage.recorder(connectionMade=lambda: recorder.attempt("abortConnection"))
    peer = await stage.meet(recorder)
    await stage.end_of(recorder)
    with contextlib.suppress(ConnectionError):
        peer.send(b"too late")
    await stage.quiet()


@scenarios
async def abortConnection_in_dataReceived(stage: TwistedStage) -> None:
    recorder = stage.recorder(dataReceived=lambda data: recorder.attempt("abortConnection"))
    peer = await stage.meet(recorder)
    peer.send(b"x" * 50_000)
    await stage.end_of(recorder)


@scenarios
async def nothing_is_received_after_loseConnection(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder, is_narrow=True)
    recorder.attempt("write", MUCH)
    recorder.attempt("loseConnection")
    peer.send(b"nobody reads this")
    await stage.quiet()
    recorder.attempt("resumeProducing")
    recorder.attempt("pauseProducing")
    await stage.quiet()
    recorder.attempt("abortConnection")
    await stage.end_of(recorder)


@scenarios
async def the_end_of_the_peer_is_not_heard_after_loseConnection(stage: TwistedStage) -> None:
    recorder = stage.half_closeable()
    peer = await stage.meet(recorder, is_narrow=True)
    recorder.attempt("write", MUCH)
    recorder.attempt("loseConnection")
    peer.sock.shutdown(1)
    await stage.quiet()
    await stage.expect(peer)
    await stage.end_of(recorder)


# The peer's end


@scenarios
async def the_peer_closes(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder)
    peer.send(b"the last")
    peer.sock.close()
    await stage.end_of(recorder)


@scenarios.of("tcp")
async def the_peer_resets(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder)
    peer.reset()
    await stage.end_of(recorder)


@scenarios
async def the_peer_is_gone_while_much_is_to_be_sent(stage: TwistedStage) -> None:
    recorder = stage.half_closeable()
    peer = await stage.meet(recorder, is_narrow=True)
    recorder.attempt("write", MUCH)
    recorder.attempt("pauseProducing")
    await stage.quiet()
    (peer.reset if stage.kind == "tcp" else peer.sock.close)()
    await stage.end_of(recorder)


@scenarios
async def the_peer_half_closes(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder)
    peer.send(b"the last")
    peer.sock.shutdown(1)
    await stage.expect(peer)
    await stage.end_of(recorder)


@scenarios
async def a_half_closeable_protocol_goes_on_writing(stage: TwistedStage) -> None:
    recorder = stage.half_closeable()
    peer = await stage.meet(recorder)
    peer.send(b"the last")
    peer.sock.shutdown(1)
    await stage.quiet()
    recorder.attempt("write", b"an answer")
    await stage.expect(peer, 9)
    recorder.attempt("loseConnection")
    await stage.expect(peer)
    await stage.end_of(recorder)


@scenarios
async def loseConnection_in_readConnectionLost(stage: TwistedStage) -> None:
    def leave() -> None:
        recorder.attempt("write", b"bye")
        recorder.attempt("loseConnection")

    recorder = stage.half_closeable(readConnectionLost=leave)
    peer = await stage.meet(recorder)
    peer.sock.shutdown(1)
    await stage.expect(peer)
    await stage.end_of(recorder)


@scenarios
async def our_half_close_is_told_when_all_is_sent(stage: TwistedStage) -> None:
    recorder = stage.half_closeable()
    peer = await stage.meet(recorder, is_narrow=True)
    recorder.attempt("write", MUCH)
    recorder.attempt("loseWriteConnection")
    await stage.quiet()
    stage.note("the peer begins to read")
    await stage.expect(peer)
    await stage.quiet()
    recorder.attempt("write", b"too late")
    peer.send(b"still heard")
    await stage.quiet()
    peer.sock.close()
    await stage.quiet()


@scenarios
async def our_half_close_without_anything_to_send(stage: TwistedStage) -> None:
    recorder = stage.half_closeable()
    peer = await stage.meet(recorder)
    recorder.attempt("loseWriteConnection")
    recorder.attempt("write", b"in the same turn")
    recorder.attempt("loseWriteConnection")
    await stage.expect(peer)
    peer.send(b"still heard")
    await stage.quiet()


@scenarios
async def our_half_close_of_a_protocol_that_is_not_told(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder)
    recorder.attempt("write", b"the last")
    recorder.attempt("loseWriteConnection")
    await stage.expect(peer)
    peer.send(b"still heard")
    await stage.quiet()
    peer.sock.close()
    await stage.end_of(recorder)


@scenarios
async def both_halves_end(stage: TwistedStage) -> None:
    recorder = stage.half_closeable()
    peer = await stage.meet(recorder)
    peer.sock.shutdown(1)
    await stage.quiet()
    recorder.attempt("loseWriteConnection")
    await stage.expect(peer)
    await stage.quiet()


@scenarios
async def loseConnection_and_loseWriteConnection_in_the_same_turn(stage: TwistedStage) -> None:
    recorder = stage.half_closeable()
    peer = await stage.meet(recorder)
    recorder.attempt("loseWriteConnection")
    recorder.attempt("loseConnection")
    await stage.expect(peer)
    await stage.end_of(recorder)
