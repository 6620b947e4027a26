"""A server of Conch's, whose commands are Twisted protocols, and a client."""

# Most of this part of Twisted has no annotations.
# mypy: allow-untyped-calls

from __future__ import annotations

import asyncio
import functools
import warnings
import zlib
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import fail, succeed
from twisted.internet.error import ProcessTerminated
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.components import registerAdapter
from twisted.python.failure import Failure
from zope.interface import implementer

from txasync import as_future
from txasync.adapters import LoopClock

from .any_loop import connect

with warnings.catch_warnings():
    # It imports what is deprecated: Python's spwd, and ciphers of cryptography's.
    warnings.simplefilter("ignore")
    from twisted.conch.avatar import ConchUser
    from twisted.conch.checkers import InMemorySSHKeyDB, SSHPublicKeyChecker
    from twisted.conch.endpoints import SSHCommandClientEndpoint
    from twisted.conch.interfaces import IConchUser, ISession
    from twisted.conch.ssh.connection import SSHConnection
    from twisted.conch.ssh.factory import SSHFactory
    from twisted.conch.ssh.keys import Key
    from twisted.conch.ssh.session import SSHSession
    from twisted.conch.ssh.transport import SSHClientTransport
    from twisted.conch.ssh.userauth import SSHUserAuthClient, SSHUserAuthServer

MUCH = bytes(range(250)) * 8_000
"""More than a channel's window."""


@functools.cache
def host_key() -> Any:
    """The server's key."""
    return Key(Ed25519PrivateKey.generate())


def strange_key() -> Any:
    """One that nobody knows."""
    return Key(Ed25519PrivateKey.generate())


@functools.cache
def user_key() -> Any:
    """The user's key."""
    return Key(Ed25519PrivateKey.generate())


class User(ConchUser):
    """Who has logged in."""

    def __init__(self) -> None:
        super().__init__()
        self.channelLookup[b"session"] = SSHSession


@implementer(ISession)
class Session:
    """
    What commands do.

    ``count N`` reads N bytes, and says what they were; ``much`` writes `MUCH`; both exit with 3. ``never`` waits.
    """

    def __init__(self, user: User) -> None:
        self._size = self._crc = 0
        self._process: Any = None
        self._expected = -1

    def execCommand(self, process: Any, command: bytes) -> None:
        self._process = process
        process.makeConnection(self)
        # What is written comes when the client has been told that the command runs.
        if command == b"much":
            asyncio.get_running_loop().call_soon(self._exit, MUCH)
        elif command.startswith(b"count "):
            self._expected = int(command[6:])
            asyncio.get_running_loop().call_soon(self._exit_at_last)

    def _exit(self, output: bytes) -> None:
        self._process.outReceived(output)
        self._process.processEnded(Failure(ProcessTerminated(3, None, 3 << 8)))

    def write(self, data: bytes) -> None:
        """Input comes: this is the process's transport, too."""
        self._size += len(data)
        self._crc = zlib.crc32(data, self._crc)
        self._exit_at_last()

    def _exit_at_last(self) -> None:
        if self._size == self._expected:
            self._expected = -1
            self._process.errReceived(b"that was all\n")
            self._exit(b"%d bytes, crc %08x\n" % (self._size, self._crc))

    def loseConnection(self) -> None:
        """The channel is closed."""

    def eofReceived(self) -> None:
        """There is no more input."""

    def closed(self) -> None:
        self._process = None

    def getPty(self, term: object, windowSize: object, modes: object) -> None:
        raise NotImplementedError

    def openShell(self, process: object) -> None:
        raise NotImplementedError

    def windowChanged(self, windowSize: object) -> None:
        raise NotImplementedError


registerAdapter(Session, User, ISession)


class Login(SSHUserAuthServer):
    """Its timeouts are those of the running loop."""

    def serviceStarted(self) -> None:
        self.clock = LoopClock()
        super().serviceStarted()


@implementer(IRealm)
class Realm:
    """Gives each who logs in a `User`."""

    def requestAvatar(self, name: object, mind: object, *interfaces: Any) -> Any:
        return IConchUser, User(), lambda: None


class Server(SSHFactory):
    """Knows *user*, by the password *secret* and by the user's key."""

    noisy = False
    services = {b"ssh-userauth": Login, b"ssh-connection": SSHConnection}

    def __init__(self) -> None:
        self.publicKeys = {b"ssh-ed25519": host_key().public()}
        self.privateKeys = {b"ssh-ed25519": host_key()}
        self.portal = Portal(
            Realm(),
            [
                InMemoryUsernamePasswordDatabaseDontUse(user=b"secret"),
                SSHPublicKeyChecker(InMemorySSHKeyDB({b"user": [user_key().public()]})),
            ],
        )


class Credentials(SSHUserAuthClient):
    """Logs in by the user's key, or by a password."""

    def __init__(self, connection: Any, password: bytes | None) -> None:
        super().__init__(b"user", connection)
        self._password = password

    def getPassword(self, prompt: object = None) -> Any:
        password, self._password = self._password, None
        return None if password is None else succeed(password)

    def getPublicKey(self) -> Any:
        return user_key().public() if self._password is None and not self.triedPublicKeys else None

    def getPrivateKey(self) -> Any:
        return succeed(user_key())


class Connection(SSHConnection):
    """
    The client's connection.

    Attributes:
        ready: Done when the user is logged in.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def serviceStarted(self) -> None:
        super().serviceStarted()
        self.ready.set_result(None)


class Caller(NamedTuple):
    """What ``SSHCommandClientEndpoint`` wants to know of whoever has made a connection."""

    username: bytes
    command: bytes


class Client(SSHClientTransport):
    """
    A client that knows the server's key.

    Attributes:
        connection: The service on it.
        lost: Done, with the reason, when the connection is lost.
    """

    creator = Caller(b"user", b"")

    def __init__(self, *, password: bytes | None = None, known_key: Any = None) -> None:
        self.connection = Connection()
        self.lost: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()
        self._password = password
        self._known_key = known_key or host_key()

    def verifyHostKey(self, hostKey: bytes, fingerprint: object) -> Any:
        return succeed(1) if hostKey == self._known_key.public().blob() else fail(ValueError("a strange host"))

    def connectionSecure(self) -> None:
        self.requestService(Credentials(self.connection, self._password))

    def connectionLost(self, reason: Failure | None = connectionDone) -> None:
        super().connectionLost(reason)
        self.lost.set_result(reason or connectionDone)


class Running(Protocol):
    """
    A command that runs, and gets *data*.

    Attributes:
        output: What it has written.
        ended: Done, with the reason, when it ends.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.output = b""
        self.ended: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()

    def connectionMade(self) -> None:
        self.transport.write(self._data)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.output += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.set_result(reason)


async def logged_in(port: int, **options: Any) -> Client:
    """A client that is logged in."""
    client: Client = await connect(port, Client(**options))
    await client.connection.ready
    return client


async def start_command(client: Client, command: bytes, data: bytes = b"") -> Running:
    """A command that runs, and gets *data*."""
    endpoint = SSHCommandClientEndpoint.existingConnection(client.connection, command)
    running: Running = await as_future(endpoint.connect(Factory.forProtocol(lambda: Running(data))))
    return running


async def run_command(client: Client, command: bytes, data: bytes = b"") -> tuple[bytes, Failure]:
    """The output of a command that gets *data*, and how it ended."""
    running = await start_command(client, command, data)
    ended = await running.ended
    return running.output, ended
