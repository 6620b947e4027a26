"""Twisted's SMTP and POP3, on the transports of every asyncio loop: STARTTLS, logging in, a large message."""

# Most of this part of Twisted has no annotations.
# mypy: allow-untyped-calls

from __future__ import annotations

import asyncio
import io
import poplib
import smtplib
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.internet.task import Cooperator
from twisted.mail.interfaces import IMailboxPOP3
from twisted.mail.pop3 import POP3, Mailbox
from twisted.mail.smtp import (
    ESMTP,
    ESMTPSender,
    ESMTPSenderFactory,
    IMessage,
    IMessageDelivery,
    LOGINCredentials,
    SMTPBadRcpt,
    SMTPClientError,
)
from zope.interface import implementer

from txasync import as_future
from txasync.adapters import LoopClientEndpoint, LoopClock

from ..tls.contexts import client_context, server_context
from .any_loop import LIMIT_S, Perform, host, listening, perform, serving
from .web_site import secure

__all__ = ["host", "perform"]

LINES = [b"%06d %s" % (number, b"." * (number % 100)) for number in range(20_000)]
LINES[5:8] = [b".", b"", b"..begins with dots"]
MESSAGE = b"\r\n".join([b"Subject: much", b"", *LINES]) + b"\r\n"
"""A message of more than 1 MB."""


@implementer(IMessage)
class Kept:
    """A message that comes, and is kept in *messages*."""

    def __init__(self, messages: list[bytes]) -> None:
        self._messages = messages
        self._lines: list[bytes] = []

    def lineReceived(self, line: bytes) -> None:
        self._lines.append(line)

    def eomReceived(self) -> Deferred[None]:
        self._messages.append(b"".join(line + b"\r\n" for line in self._lines))
        return succeed(None)

    def connectionLost(self) -> None:
        self._lines.clear()


@implementer(IMessageDelivery, IRealm)
class PostOffice:
    """
    Takes messages to anyone but nobody, from those who have logged in.

    Attributes:
        messages: What has come.
    """

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def requestAvatar(self, name: object, mind: object, *interfaces: Any) -> Any:
        return IMessageDelivery, self, lambda: None

    def receivedHeader(self, helo: object, origin: object, recipients: object) -> bytes:
        return b"Received: by the post office"

    def validateFrom(self, helo: object, origin: Any) -> Any:
        return origin

    def validateTo(self, user: Any) -> Callable[[], Kept]:
        if user.dest.local == b"nobody":
            raise SMTPBadRcpt(user)
        return lambda: Kept(self.messages)


class Mail(ESMTP):
    """A server whose timeouts are those of the running loop."""

    def __init__(self) -> None:
        super().__init__({b"LOGIN": LOGINCredentials}, server_context("options"))
        self.noisy = False
        self._clock = LoopClock()

    def callLater(self, period: float, func: Any) -> Any:
        return self._clock.callLater(period, func)


class WithLogin(ServerFactory):
    """Serves *protocol* to a user who has a password."""

    noisy = False

    def __init__(self, protocol: Callable[[], Any], realm: Any) -> None:
        self.protocol = protocol
        self._portal = Portal(realm, [InMemoryUsernamePasswordDatabaseDontUse(user=b"secret")])

    def buildProtocol(self, addr: Any) -> Any:
        protocol: Any = super().buildProtocol(addr)
        protocol.portal = self._portal
        return protocol


async def in_thread(function: Callable[[], Any]) -> Any:
    """What *function*, which blocks, returns."""
    return await asyncio.get_running_loop().run_in_executor(None, function)


def test_smtplib_sends_a_large_message(perform: Perform) -> None:
    """After STARTTLS and AUTH; every line of it comes, those of dots, too."""

    def send(port: int) -> None:
        with smtplib.SMTP("localhost", port, timeout=LIMIT_S) as client:
            assert client.starttls(context=secure())[0] == 220
            client.login("user", "secret")
            refused = client.sendmail("a@example.org", ["b@example.org", "nobody@example.org"], MESSAGE)
            assert list(refused) == ["nobody@example.org"]

    async def main() -> None:
        office = PostOffice()
        async with serving(WithLogin(Mail, office)) as port:
            await in_thread(lambda: send(port))
        assert office.messages == [b"Received: by the post office\r\n" + MESSAGE]

    perform(main)


def test_smtplib_is_told_what_is_wrong(perform: Perform) -> None:
    """A wrong password, and what is no command; neither ends the connection."""

    def send(port: int) -> list[int]:
        with smtplib.SMTP("localhost", port, timeout=LIMIT_S) as client:
            client.starttls(context=secure())
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("user", "wrong")
            return [client.rset()[0], client.docmd("NONSENSE")[0]]

    async def main() -> None:
        async with listening(WithLogin(Mail, PostOffice())) as port:
            assert await in_thread(lambda: send(port)) == [250, 500]

    perform(main)


