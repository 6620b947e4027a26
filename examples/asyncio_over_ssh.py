"""
asyncio protocols over SSH: what Conch's server runs as commands, and what Conch's client talks to them with.

    pip install 'twisted[conch]'
    python examples/asyncio_over_ssh.py            a short dialogue
    python examples/asyncio_over_ssh.py --serve    tell how ssh can talk to it, and serve until Ctrl-C

Each command is a service of asyncio's: "upper" is a coroutine function with a StreamReader and a StreamWriter, and
"sum" is a Protocol class. as_twisted_protocol() makes what an SSH channel can be connected to. On the client's side,
Twisted's endpoint of a remote command is one as any other for txasync.open_connection(). The keys are made anew, in
memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import tempfile
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.avatar import ConchUser
from twisted.conch.checkers import InMemorySSHKeyDB, SSHPublicKeyChecker
from twisted.conch.client.knownhosts import KnownHostsFile
from twisted.conch.endpoints import SSHCommandClientEndpoint
from twisted.conch.error import ConchError
from twisted.conch.interfaces import IConchUser, ISession
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.session import SSHSession, wrapProtocol
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor
from twisted.python.filepath import FilePath
from zope.interface import implementer

import txasync
from txasync.adapters import as_twisted_protocol

# asyncio's world: two services.


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send each line back in capitals, until the client ends its input or says "bye"."""
    host, port = writer.get_extra_info("peername")
    writer.write(b"hello, %s\n" % host.encode())
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()
        if line == b"bye\n":
            break
    writer.close()


class Sum(asyncio.Protocol):
    """Adds numbers, one on each line; an empty line asks for the sum, and ends the connection."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.rest, self.sum = b"", 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if line:
                self.sum += int(line)
            else:
                self.transport.write(b"%d\n" % self.sum)
                self.transport.close()


def service(command: bytes) -> asyncio.BaseProtocol:
    """The protocol of a command."""
    if command == b"upper":
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), upper)
    if command == b"sum":
        return Sum()
    raise ConchError(f"there is no command {command!r}")


# Twisted's world: an SSH server.


class Session(SSHSession):
    """A session whose command has the exit status 0: nobody else would tell."""

    def loseConnection(self) -> None:
        if not self.closing:
            self.conn.sendRequest(self, b"exit-status", bytes(4))
        super().loseConnection()


@implementer(ISession)
class User(ConchUser):
    """Who has logged in: may have a session, in which commands run."""

    def __init__(self) -> None:
        super().__init__()
        self.channelLookup[b"session"] = Session
        self.running: Any = None

    def execCommand(self, channel: Any, command: bytes) -> None:
        self.running = as_twisted_protocol(service(command))
        self.running.makeConnection(channel)
        channel.makeConnection(wrapProtocol(self.running))

    def eofReceived(self) -> None:
        if self.running is not None:
            self.running.readConnectionLost()

    def closed(self) -> None: ...

    def getPty(self, terminal: bytes, size: Any, modes: Any) -> None:
        raise ConchError("no terminals here")

    def openShell(self, channel: Any) -> None:
        raise ConchError("no shell here")

    def windowChanged(self, size: Any) -> None: ...


@implementer(IRealm)
class Realm:
    """Where users come from."""

    def requestAvatar(self, name: bytes, mind: Any, *interfaces: Any) -> Any:
        return IConchUser, User(), lambda: None


def server_factory(host_key: Key, user_key: Key) -> SSHFactory:
    """A factory of SSH servers, which lets in who has *user_key*."""
    factory = SSHFactory()
    factory.privateKeys = {host_key.sshType(): host_key}
    factory.publicKeys = {host_key.sshType(): host_key.public()}
    factory.portal = Portal(Realm(), [SSHPublicKeyChecker(InMemorySSHKeyDB({b"user": [user_key.public()]}))])
    return factory


# Both: a client of Twisted's, with streams of asyncio's.


async def run(command: bytes, endpoint: SSHCommandClientEndpoint, text: bytes) -> None:
    """Run *command*, give it *text*, and print what comes back."""
    reader, writer = await txasync.open_connection(endpoint)
    print(f"{command.decode()}: connected to {writer.get_extra_info('peername')[0]}, sends {text!r}")
    writer.write(text)
    async for line in reader:
        print(f"{command.decode()}: got {line!r}")
    writer.close()
    await writer.wait_closed()
    print(f"{command.decode()}: the command has ended")


async def dialogue(port: int, host_key: Key, user_key: Key) -> None:
    """Run both commands."""
    known_hosts = KnownHostsFile(FilePath(os.devnull))
    known_hosts.addHostKey(b"127.0.0.1", host_key.public())
    for command, text in (b"upper", b"guten Tag\nbye\n"), (b"sum", b"1\n20\n300\n\n"):
        endpoint = SSHCommandClientEndpoint.newConnection(
            reactor, command, b"user", b"127.0.0.1", port, keys=[user_key], knownHosts=known_hosts
        )
        await run(command, endpoint, text)


async def tell_and_wait(port: int, user_key: Key) -> None:
    """Tell how ssh reaches the server."""
    with tempfile.NamedTemporaryFile() as file:  # which only its owner may read, as ssh wants it
        file.write(user_key.toString("openssh"))
        file.flush()
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        print(f"ssh -p {port} -i {file.name} {options} user@127.0.0.1 upper", flush=True)
        await asyncio.Event().wait()


async def main(serve: bool) -> None:
    host_key, user_key = Key(Ed25519PrivateKey.generate()), Key(Ed25519PrivateKey.generate())
    port: Any = reactor.listenTCP(0, server_factory(host_key, user_key), interface="127.0.0.1")
    try:
        if serve:
            await tell_and_wait(port.getHost().port, user_key)
        else:
            await dialogue(port.getHost().port, host_key, user_key)
    finally:
        await port.stopListening()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="asyncio protocols over the channels of Conch's SSH.")
    parser.add_argument("--serve", action="store_true", help="serve until Ctrl-C")
    with contextlib.suppress(KeyboardInterrupt):
        txasync.run(main(parser.parse_args().serve))
