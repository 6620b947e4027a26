"""Reading several records of an engine in one go. No I/O of its own, no loop."""

from __future__ import annotations

from typing import NamedTuple

from ..tls import Engine

__all__ = ["READ_AT_MOST", "RECORD_SIZE", "Rest", "fill", "read_on"]

# The most that a TLS record holds, and so the most that one read returns.
RECORD_SIZE = 16 * 1024

# What is received is handed over in pieces of this size, or a little more.
READ_AT_MOST = 256 * 1024


class Rest(NamedTuple):
    """
    What a batch has left behind.

    Attributes:
        readable: Whether another read is due, which no byte of the peer's may announce.
        error: What the next read would have raised, had it not been made already.
    """

    readable: bool
    error: Exception | None = None


NOTHING = Rest(False)
SOMETHING = Rest(True)


def read_on(engine: Engine, first: bytes) -> tuple[bytes, Rest]:
    """
    What there is to read behind *first*, a record that was read, up to a bound.

    Returns:
        *first* and what is behind it, and what is left.
    """
    chunks = [first]
    size = len(first)
    while size < READ_AT_MOST:
        try:
            chunk = engine.read(RECORD_SIZE)
        except engine.want_read:
            return b"".join(chunks), NOTHING
        except Exception as error:
            return b"".join(chunks), Rest(True, error)
        if not chunk:
            break  # the end, which the next read finds again
        chunks.append(chunk)
        size += len(chunk)
        if len(chunk) < RECORD_SIZE and not engine.pending():
            return b"".join(chunks), NOTHING
    return b"".join(chunks), SOMETHING


def fill(engine: Engine, buffer: memoryview) -> tuple[int, Rest]:
    """
    Fill *buffer* as far as there is something to read.

    Returns:
        How many bytes are in it, 0 at the end of the peer's, and what is left.

    Raises:
        Exception: What the first read raises.
    """
    received = engine.read_into(buffer)
    if not received:
        return 0, NOTHING
    while received < len(buffer):
        if received % RECORD_SIZE and not engine.pending():
            return received, NOTHING
        try:
            more = engine.read_into(buffer[received:])
        except engine.want_read:
            return received, NOTHING
        except Exception as error:
            return received, Rest(True, error)
        if not more:
            return received, SOMETHING
        received += more
    return received, Rest(bool(engine.pending()))
