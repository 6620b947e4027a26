"""Time limits that are hardly ever reached."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Hashable

from ._services import LoopServices

__all__ = ["TimeLimits"]


class TimeLimits:
    """
    Time limits of one length: one timer of the loop's serves all that are running.

    A timer for each would be set and cancelled with each connection, which is a fiftieth of a TLS handshake.

    Args:
        services: The loop.
        seconds: The length.

    Attributes:
        seconds: As given.
    """

    __slots__ = ("_running", "_services", "_timer", "seconds")

    def __init__(self, services: LoopServices, seconds: float) -> None:
        self._services = services
        self.seconds = seconds
        # In the order of their ends, which is that of their beginnings.
        self._running: dict[Hashable, tuple[float, Callable[[], object], contextvars.Context]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, owner: Hashable, reached: Callable[[], object]) -> None:
        """Call *reached* in *seconds*, in the current context, unless *owner*'s limit ends before."""
        services = self._services
        self._running[owner] = services.time() + self.seconds, reached, contextvars.copy_context()
        if self._timer is None:
            self._timer = services.call_later(self.seconds, self._look)

    def end(self, owner: Hashable) -> None:
        """*owner*, whose limit may be running, need not be told any more."""
        running = self._running
        if running.pop(owner, None) is not None and not running and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        services = self._services
        now = services.time()
        for owner, (end, reached, context) in list(self._running.items()):
            if end > now:
                self._timer = services.call_later(end - now, self._look)
                break
            del self._running[owner]
            services.call_soon(reached, context=context)
