"""
A run of the reactor that the loop begins and ends.

asyncio loops start and stop many times, ``reactor.stop()`` is for ever; so such a run is ended by ``reactor.crash()``,
which leaves the reactor ready for the next. After somebody's ``reactor.stop()`` the reactor cannot run any more, but
the loop still has work that its owner expects of it (``asyncio.Runner.close()`` cancels tasks and shuts generators
down): then the reactor is iterated by hand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ._signals import InterruptGuard, SignalKeeper

__all__ = ["OwnRun"]


class OwnRun:
    """
    Runs *reactor* for a loop.

    Args:
        reactor: The reactor.
        interrupts: Lets Ctrl-C through to the loop's program.
        signals_changed: Called after the reactor has installed or dropped signal handlers.

    Attributes:
        active: Whether `run` is on the stack.
    """

    def __init__(self, reactor: Any, interrupts: InterruptGuard, signals_changed: Callable[[], None]) -> None:
        self._reactor = reactor
        self._interrupts = interrupts
        self._signals_changed = signals_changed
        self._by_hand = False
        self._keeper: SignalKeeper | None = None
        self.active = False

    def run(self, *, by_hand: bool) -> None:
        """
        Run the reactor until `end`, or somebody's ``reactor.stop()``.

        Args:
            by_hand: Iterate the reactor, because it was stopped before.
        """
        self.active = True
        self._by_hand = by_hand
        try:
            if by_hand:
                self._iterate()
            elif threading.current_thread() is threading.main_thread():
                self._run_with_signals()
            else:
                self._run(install_signal_handlers=False)
        finally:
            self.active = self._by_hand = False

    def end(self) -> None:
        """Let `run` return after the reactor's current iteration."""
        if self._by_hand:
            self._by_hand = False
        else:
            self._reactor.crash()

    def reactor_started(self) -> None:
        """The reactor has installed its signal handlers."""
        if self._keeper is not None:
            self._keeper.give_back()
            # Reactors of GLib install theirs once more after their first turn.
            self._reactor.callLater(0, self._keeper.give_back)

    def _run_with_signals(self) -> None:
        self._interrupts.install()
        self._keeper = SignalKeeper()
        try:
            self._run(install_signal_handlers=True)
        finally:
            self._keeper.give_back_sigchld()
            self._keeper = None
            self._interrupts.uninstall()
            self._signals_changed()

    def _run(self, *, install_signal_handlers: bool) -> None:
        self._reactor.run(installSignalHandlers=install_signal_handlers)

    def _iterate(self) -> None:
        while self._by_hand:
            self._reactor.runUntilCurrent()
            if self._by_hand:
                self._reactor.doIteration(self._reactor.timeout())
