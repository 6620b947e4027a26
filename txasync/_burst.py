"""How many times to ask a descriptor that is ready, when each answer takes a call and the last one a failing call."""

from __future__ import annotations

__all__ = ["Burst"]

# After so many bursts in which asking for less, or for more, would have been as good, ask so.
BURSTS_BEFORE_A_CHANGE = 16


class Burst:
    """
    A number that follows how much is found.

    The poller is level-triggered: what a burst leaves is told again, at the price of another round, which on a reactor
    is that of several calls. What it asks in vain costs a call that raises ``BlockingIOError``. So a descriptor that
    always has one answer is asked once, and now and then twice, to see whether that has changed; any other until it has
    no more.

    Args:
        largest: The most to ask for in one burst.

    Attributes:
        size: How many times to ask now.
    """

    __slots__ = ("_bursts", "_largest", "size")

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._bursts = 0
        self.size = largest

    def was_full(self) -> None:
        """Every call of the burst found something."""
        if self.size == 1:
            self._bursts += 1
            if self._bursts < BURSTS_BEFORE_A_CHANGE:
                return
            self.size = min(2, self._largest)
        else:
            self.size = self._largest
        self._bursts = 0

    def found_only(self, count: int) -> None:
        """The burst ended after *count*, because there was no more."""
        if count > 1:
            self._bursts = 0
            self.size = self._largest
        elif self.size == 2:
            self.size = 1
        else:
            self._bursts += 1
            if self._bursts >= BURSTS_BEFORE_A_CHANGE:
                self._bursts = 0
                self.size = 1
