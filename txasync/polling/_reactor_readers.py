"""Readers that belong to the reactor's own machinery, as the loop's do."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReadDescriptor

__all__ = ["InternalReaders"]


class InternalReaders:
    """
    Adds readers to a reactor as it adds its own waker, where it can: every reactor that is based on Twisted's own.

    An ordinary reader is disconnected at shutdown before the "during shutdown" triggers of users run, when asyncio
    code may still work, and trial calls a reactor that holds one unclean. Twisted has no public name for this
    (``txasync._private``). A reactor of another descent gets ordinary readers.
    """

    def __init__(self, reactor: Any) -> None:
        self._add = getattr(reactor, "_addInternalReader", reactor.addReader)
        self._remove = getattr(reactor, "_removeInternalReader", reactor.removeReader)
        self._readers: set[IReadDescriptor] = set()

    def add(self, reader: IReadDescriptor) -> None:
        """Add *reader*; it stays until it is removed. Once is enough."""
        if reader not in self._readers:
            self._add(reader)
            self._readers.add(reader)

    def remove(self, reader: IReadDescriptor) -> None:
        """Remove *reader*, if it is there."""
        if reader in self._readers:
            self._readers.discard(reader)
            self._remove(reader)
