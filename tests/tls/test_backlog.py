"""What waits to be encrypted, without an engine: what is appended comes out, as it was, in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txasync.transports._tls_backlog import LARGEST_WRITE, Backlog

LARGE = st.sampled_from([LARGEST_WRITE - 1, LARGEST_WRITE, LARGEST_WRITE + 1, 2 * LARGEST_WRITE + 7])
CHUNKS = st.lists(st.binary(max_size=50) | LARGE.map(lambda size: b"x" * size), max_size=4)


def test_a_new_one_is_empty() -> None:
    """And false, so that a transport can write past it."""
    backlog = Backlog()
    assert not backlog
    assert backlog.size == 0


def test_it_is_true_while_there_is_something() -> None:
    """A chunk with nothing in it is nothing."""
    backlog = Backlog()
    backlog.append(b"")
    assert not backlog
    backlog.append(b"x")
    assert backlog
    backlog.advance(1)
    assert not backlog


@given(CHUNKS, st.lists(st.integers(1000, LARGEST_WRITE), min_size=1, max_size=10))
def test_what_goes_in_comes_out(chunks: list[bytes], counts: list[int]) -> None:
    """In order, however little of the first piece is taken at a time, and counted all the while."""
    backlog = Backlog()
    for chunk in chunks:
        backlog.append(chunk)
    left = sum(map(len, chunks))
    out = bytearray()
    while backlog:
        assert backlog.size == left
        count = min(counts[len(out) % len(counts)], len(backlog.first))
        out += backlog.first[:count]
        backlog.advance(count)
        left -= count
    assert left == 0
    assert out == b"".join(chunks)


@given(st.lists(st.binary(max_size=9), max_size=4), st.lists(st.binary(max_size=9), max_size=4))
def test_there_may_be_more_while_something_is_taken(early: list[bytes], late: list[bytes]) -> None:
    """It goes behind what there is."""
    backlog = Backlog()
    for chunk in early:
        backlog.append(chunk)
    out = bytearray()
    if backlog:
        out += backlog.first[:1]
        backlog.advance(1)
    for chunk in late:
        backlog.append(chunk)
    while backlog:
        out += backlog.first
        backlog.advance(len(backlog.first))
    assert out == b"".join(early + late)


def test_pieces_are_bounded() -> None:
    """A large chunk comes in several; none of them is empty, and nothing of it is copied."""
    chunk = bytes(2 * LARGEST_WRITE + 1)
    backlog = Backlog()
    backlog.append(chunk)
    sizes = []
    while backlog:
        assert backlog.first.obj is chunk
        sizes.append(len(backlog.first))
        backlog.advance(len(backlog.first))
    assert sizes == [LARGEST_WRITE, LARGEST_WRITE, 1]


def test_a_piece_stays_the_same_until_something_of_it_is_encrypted() -> None:
    """An engine that could not take it must be given the same memory again."""
    backlog = Backlog()
    backlog.append(b"abcdef")
    first = backlog.first
    backlog.append(b"more")
    assert backlog.first is first
    backlog.advance(2)
    assert bytes(backlog.first) == b"cdef"
    assert backlog.first.obj is first.obj
    backlog.advance(0)
    assert bytes(backlog.first) == b"cdef"


class Text(bytes):
    """What subclasses bytes may do as it likes."""


@pytest.mark.parametrize("make", [bytearray, lambda data: memoryview(bytearray(data)), Text])
def test_what_could_change_is_copied(make: type[bytes]) -> None:
    """The writer may go on with its buffer, and release it."""
    data = make(b"before")
    backlog = Backlog()
    backlog.append(data)
    if not isinstance(data, bytes):
        memoryview(data)[:] = b"after!"
    assert bytes(backlog.first) == b"before"
    assert backlog.first.obj is not data
    if isinstance(data, bytearray):
        data.clear()


def test_a_view_of_bytes_is_not_copied() -> None:
    """They do not change."""
    data = b"before and after"
    backlog = Backlog()
    backlog.append(memoryview(data)[7:10])
    assert bytes(backlog.first) == b"and"
    assert backlog.first.obj is data


def test_clear_drops_everything() -> None:
    """As when the connection is lost."""
    backlog = Backlog()
    backlog.append(b"x" * 100)
    backlog.append(b"y")
    backlog.clear()
    assert not backlog
    assert backlog.size == 0
    backlog.append(b"again")
    assert (backlog.size, bytes(backlog.first)) == (5, b"again")
