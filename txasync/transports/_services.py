"""What a transport may ask of its loop: a few callables, and nothing else."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sized
from typing import Any

from ..polling import Poller

__all__ = ["LoopServices"]


@dataclasses.dataclass(frozen=True, slots=True)
class LoopServices:
    """
    One for each loop; its transports share it.

    Attributes:
        poller: Tells which descriptors are ready.
        call_soon: As the loop's.
        call_soon_threadsafe: As the loop's.
        call_later: As the loop's.
        time: As the loop's.
        create_future: As the loop's.
        call_exception_handler: As the loop's.
        get_debug: As the loop's.
        is_closed: As the loop's.
        ready: The loop's queue: true while a callback waits for its turn.
    """

    poller: Poller
    call_soon: Callable[..., asyncio.Handle]
    call_soon_threadsafe: Callable[..., asyncio.Handle]
    call_later: Callable[..., asyncio.TimerHandle]
    time: Callable[[], float]
    create_future: Callable[[], asyncio.Future[Any]]
    call_exception_handler: Callable[[dict[str, Any]], None]
    get_debug: Callable[[], bool]
    is_closed: Callable[[], bool]
    ready: Sized
