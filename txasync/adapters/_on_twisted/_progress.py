"""
The producer that a Twisted transport knows, so that it tells how far it has come with what is written to it.

It produces nothing. Twisted keeps a connection open on which a producer is registered, whoever asks for its end - a
policy that limits its time, say - and so it is registered no longer than it must be:

=========  ==========================================  ================================================================
it is a    on transports that are                      and registered
=========  ==========================================  ================================================================
pull       descriptors', perhaps with policies above   from the beginning; it is told of each drain, and looks then
producer                                               whether the connection is to end
push       others: TLS asks a pull producer again and  once much was written, for as long as that goes on; then it is
producer   again                                       told of the transport's mark, and of the drain after that
=========  ==========================================  ================================================================
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer, IReadWriteDescriptor, ISSLTransport
from zope.interface import implementer

from .._consumer import TWISTED_MARK, HeldBytes

__all__ = ["Progress"]

# Half of the transport's mark: so that what crosses the mark next is told.
MUCH = TWISTED_MARK // 2

# For how long a push producer stays registered at least.
PATIENCE_S = 1.0


@implementer(IPushProducer)
class Progress:
    """
    How far *itransport* has come.

    Args:
        itransport: Twisted's transport.
        loop: The loop.
        has_grown: Called when *itransport* tells that it holds more than its mark.
        has_drained: Called when it tells that it has sent all.

    Attributes:
        held: What it holds, as far as is known.
        alert: With more than this in `held`, `expect_much` is to be called before more is written, in bytes.
    """

    __slots__ = (
        "_descriptor",
        "_has_drained",
        "_has_grown",
        "_is_told_to_pause",
        "_itransport",
        "_limit",
        "_loop",
        "_pulls",
        "_registered",
        "alert",
        "held",
    )

    def __init__(
        self,
        itransport: Any,
        loop: asyncio.AbstractEventLoop,
        has_grown: Callable[[], None],
        has_drained: Callable[[], None],
    ) -> None:
        self._itransport = itransport
        self._loop = loop
        self._has_grown = has_grown
        self._has_drained = has_drained
        tells = hasattr(itransport, "registerProducer")
        self._pulls = tells and IReadWriteDescriptor.providedBy(itransport) and not ISSLTransport.providedBy(itransport)
        self._descriptor = _descriptor_of(itransport) if self._pulls else None
        self._registered = self._is_told_to_pause = False
        self._limit: asyncio.TimerHandle | None = None
        self.held = HeldBytes(told_of_each_drain=self._pulls)
        self.alert = MUCH if tells and not self._pulls else sys.maxsize

    def begin(self) -> None:
        """The connection is there."""
        if self._pulls:
            self._register()

    def expect_much(self) -> None:
        """Much was written, and more is to come."""
        self.alert = sys.maxsize
        self._register()
        self._limit = self._loop.call_later(PATIENCE_S, self._look_again)

    def _look_again(self) -> None:
        self._limit = None
        if self._is_told_to_pause:
            self._limit = self._loop.call_later(PATIENCE_S, self._look_again)
        elif self._registered:
            self.end()
            self.held.drain()
            self.alert = MUCH

    def _register(self) -> None:
        self._registered = True
        self._itransport.registerProducer(self, not self._pulls)

    def end(self) -> None:
        """Nothing more is to be told."""
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        if self._registered:
            self._registered = False
            self._itransport.unregisterProducer()

    def forget(self) -> None:
        """The transport is gone; nobody is told anything any more."""
        self._registered = False
        self.end()
        self._has_grown = self._has_drained = _do_nothing

    # IPushProducer. A pull producer is resumed, too, and never told to pause.

    def pauseProducing(self) -> None:
        """The transport holds more than its mark."""
        self._is_told_to_pause = True
        self.held.exceed_mark()
        self._has_grown()

    def resumeProducing(self) -> None:
        """The transport has sent all."""
        self._is_told_to_pause = False
        self.held.drain()
        self._has_drained()
        if self._registered and self._descriptor is not None and self._descriptor.disconnecting:
            self.end()  # somebody else has asked for the end of the connection

    def stopProducing(self) -> None:
        """Nothing: the protocol is told that the connection is lost."""


def _do_nothing() -> None:
    """Stands for those who were to be told, who would be kept alive until a garbage collection."""


def _descriptor_of(itransport: Any) -> Any:
    """What has the descriptor: *itransport*, or what the policies stand on that it is made of."""
    while (below := getattr(itransport, "transport", None)) is not None:
        itransport = below
    return itransport
