"""Twisted protocols, factories and producers that note what they are called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IPullProducer, IPushProducer
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from .twisted_stage import TwistedStage

Actions = dict[str, Callable[..., Any]]
"""What to do in a callback, after it was noted, with the callback's arguments, by the callback's name."""


class TwistedRecorder(Protocol):
    """
    Notes what it is called with, does what *on* says, and has an eye on the legal order of callbacks.

    Args:
        stage: Where the notes go.
        on: What to do.

    Attributes:
        transport: Twisted's.
        state: ``"new"``, ``"open"`` or ``"lost"``.
        reason: What `connectionLost` got.
    """

    transport: Any = None

    def __init__(self, stage: TwistedStage, on: Actions) -> None:
        self.stage = stage
        self.on = on
        self.state = "new"
        self.reason: BaseException | None = None
        self._at_end = False

    def _called(self, callback: str, legal: bool, *args: Any) -> None:
        self._check(callback, legal)
        self.stage.note(callback, *args)
        self._do(callback)

    def _check(self, callback: str, legal: bool) -> None:
        if not legal:
            self.stage.illegal.append(f"{callback} when {self.state}, {self._at_end}, {self.stage.inside}")

    def _do(self, callback: str, *args: Any) -> None:
        if callback in self.on:
            self.on[callback](*args)

    def connectionMade(self) -> None:
        legal, self.state = self.state == "new", "open"
        self._called("connectionMade", legal)

    def dataReceived(self, data: bytes) -> None:
        self._check("dataReceived", self.state == "open" and not self._at_end and type(data) is bytes and data != b"")
        self.stage.trace.data("dataReceived", data)
        self._do("dataReceived", data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        legal, self.state = self.state == "open" and not self.stage.inside, "lost"
        self.reason = reason.value
        self.stage.note("connectionLost", reason.value)
        self._check("connectionLost", legal)
        self._do("connectionLost")

    def attempt(self, method: str, *args: Any) -> Any:
        """Call *method* of the transport; note how it ended."""
        return self.stage.attempt(method, getattr(self.transport, method), *args)


@implementer(IHalfCloseableProtocol)
class HalfCloseableRecorder(TwistedRecorder):
    """One that stays when one side has ended."""

    def readConnectionLost(self) -> None:
        legal, self._at_end = self.state == "open" and not self._at_end, True
        self._called("readConnectionLost", legal)

    def writeConnectionLost(self) -> None:
        self._called("writeConnectionLost", self.state == "open")


@implementer(IHandshakeListener)
class HandshakeRecorder(TwistedRecorder):
    """One that wants to know when TLS is there."""

    def handshakeCompleted(self) -> None:
        self._called("handshakeCompleted", self.state == "open")


class RecordingFactory(ClientFactory):
    """
    Notes what it is called with; its protocols are *protocols*, one after the other; None is a refusal.

    Args:
        stage: Where the notes go, unless *protocols* is all that it is for.
        protocols: What `buildProtocol` returns, or raises.
        is_quiet: Whether nothing is noted.
    """

    noisy = False

    def __init__(self, stage: TwistedStage, *protocols: Any, is_quiet: bool = False) -> None:
        self._stage = stage
        self._protocols = list(protocols)
        self._is_quiet = is_quiet

    def _note(self, what: str) -> None:
        if not self._is_quiet:
            self._stage.note(what)

    def startFactory(self) -> None:
        self._note("startFactory")

    def stopFactory(self) -> None:
        self._note("stopFactory")

    def buildProtocol(self, addr: Any) -> Any:
        self._note("buildProtocol")
        protocol = self._protocols.pop(0)
        if isinstance(protocol, Exception):
            raise protocol
        return protocol


class _Producer:
    def __init__(self, stage: TwistedStage, name: str = "", **on: Callable[..., Any]) -> None:
        self._stage = stage
        self._prefix = f"{name}: " if name else ""
        self.on = on

    def _called(self, callback: str) -> None:
        self._stage.note(self._prefix + callback)
        if callback in self.on:
            self.on[callback]()

    def resumeProducing(self) -> None:
        self._called("resumeProducing")

    def stopProducing(self) -> None:
        self._called("stopProducing")


@implementer(IPullProducer)
class PullRecorder(_Producer):
    """A pull producer that notes what it is called with, and does what *on* says."""


@implementer(IPushProducer)
class PushRecorder(_Producer):
    """A push producer that does so."""

    def pauseProducing(self) -> None:
        self._called("pauseProducing")
