"""How a reactor on asyncio hears of the ends of Twisted's children without a signal."""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.process import reapAllProcesses, reapProcessHandlers
from zope.interface import implementer

__all__ = ["look_for_children", "reap_at_exit"]

# How often children are looked for where nothing tells of them.
REAP_INTERVAL_S = 0.1

_looked_for: weakref.WeakSet[Any] = weakref.WeakSet()


def reap_at_exit(reactor: Any, host: asyncio.AbstractEventLoop, process: Any) -> None:
    """
    Reap *process* when it has ended.

    Linux has a descriptor for a process, which works on any loop, in any thread, and takes no signal from anybody.

    Args:
        reactor: Runs on *host*.
        host: An asyncio loop.
        process: What ``reactor.spawnProcess`` has returned.
    """
    if reapProcessHandlers.get(process.pid) is not process:
        return  # it has ended, and was reaped
    try:
        reactor.addReader(_ProcessDescriptor(reactor, host, process))
    except (AttributeError, OSError):  # another system, an old or a guarded kernel, or no descriptor is left
        look_for_children(reactor, host)


def look_for_children(reactor: Any, host: asyncio.AbstractEventLoop) -> None:
    """Reap Twisted's children that have ended, now and then, until *reactor*, which runs, is shut down."""
    if reactor in _looked_for:
        return
    _looked_for.add(reactor)
    looking = _Looking(host)
    looking.look()
    reactor.addSystemEventTrigger("during", "shutdown", looking.stop)


@implementer(IReadDescriptor)
class _ProcessDescriptor:
    """What the kernel calls a pidfd: readable when its process has ended."""

    def __init__(self, reactor: Any, host: asyncio.AbstractEventLoop, process: Any) -> None:
        self._fd = os.pidfd_open(process.pid)
        self._pid = process.pid
        self._reactor = reactor
        self._host = host
        self._process = process

    def fileno(self) -> int:
        return self._fd

    def doRead(self) -> None:
        self._reactor.removeReader(self)
        self._close()
        if self._is_unreaped():  # the end of its last pipe makes Twisted look, too
            self._process.reapProcess()
        if self._is_unreaped():
            # A debugger that is attached to the child sees its end before we may.
            look_for_children(self._reactor, self._host)

    def _is_unreaped(self) -> bool:
        return reapProcessHandlers.get(self._pid) is self._process

    def logPrefix(self) -> str:
        return "child processes"

    def connectionLost(self, reason: object) -> None:
        """The reactor was stopped."""
        self._close()

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1


class _Looking:
    """Looks for children by a timer of the host loop."""

    def __init__(self, host: asyncio.AbstractEventLoop) -> None:
        self._host = host

    def look(self) -> None:
        reapAllProcesses()
        self._timer = self._host.call_later(REAP_INTERVAL_S, self.look)

    def stop(self) -> None:
        self._timer.cancel()