class Sender(ESMTPSender):
    """
    Twisted's client.

    Attributes:
        lost: Done when the connection is lost.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        super().connectionLost(reason)
        self.lost.set_result(None)


async def send(port: int, message: bytes, password: bytes = b"secret") -> Any:
    """What comes of a *message* that Twisted's client sends."""
    sent: Deferred[Any] = Deferred()
    factory: Any = ESMTPSenderFactory(
        b"user",
        password,
        "a@example.org",
        ["b@example.org"],
        io.BytesIO(message.replace(b"\r\n", b"\n")),
        sent,
        retries=0,
        contextFactory=client_context("creator"),
    )
    factory.protocol = Sender
    factory.noisy = False
    outcome = as_future(sent)
    client = await as_future(LoopClientEndpoint(asyncio.get_running_loop(), "127.0.0.1", port).connect(factory))
    await client.lost
    return await outcome


def test_twisteds_client_sends_a_large_message(perform: Perform) -> None:
    """Over STARTTLS, in which a pull producer sends it."""

    async def main() -> None:
        office = PostOffice()
        async with listening(WithLogin(Mail, office)) as port:
            accepted, addresses = await send(port, MESSAGE)
        assert (accepted, [address for address, _, _ in addresses]) == (1, [b"b@example.org"])
        assert office.messages == [b"Received: by the post office\r\n" + MESSAGE]

    perform(main)


def test_twisteds_client_is_told_what_is_wrong(perform: Perform) -> None:
    """A wrong password is the Deferred's failure, and the connection ends."""

    async def main() -> None:
        async with serving(WithLogin(Mail, PostOffice())) as port:
            with pytest.raises(SMTPClientError):
                await send(port, MESSAGE, b"wrong")

    perform(main)


def test_a_client_that_says_nothing_is_hung_up_on(perform: Perform) -> None:
    """With a word of farewell, which is not lost."""

    class Impatient(Mail):
        timeout = 0  # which is "at once" to a Twisted timeout

    async def main() -> None:
        async with serving(WithLogin(Impatient, PostOffice())) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            greeting, farewell = (await reader.read()).splitlines()
            writer.close()
            await writer.wait_closed()
        assert greeting.startswith(b"220 ")
        assert farewell.startswith(b"421 ")

    perform(main)


@implementer(IMailboxPOP3)
class OneMessage(Mailbox):
    """A mailbox with `MESSAGE`, until it is deleted."""

    def __init__(self) -> None:
        self.deleted = False

    def listMessages(self, index: int | None = None) -> Any:
        return [len(MESSAGE)] if index is None else len(MESSAGE)

    def getMessage(self, index: int) -> Any:
        return io.BytesIO(MESSAGE.replace(b"\r\n", b"\n"))

    def getUidl(self, index: int) -> bytes:
        return b"only"

    def deleteMessage(self, index: int) -> None:
        self.deleted = True

    def undeleteMessages(self) -> None:
        self.deleted = False


@implementer(IRealm)
class Mailboxes:
    """Gives everybody the same mailbox."""

    def __init__(self, mailbox: OneMessage) -> None:
        self._mailbox = mailbox

    def requestAvatar(self, name: object, mind: object, *interfaces: Any) -> Any:
        return IMailboxPOP3, self._mailbox, lambda: None


class Box(POP3):
    """A server whose timeouts, and whose turns at long answers, are those of the running loop."""

    timeOut = 60

    def connectionMade(self) -> None:
        self._clock = LoopClock()
        self.schedule = Cooperator(scheduler=lambda step: self._clock.callLater(0, step)).coiterate
        super().connectionMade()

    def callLater(self, period: float, func: Any) -> Any:
        return self._clock.callLater(period, func)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_poplib_fetches_a_large_message(perform: Perform, tls: bool) -> None:
    """Over TLS of the loop's own, or none; a pull producer sends it."""

    def fetch(port: int) -> list[bytes]:
        box: poplib.POP3 = (
            poplib.POP3_SSL("localhost", port, context=secure(), timeout=LIMIT_S)
            if tls
            else poplib.POP3("localhost", port, timeout=LIMIT_S)
        )
        box.user("user")
        box.pass_("secret")
        assert box.stat() == (1, len(MESSAGE))
        lines = box.retr(1)[1]
        box.dele(1)
        box.quit()
        return lines

    async def main() -> None:
        mailbox = OneMessage()
        options: dict[str, ssl.SSLContext] = {"ssl": server_context("stdlib")} if tls else {}
        async with serving(WithLogin(Box, Mailboxes(mailbox)), **options) as port:
            lines = await in_thread(lambda: fetch(port))
        assert lines == [b"Subject: much", b"", *LINES]
        assert mailbox.deleted

    perform(main)
