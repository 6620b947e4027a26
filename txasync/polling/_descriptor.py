"""
The per-descriptor poller: one small descriptor object in the reactor for each file descriptor.

For a reactor on a platform whose poll objects are no descriptors. It needs no kernel object of its own, and costs the
reactor a dispatch for every event.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReadWriteDescriptor
from zope.interface import implementer

from ._kernel import READ, WRITE
from ._poller import Callback, Poller
from ._reactor_readers import InternalReaders

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFDSet
    from twisted.python.failure import Failure

__all__ = ["PerDescriptorPoller"]

# The reactor has removed the descriptor; both directions are told.
LOST = READ | WRITE | 4


@implementer(IReadWriteDescriptor)
class _Descriptor:
    """One file descriptor, as the reactor sees it. It only notes what is ready; `PerDescriptorPoller.poll` acts."""

    def __init__(self, fd: int, note: Callable[[_Descriptor, int], None]) -> None:
        self._fd = fd
        self._note = note
        self.reader: Callback | None = None
        self.writer: Callback | None = None
        self._proven = False

    def fileno(self) -> int:
        return self._fd

    def doRead(self) -> None:
        self._note(self, READ)

    def doWrite(self) -> None:
        self._note(self, WRITE)

    def logPrefix(self) -> str:
        return "asyncio"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw a hang-up or an error, and has removed us: both directions learn it by their next call."""
        self._note(self, LOST)

    def is_really_ready(self) -> bool:
        """
        Whether the first event that is told of us is ours.

        The reactor may have collected it for the last owner of our number before that was closed, in the batch in
        which we were made. No later event can be.
        """
        if not self._proven:
            self._proven = True
            poll = select.poll()
            poll.register(self._fd, (select.POLLIN if self.reader else 0) | (select.POLLOUT if self.writer else 0))
            return bool(poll.poll(0))
        return True


class PerDescriptorPoller(Poller):
    """
    Each descriptor is a reader and a writer of the reactor's own.

    On an ``EPollReactor`` a descriptor that was closed without being removed can make the reactor deaf to the next
    owner of its number (https://github.com/twisted/twisted/issues/6373); `for_reactor` never chooses that pair.

    Args:
        reactor: Any ``IReactorFDSet``.
        on_ready: Called by the reactor when a descriptor is ready, once for each.
    """

    def __init__(self, reactor: IReactorFDSet, on_ready: Callable[[], None]) -> None:
        self._reactor = reactor
        self._internal_readers = InternalReaders(reactor)
        self._on_ready = on_ready
        self._descriptors: dict[int, _Descriptor] = {}
        self._noted: dict[_Descriptor, int] = {}
        self._suspended = False

    def set_reader(self, fd: int, callback: Callback) -> None:
        descriptor = self._fresh(fd, READ)
        descriptor.reader = callback
        self._show(descriptor)

    def set_writer(self, fd: int, callback: Callback) -> None:
        descriptor = self._fresh(fd, WRITE)
        descriptor.writer = callback
        self._show(descriptor)

    def _fresh(self, fd: int, direction: int) -> _Descriptor:
        """
        The descriptor object of *fd*, to get a callable for *direction*.

        It is a new one if there was such a callable already, which may mean that *fd* is another file by now.
        """
        old = self._descriptors.get(fd)
        if old is not None and (old.reader if direction == READ else old.writer) is None:
            return old
        descriptor = _Descriptor(fd, self._note)
        if old is not None:
            self._hide(old)
            self._noted.pop(old, None)
            descriptor.reader, descriptor.writer = old.reader, old.writer
        self._descriptors[fd] = descriptor
        return descriptor

    def remove_reader(self, fd: int) -> bool:
        descriptor = self._descriptors.get(fd)
        if descriptor is None or descriptor.reader is None:
            return False
        descriptor.reader = None
        self._hide_reader(descriptor)
        self._forget_if_idle(fd, descriptor)
        return True

    def remove_writer(self, fd: int) -> bool:
        descriptor = self._descriptors.get(fd)
        if descriptor is None or descriptor.writer is None:
            return False
        descriptor.writer = None
        self._hide_writer(descriptor)
        self._forget_if_idle(fd, descriptor)
        return True

    def _forget_if_idle(self, fd: int, descriptor: _Descriptor) -> None:
        if descriptor.reader is None and descriptor.writer is None:
            del self._descriptors[fd]
            self._noted.pop(descriptor, None)

    def _show(self, descriptor: _Descriptor) -> None:
        if self._suspended:
            return
        try:
            if descriptor.reader is not None:
                self._internal_readers.add(descriptor)
            if descriptor.writer is not None:
                self._reactor.addWriter(descriptor)
        except OSError:
            self._hide(descriptor)
            self._descriptors.pop(descriptor.fileno(), None)
            raise

    def _hide(self, descriptor: _Descriptor) -> None:
        self._hide_reader(descriptor)
        self._hide_writer(descriptor)

    def _hide_reader(self, descriptor: _Descriptor) -> None:
        try:
            self._internal_readers.remove(descriptor)
        except OSError:
            pass  # closed by its owner already: the kernel has forgotten it

    def _hide_writer(self, descriptor: _Descriptor) -> None:
        try:
            self._reactor.removeWriter(descriptor)
        except OSError:
            pass  # as above

    def _note(self, descriptor: _Descriptor, ready: int) -> None:
        if not self._is_watched(descriptor):
            return
        if descriptor.is_really_ready():
            self._noted[descriptor] = self._noted.get(descriptor, 0) | ready
            self._on_ready()
        elif ready == LOST:
            self._show_again(descriptor)

    def poll(self) -> None:
        noted, self._noted = self._noted, {}
        for descriptor, ready in noted.items():
            if ready & READ and self._is_watched(descriptor) and descriptor.reader is not None:
                descriptor.reader()
            if ready & WRITE and self._is_watched(descriptor) and descriptor.writer is not None:
                descriptor.writer()
            if ready & LOST == LOST and self._is_watched(descriptor):
                self._show_again(descriptor)

    def _is_watched(self, descriptor: _Descriptor) -> bool:
        return self._descriptors.get(descriptor.fileno()) is descriptor

    def _show_again(self, descriptor: _Descriptor) -> None:
        """After a hang-up the reactor has dropped *descriptor*; while its owner keeps it, it is told again."""
        self._hide(descriptor)
        try:
            os.fstat(descriptor.fileno())
            self._show(descriptor)
        except OSError:
            self._descriptors.pop(descriptor.fileno(), None)  # closed by its owner: nothing is left to watch

    def suspend(self) -> None:
        self._suspended = True
        for descriptor in self._descriptors.values():
            self._hide(descriptor)

    def resume(self) -> None:
        self._suspended = False
        for descriptor in list(self._descriptors.values()):
            self._show(descriptor)

    def close(self) -> None:
        for descriptor in self._descriptors.values():
            self._hide(descriptor)
        self._descriptors.clear()
        self._noted.clear()
