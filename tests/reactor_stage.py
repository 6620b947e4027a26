"""A scenario that is run on EPollReactor and on our reactor, and the trace that it leaves on either."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import protocol
from twisted.logger import formatEvent, globalLogPublisher
from twisted.python import context, log

from .conftest import disposable_reactor

Trace = list[tuple[Any, ...]]


class Stage:
    """A reactor, sockets that end with the scenario, and the trace of what happened."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.trace: Trace = []
        self._opened: list[socket.socket] = []

    def note(self, *what: Any) -> None:
        self.trace.append(what)

    def hear(self, event: Any) -> None:
        """What is logged belongs to the trace."""
        failure = event.get("log_failure", event.get("failure"))
        self.note(
            "log",
            event.get("log_namespace"),
            event.get("log_system"),
            event.get("why"),
            (failure.type, str(failure.value)) if failure is not None else formatEvent(event),
        )

    def keep(self, *sockets: socket.socket) -> None:
        self._opened += sockets

    def connect(self, made: protocol.Protocol, family: int = socket.AF_INET) -> socket.socket:
        """Give *made* a connection, whose other end is returned."""
        if family == socket.AF_UNIX:
            ours, peer = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as listening:
                peer = socket.create_connection(listening.getsockname())
                ours, _ = listening.accept()
        ours.setblocking(False)
        peer.setblocking(False)
        factory = protocol.Factory()
        factory.protocol = lambda: made
        with ours:
            self.reactor.adoptStreamConnection(ours.fileno(), family, factory)
        cast(Any, made.transport).logstr = "connection"  # else a port's number is in it
        self.keep(peer)
        return peer

    def until(self, condition: Callable[[], object]) -> None:
        """Run the reactor until *condition* is true, which is asked again and again."""

        def ask() -> None:
            if condition():
                self.reactor.crash()
            else:
                self.reactor.callLater(0.001, ask)

        self.reactor.callLater(0, ask)
        self.reactor.run(installSignalHandlers=False)

    def turn(self) -> None:
        """Let what is ready now be served, and what that makes ready."""
        turns = iter(range(3))
        self.until(lambda: next(turns) == 2)

    def close(self) -> None:
        for sock in self._opened:
            sock.close()


Scenario = Callable[[Stage], None]


def traced(kind: str, scenario: Scenario) -> Trace:
    with disposable_reactor(kind) as reactor:
        stage = Stage(reactor)
        observer: Any = stage.hear
        globalLogPublisher.addObserver(observer)
        try:
            scenario(stage)
        finally:
            globalLogPublisher.removeObserver(observer)
            reactor.disconnectAll()
            stage.close()
            _drop_calls(reactor)
    return stage.trace


def _drop_calls(reactor: Any) -> None:
    for call in reactor.getDelayedCalls():
        call.cancel()


Same = Callable[[Scenario], Trace]


def compare(scenario: Scenario) -> Trace:
    """Run a scenario on both reactors, compare the traces, and return them."""
    stock, ours = traced("epoll", scenario), traced("txasync", scenario)
    assert ours == stock
    return ours


class Noting(protocol.Protocol):
    """Notes its callbacks, and under which log context they come."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.lost = False
        self.received = b""
        self.link: Any = None

    def note(self, *what: Any) -> None:
        self.stage.note(*what, context.get(log.ILogContext))

    def connectionMade(self) -> None:
        self.link = self.transport
        self.note("made")

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.note("received", data)
        log.msg("received")

    def connectionLost(self, reason: Any = protocol.connectionDone) -> None:
        self.lost = True
        self.note("lost", reason.type)
        log.msg("lost")

    def note_sends(self) -> None:
        """Note how much is given to the kernel each time."""
        send = self.link.writeSomeData

        def noting(data: bytes) -> Any:
            result = send(data)
            self.note("sent", result)
            return result

        self.link.writeSomeData = noting


def tags(trace: Trace) -> list[Any]:
    """What happened, without the log and without particulars."""
    return [entry[0] for entry in trace if entry[0] != "log"]


def failures(trace: Trace) -> list[Any]:
    """What was logged as an error: by whom, and what."""
    return [(entry[2], entry[4]) for entry in trace if entry[0] == "log" and isinstance(entry[4], tuple)]


def received(peer: socket.socket) -> bytes:
    """What there is to read now."""
    data = b""
    try:
        while True:
            chunk = peer.recv(2**20)
            if not chunk:
                return data + b"EOF"
            data += chunk
    except BlockingIOError:
        return data
    except ConnectionResetError:
        return data + b"RESET"


def reset(peer: socket.socket) -> None:
    """Close *peer* so that the other end gets an RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


class Failing(Exception):
    """Raised by the tests' protocols."""


def fail(*_: Any) -> Any:
    raise Failing
