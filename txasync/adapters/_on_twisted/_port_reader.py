"""What reads for a connected port of Twisted's, so that an error of its socket is not the port's end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["PortReader"]


@implementer(IReadDescriptor)
class PortReader:
    """
    Takes *port*'s place among the readers of its reactor.

    Of a connected UDP socket, the kernel tells by an error, and nothing to read, that nobody is at the other end. The
    reactors that poll take that for the end of a connection, and stop the port without a word
    (https://github.com/twisted/twisted/issues/5377, https://github.com/twisted/twisted/issues/6467; up to 26.10 at
    least). This one reads then, which is how to hear of the error, and goes on.

    Args:
        port: Twisted's port.
        failed: Called with an error of reading that the port makes nothing of.
    """

    def __init__(self, port: Any, failed: Callable[[OSError], None]) -> None:
        self._port = port
        self._failed = failed
        self._reads = self._stands = True
        # The port has not begun to read. When it does, most reactors keep whom they have for a descriptor; those that
        # have room for two, or would rather have the new one, are told later that there is one only.
        self._watch()
        self._beginning: Any = port.reactor.callLater(0, self._stand_alone)

    @staticmethod
    def is_for(port: Any) -> bool:
        """Whether *port* is one that a reactor reads from, and can be stood in for."""
        return IReadDescriptor.providedBy(port) and IReactorFDSet.providedBy(getattr(port, "reactor", None))

    def _stand_alone(self) -> None:
        self._beginning = None
        self._port.reactor.removeReader(self)
        self._port.stopReading()
        self._watch()

    def _watch(self) -> None:
        if self._reads and self._stands:
            self._port.reactor.addReader(self)

    # IReadDescriptor

    def fileno(self) -> int:
        """The port's."""
        number: int = self._port.fileno()
        return number

    def logPrefix(self) -> str:
        """The port's."""
        prefix: str = self._port.logPrefix()
        return prefix

    def doRead(self) -> None:
        """There is something to read."""
        try:
            self._port.doRead()
        except OSError as error:
            self._failed(error)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has found an error, or has come to its end."""
        if reason.check(ConnectionDone) is None:
            self._port.connectionLost(reason)
            return
        self.doRead()
        self._watch()

    # What the transport calls where it would call the port

    def pauseProducing(self) -> None:
        """Read no more, until `resumeProducing`."""
        self._reads = False
        self._port.reactor.removeReader(self)

    def resumeProducing(self) -> None:
        """Read on."""
        self._reads = True
        self._watch()

    def stop(self) -> None:
        """Read no more."""
        self.pauseProducing()
        self._stands = False
        if self._beginning is not None:
            self._beginning.cancel()
            self._beginning = None
