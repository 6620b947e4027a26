"""The water marks, without a loop: when a protocol is to pause, and when to resume."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txasync.transports import WriteFlow


@pytest.mark.parametrize(
    ("given_marks", "marks"),
    [
        ({}, (65536, 16384)),
        ({"high": 100}, (100, 25)),
        ({"low": 10}, (40, 10)),
        ({"high": 7, "low": 7}, (7, 7)),
        ({"high": 0}, (0, 0)),
    ],
)
def test_a_mark_that_is_not_given_follows_from_the_other(given_marks: dict[str, int], marks: tuple[int, int]) -> None:
    """High is four times low, low a quarter of high, and 64 KiB the default."""
    flow = WriteFlow()
    flow.set_marks(**given_marks)
    assert (flow.high, flow.low) == marks


@pytest.mark.parametrize(("high", "low"), [(1, 2), (-1, None), (None, -1), (5, -1)])
def test_marks_that_contradict_each_other_are_refused(high: int | None, low: int | None) -> None:
    """The message says what was got, and the old marks stay."""
    flow = WriteFlow()
    with pytest.raises(ValueError, match=r"high >= low >= 0; got high=.*, low=.*give a low"):
        flow.set_marks(high, low)
    assert (flow.high, flow.low) == (65536, 16384)


@given(st.integers(0, 50), st.integers(0, 50), st.lists(st.integers(0, 100)))
def test_pause_and_resume_come_in_turn_and_at_their_marks(low: int, more: int, sizes: list[int]) -> None:
    """Pausing is due above the high mark, once; resuming at the low mark or below, once, and only after pausing."""
    flow = WriteFlow()
    flow.set_marks(low + more, low)
    paused = False
    for size in sizes:
        assert flow.must_pause(size) == (not paused and size > flow.high)
        paused = paused or size > flow.high
        assert flow.paused == paused
        assert flow.must_resume(size) == (paused and size <= flow.low)
        paused = paused and size > flow.low
        assert flow.paused == paused
