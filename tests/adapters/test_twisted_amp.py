"""Twisted's AMP, a client and a server, on the transports of every asyncio loop."""

# Most of this part of Twisted has no annotations.
# mypy: allow-untyped-calls

from __future__ import annotations

import asyncio
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import ConnectionAborted, ConnectionClosed, ConnectionDone
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.ssl import Certificate, PrivateCertificate
from twisted.protocols.amp import AMP, Command, Integer, ListOf, StartTLS, String, Unicode, UnknownRemoteError
from twisted.python.failure import Failure

from txasync import as_deferred, as_future

from ..conftest import Reports
from ..tls.contexts import authority, certificate
from .any_loop import Perform, connect, host, listening, perform, serving

__all__ = ["host", "perform"]


class Total(Command):
    """The sum of numbers."""

    arguments = [(b"numbers", ListOf(Integer()))]
    response = [(b"total", Integer())]


class Quotient(Command):
    """A quotient, which there may not be."""

    arguments = [(b"numerator", Integer()), (b"denominator", Integer())]
    response = [(b"quotient", Integer())]
    errors = {ZeroDivisionError: b"ZERO_DIVISION"}


class Turned(Command):
    """A word turned around, by a coroutine of asyncio's."""

    arguments = [(b"word", Unicode())]
    response = [(b"word", Unicode())]


class AskBack(Command):
    """The server asks the client for its name, then answers."""

    arguments: list[tuple[bytes, Any]] = []
    response = [(b"greeting", String())]


class Name(Command):
    """Who the client is."""

    arguments: list[tuple[bytes, Any]] = []
    response = [(b"name", String())]


class Fail(Command):
    """Fails with an error that no one has declared."""

    arguments: list[tuple[bytes, Any]] = []
    response: list[tuple[bytes, Any]] = []


class Never(Command):
    """Is not answered."""

    arguments: list[tuple[bytes, Any]] = []
    response: list[tuple[bytes, Any]] = []


def own_certificate() -> Any:
    """A certificate of the tests' authority, with its key."""
    return PrivateCertificate.loadPEM(certificate().private_key_and_cert_chain_pem.bytes())


def trusted() -> list[Any]:
    """The authorities that both sides trust."""
    return [Certificate.loadPEM(authority().cert_pem.bytes())]


