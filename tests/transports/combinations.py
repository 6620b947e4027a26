"""
Five of the fourteen ways to run a loop: each reactor, each poller, each mode.

What a transport does depends on its poller, whose own tests run on all of them, and on little else.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["COMBINATIONS", "Combination"]


class Combination(NamedTuple):
    """One way to run a loop."""

    reactor: str
    poller: str
    mode: str


COMBINATIONS = (
    Combination("epoll", "own", "asyncio-first"),
    Combination("epoll", "own", "reactor-first"),
    Combination("poll", "per-descriptor", "reactor-first"),
    Combination("select", "own", "asyncio-first"),
    Combination("txasync", "own", "reactor-first"),
)
