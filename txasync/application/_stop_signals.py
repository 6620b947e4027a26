"""SIGTERM and SIGINT under twistd: the first one stops the reactor, the second one does not wait any more."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from .._reactors import stop_was_called
from .._signals import install_handler, is_twisteds

__all__ = ["StopSignals"]

# How long what the second signal aborts has to end.
LAST_MOMENT_S = 1.0


class StopSignals:
    """
    Stands before the handlers that *reactor* has for SIGTERM and SIGINT.

    The first signal goes to the reactor, whose handler calls ``reactor.stop()``. At the second one *hurry* is called;
    if the process has not ended a second later, or at the third, the signal ends it by its default action.

    Args:
        reactor: The reactor, which runs.
        hurry: Called in the reactor's thread.
    """

    replaces_reactors = True
    """Tells `txasync._signals.is_twisteds` that this is what the reactor has, as far as others are concerned."""

    def __init__(self, reactor: Any, hurry: Callable[[], None]) -> None:
        self._reactor = reactor
        self._hurry = hurry
        self._replaced: dict[int, Any] = {}
        self._count = 0

    @property
    def has_come(self) -> bool:
        """Whether a signal has: then the reactor is about to be stopped."""
        return self._count > 0

    def watch(self) -> None:
        """Take the signals whose handlers are the reactor's. May be called again, for reactors that take them back."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in signal.SIGTERM, signal.SIGINT:
            handler = signal.getsignal(signum)
            if handler != self._on_signal and is_twisteds(handler):
                self._replaced[signum] = install_handler(signum, self._on_signal)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count == 1:
            # Not here: Twisted's handler logs, and what it logs in the middle of another message may be lost.
            self._reactor.callFromThread(self._pass_on, signum)
        elif self._count == 2:
            self._reactor.callFromThread(self._end_soon, signum)
        else:
            _die_of(signum)

    def _pass_on(self, signum: int) -> None:
        # What has stopped cannot be stopped again; Twisted would log that as an error.
        if not stop_was_called(self._reactor):
            self._replaced[signum](signum, None)

    def _end_soon(self, signum: int) -> None:
        self._reactor.callLater(LAST_MOMENT_S, _die_of, signum)
        self._hurry()


def _die_of(signum: int) -> None:
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
