"""The same producers do the same over asyncio's transports as over Twisted's own."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from twisted.protocols.basic import FileSender

from ..conftest import Reports
from ..transports.recorders import Boom
from ..transports.traces import MUCH, Peer
from .any_loop import host
from .twisted_recorders import PullRecorder, PushRecorder, TwistedRecorder
from .twisted_stage import TwistedScenario, TwistedScenarios, TwistedStage, play_both

__all__ = ["host"]

scenarios = TwistedScenarios()


@scenarios.every
def test_producers_are_asked_as_by_twisteds_own_transport(
    scenario: TwistedScenario, kind: str, host: Any, reports: Reports
) -> None:
    """Over asyncio's transports, a producer is asked for the same, in the same order, as natively."""
    played, expected = play_both(scenario, kind, host, reports)
    assert played == expected


def boom() -> None:
    """What a producer does that fails."""
    raise Boom


async def beginning(
    stage: TwistedStage, producer: Any, *, streaming: bool, **on: Callable[..., Any]
) -> tuple[TwistedRecorder, Peer]:
    """A connection that takes little at once, with *producer*."""
    recorder = stage.recorder(**on)
    peer = await stage.meet(recorder, is_narrow=True)
    recorder.attempt("registerProducer", producer, streaming)
    return recorder, peer


def portions(recorder: Callable[[], TwistedRecorder], count: int, portion: bytes) -> Callable[[], None]:
    """What a pull producer does that writes *portion* so many times, and then is done."""
    left = [portion] * count

    def write() -> None:
        transport = recorder().transport
        if left:
            transport.write(left.pop())
        else:
            transport.unregisterProducer()

    return write


# Push producers


@scenarios
async def a_push_producer_is_paused_above_the_mark_and_resumed(stage: TwistedStage) -> None:
    producer = PushRecorder(stage)
    recorder, peer = await beginning(stage, producer, streaming=True)
    for _ in range(2):
        recorder.attempt("write", b"a little")
        recorder.attempt("write", MUCH)
        await stage.expect(peer, len(MUCH) + 8)
        await stage.quiet()
    recorder.attempt("unregisterProducer")
    recorder.attempt("write", MUCH)
    await stage.expect(peer, len(MUCH))


@scenarios
async def a_push_producer_that_goes_on_is_told_each_time(stage: TwistedStage) -> None:
    producer = PushRecorder(stage)
    recorder, peer = await beginning(stage, producer, streaming=True)
    recorder.attempt("write", MUCH)
    recorder.attempt("write", b"more")
    recorder.attempt("writeSequence", [b"and", b"more"])
    await stage.expect(peer, len(MUCH) + 11)
    await stage.quiet()


@scenarios
async def a_push_producer_writes_again_when_it_is_resumed(stage: TwistedStage) -> None:
    producer = PushRecorder(stage)
    recorder, peer = await beginning(stage, producer, streaming=True)
    left = [MUCH, MUCH, MUCH]
    producer.on["resumeProducing"] = lambda: left and recorder.transport.write(left.pop())
    producer.resumeProducing()
    await stage.expect(peer, 3 * len(MUCH))
    await stage.quiet()


@scenarios
async def a_push_producer_is_stopped_when_the_peer_closes(stage: TwistedStage) -> None:
    recorder, peer = await beginning(stage, PushRecorder(stage), streaming=True)
    peer.sock.close()
    await stage.end_of(recorder)


@scenarios
async def a_producer_is_stopped_when_the_connection_is_aborted(stage: TwistedStage) -> None:
    recorder, _ = await beginning(stage, PushRecorder(stage), streaming=True)
    recorder.attempt("write", MUCH)
    recorder.attempt("abortConnection")
    recorder.attempt("write", MUCH)
    await stage.end_of(recorder)


@scenarios
async def a_producer_that_is_stopped_unregisters_and_closes(stage: TwistedStage) -> None:
    producer = PushRecorder(stage)
    recorder, peer = await beginning(stage, producer, streaming=True)

    def finish() -> None:
        recorder.attempt("write", b"nobody reads this")
        recorder.attempt("unregisterProducer")
        recorder.attempt("loseConnection")

    producer.on["stopProducing"] = finish
    (peer.reset if stage.kind == "tcp" else peer.sock.close)()
    await stage.end_of(recorder)


@scenarios
async def loseConnection_waits_for_a_push_producer_that_was_paused(stage: TwistedStage) -> None:
    producer = PushRecorder(stage)
    recorder, peer = await beginning(stage, producer, streaming=True)
    recorder.attempt("write", MUCH)
    recorder.attempt("loseConnection")
    recorder.attempt("write", b"more, ")
    peer.sock.shutdown(1)
    await stage.quiet()
    recorder.attempt("write", b"the last")
    recorder.attempt("unregisterProducer")
    await stage.expect(peer)
    await stage.end_of(recorder)


