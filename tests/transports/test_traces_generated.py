"""Traces of generated scenarios: any sequence of steps, on asyncio's own loop and on ours."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from ..conftest import Reports
from .combinations import COMBINATIONS, Combination
from .traces import SMALL, Scenario, Stage, play_on_ours, play_on_stock


class Connection(NamedTuple):
    """What the steps work on."""

    stage: Stage
    protocol: Any
    peer: Any


class Step(NamedTuple):
    """One thing that happens; *amount* is in bytes."""

    name: str
    amount: int


def _is_lost(it: Connection) -> bool:
    """Whether nothing may be called any more: asyncio, before 3.14, may fail then. See test_stream_behaviour."""
    return sys.version_info < (3, 14) and it.protocol.transport.get_protocol() is None


def _write(it: Connection, amount: int) -> None:
    it.protocol.attempt("write", bytes(range(256)) * (amount // 256) + bytes(amount % 256))


def _writelines(it: Connection, amount: int) -> None:
    # asyncio 3.12 and 3.13 forget the marks and the end there, and choke on empty pieces: see test_stream_behaviour.
    if sys.version_info >= (3, 14) or sys.version_info < (3, 12):
        it.protocol.attempt("writelines", [b"a" * amount, b"b" * (amount // 2), b"c"])
        return
    lines = [b"a" * (amount % 1000), b"c"]
    transport = it.protocol.transport
    may_be_buffered = transport.get_write_buffer_limits()[1] >= len(b"".join(lines))
    if not transport.is_closing() and transport.get_write_buffer_size() == 0 and may_be_buffered:
        it.protocol.attempt("writelines", lines)


def _set_limits(it: Connection, amount: int) -> None:
    it.protocol.attempt("set_write_buffer_limits", amount)


def _peer_sends(it: Connection, amount: int) -> None:
    if it.peer.sock.fileno() != -1:
        it.stage.attempt("the peer sends", lambda: it.peer.sock.send(b"p" * min(amount, 30_000)) and None)


def _peer_ends(it: Connection, amount: int) -> None:
    if it.peer.sock.fileno() != -1:
        it.stage.attempt("the peer ends", it.peer.sock.shutdown, socket.SHUT_WR)


def _peer_goes(it: Connection, amount: int) -> None:
    it.stage.attempt("the peer goes", it.peer.sock.close)


def _switch(it: Connection, amount: int) -> None:
    # The recorder stays the same, so that its steps go on; what data comes as changes with the class.
    protocol = it.protocol
    if protocol.transport.get_protocol() is not protocol:
        return
    second = (it.stage.buffered_protocol if amount % 2 else it.stage.protocol)("second", state="open")
    second.transport, second.state, second.on = protocol.transport, protocol.state, protocol.on
    protocol.transport.set_protocol(second)


def call(method: str) -> Callable[[Connection, int], None]:
    """A step that calls *method* of the transport."""

    def step(it: Connection, amount: int) -> None:
        it.protocol.attempt(method)

    return step


STEPS: dict[str, Callable[[Connection, int], None]] = {
    "write": _write,
    "writelines": _writelines,
    "set_write_buffer_limits": _set_limits,
    **{method: call(method) for method in ("pause_reading", "resume_reading", "write_eof", "close", "abort")},
    "the peer sends": _peer_sends,
    "the peer ends": _peer_ends,
    "the peer goes": _peer_goes,
    "set_protocol": _switch,
}

AMOUNTS = st.one_of(st.integers(0, 100), st.integers(0, 300_000))

# Steps of ordinary traffic are more frequent than those that end it.
NAMES = st.one_of(
    st.sampled_from(["write", "writelines", "the peer sends", "the peer reads"]),
    st.sampled_from([*STEPS, "the peer reads"]),
)


def scenario_of(steps: list[Step], *, buffered: bool, keep_open: bool, reacts: dict[str, Step]) -> Scenario:
    """The scenario in which *steps* happen, one after the other, each when the one before has had its effects."""

    async def scenario(stage: Stage) -> None:
        left = [3]  # a protocol that writes whenever it may write would never end

        def react(callback: str) -> Callable[..., Any]:
            def reaction(*args: Any) -> Any:
                if callback in reacts and left[0]:
                    left[0] -= 1
                    STEPS[reacts[callback].name](it, reacts[callback].amount)
                return keep_open if callback == "eof_received" else None

            return reaction

        make = stage.buffered_protocol if buffered else stage.protocol
        callbacks = "data_received", "buffer_updated", "eof_received", "pause_writing", "resume_writing"
        protocol = make(**{callback: react(callback) for callback in callbacks})  # type: ignore[arg-type]
        peer = await stage.connect(protocol, sndbuf=SMALL)
        it = Connection(stage, protocol, peer)
        for step in steps:
            if step.name == "the peer reads":
                await stage.drain(peer)
            else:
                if not _is_lost(it) or step.name.startswith("the peer"):
                    STEPS[step.name](it, step.amount)
                await stage.quiet()
            protocol.note_state()
            stage.note("has something to send", bool(protocol.transport.get_write_buffer_size()))
        if peer.sock.fileno() != -1:
            await stage.drain(peer)
            stage.note("and then the peer goes")
            peer.sock.close()
        await stage.quiet()
        stage.note("lost", protocol.transport.is_closing())

    return scenario


# In reactions, nothing is written: what the kernel takes of several writes at once is a matter of their sizes.
# Closing in resume_writing() makes asyncio call connection_lost() twice, before 3.14.
WHEN_RESUMED = ["pause_reading", "resume_reading", *(["close", "abort"] if sys.version_info >= (3, 14) else [])]
REACTIONS = st.fixed_dictionaries(
    {},
    optional={
        "data_received": st.builds(Step, st.sampled_from(["pause_reading", "close", "abort", "write_eof"]), st.just(0)),
        "eof_received": st.builds(Step, st.sampled_from(["write_eof", "close", "abort"]), st.just(0)),
        "pause_writing": st.builds(Step, st.sampled_from(["close", "abort", "write_eof", "pause_reading"]), st.just(0)),
        "resume_writing": st.builds(Step, st.sampled_from(WHEN_RESUMED), st.just(0)),
    },
)


@pytest.mark.parametrize("combination", COMBINATIONS[::2], ids="-".join)
@given(
    steps=st.lists(st.builds(Step, NAMES, AMOUNTS), max_size=12),
    buffered=st.booleans(),
    keep_open=st.booleans(),
    reacts=REACTIONS,
)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
def test_any_sequence_of_steps_gives_the_trace_of_asyncio(
    combination: Combination,
    reports: Reports,
    steps: list[Step],
    buffered: bool,
    keep_open: bool,
    reacts: dict[str, Step],
) -> None:
    """Whatever a protocol and its peer do, in whichever order, callbacks come as on asyncio's own loop."""
    scenario = scenario_of(steps, buffered=buffered, keep_open=keep_open, reacts=reacts)
    expected = play_on_stock(scenario)
    note("\n".join(expected))
    traced = play_on_ours(scenario, combination)
    reports.asyncio.clear()  # they are part of the traces
    assert traced == expected
