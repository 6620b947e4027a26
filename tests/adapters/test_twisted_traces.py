"""The same Twisted protocols do the same over asyncio's transports as over Twisted's own: talking, pausing, failing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from ..conftest import Reports
from ..transports.recorders import Boom
from ..transports.traces import MUCH
from .any_loop import host
from .twisted_recorders import RecordingFactory
from .twisted_stage import TwistedScenario, TwistedScenarios, TwistedStage, play_both

__all__ = ["host"]

scenarios = TwistedScenarios()


@scenarios.every
def test_the_trace_is_that_of_twisteds_own_transport(
    scenario: TwistedScenario, kind: str, host: Any, reports: Reports
) -> None:
    """Over asyncio's transports, a Twisted protocol is called with the same, in the same order, as natively."""
    played, expected = play_both(scenario, kind, host, reports)
    assert played == expected


def boom() -> None:
    """What a protocol does that fails."""
    raise Boom


def os_error() -> None:
    """What a protocol does that fails with what the network fails with, too."""
    raise FileNotFoundError(2, "no such file")


# Talking


@scenarios
async def echo(stage: TwistedStage) -> None:
    recorder = stage.recorder(dataReceived=lambda data: recorder.transport.write(data))
    peer = await stage.meet(recorder)
    for chunk in b"hello", b"\0\n", MUCH[:50_000]:
        peer.send(chunk)
        await stage.expect(peer, len(chunk))
    peer.sock.close()
    await stage.end_of(recorder)


@scenarios
async def echo_of_a_client(stage: TwistedStage) -> None:
    recorder = stage.recorder(dataReceived=lambda data: recorder.transport.write(data))
    peer = await stage.call(recorder)
    peer.send(b"hello")
    await stage.expect(peer, 5)
    recorder.attempt("loseConnection")
    await stage.expect(peer)
    await stage.end_of(recorder)


@scenarios
async def writes_in_connectionMade(stage: TwistedStage) -> None:
    recorder = stage.recorder(connectionMade=lambda: recorder.transport.write(b"welcome"))
    peer = await stage.meet(recorder)
    await stage.expect(peer, 7)


@scenarios
async def a_lot_is_written_and_all_of_it_arrives(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder, is_narrow=True)
    recorder.transport.write(MUCH)
    recorder.transport.writeSequence([b"", b"a", MUCH[::-1], b"z"])
    await stage.expect(peer, 2 * len(MUCH) + 2)


@scenarios
async def what_is_not_bytes_is_refused(stage: TwistedStage) -> None:
    recorder: Any = stage.recorder()
    peer = await stage.meet(recorder)
    for wrong in "text", bytearray(b"bytes"), memoryview(b"bytes"), 5, None:
        recorder.attempt("write", wrong)
    for wrong_sequence in ["text"], [b"bytes", None]:
        recorder.attempt("writeSequence", wrong_sequence)
    recorder.attempt("write", b"right")
    await stage.expect(peer, 5)
    recorder.attempt("loseConnection")
    await stage.end_of(recorder)
    recorder.attempt("write", "text")


@scenarios
async def empty_writes_are_nothing(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder)
    recorder.attempt("write", b"")
    recorder.attempt("writeSequence", [])
    recorder.attempt("writeSequence", [b""])
    recorder.attempt("write", b"something")
    await stage.expect(peer, 9)


# Pausing


@scenarios
async def reading_is_paused_and_resumed(stage: TwistedStage) -> None:
    recorder = stage.recorder()
    peer = await stage.meet(recorder)
    for method in "pauseProducing", "pauseProducing":
        recorder.attempt(method)
    peer.send(b"wait")
    await stage.quiet()
    for method in "resumeProducing", "resumeProducing":
        recorder.attempt(method)
    await stage.quiet()
    peer.send(b"at once")
    await stage.quiet()