@scenarios
async def a_producer_registers_when_the_connection_is_made(stage: TwistedStage) -> None:
    producer = PushRecorder(stage)
    recorder = stage.recorder(connectionMade=lambda: recorder.attempt("registerProducer", producer, True))
    peer = await stage.meet(recorder, is_narrow=True)
    recorder.attempt("write", MUCH)
    await stage.expect(peer, len(MUCH))
    await stage.quiet()


# Registering


@scenarios
async def a_second_producer_is_refused(stage: TwistedStage) -> None:
    recorder, _ = await beginning(stage, PushRecorder(stage, "first"), streaming=True)
    recorder.attempt("registerProducer", PushRecorder(stage, "second"), True)
    recorder.attempt("registerProducer", PullRecorder(stage, "third"), False)
    recorder.attempt("unregisterProducer")
    recorder.attempt("unregisterProducer")
    recorder.attempt("registerProducer", PushRecorder(stage, "fourth"), True)
    recorder.attempt("abortConnection")
    await stage.end_of(recorder)


@scenarios
async def a_producer_that_comes_too_late_is_stopped(stage: TwistedStage) -> None:
    def register() -> None:
        for streaming in True, False:
            producer = (PushRecorder if streaming else PullRecorder)(stage)
            recorder.attempt("registerProducer", producer, streaming)

    recorder = stage.recorder(connectionLost=register)
    peer = await stage.meet(recorder)
    peer.sock.close()
    await stage.end_of(recorder)
    register()


@scenarios
async def producers_register_after_abortConnection(stage: TwistedStage) -> None:
    producer = PullRecorder(stage)
    recorder = stage.recorder()
    await stage.meet(recorder)
    producer.on["resumeProducing"] = lambda: recorder.transport.write(b"nobody reads this")
    recorder.attempt("abortConnection")
    recorder.attempt("registerProducer", producer, False)
    await stage.end_of(recorder)


# Pull producers


@scenarios
async def a_pull_producer_is_asked_until_it_unregisters(stage: TwistedStage) -> None:
    producer = PullRecorder(stage)
    producer.on["resumeProducing"] = portions(lambda: recorder, 5, b"a portion, ")
    recorder = stage.recorder()
    peer = await stage.meet(recorder)
    recorder.attempt("registerProducer", producer, False)
    await stage.expect(peer, 55)
    await stage.quiet()
    recorder.attempt("loseConnection")
    await stage.expect(peer)
    await stage.end_of(recorder)


@scenarios
async def a_pull_producer_of_large_portions(stage: TwistedStage) -> None:
    producer = PullRecorder(stage)
    producer.on["resumeProducing"] = portions(lambda: recorder, 4, MUCH)
    recorder = stage.recorder()
    peer = await stage.meet(recorder, is_narrow=True)
    recorder.attempt("registerProducer", producer, False)
    recorder.attempt("loseConnection")
    await stage.expect(peer)
    await stage.end_of(recorder)


@scenarios
async def a_pull_producer_that_writes_later(stage: TwistedStage) -> None:
    producer = PullRecorder(stage)
    write = portions(lambda: recorder, 4, b"a portion, ")
    producer.on["resumeProducing"] = lambda: stage.loop.call_soon(write)
    recorder = stage.recorder()
    peer = await stage.meet(recorder)
    recorder.attempt("registerProducer", producer, False)
    await stage.expect(peer, 44)
    await stage.quiet()


@scenarios
async def a_pull_producer_that_writes_several_times(stage: TwistedStage) -> None:
    def write() -> None:
        if len(left) == 0:
            recorder.transport.unregisterProducer()
        for _ in range(min(3, len(left))):
            recorder.transport.write(left.pop())

    left = [MUCH] * 3 + [b"a portion, "] * 6
    producer = PullRecorder(stage, resumeProducing=write)
    recorder = stage.recorder()
    peer = await stage.meet(recorder, is_narrow=True)
    recorder.attempt("registerProducer", producer, False)
    await stage.expect(peer, 66 + 3 * len(MUCH))
    await stage.quiet()


@scenarios
async def a_pull_producer_that_writes_the_last_and_unregisters(stage: TwistedStage) -> None:
    def write() -> None:
        recorder.transport.write(MUCH)
        recorder.transport.unregisterProducer()
        recorder.transport.loseConnection()

    recorder, peer = await beginning(stage, PushRecorder(stage, "another"), streaming=True)
    recorder.attempt("unregisterProducer")
    recorder.attempt("registerProducer", PullRecorder(stage, resumeProducing=write), False)
    await stage.expect(peer)
    await stage.end_of(recorder)


