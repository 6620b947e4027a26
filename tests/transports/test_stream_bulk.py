"""Streams from which much is read at once: several reads in a row, in the order in which asyncio would have them."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

from txasync.transports import _stream

from ..conftest import Runner

READ = 4096
MUCH = 10 * READ


@pytest.fixture(autouse=True)
def _small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the kernel has much more than one at once."""
    monkeypatch.setattr(_stream, "FIRST_READ_SIZE", READ)
    monkeypatch.setattr(_stream, "LARGEST_READ_SIZE", READ)
    monkeypatch.setattr(_stream, "READS_IN_A_ROW", 4)


class Reading:
    """Notes what comes, by how much it was, and does something after each piece."""

    def __init__(self, log: list[object], after: Callable[[Any], object] = lambda transport: None) -> None:
        self.log = log
        self.after = after
        self.lost = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def note(self, size: int) -> None:
        self.log.append(size)
        self.after(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


class ByCopy(Reading, asyncio.Protocol):
    """A protocol that is given bytes."""

    def data_received(self, data: bytes) -> None:
        self.note(len(data))


class ByBuffer(Reading, asyncio.BufferedProtocol):
    """A protocol that gives a buffer."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.buffer = bytearray(READ)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.note(nbytes)


@pytest.fixture(params=[ByCopy, ByBuffer])
def kind(request: pytest.FixtureRequest) -> type[Reading]:
    """Both kinds of protocols."""
    kind: type[Reading] = request.param
    return kind


async def connect(protocol: Reading, data: bytes = bytes(MUCH)) -> socket.socket:
    """Connect *protocol* to a peer that has sent *data*."""
    ours, theirs = socket.socketpair()
    theirs.sendall(data)
    await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)  # type: ignore[type-var]
    return theirs


def test_all_is_read_and_the_end_as_well(run: Runner, kind: type[Reading]) -> None:
    """Also what does not fill a read."""
    log: list[object] = []

    async def main() -> None:
        protocol = kind(log)
        (await connect(protocol, bytes(MUCH + 1))).close()
        await protocol.lost.wait()

    run(main)
    assert log == [READ] * 10 + [1]


def test_what_a_piece_has_scheduled_comes_before_the_next_piece(run: Runner, kind: type[Reading]) -> None:
    """It may change the protocol, or wait for its answer to be written."""
    log: list[object] = []

    async def main() -> None:
        protocol = kind(log, lambda transport: run.loop.call_soon(log.append, "scheduled"))
        (await connect(protocol)).close()
        await protocol.lost.wait()

    run(main)
    assert log == [READ, "scheduled"] * 10


def test_a_pause_and_a_new_protocol_hold_at_once(run: Runner, kind: type[Reading]) -> None:
    """Whatever is still in the kernel is left there, or is the new protocol's."""
    log: list[object] = []

    async def main() -> None:
        theirs = await connect(paused := kind(log, lambda transport: transport.pause_reading()))
        await asyncio.sleep(0.01)
        assert log == [READ]
        paused.transport.close()
        await paused.lost.wait()
        theirs.close()

        log.clear()
        successor = kind(["the successor's"])
        theirs = await connect(protocol := kind(log, lambda transport: transport.set_protocol(successor)))
        successor.transport = protocol.transport
        theirs.close()
        await successor.lost.wait()
        assert (log, successor.log) == ([READ], ["the successor's"] + [READ] * 9)

    run(main)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_nothing_comes_after_the_end(run: Runner, kind: type[Reading], end: str) -> None:
    """The rest is dropped."""
    log: list[object] = []

    async def main() -> None:
        protocol = kind(log, lambda transport: getattr(transport, end)())
        theirs = await connect(protocol)
        await protocol.lost.wait()
        theirs.close()

    run(main)
    assert log == [READ]


def test_others_have_their_turn_in_between(run: Runner, kind: type[Reading]) -> None:
    """However much there is to read."""
    log: list[object] = []

    async def main() -> None:
        busy, other = kind(log), ByCopy(log)
        theirs = await connect(other, b"")
        first = await connect(busy, b"")
        # Both are ready in one poll, or in two that follow each other.
        first.sendall(bytes(MUCH))
        theirs.sendall(b"other")
        first.close()
        theirs.close()
        await asyncio.gather(busy.lost.wait(), other.lost.wait())

    run(main)
    assert sorted(log) == [5] + [READ] * 10  # type: ignore[type-var]
    assert log.index(5) <= 4


def test_what_was_delivered_is_not_held_while_the_next_is_read(run: Runner) -> None:
    """A protocol that drops what it was given frees it at once, however many reads there are in a row."""
    pieces: list[bytes] = []
    held: list[int] = []

    class Keeping(ByCopy):
        def data_received(self, data: bytes) -> None:
            held.extend(sys.getrefcount(pieces[index]) for index in range(len(pieces)))
            pieces.append(data)

    async def main() -> None:
        protocol = Keeping([])
        (await connect(protocol)).close()
        await protocol.lost.wait()

    run(main)
    assert len(pieces) == MUCH / READ
    alone = [bytes(READ + 1)]
    assert set(held) == {sys.getrefcount(alone[0])}
