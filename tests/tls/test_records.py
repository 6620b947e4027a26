"""Records are counted: those of a script, and those of OpenSSL's that an engine gets, however they are cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from txasync.tls import Engine
from txasync.tls._records import HEADER_SIZE, RecordCounter

from .contexts import client_context, server_context
from .engine_pairs import Pair, at_most_1_2, pair, pair_of, read_all

HANDSHAKE, DATA = 22, 23
LONGEST = 0xFFFF
"""What the header can say, which is more than TLS allows; to say so is not the counter's business."""


def record(content: bytes, kind: int = DATA) -> bytes:
    """A record with *content*."""
    return bytes((kind, 3, 3)) + len(content).to_bytes(2, "big") + content


def complete(stream: bytes) -> int:
    """How many records are complete in *stream*, looked at as a whole."""
    count = 0
    while len(stream) >= HEADER_SIZE and len(stream) >= (size := HEADER_SIZE + int.from_bytes(stream[3:5], "big")):
        stream = stream[size:]
        count += 1
    return count


def pieces_of(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    """*stream* in pieces, which end at *cuts*, counted again from its beginning at its end; some may be empty."""
    ends = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(ends)]


def fed(*pieces: bytes) -> RecordCounter:
    """A counter that has got *pieces*."""
    counter = RecordCounter()
    for piece in pieces:
        counter.feed(piece)
    return counter


# Small ones, so that many a cut is in a header, and such whose content is itself full of headers.
records = st.builds(
    record,
    st.binary(max_size=12) | st.lists(st.binary(max_size=3).map(record), max_size=4).map(b"".join),
    st.sampled_from((HANDSHAKE, DATA)),
)
streams = st.lists(records, max_size=8).map(b"".join)
cuts = st.lists(st.integers(0, 1 << 20), max_size=12)


@given(streams, st.binary(max_size=40), cuts)
@example(record(b""), b"", [])
@example(record(b"") * 3, b"", range(16))
@example(record(b"x" * LONGEST), record(b"x" * LONGEST)[:-1], [3, 4, 5, HEADER_SIZE + LONGEST])
def test_however_records_are_cut_those_that_are_complete_are_counted(
    stream: bytes, rest: bytes, cuts: Iterable[int]
) -> None:
    """After each piece the count is what one would find in all that has come so far, whatever comes next."""
    counter, seen = RecordCounter(), b""
    for piece in pieces_of(stream + rest, cuts):
        counter.feed(piece)
        seen += piece
        assert counter.count == complete(seen)


@given(streams, cuts, st.lists(st.booleans(), max_size=13))
def test_what_is_taken_out_is_not_counted_again(stream: bytes, cuts: list[int], takes: list[bool]) -> None:
    """Whoever takes records out subtracts them, at any time, and the count is that of the others."""
    counter, seen, taken = RecordCounter(), b"", 0
    for piece, take in zip(pieces_of(stream, cuts), itertools.chain(takes, itertools.repeat(True)), strict=False):
        counter.feed(piece)
        seen += piece
        if take:
            taken += counter.count
            counter.count = 0
        assert counter.count == complete(seen) - taken


def test_nothing_is_no_record() -> None:
    """Not at the beginning, not within a header, and not within a record or behind it."""
    assert fed().count == fed(b"").count == 0
    whole = record(b"some")
    for cut in range(len(whole) + 1):
        assert fed(whole[:cut], b"", whole[cut:], b"").count == 1


@pytest.mark.parametrize("size", [0, 1, 255, 256, 16 * 1024, 16 * 1024 + 256, LONGEST])
def test_a_record_is_as_long_as_its_header_says(size: int) -> None:
    """Two bytes, the first of which counts for more: a record is complete with its last byte, and not before."""
    whole = record(bytes(size))
    assert fed(whole).count == fed(whole[:HEADER_SIZE], whole[HEADER_SIZE:]).count == 1
    assert fed(whole[:-1]).count == 0
    assert fed(whole[:-1], whole[-1:]).count == 1
    assert fed(whole, whole[:-1]).count == 1


def test_a_piece_may_end_one_record_and_begin_another() -> None:
    """What is behind the end of a record is a header again, or a part of one."""
    first, second = record(b"first"), record(b"second")
    for cut, further in itertools.product(range(1, len(first)), range(len(second))):
        counter = fed(first[:cut], first[cut:] + second[:further])
        assert counter.count == 1
        counter.feed(second[further:])
        assert counter.count == 2


# Of OpenSSL's

LARGEST_RECORD = 16 * 1024
sizes = st.lists(st.integers(1, 50_000), max_size=4)


def of_tls_1_2() -> Pair:
    """Engines after a handshake by TLS 1.2."""
    client = client_context("context")
    at_most_1_2(client)
    return pair(client, server_context("context")).shake_hands()


def of_tls_1_3() -> Pair:
    """Engines after a handshake by TLS 1.3."""
    return pair_of("context", "context")


def written(engine: Engine, sizes: list[int]) -> bytes:
    """What *engine* has to send when messages of these sizes are written."""
    assert engine.wire is not None
    for size in sizes:
        while size:
            size -= engine.write(b"x" * size)
    return engine.wire.take()


@pytest.mark.parametrize("make", [of_tls_1_2, of_tls_1_3])
@given(sizes, cuts)
def test_the_records_of_openssl_are_counted(make: Callable[[], Pair], sizes: list[int], cuts: list[int]) -> None:
    """There is one for each 16 KiB of a message, and one for what is left of it."""
    stream = written(make().client, sizes)
    assert fed(*pieces_of(stream, cuts)).count == sum(-(-size // LARGEST_RECORD) for size in sizes)


@pytest.mark.parametrize("make", [of_tls_1_2, of_tls_1_3])
@given(sizes, cuts, st.lists(st.booleans(), max_size=13))
def test_an_engine_says_that_there_is_something_to_read_when_there_is(
    make: Callable[[], Pair], sizes: list[int], cuts: list[int], reads: list[bool]
) -> None:
    """However its records are cut, and whether all that has come is read at once, or later."""
    both = make()
    assert both.server.wire is not None
    assert not read_all(both.server) and not both.server.pending()
    stream = written(both.client, sizes)
    received, seen, counted = 0, b"", 0
    for piece, is_read_now in zip(
        pieces_of(stream, cuts), itertools.chain(reads, itertools.repeat(True)), strict=False
    ):
        both.server.wire.feed(piece)
        seen += piece
        assert both.server.pending() == (complete(seen) > counted)
        if is_read_now:
            received += len(read_all(both.server))
            counted = complete(seen)
            assert not both.server.pending()
    assert received + len(read_all(both.server)) == sum(sizes)
