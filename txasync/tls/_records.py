"""How many records there are in a stream of TLS. No I/O."""

from __future__ import annotations

__all__ = ["RecordCounter"]

HEADER_SIZE = 5


class RecordCounter:
    """
    Counts the records that are complete.

    Attributes:
        count: How many there are. Whoever takes some out subtracts them.

    Source:
        RFC 8446, section 5.1, "Record Layer": type, version, and two bytes of length, in front of each.
    """

    __slots__ = ("_header", "_missing", "count")

    def __init__(self) -> None:
        self.count = 0
        self._missing = 0
        self._header = b""

    def feed(self, data: bytes) -> None:
        """*data* comes next, which may begin and end anywhere in a record."""
        end = self._missing
        if end > len(data):
            self._missing -= len(data)
            return
        count = 0
        if end:
            count = 1
        elif self._header:
            data = self._header + data
        size = len(data)
        while end + HEADER_SIZE <= size:
            end += HEADER_SIZE + (data[end + 3] << 8 | data[end + 4])
            count += 1
        if end > size:
            count -= 1
            self._missing = end - size
        else:
            self._missing = 0
            self._header = data[end:]
        self.count += count