@scenarios
async def a_pull_producer_that_has_nothing_to_write_is_not_asked_again(stage: TwistedStage) -> None:
    producer = PullRecorder(stage)
    recorder, peer = await beginning(stage, producer, streaming=False)
    await stage.quiet()
    recorder.attempt("write", b"")
    await stage.quiet()
    recorder.attempt("write", b"by somebody else")
    await stage.expect(peer, 16)
    await stage.quiet()


@scenarios
async def a_pull_producer_comes_when_much_is_buffered(stage: TwistedStage) -> None:
    producer = PullRecorder(stage)
    recorder = stage.recorder()
    peer = await stage.meet(recorder, is_narrow=True)
    recorder.attempt("write", MUCH)
    producer.on["resumeProducing"] = portions(lambda: recorder, 2, b"a portion, ")
    recorder.attempt("registerProducer", producer, False)
    await stage.expect(peer, len(MUCH) + 22)
    await stage.quiet()


@scenarios
async def a_pull_producer_is_stopped_when_the_connection_is_lost(stage: TwistedStage) -> None:
    producer = PullRecorder(stage, resumeProducing=lambda: recorder.transport.write(MUCH))
    recorder = stage.recorder()
    peer = await stage.meet(recorder, is_narrow=True)
    recorder.attempt("registerProducer", producer, False)
    await stage.quiet()
    (peer.reset if stage.kind == "tcp" else peer.sock.close)()
    await stage.end_of(recorder)


@scenarios
async def a_file_is_sent(stage: TwistedStage) -> None:
    content = MUCH * 10
    recorder = stage.recorder()
    peer = await stage.meet(recorder, is_narrow=True)
    sending = FileSender().beginFileTransfer(io.BytesIO(content), recorder.transport, None)
    sending.addBoth(lambda result: stage.note("the last byte sent was", result))
    sending.addBoth(lambda _: recorder.attempt("loseConnection"))
    await stage.expect(peer)
    await stage.end_of(recorder)


@scenarios
async def a_file_is_sent_to_one_who_leaves(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder, is_narrow=True)
    sending = FileSender().beginFileTransfer(io.BytesIO(MUCH * 10), recorder.transport, None)
    sending.addErrback(lambda failure: stage.note("the transfer failed", failure.value))
    await stage.quiet()
    (peer.reset if stage.kind == "tcp" else peer.sock.close)()
    await stage.end_of(recorder)


# Failures, and the end from within


def _fails_in(callback: str) -> None:
    async def scenario(stage: TwistedStage) -> None:
        producer = PushRecorder(stage)
        producer.on[callback] = boom
        recorder, peer = await beginning(stage, producer, streaming=True)
        recorder.attempt("write", MUCH)
        await stage.quiet()
        if callback == "resumeProducing":
            peer.receive()
            while recorder.state != "lost":
                peer.receive()
                await stage.a_round()
        else:
            recorder.attempt("abortConnection")
        await stage.end_of(recorder)

    scenario.__name__ = f"a_push_producer_fails_in_{callback}"
    scenarios(scenario)


for callback in "pauseProducing", "resumeProducing":
    _fails_in(callback)


@scenarios
async def a_pull_producer_fails_at_once(stage: TwistedStage) -> None:
    recorder, _ = await beginning(stage, PullRecorder(stage, resumeProducing=boom), streaming=False)
    await stage.quiet()
    recorder.attempt("abortConnection")
    await stage.end_of(recorder)


@scenarios
async def a_pull_producer_fails_later(stage: TwistedStage) -> None:
    def write() -> None:
        producer.on["resumeProducing"] = boom
        recorder.transport.write(b"one portion")

    producer = PullRecorder(stage, resumeProducing=write)
    recorder = stage.recorder()
    await stage.meet(recorder)
    recorder.attempt("registerProducer", producer, False)
    await stage.end_of(recorder)


def _ends_in(callback: str, method: str) -> None:
    async def scenario(stage: TwistedStage) -> None:
        def end() -> None:
            producer.on.clear()
            recorder.attempt("unregisterProducer")
            recorder.attempt(method)

        producer = PushRecorder(stage)
        producer.on[callback] = end
        recorder, peer = await beginning(stage, producer, streaming=True)
        recorder.attempt("write", MUCH)
        if method == "loseConnection" or callback == "resumeProducing":
            while recorder.state != "lost":
                peer.receive()
                await stage.a_round()
        await stage.end_of(recorder)

    scenario.__name__ = f"{method}_in_{callback}"
    scenarios(scenario)


for callback in "pauseProducing", "resumeProducing":
    for method in "loseConnection", "abortConnection":
        _ends_in(callback, method)
