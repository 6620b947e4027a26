"""
How a loop follows its reactor's events: startup, and shutdown in the right order.

Twisted fires each system event in three phases. A "before" trigger may return a Deferred, and the "during" phase waits
for all of them. asyncio's tasks have to be ended after the users' "before shutdown" triggers have *finished* - a
trigger may be waiting for such a task - and before the "during" phase, which disconnects everything and ends the
thread pool. No public name tells when the others have finished, but the list that joins them passes by: it adds its
callbacks to our Deferred as well, and from there we reach the others.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

__all__ = ["ReactorEvents", "ReactorState"]


class ReactorState(enum.Enum):
    """What the reactor can still do for a loop."""

    USABLE = enum.auto()
    ENDING = enum.auto()
    ENDED = enum.auto()


class ReactorEvents:
    """
    Calls back at the events of a reactor, for as long as it is not detached.

    Args:
        reactor: An ``IReactorCore``.
        starting: Before the startup triggers that are added later; each time that the reactor starts.
        started: After the reactor has started.
        shutting_down: When the "before shutdown" triggers of others have finished. The reactor waits for its Deferred.
        stopped: After all shutdown triggers of others.

    Source:
        ``twisted.internet.interfaces.IReactorCore.addSystemEventTrigger``.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        starting: Callable[[], None],
        started: Callable[[], None],
        shutting_down: Callable[[], Deferred[None]],
        stopped: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._starting = starting
        self._started = started
        self._shutting_down = shutting_down
        self._stopped = stopped
        self._triggers: dict[str, Any] = {}
        self._add("before", "startup", self._before_startup)
        self._add("before", "shutdown", self._before_shutdown)
        self._add("after", "shutdown", self._after_shutdown)

    def detach(self) -> None:
        """Call back no more."""
        while self._triggers:
            _, trigger = self._triggers.popitem()
            try:
                self._reactor.removeSystemEventTrigger(trigger)
            except NotImplementedError:
                pass  # Twisted's fake reactors cannot; without its entry here, the trigger does nothing

    def _add(self, phase: str, event: str, trigger: Callable[[], object]) -> None:
        """Add a one-time trigger, as all of Twisted's are, and remember it until it fires."""
        key = trigger.__name__

        def fire() -> object:
            # A trigger that is removed in the phase that has just begun may still come by.
            return trigger() if self._triggers.pop(key, None) is not None else None

        self._triggers[key] = self._reactor.addSystemEventTrigger(phase, event, fire)

    def _before_startup(self) -> None:
        self._add("after", "startup", self._after_startup)
        self._starting()

    def _after_startup(self) -> None:
        self._add("before", "startup", self._before_startup)
        self._started()

    def _before_shutdown(self) -> None:
        # Again, to be called after those that are in the list now, whose Deferreds we are going to need.
        self._add("before", "shutdown", self._last_before_shutdown)

    def _last_before_shutdown(self) -> Deferred[None]:
        return _AfterTheOthers(self._shutting_down)

    def _after_shutdown(self) -> None:
        self._add("after", "shutdown", self._last_after_shutdown)

    def _last_after_shutdown(self) -> None:
        self._stopped()


class _AfterTheOthers(Deferred[None]):
    """A Deferred that joins a DeferredList, waits for the list's other members, then for what *call* returns."""

    def __init__(self, call: Callable[[], Deferred[None]]) -> None:
        super().__init__()
        self._call = call

    def addCallbacks(self, callback: Any, *args: Any, **kwargs: Any) -> Any:
        super().addCallbacks(callback, *args, **kwargs)
        joining: Any = getattr(callback, "__self__", None)
        if type(joining) is DeferredList:
            others = [deferred for deferred in joining._deferredList if deferred is not self]
            DeferredList(others).addCallback(lambda results: self._call()).chainDeferred(self)
        return self
