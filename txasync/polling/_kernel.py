"""
The kernel's own ways to ask for readiness, behind one small interface: epoll and kqueue, which are descriptors
themselves and so can be nested in another poller, and poll, which every platform has.
"""

from __future__ import annotations

import abc
import errno
import os
import select
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["READ", "WRITE", "KernelSet", "NestableSet", "PollSet", "nestable_set_class"]

READ = 1
WRITE = 2

# Events taken from a kqueue at once. What is ready beyond them comes first next time.
BATCH = 512


class KernelSet(abc.ABC):
    """
    A set of descriptors with an interest (READ, WRITE or both) in each.

    Attributes:
        reads: The bits of an event that concern the reader of its descriptor.
        writes: The bits of an event that concern the writer. An error or a hang-up concerns both, as in the standard
            library's selectors.
        data: The event of a descriptor that is readable, and nothing else.
        most_at_once: How many descriptors `ready` returns at most. Those that are left come first next time.
        ready: Called with a number of seconds to wait at most (None: for ever), returns what is ready, as pairs of fd
            and event.
    """

    reads: int
    writes: int
    data: int
    most_at_once: int
    ready: Callable[[float | None], list[tuple[int, int]]]

    @abc.abstractmethod
    def watch(self, fd: int, interest: int, before: int) -> bool:
        """
        Change the interest in *fd* from *before* (0: not in the set) to *interest* (0: take it out).

        Returns:
            False if the set had lost *fd*, because its owner closed it; what has its number now is added afresh.

        Raises:
            OSError: The kernel refuses *fd*. Never when *interest* is 0.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Give back what the set owns."""


class NestableSet(KernelSet):
    """A set that is a descriptor itself."""

    @abc.abstractmethod
    def fileno(self) -> int:
        """The descriptor, which is readable while anything in the set is ready."""


class PollSet(KernelSet):
    """poll(2)."""

    reads = ~select.POLLOUT
    writes = ~select.POLLIN
    data = select.POLLIN
    most_at_once = sys.maxsize

    def __init__(self) -> None:
        self._poll = select.poll()
        self.ready = self._ready

    def watch(self, fd: int, interest: int, before: int) -> bool:
        if not interest:
            try:
                self._poll.unregister(fd)
            except KeyError:
                return False
            return True
        os.fstat(fd)  # poll itself would take a closed one
        self._poll.register(fd, (select.POLLIN if interest & READ else 0) | (select.POLLOUT if interest & WRITE else 0))
        return True

    def _ready(self, timeout_s: float | None) -> list[tuple[int, int]]:
        found = []
        for fd, event in self._poll.poll(None if timeout_s is None else timeout_s * 1000):
            if event & select.POLLNVAL:
                self._poll.unregister(fd)  # closed by its owner: epoll would have forgotten it by itself
            else:
                found.append((fd, event))
        return found

    def close(self) -> None:
        """Nothing: poll keeps nothing in the kernel."""


if sys.platform == "linux":

    class EpollSet(NestableSet):
        """
        epoll(7).

        Args:
            epoll: What the set is to own. Default: a new ``select.epoll``.
        """

        reads = ~select.EPOLLOUT
        writes = ~select.EPOLLIN
        data = select.EPOLLIN
        # What epoll.poll() asks for unless it is told a number.
        most_at_once = 1023
        _EVENTS = (0, select.EPOLLIN, select.EPOLLOUT, select.EPOLLIN | select.EPOLLOUT)

        def __init__(self, epoll: Any = None) -> None:
            self._epoll = select.epoll() if epoll is None else epoll
            self.ready = self._epoll.poll

        def fileno(self) -> int:
            return self._epoll.fileno()

        def watch(self, fd: int, interest: int, before: int) -> bool:
            try:
                if not interest:
                    self._epoll.unregister(fd)
                elif before:
                    self._epoll.modify(fd, self._EVENTS[interest])
                else:
                    self._epoll.register(fd, self._EVENTS[interest])
            except FileNotFoundError:
                if interest:
                    self._epoll.register(fd, self._EVENTS[interest])
                return False
            return True

        def close(self) -> None:
            self._epoll.close()


# No machine of ours has kqueue.
if sys.platform != "linux" and sys.platform != "win32" and hasattr(select, "kqueue"):  # pragma: no cover

    class KqueueSet(NestableSet):
        """kqueue(2), as on the BSDs and macOS. Written by its documentation and untested."""

        reads = READ
        writes = WRITE
        data = READ
        most_at_once = BATCH

        def __init__(self) -> None:
            self._kqueue = select.kqueue()
            self.ready = self._ready

        def fileno(self) -> int:
            return self._kqueue.fileno()

        def watch(self, fd: int, interest: int, before: int) -> bool:
            # A filter that is added again replaces the old one, so a reused number needs no care here.
            for bit, name in ((READ, select.KQ_FILTER_READ), (WRITE, select.KQ_FILTER_WRITE)):
                if interest & bit:
                    self._kqueue.control([select.kevent(fd, name, select.KQ_EV_ADD)], 0, 0)
                elif before & bit:
                    try:
                        self._kqueue.control([select.kevent(fd, name, select.KQ_EV_DELETE)], 0, 0)
                    except OSError as error:
                        if error.errno not in (errno.ENOENT, errno.EBADF):
                            raise
            return True

        def _ready(self, timeout_s: float | None) -> list[tuple[int, int]]:
            found: dict[int, int] = {}
            for event in self._kqueue.control(None, BATCH, timeout_s):
                bit = READ if event.filter == select.KQ_FILTER_READ else WRITE
                found[event.ident] = found.get(event.ident, 0) | bit
            return list(found.items())

        def close(self) -> None:
            self._kqueue.close()


def nestable_set_class() -> type[NestableSet] | None:
    """The platform's set that is a descriptor, or None where it has none."""
    if sys.platform == "linux":
        return EpollSet
    elif sys.platform != "win32" and hasattr(select, "kqueue"):  # pragma: no cover  # no machine of ours has kqueue
        return KqueueSet
    else:  # pragma: no cover  # neither Linux nor a BSD
        return None
