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

from ._drive import Drive
from ._signals import ChildSignals, InterruptGuard

__all__ = ["OwnRun"]


class OwnRun:
    """
    Runs *reactor* for a loop.

    Args:
        reactor: The reactor.
        interrupts: Lets Ctrl-C through to the loop's program.
        drive: Runs the reactor instead of its own main loop, if it can be driven.

    Attributes:
        active: Whether `run` is on the stack.
        was_active: Whether it ever was.
    """

    def __init__(self, reactor: Any, interrupts: InterruptGuard, drive: Drive | None) -> None:
        self._reactor = reactor
        self._drive = drive
        self._interrupts = interrupts
        self._by_hand = False
        self.active = False
        self.was_active = False

    def run(self, *, by_hand: bool) -> None:
        """
        Run the reactor until `end`, or somebody's ``reactor.stop()``.

        Args:
            by_hand: Iterate the reactor, because it was stopped before.
        """
        self.active = self.was_active = True
        self._by_hand = by_hand
        run = self._iterate if by_hand else self._run
        try:
            if threading.current_thread() is threading.main_thread():
                self._with_signals(run)
            else:
                run()
        finally:
            self.active = self._by_hand = False

    def end(self) -> None:
        """Let `run` return after the reactor's current iteration."""
        if self._by_hand:
            self._by_hand = False
        else:
            self._reactor.crash()

    def _with_signals(self, run: Callable[[], None]) -> None:
        try:
            self._interrupts.install()
        except ValueError:
            run()  # embedded Pythons and subinterpreters may have no signals, even in the main thread
            return
        try:
            with ChildSignals(self._reactor):
                run()
        finally:
            self._interrupts.uninstall()

    def _run(self) -> None:
        if self._drive is not None:
            self._drive.run()
        else:
            self._reactor.run(installSignalHandlers=False)

    def _iterate(self) -> None:
        while self._by_hand:
            self._reactor.runUntilCurrent()
            if self._by_hand:
                self._reactor.doIteration(self._reactor.timeout())
