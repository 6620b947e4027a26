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

from ._kernel import NestableSet, nestable_set_class
from ._poller import Callback
from ._reactor_readers import InternalReaders
from ._set_poller import SetPoller

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


class NestedPoller(SetPoller):
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
        self, reactor: IReactorFDSet, on_ready: Callable[[], None], kernel_set: NestableSet | None = None
    ) -> None:
        if kernel_set is None:
            set_class = nestable_set_class()
            if set_class is None:  # pragma: no cover  # neither Linux nor a BSD
                raise NotImplementedError("this platform has neither epoll nor kqueue: use PerDescriptorPoller")
            kernel_set = set_class()
        super().__init__(kernel_set)
        self._internal_readers = InternalReaders(reactor)
        self._descriptor = _SetDescriptor(kernel_set.fileno(), on_ready)
        self._internal_readers.add(self._descriptor)

    def host(self, fd: int, callback: Callback) -> None:
        """
        Change places with the reactor: its poll object is watched here, ours is no longer watched there.

        Args:
            fd: The descriptor of the reactor's poll object.
            callback: Called when something is ready in the reactor.
        """
        self._internal_readers.remove(self._descriptor)
        self.set_reader(fd, callback)

    def unhost(self, fd: int) -> None:
        """Undo `host`."""
        self.remove_reader(fd)
        self._internal_readers.add(self._descriptor)

    def suspend(self) -> None:
        self._internal_readers.remove(self._descriptor)

    def resume(self) -> None:
        self._internal_readers.add(self._descriptor)

    def close(self) -> None:
        self.suspend()
        super().close()
