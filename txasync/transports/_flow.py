"""
Flow control: when a protocol is asked to pause writing, and when to resume. No I/O, no loop.

A protocol is paused once, when the buffer grows past the high-water mark, and resumed once, when it has shrunk to the
low-water mark or below:

=========  =========================  =====================================
state      the buffer holds           next
=========  =========================  =====================================
writing    more than *high* bytes     paused: ``pause_writing()`` is due
paused     at most *low* bytes        writing: ``resume_writing()`` is due
=========  =========================  =====================================
"""

from __future__ import annotations

__all__ = ["DEFAULT_HIGH", "WRITES_DROPPED_IN_SILENCE", "WriteFlow"]

DEFAULT_HIGH = 64 * 1024

# As asyncio: of what is written after the end, dropping is told from this write on.
WRITES_DROPPED_IN_SILENCE = 5


class WriteFlow:
    """
    The water marks of one write buffer, and on which side of them it is.

    Attributes:
        high: High-water mark, in bytes.
        low: Low-water mark, in bytes.
        paused: Whether the protocol was asked to pause, and not yet to resume.
    """

    __slots__ = ("high", "low", "paused")

    def __init__(self) -> None:
        self.paused = False
        self.set_marks()

    def set_marks(self, high: int | None = None, low: int | None = None) -> None:
        """
        Set the marks; see ``asyncio.WriteTransport.set_write_buffer_limits``.

        Raises:
            ValueError: Unless ``high >= low >= 0``.
        """
        if high is None:
            high = DEFAULT_HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(
                f"write buffer limits must satisfy high >= low >= 0; got high={high!r}, low={low!r} (bytes): "
                f"give a low between 0 and high, or leave it out to get a quarter of high"
            )
        self.high = high
        self.low = low

    def must_pause(self, size: int) -> bool:
        """Whether ``pause_writing()`` is due, now that the buffer holds *size* bytes; if so, count it as called."""
        if self.paused or size <= self.high:
            return False
        self.paused = True
        return True

    def must_resume(self, size: int) -> bool:
        """Whether ``resume_writing()`` is due, now that the buffer holds *size* bytes; if so, count it as called."""
        if not self.paused or size > self.low:
            return False
        self.paused = False
        return True
