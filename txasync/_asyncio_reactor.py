"""What an AsyncioSelectorReactor needs so that both sides of it hear of their children."""

from __future__ import annotations

import asyncio
import signal
import threading
import weakref
from typing import Any

from twisted.internet.process import reapAllProcesses

from ._signals import install_handler, is_twisteds

__all__ = ["share_child_exits"]

# How often children are looked for where no signal tells of them.
REAP_INTERVAL_S = 0.1

_shared: weakref.WeakSet[Any] = weakref.WeakSet()


def share_child_exits(reactor: Any, host: asyncio.AbstractEventLoop) -> None:
    """
    Keep ``reactor.spawnProcess`` hearing of exits whatever the host loop does with signals.

    asyncio's own ``add_signal_handler`` takes ``signal.set_wakeup_fd``, by which Twisted hears of SIGCHLD, and does not
    give it back. A handler in Python works with either owner, so one is put in place of Twisted's, which does nothing.
    uvloop takes SIGCHLD itself, below Python, with its first child; over it, children are looked for now and then.

    Context:
        The reactor's thread; before or after the reactor has started, any number of times.
    """
    if reactor in _shared:
        return
    _shared.add(reactor)
    reactor.callWhenRunning(_handle_sigchld, reactor)
    if not isinstance(host, asyncio.SelectorEventLoop):
        reactor.callWhenRunning(_look_for_children, reactor, host)


def _handle_sigchld(reactor: Any) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # no signals here, and so none of Twisted's either
    if not is_twisteds(signal.getsignal(signal.SIGCHLD)):
        return  # the reactor does not handle signals, or somebody else has them: that is theirs to share

    def reap(signum: int, frame: object) -> None:
        reactor.callFromThread(reapAllProcesses)

    install_handler(signal.SIGCHLD, reap)


def _look_for_children(reactor: Any, host: asyncio.AbstractEventLoop) -> None:
    looking = _Looking(host)
    looking.look()
    reactor.addSystemEventTrigger("during", "shutdown", looking.stop)


class _Looking:
    """Reaps Twisted's children that have ended, now and then, by a timer of the host loop."""

    def __init__(self, host: asyncio.AbstractEventLoop) -> None:
        self._host = host

    def look(self) -> None:
        reapAllProcesses()
        self._timer = self._host.call_later(REAP_INTERVAL_S, self.look)

    def stop(self) -> None:
        self._timer.cancel()