class Peer(AMP):
    """
    Either side.

    Attributes:
        lost: Done, with the reason, when the connection is lost.
        asked: Set when `Never` was asked.
    """

    def __init__(self) -> None:
        super().__init__()
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[Failure] = loop.create_future()
        self.asked: asyncio.Future[None] = loop.create_future()

    @Total.responder
    def total(self, numbers: list[int]) -> Any:
        return {"total": sum(numbers)}

    @Quotient.responder
    def quotient(self, numerator: int, denominator: int) -> Any:
        return {"quotient": numerator // denominator}

    @Turned.responder
    def turned(self, word: str) -> Any:
        return as_deferred(self._turn(word))

    async def _turn(self, word: str) -> Any:
        await asyncio.sleep(0)
        return {"word": word[::-1]}

    @AskBack.responder
    def ask_back(self) -> Any:
        asked: Deferred[Any] = self.callRemote(Name)
        return asked.addCallback(lambda answer: {"greeting": b"hello " + answer["name"]})

    @Name.responder
    def name(self) -> Any:
        return {"name": b"client"}

    @Fail.responder
    def fail(self) -> Any:
        raise LookupError("nobody has declared this")

    @Never.responder
    def never(self) -> Any:
        self.asked.set_result(None)
        return Deferred()

    @StartTLS.responder
    def start_tls(self) -> Any:
        return {"tls_localCertificate": own_certificate(), "tls_verifyAuthorities": trusted()}

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.lost.set_result(reason)


class Keeping(Factory):
    """Serves `Peer`, and has the first one as ``made``."""

    noisy = False

    def __init__(self) -> None:
        self.made: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()

    def buildProtocol(self, addr: object) -> Peer:
        peer = Peer()
        peer.factory = self
        self.made.set_result(peer)
        return peer


def result(called: Any) -> asyncio.Future[Any]:
    """What ``callRemote()`` will have."""
    return as_future(called)


async def error_of(called: Any) -> BaseException:
    """What ``callRemote()`` fails with."""
    # An awaited Deferred keeps its error, and AMP hangs up on an error that none of the callbacks has handled.
    error: BaseException = await as_future(called.addErrback(lambda failure: failure.value))
    assert isinstance(error, BaseException)
    return error


async def hang_up(peer: Peer) -> None:
    """Close the connection, cleanly."""
    peer.transport.loseConnection()  # type: ignore[union-attr]
    (await peer.lost).trap(ConnectionDone)


def test_commands_are_answered(perform: Perform) -> None:
    """Many at once, those of asyncio's coroutines, and those that ask back."""

    async def main() -> None:
        async with listening(Keeping()) as port:
            client = await connect(port, Peer())
            totals = [client.callRemote(Total, numbers=list(range(n))) for n in range(200)]
            answers = await result(gatherResults(totals))
            assert [answer["total"] for answer in answers] == [sum(range(n)) for n in range(200)]
            assert await result(client.callRemote(Turned, word="straße" * 5000)) == {"word": "eßarts" * 5000}
            assert await result(client.callRemote(AskBack)) == {"greeting": b"hello client"}
            await hang_up(client)

    perform(main)


def test_a_declared_error_comes_back_as_itself(perform: Perform) -> None:
    """And the connection goes on."""

    async def main() -> None:
        async with serving(Keeping()) as port:
            client = await connect(port, Peer())
            assert isinstance(
                await error_of(client.callRemote(Quotient, numerator=1, denominator=0)), ZeroDivisionError
            )
            assert await result(client.callRemote(Quotient, numerator=7, denominator=2)) == {"quotient": 3}
            await hang_up(client)

    perform(main)


def test_an_undeclared_error_ends_the_connection(perform: Perform, reports: Reports) -> None:
    """When the box that says so was sent: AMP's server closes right after it has written it."""

    async def main() -> None:
        factory = Keeping()
        async with serving(factory) as port:
            client = await connect(port, Peer())
            assert isinstance(await error_of(client.callRemote(Fail)), UnknownRemoteError)
            await asyncio.gather(client.lost, (await factory.made).lost)

    perform(main)
    assert [report.value for report in reports.twisted] == ["nobody has declared this"]
    reports.clear()


def test_tls_starts_in_mid_connection(perform: Perform) -> None:
    """With certificates of both sides; what is asked before, meanwhile and after is answered."""

    async def main() -> None:
        factory = Keeping()
        async with listening(factory) as port:
            client = await connect(port, Peer())
            assert await result(client.callRemote(Total, numbers=[1, 2])) == {"total": 3}
            started = client.callRemote(
                StartTLS, tls_localCertificate=own_certificate(), tls_verifyAuthorities=trusted()
            )
            meanwhile = client.callRemote(Total, numbers=[3, 4])
            await result(started)
            assert await result(meanwhile) == {"total": 7}
            assert await result(client.callRemote(AskBack)) == {"greeting": b"hello client"}
            assert await result(client.callRemote(Turned, word="0123456789" * 6000)) == {"word": "9876543210" * 6000}
            for peer in (client, await factory.made):
                assert peer.peerCertificate.digest() == own_certificate().digest()
            await hang_up(client)
            (await (await factory.made).lost).trap(ConnectionDone)

    perform(main)


def test_tls_that_fails_ends_the_connection(perform: Perform) -> None:
    """The server trusts nobody whom it knows not; what was asked fails on the client."""

    class Strange(Peer):
        @StartTLS.responder
        def start_tls(self) -> Any:
            stranger = PrivateCertificate.loadPEM(certificate("stranger").private_key_and_cert_chain_pem.bytes())
            return {"tls_localCertificate": stranger, "tls_verifyAuthorities": [own_certificate()]}

    async def main() -> None:
        factory = Factory.forProtocol(Strange)
        factory.noisy = False
        async with listening(factory) as port:
            client = await connect(port, Peer())
            await result(
                client.callRemote(StartTLS, tls_localCertificate=own_certificate(), tls_verifyAuthorities=trusted())
            )
            assert await error_of(client.callRemote(Total, numbers=[1]))
            await client.lost

    perform(main)


def test_an_abort_fails_what_was_asked(perform: Perform) -> None:
    """On both sides at once; ours has ConnectionAborted."""

    async def main() -> None:
        factory = Keeping()
        async with serving(factory) as port:
            client = await connect(port, Peer())
            asked = client.callRemote(Never)
            server = await factory.made
            await server.asked
            client.transport.abortConnection()
            assert isinstance(await error_of(asked), ConnectionAborted)
            assert (await server.lost).check(ConnectionClosed)
            assert isinstance(await error_of(client.callRemote(Total, numbers=[1])), ConnectionAborted)

    perform(main)