def _pauses_in_connectionMade(name: str, action: Callable[[Any], object]) -> None:
    async def scenario(stage: TwistedStage) -> None:
        recorder = stage.recorder(connectionMade=lambda: recorder.attempt("pauseProducing"))
        address, _ = await stage.listen(RecordingFactory(stage, recorder, is_quiet=True))
        peer = stage.dial(address)
        peer.send(b"early")
        await stage.until(lambda: recorder.state != "new")
        peer.send(b", late")
        await stage.quiet()
        action(recorder)
        await stage.quiet()
        recorder.attempt("pauseProducing")
        with contextlib.suppress(ConnectionError):  # the connection may be closed
            peer.send(b"more")
        await stage.quiet()
        recorder.attempt("resumeProducing")
        await stage.quiet()

    scenario.__name__ = f"reading_is_paused_in_connectionMade_and_{name}"
    scenarios(scenario)


_pauses_in_connectionMade("resumed", lambda recorder: recorder.attempt("resumeProducing"))
_pauses_in_connectionMade(
    "resumed_and_paused", lambda recorder: [recorder.attempt(f"{verb}Producing") for verb in ("resume", "pause")]
)
_pauses_in_connectionMade("closed", lambda recorder: recorder.attempt("abortConnection"))


@scenarios
async def reading_is_paused_in_dataReceived(stage: TwistedStage) -> None:
    recorder = stage.recorder(dataReceived=lambda data: recorder.attempt("pauseProducing"))
    peer = await stage.meet(recorder)
    peer.send(b"first")
    await stage.quiet()
    peer.send(b"second")
    peer.sock.shutdown(1)
    await stage.quiet()
    recorder.on.clear()
    recorder.attempt("resumeProducing")
    await stage.end_of(recorder)


@scenarios
async def reading_is_paused_and_resumed_in_dataReceived(stage: TwistedStage) -> None:
    def blink() -> None:
        recorder.attempt("pauseProducing")
        recorder.attempt("resumeProducing")

    recorder = stage.recorder(dataReceived=lambda data: blink())
    peer = await stage.meet(recorder)
    peer.send(b"first")
    await stage.quiet()
    peer.send(b"second")
    await stage.quiet()


# The protocol's failures


def _fails_in(callback: str, error: Any) -> None:
    async def scenario(stage: TwistedStage) -> None:
        recorder = stage.half_closeable(**{callback: lambda *args: error()})
        peer = await stage.meet(recorder)
        if callback == "writeConnectionLost":
            recorder.attempt("loseWriteConnection")
        else:
            peer.send(b"data")
        await stage.quiet()
        if callback in ("readConnectionLost", "connectionLost"):
            peer.sock.shutdown(1)
            await stage.quiet()
            recorder.attempt("loseConnection")
        await stage.end_of(recorder)
        stage.note(f"the reason is what was raised: {isinstance(recorder.reason, Boom | FileNotFoundError)}")

    scenario.__name__ = f"{error.__name__}_in_{callback}"
    scenarios(scenario)


for callback in "dataReceived", "readConnectionLost", "writeConnectionLost", "connectionLost":
    for error in boom, os_error:
        _fails_in(callback, error)


@scenarios.of("tcp")
async def a_client_fails_in_connectionMade(stage: TwistedStage) -> None:
    recorder = stage.recorder(connectionMade=boom)
    peer = await stage.call(recorder)
    await stage.end_of(recorder)
    await stage.expect(peer)


# Factories


@scenarios
async def a_factory_refuses_a_connection(stage: TwistedStage) -> None:
    factory = RecordingFactory(stage, None, None, is_quiet=True)
    address, _ = await stage.listen(factory)
    for _ in range(2):
        await stage.expect(stage.dial(address))


# Another protocol takes over


@scenarios
async def another_protocol_takes_over(stage: TwistedStage) -> None:
    def hand_over(data: bytes) -> None:
        recorder.transport.protocol = second
        second.makeConnection(recorder.transport)  # type: ignore[no-untyped-call]
        second.dataReceived(data[1:])

    recorder = stage.recorder(dataReceived=hand_over)
    second = stage.half_closeable(dataReceived=lambda data: second.transport.write(data.upper()))
    peer = await stage.meet(recorder)
    peer.send(b"!begin")
    await stage.expect(peer, 5)
    peer.send(b"go on")
    await stage.expect(peer, 5)
    peer.sock.shutdown(1)
    await stage.quiet()
    recorder.state = "lost"
    second.attempt("loseConnection")
    await stage.end_of(second)
