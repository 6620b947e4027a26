"""
The per-descriptor poller: one small descriptor object in the reactor for each file descriptor.

For a reactor on a platform whose poll objects are no descriptors. Asking the kernel costs time in proportion to the
number of descriptors there, and the reactor a dispatch for every event, as such a platform's reactor itself does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReadWriteDescriptor
from zope.interface import implementer

from ._kernel import READ, WRITE, PollSet
from ._poller import Callback
from ._reactor_readers import InternalReaders
from ._set_poller import SetPoller

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFDSet
    from twisted.python.failure import Failure

__all__ = ["PerDescriptorPoller"]


@implementer(IReadWriteDescriptor)
class _Descriptor:
    """One file descriptor, as the reactor sees it."""

    def __init__(
        self, fd: int, on_event: Callable[[_Descriptor], None], on_loss: Callable[[_Descriptor], None]
    ) -> None:
        self._fd = fd
        self._on_event = on_event
        self._on_loss = on_loss
        self._own_set = PollSet()
        self._shown = 0

    def fileno(self) -> int:
        return self._fd

    def doRead(self) -> None:
        self._on_event(self)

    def doWrite(self) -> None:
        self._on_event(self)

    def logPrefix(self) -> str:
        return "asyncio"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw a hang-up or an error, and has removed us."""
        self._on_loss(self)

    def show(self, interest: int, readers: InternalReaders, reactor: IReactorFDSet) -> None:
        """Be in the reactor with *interest*, and no other."""
        if interest & READ:
            readers.add(self)
        else:
            readers.remove(self)
        if interest & WRITE:
            reactor.addWriter(self)
        else:
            reactor.removeWriter(self)
        self._own_set.watch(self._fd, interest, self._shown)
        self._shown = interest

    def is_ready(self) -> bool:
        """Whether there is still something to do, and it is for us."""
        return bool(self._own_set.ready(0.0))


class PerDescriptorPoller(SetPoller):
    """
    Each descriptor is a reader and a writer of the reactor's own.

    On an ``EPollReactor`` a descriptor that was closed without being removed can make the reactor deaf to the next
    owner of its number (https://github.com/twisted/twisted/issues/6373); `for_reactor` never chooses that pair.

    Args:
        reactor: Any ``IReactorFDSet``.
        on_ready: Called by the reactor when a descriptor is ready.
    """

    def __init__(self, reactor: IReactorFDSet, on_ready: Callable[[], None]) -> None:
        super().__init__(PollSet())
        self._reactor = reactor
        self._on_ready = on_ready
        self._internal_readers = InternalReaders(reactor)
        self._descriptors: dict[int, _Descriptor] = {}
        self._suspended = False

    def set_reader(self, fd: int, callback: Callback) -> None:
        replaces = fd in self._readers
        super().set_reader(fd, callback)
        self._show_anew(fd) if replaces else self._show(fd)

    def set_writer(self, fd: int, callback: Callback) -> None:
        replaces = fd in self._writers
        super().set_writer(fd, callback)
        self._show_anew(fd) if replaces else self._show(fd)

    def _narrow(self, fd: int, interest: int, before: int) -> None:
        super()._narrow(fd, interest, before)
        self._show(fd)

    def _show_anew(self, fd: int) -> None:
        """*fd* may be another file by now, unknown to the reactor: a new descriptor object makes it look."""
        self._hide(fd)
        self._show(fd)

    def _show(self, fd: int) -> None:
        """Let the reactor see the interest in *fd* as it is."""
        interest = self.interest(fd)
        if not interest:
            self._hide(fd)
        elif not self._suspended:
            descriptor = self._descriptors.get(fd)
            if descriptor is None:
                descriptor = self._descriptors[fd] = _Descriptor(fd, self._event, self._loss)
            descriptor.show(interest, self._internal_readers, self._reactor)

    def _hide(self, fd: int) -> None:
        descriptor = self._descriptors.pop(fd, None)
        if descriptor is not None:
            try:
                descriptor.show(0, self._internal_readers, self._reactor)
            except (OSError, KeyError):
                pass  # closed by its owner already: the kernel has forgotten it, and so may have the reactor

    def _event(self, descriptor: _Descriptor) -> None:
        # Of a batch, the first one's visit has served all. And of a number that was closed and used again in it, the
        # reactor tells the new owner what was meant for the old one.
        if descriptor.is_ready():
            self._on_ready()

    def _loss(self, descriptor: _Descriptor) -> None:
        fd = descriptor.fileno()
        if self._descriptors.get(fd) is not descriptor:
            return
        self._event(descriptor)
        if self._descriptors.get(fd) is descriptor:
            # Its owner still wants to be told, although the reactor does not want to tell.
            self._show_again(fd)

    def _show_again(self, fd: int) -> None:
        try:
            self._show_anew(fd)
        except OSError:
            self._hide(fd)  # closed by its owner: nothing is left to watch

    def suspend(self) -> None:
        self._suspended = True
        for fd in list(self._descriptors):
            self._hide(fd)

    def resume(self) -> None:
        self._suspended = False
        for fd in {*self._readers, *self._writers}:
            self._show_again(fd)

    def close(self) -> None:
        self.suspend()
        super().close()
