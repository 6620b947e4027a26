"""What a caller may give to be sent."""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["BytesLike", "as_bytes_like"]

BytesLike: TypeAlias = "bytes | bytearray | memoryview"


def as_bytes_like(data: BytesLike) -> bytes | memoryview:
    """
    The bytes of *data*, with a length that counts bytes: itself, or a view of its memory, whatever shape that has.

    Raises:
        TypeError: *data* is not bytes-like.
    """
    if type(data) is bytes:
        return data
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
    view = memoryview(data)
    if not view.nbytes:
        return b""
    # Only memory in one piece can be looked at as bytes; a view with steps is copied.
    return view.cast("B") if view.c_contiguous else view.tobytes()
