"""
How much of what was written a Twisted transport holds, by what it tells its producer. No I/O, no reactor, no loop.

A consumer of Twisted's has one mark, and does not say how much it holds. What it says depends on how its producer is
registered, and so does how well asyncio's two marks can be kept:

=========  ====================================  =======================================================
producer   is told                               so the size is
=========  ====================================  =======================================================
pull       each time that all was sent           what was written since then: never too small, and exact
                                                 unless a part of that was sent
push       that there is more than the           0 until it is told, then more than that mark by what is
           transport's mark; that all was sent   written until all was sent
=========  ====================================  =======================================================

A pull producer is told enough to keep any marks, but only the transports of descriptors ask it when they have sent
something; others, TLS among them, ask again and again.
"""

from __future__ import annotations

__all__ = ["TWISTED_MARK", "HeldBytes"]

TWISTED_MARK = 64 * 1024
"""The mark, in bytes, of Twisted's own transports: ``abstract.FileDescriptor.bufferSize``."""


class HeldBytes:
    """
    The size, as far as it is known.

    Args:
        told_of_each_drain: Whether the producer is a pull producer.

    Attributes:
        written: What was written since all was sent, as far as that is known, in bytes. Whoever writes adds to it, and
            looks at `size` where it is much: two calls for each message would cost more than the rest of an adapter.
    """

    __slots__ = ("_counts", "_told_of_each_drain", "written")

    def __init__(self, *, told_of_each_drain: bool) -> None:
        self.written = 0
        self._told_of_each_drain = self._counts = told_of_each_drain

    @property
    def size(self) -> int:
        """The size, in bytes."""
        if not self._counts:
            self.written = 0
        return self.written

    def exceed_mark(self) -> None:
        """The producer is told to pause."""
        if not self._counts:
            self._counts = True
            self.written = TWISTED_MARK + 1

    def drain(self) -> None:
        """The producer is told to resume."""
        self.written = 0
        self._counts = self._told_of_each_drain
