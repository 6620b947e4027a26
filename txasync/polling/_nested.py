"""
The nested poller: one kernel set of our own, whose descriptor is the only reader that the reactor sees.

An epoll (kqueue) descriptor can itself be polled, so this works on every reactor that watches descriptors, lifts
select's limit of 1024 of them, and costs the reactor one dispatch for a whole batch of events (docs/architecture).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from ._kernel import READ, WRITE, KernelSet, kernel_set_class
from ._poller import Callback, Poller
from ._reactor_readers import InternalReaders

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFDSet
    from twisted.python.failure import Failure

__all__ = ["NestedPoller"]


@implementer(IReadDescriptor)
class _SetDescriptor:
    """The kernel set, as the reactor sees it."""

    def __init__(self, fd: int, on_ready: Callable[[], None]) -> None:
        self._fd = fd
        self._on_ready = on_ready

    def fileno(self) -> int:
        return self._fd

    def doRead(self) -> None:
        self._on_ready()

    def logPrefix(self) -> str:
        return "asyncio"

    def connectionLost(self, reason: Failure) -> None:
        """Nothing: only a reactor that has no internal readers calls this, and then for good, at its end."""


class NestedPoller(Poller):
    """
    All descriptors in one kernel set, nested in the reactor as a single internal reader.

    Args:
        reactor: Any ``IReactorFDSet``.
        on_ready: Called by the reactor when a descriptor is ready.
        kernel_set: The set, which the poller then owns. Default: a new one of the platform's kind.

    Raises:
        NotImplementedError: The platform has no poll object that is a descriptor.
    """

    def __init__(
        self, reactor: IReactorFDSet, on_ready: Callable[[], None], kernel_set: KernelSet | None = None
    ) -> None:
        if kernel_set is None:
            set_class = kernel_set_class()
            if set_class is None:  # pragma: no cover  # neither Linux nor a BSD
                raise NotImplementedError("this platform has neither epoll nor kqueue: use PerDescriptorPoller")
            kernel_set = set_class()
        self._set = kernel_set
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._removed_in_batch: set[int] = set()
        self._closed = False
        self._internal_readers = InternalReaders(reactor)
        self._descriptor = _SetDescriptor(kernel_set.fileno(), on_ready)
        self._internal_readers.add(self._descriptor)

    def set_reader(self, fd: int, callback: Callback) -> None:
        before = self._interest(fd)
        known = self._set.watch(fd, before | READ, before)
        self._readers[fd] = callback
        if not known:
            self.remove_writer(fd)  # it was the closed file's

    def set_writer(self, fd: int, callback: Callback) -> None:
        before = self._interest(fd)
        known = self._set.watch(fd, before | WRITE, before)
        self._writers[fd] = callback
        if not known:
            self.remove_reader(fd)  # it was the closed file's

    def remove_reader(self, fd: int) -> bool:
        if fd not in self._readers:
            return False
        self._narrow(fd, self._interest(fd) & ~READ)
        return True

    def remove_writer(self, fd: int) -> bool:
        if fd not in self._writers:
            return False
        self._narrow(fd, self._interest(fd) & ~WRITE)
        return True

    def _interest(self, fd: int) -> int:
        return (READ if fd in self._readers else 0) | (WRITE if fd in self._writers else 0)

    def _narrow(self, fd: int, interest: int) -> None:
        """Keep no more than *interest* in *fd*, and nothing if its owner has closed it."""
        try:
            self._set.watch(fd, interest, self._interest(fd))
        except OSError:
            interest = 0
        if not interest & READ:
            self._readers.pop(fd, None)
        if not interest & WRITE:
            self._writers.pop(fd, None)
        if not interest:
            self._removed_in_batch.add(fd)

    def poll(self) -> None:
        removed = self._removed_in_batch
        removed.clear()
        readers = self._readers
        writers = self._writers
        for fd, ready in self._set.ready():
            # A number that was removed since the batch was collected may belong to another file by now.
            if ready & READ and fd in readers and fd not in removed:
                readers[fd]()
            if ready & WRITE and fd in writers and fd not in removed:
                writers[fd]()

    def suspend(self) -> None:
        self._internal_readers.remove(self._descriptor)

    def resume(self) -> None:
        self._internal_readers.add(self._descriptor)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._internal_readers.remove(self._descriptor)
        self._readers.clear()
        self._writers.clear()
        self._set.close()
