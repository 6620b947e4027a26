"""Reading several records in one go, with an engine that is a script."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txasync.transports._tls_batches import READ_AT_MOST, RECORD_SIZE, Rest, fill, read_on

FULL = b"x" * RECORD_SIZE


class WantRead(Exception):
    """More of the peer's bytes are needed."""


class ScriptedEngine:
    """
    It has some records to read, and then says the same each time.

    Args:
        records: What the peer has sent; one read gives one record at most, as TLS has it.
        end: What is there afterwards: nothing for now, the peer's end, or an error.
        tells: Whether it knows that there are more records; otherwise only of what is left of the first.
    """

    want_read = WantRead

    def __init__(self, records: list[bytes], end: Exception | bytes | None = None, *, tells: bool = True) -> None:
        self.records = list(records)
        self.reads = 0
        self._end = WantRead() if end is None else end
        self._tells = tells
        self._partial = False

    def read(self, size: int) -> bytes:
        self.reads += 1
        if not self.records:
            if isinstance(self._end, Exception):
                raise self._end
            return self._end
        record = self.records.pop(0)
        self._partial = size < len(record)
        if self._partial:
            self.records.insert(0, record[size:])
        return record[:size]

    def read_into(self, buffer: memoryview) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def pending(self) -> bool:
        return bool(self.records) if self._tells else self._partial


def engine(*records: bytes, end: Exception | bytes | None = None, tells: bool = True) -> Any:
    """A scripted engine, for a place where a real one is expected."""
    return ScriptedEngine(list(records), end, tells=tells)


def filled(of: Any, size: int) -> tuple[bytes, Rest]:
    """What is in a buffer of *size* bytes, and what is left."""
    buffer = bytearray(size)
    count, rest = fill(of, memoryview(buffer))
    assert not any(buffer[count:])
    return bytes(buffer[:count]), rest


# read_on


def test_read_on_joins_what_there_is() -> None:
    """In its order, until a read would have to wait."""
    assert read_on(engine(b"two", b"three"), b"one") == (b"onetwothree", Rest(False))


def test_read_on_stops_at_a_short_record_with_nothing_behind_it() -> None:
    """It is not asked in vain whether there is more."""
    of = engine(FULL, b"short")
    assert read_on(of, FULL) == (FULL + FULL + b"short", Rest(False))
    assert of.reads == 2


def test_read_on_asks_after_a_full_record() -> None:
    """Where an engine does not know of more, there may be some."""
    of = engine(FULL, FULL, b"short", tells=False)
    assert read_on(of, FULL) == (3 * FULL + b"short", Rest(False))
    of = engine(FULL, tells=False)
    assert read_on(of, FULL) == (2 * FULL, Rest(False))
    assert of.reads == 2


def test_read_on_keeps_an_error_for_later() -> None:
    """What was read before it is handed over first; then another read is due."""
    error = OSError("reset")
    assert read_on(engine(FULL, end=error), b"one") == (b"one" + FULL, Rest(True, error))
    assert read_on(engine(end=error), b"one") == (b"one", Rest(True, error))


def test_read_on_leaves_the_end_to_the_next_read() -> None:
    """Which finds it again."""
    of = engine(FULL, end=b"")
    assert read_on(of, FULL) == (FULL + FULL, Rest(True))
    assert of.read(1) == b""


def test_read_on_is_bounded() -> None:
    """A peer that sends without end does not keep others waiting; it is known that there is more."""
    count = 2 * READ_AT_MOST // RECORD_SIZE
    data, rest = read_on(engine(*[FULL] * count), FULL)
    assert len(data) == READ_AT_MOST
    assert rest == Rest(True)
    # Short records may take it over the bound, by less than one.
    data, rest = read_on(engine(*[FULL[1:]] * count), FULL[1:])
    assert READ_AT_MOST <= len(data) < READ_AT_MOST + RECORD_SIZE
    assert rest == Rest(True)


@given(
    st.lists(st.integers(1, RECORD_SIZE), min_size=1, max_size=40),
    st.sampled_from([None, b"", OSError("reset")]),
    st.booleans(),
)
def test_read_on_loses_nothing(sizes: list[int], end: Exception | bytes | None, tells: bool) -> None:
    """What it returns, and what is read after it, is what was sent, whatever comes at the end."""
    records = [bytes([number]) * size for number, size in enumerate(sizes)]
    of = engine(*records, end=end, tells=tells)
    out, errors = bytearray(), []
    while of.records:
        first = of.read(RECORD_SIZE)
        data, rest = read_on(of, first)
        assert data.startswith(first)
        assert len(data) < READ_AT_MOST + RECORD_SIZE
        out += data
        if rest.error is not None:
            errors.append(rest.error)
        # Nobody tells of what the engine holds already.
        assert rest.readable or not tells or not of.records
    assert out == b"".join(records)
    assert errors == [] or errors == [end]


# fill


def test_fill_takes_several_records() -> None:
    """As many as are there and fit."""
    assert filled(engine(b"one", b"two", b"three"), 100) == (b"onetwothree", Rest(False))


def test_fill_stops_where_the_buffer_ends() -> None:
    """And tells whether there is more in hand."""
    of = engine(b"one", b"two", b"three")
    assert filled(of, 8) == (b"onetwoth", Rest(True))
    assert filled(of, 3) == (b"ree", Rest(False))


def test_fill_stops_at_a_short_record_with_nothing_behind_it() -> None:
    """It is not asked in vain whether there is more."""
    of = engine(b"short")
    assert filled(of, 100) == (b"short", Rest(False))
    assert of.reads == 1


def test_fill_asks_after_a_full_record() -> None:
    """Where an engine does not know of more, there may be some."""
    of = engine(FULL, FULL, b"short", tells=False)
    assert filled(of, 3 * RECORD_SIZE) == (2 * FULL + b"short", Rest(False))
    of = engine(FULL, tells=False)
    assert filled(of, 2 * RECORD_SIZE) == (FULL, Rest(False))
    assert of.reads == 2


def test_fill_tells_the_end() -> None:
    """When it is first; otherwise it is left to the next time."""
    assert filled(engine(end=b""), 100) == (b"", Rest(False))
    of = engine(FULL, end=b"")
    assert filled(of, 2 * RECORD_SIZE) == (FULL, Rest(True))
    assert filled(of, 100) == (b"", Rest(False))


def test_fill_raises_what_the_first_read_raises() -> None:
    """Nothing is in the buffer then."""
    for error in WantRead(), OSError("reset"):
        with pytest.raises(type(error)):
            filled(engine(end=error), 100)


def test_fill_keeps_a_later_error() -> None:
    """What was read before it is in the buffer."""
    error = OSError("reset")
    assert filled(engine(FULL, end=error), 2 * RECORD_SIZE) == (FULL, Rest(True, error))


@given(
    st.lists(st.integers(1, RECORD_SIZE), min_size=1, max_size=20),
    st.lists(st.integers(1, 100_000), min_size=1, max_size=5),
    st.sampled_from([None, b"", OSError("reset")]),
    st.booleans(),
)
def test_fill_loses_nothing(sizes: list[int], room: list[int], end: Exception | bytes | None, tells: bool) -> None:
    """What is in the buffers, one after the other, is what was sent, whatever their sizes."""
    records = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    of = engine(*records, end=end, tells=tells)
    out, turns = bytearray(), 0
    while of.records:
        data, rest = filled(of, room[turns % len(room)])
        turns += 1
        assert data
        out += data
        assert rest.error in (None, end)
        assert rest.readable or not of.pending()
    assert out == b"".join(records)
