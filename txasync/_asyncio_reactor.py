"""What an AsyncioSelectorReactor needs so that both sides of it hear of their children."""

from __future__ import annotations

import signal
import threading
from typing import Any

__all__ = ["share_child_exits"]


def share_child_exits(reactor: Any) -> None:
    """
    Keep ``reactor.spawnProcess`` hearing of exits after the host loop's ``add_signal_handler``.

    The host loop takes ``signal.set_wakeup_fd``, by which Twisted hears of SIGCHLD, and does not give it back. A
    handler in Python works with either owner, so one is put in place of Twisted's, which does nothing.

    Context:
        The reactor's thread; before or after the reactor has started, any number of times.
    """
    reactor.callWhenRunning(_handle_sigchld, reactor)


def _handle_sigchld(reactor: Any) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # no signals here, and so none of Twisted's either
    current = signal.getsignal(signal.SIGCHLD)
    if getattr(current, "__module__", None) != "twisted.internet._signals":
        return  # the reactor does not handle signals, or somebody else has them: that is theirs to share

    def reap(signum: int, frame: object) -> None:
        reactor.callFromThread(_reap_all_processes)

    signal.signal(signal.SIGCHLD, reap)
    signal.siginterrupt(signal.SIGCHLD, False)


def _reap_all_processes() -> None:
    from twisted.internet.process import reapAllProcesses

    reapAllProcesses()
