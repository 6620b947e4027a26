"""What was written by TLS and cannot be sent yet, before it is encrypted."""

from __future__ import annotations

import collections

__all__ = ["LARGEST_WRITE", "Backlog"]

# What cannot be sent is counted, and tried again, in pieces of this size.
LARGEST_WRITE = 256 * 1024


class Backlog:
    """
    Pieces of bytes, in the order in which they were written.

    An engine that could not encrypt a piece must be given the same again: so they do not change, and only the first one
    gets shorter, by what was encrypted of it.

    Attributes:
        size: How many bytes there are.
    """

    __slots__ = ("_pieces", "size")

    def __init__(self) -> None:
        self._pieces: collections.deque[memoryview] = collections.deque()
        self.size = 0

    def __bool__(self) -> bool:
        return self.size > 0

    @property
    def first(self) -> memoryview:
        """The piece to be encrypted next."""
        return self._pieces[0]

    def append(self, chunk: bytes | memoryview) -> None:
        """Put *chunk* behind what there is; it is copied if it could change."""
        view = memoryview(chunk)
        if type(view.obj) is not bytes:
            view = memoryview(bytes(view))
        for start in range(0, len(view), LARGEST_WRITE):
            self._pieces.append(view[start : start + LARGEST_WRITE])
        self.size += len(view)

    def advance(self, count: int) -> None:
        """So many bytes of the first piece have been encrypted."""
        first = self._pieces.popleft()
        if count < len(first):
            self._pieces.appendleft(first[count:])
        self.size -= count

    def clear(self) -> None:
        """Drop everything."""
        self._pieces.clear()
        self.size = 0
