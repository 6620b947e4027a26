"""How much a Twisted transport holds, by what it tells its producer."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.abstract import FileDescriptor

from txasync.adapters._consumer import TWISTED_MARK, HeldBytes


def test_twisteds_mark_is_twisteds() -> None:
    """The number is the one that the installed Twisted has."""
    assert FileDescriptor.bufferSize == TWISTED_MARK


def test_a_pull_producer_knows_what_was_written_since_all_was_sent() -> None:
    """It is asked each time that all was sent."""
    held = HeldBytes(told_of_each_drain=True)
    assert held.size == 0
    held.written += 10
    held.written += 5
    assert held.size == 15
    held.drain()
    assert held.size == 0
    held.written += 3
    assert held.size == 3


def test_a_pull_producer_that_is_told_of_the_mark_keeps_its_own_count() -> None:
    """It knows better."""
    held = HeldBytes(told_of_each_drain=True)
    held.written += 10
    held.exceed_mark()
    assert held.size == 10


def test_a_push_producer_knows_nothing_below_the_mark() -> None:
    """What is written may have been sent at once."""
    held = HeldBytes(told_of_each_drain=False)
    held.written += 10 * TWISTED_MARK
    assert held.size == 0


def test_a_push_producer_knows_of_more_than_the_mark_from_there_on() -> None:
    """Until all was sent; and to be told twice changes nothing."""
    held = HeldBytes(told_of_each_drain=False)
    held.exceed_mark()
    assert held.size == TWISTED_MARK + 1
    held.written += 100
    held.exceed_mark()
    assert held.size == TWISTED_MARK + 101
    held.drain()
    held.written += 100
    assert held.size == 0


class Consumers(RuleBasedStateMachine):
    """A consumer of Twisted's that sends as it likes, and what is known of it."""

    @initialize(pulls=st.booleans())
    def begin(self, pulls: bool) -> None:
        """A producer is registered."""
        self.pulls = pulls
        self.held = HeldBytes(told_of_each_drain=pulls)
        self.buffer = 0
        self.paused = False

    @rule(size=st.integers(1, 100_000))
    def write(self, size: int) -> None:
        """Something is written; a push producer is told if that is too much."""
        self.held.written += size
        self.buffer += size
        if not self.pulls and not self.paused and self.buffer > TWISTED_MARK:
            self.paused = True
            self.held.exceed_mark()

    @precondition(lambda self: self.buffer > 0)
    @rule(data=st.data())
    def send(self, data: Any) -> None:
        """A part of it is sent, or all, which the producer is told if it pulls, or was paused."""
        self.buffer -= data.draw(st.integers(1, self.buffer))
        if not self.buffer and (self.pulls or self.paused):
            self.paused = False
            self.held.drain()

    @invariant()
    def is_never_too_small_where_it_matters(self) -> None:
        """A pull producer always knows enough; a push producer knows whether it is more than the mark."""
        if self.pulls:
            assert self.held.size >= self.buffer
        elif self.paused:
            assert self.held.size > TWISTED_MARK
        else:
            assert self.held.size == 0
            assert self.buffer <= TWISTED_MARK


TestConsumers = Consumers.TestCase
