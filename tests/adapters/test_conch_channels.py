"""asyncio protocols over the channels of Conch's SSH: as commands of its server, and with its endpoint of a command."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.conch.avatar import ConchUser
from twisted.conch.client.knownhosts import KnownHostsFile
from twisted.conch.endpoints import SSHCommandClientEndpoint
from twisted.conch.interfaces import IConchUser, ISession
from twisted.conch.ssh.session import SSHSession, wrapProtocol
from twisted.cred.portal import IRealm, Portal
from twisted.internet.interfaces import IConsumer
from twisted.protocols.policies import WrappingFactory
from twisted.python.filepath import FilePath
from zope.interface import implementer

import txasync
from txasync.adapters import as_twisted_protocol

from ..transports.tls_ends import ProtocolEnd
from .conch_server import Server, host_key, user_key
from .endpoint_ways import Perform, perform

__all__ = ["perform"]

Services = dict[bytes, Callable[[], asyncio.BaseProtocol]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

WINDOW = 128 * 1024
"""Of each of Conch's channels, in bytes."""
MEGABYTE = bytes(range(256)) * 4096


@implementer(ISession)
class User(ConchUser):
    """
    Who has logged in: runs asyncio protocols as commands.

    Args:
        services: What makes the protocol of each command.
        channel: The class of the channels.
    """

    def __init__(self, services: Services, channel: type[SSHSession]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.channelLookup[b"session"] = channel
        self._services = services
        self._running: Any = None

    def execCommand(self, process: Any, command: bytes) -> None:
        self._running = as_twisted_protocol(self._services[command]())
        # A channel is a transport itself. As a consumer it can do more than the one that is made for processes.
        itransport = process.session if IConsumer.providedBy(process.session) else process
        self._running.makeConnection(itransport)
        process.makeConnection(wrapProtocol(self._running))

    def eofReceived(self) -> None:
        self._running.readConnectionLost()

    def closed(self) -> None:
        """Nothing: the protocol has been told by its transport."""

    def getPty(self, term: object, windowSize: object, modes: object) -> None:
        raise NotImplementedError

    def openShell(self, process: object) -> None:
        raise NotImplementedError

    def windowChanged(self, windowSize: object) -> None:
        raise NotImplementedError


@implementer(IRealm)
class Realm:
    """Makes each who logs in a `User`, whose arguments these are."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def requestAvatar(self, name: object, mind: object, *interfaces: Any) -> Any:
        return IConchUser, User(*self._arguments), lambda: None


@contextlib.asynccontextmanager
async def listening(services: Services, channel: type[SSHSession] = SSHSession) -> AsyncIterator[int]:
    """The port of a server that has *services*, whose connections are waited for at the end."""
    server = Server()
    server.portal = Portal(Realm(services, channel), list(server.portal.checkers.values()))
    factory: Any = WrappingFactory(server)
    factory.noisy = False
    loop: Any = asyncio.get_running_loop()
    port: Any = loop.reactor.listenTCP(0, factory, interface="127.0.0.1")
    try:
        yield port.getHost().port
    finally:
        await port.stopListening()
        while factory.protocols:
            await asyncio.sleep(0)


def endpoint_of(command: bytes, port: int) -> SSHCommandClientEndpoint:
    """The endpoint of a command on a new connection."""
    known_hosts: Any = KnownHostsFile(FilePath(os.devnull))
    known_hosts.addHostKey(b"127.0.0.1", host_key().public())
    loop: Any = asyncio.get_running_loop()
    return SSHCommandClientEndpoint.newConnection(
        loop.reactor, command, b"user", b"127.0.0.1", port, keys=[user_key()], knownHosts=known_hosts
    )


def end_input(writer: asyncio.StreamWriter) -> None:
    """Tell the other side that nothing more is written: SSH can, but Twisted's channels have no method for it."""
    channel = writer.get_extra_info("twisted_transport")
    channel.conn.sendEOF(channel)


@contextlib.asynccontextmanager
async def both_ends(channel: type[SSHSession] = SSHSession) -> AsyncIterator[tuple[Streams, Streams]]:
    """The streams of a command, and those of its client."""
    accepted: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()

    def protocol() -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), lambda *streams: accepted.set_result(streams))

    async with listening({b"command": protocol}, channel) as port:
        client = await txasync.open_connection(endpoint_of(b"command", port))
        yield await accepted, client
        for _, writer in await accepted, client:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def test_streams_go_over_a_channel(perform: Perform) -> None:
    """Lines and megabytes, both ways at once; each end is told of the other's."""

    async def main() -> None:
        async with both_ends() as ((reader, writer), (peer_reader, peer_writer)):
            peer_writer.write(b"guten ")
            peer_writer.writelines([b"Tag\n", bytearray(b"and more\n")])
            assert [await reader.readline(), await reader.readline()] == [b"guten Tag\n", b"and more\n"]
            for each in writer, peer_writer:
                each.write(MEGABYTE)
            received = await asyncio.gather(
                reader.readexactly(len(MEGABYTE)), peer_reader.readexactly(len(MEGABYTE)), writer.drain()
            )
            assert list(received[:2]) == [MEGABYTE, MEGABYTE]
            end_input(peer_writer)
            assert await reader.read() == b""
            writer.write(MEGABYTE)
            writer.close()
            assert await peer_reader.read() == MEGABYTE
            await peer_writer.wait_closed()

    perform(main)


def test_protocols_are_called_in_order(perform: Perform) -> None:
    """The client's side closes: both are told that it was no error."""

    async def main() -> None:
        made: list[ProtocolEnd] = []

        def command() -> ProtocolEnd:
            made.append(ProtocolEnd())
            return made[-1]

        async with listening({b"command": command}) as port:
            transport, client = await txasync.connect(endpoint_of(b"command", port), ProtocolEnd)
            (served,) = made
            client.send(b"question")
            assert await served.receives(8) == b"question"
            served.send(b"answer")
            assert await client.receives(6) == b"answer"
            transport.close()
            assert await client.lost is None
            assert await served.lost is None
            assert served.callbacks[-1:] == ["eof_received"]

    perform(main)


def test_what_is_known_of_a_channel(perform: Perform) -> None:
    """The names are those of the connection that it is multiplexed on; there is no socket, and no half-close."""

    async def main() -> None:
        async with both_ends() as ((_, writer), (_, peer)):
            assert writer.get_extra_info("sockname") == peer.get_extra_info("peername")
            assert writer.get_extra_info("peername") == peer.get_extra_info("sockname")
            assert writer.get_extra_info("sockname")[0] == "127.0.0.1"
            for each in writer, peer:
                assert [each.get_extra_info(name) for name in ("socket", "sslcontext", "ssl_object", "peercert")] == [
                    None
                ] * 4
                assert not each.can_write_eof()
                with pytest.raises(NotImplementedError):
                    each.write_eof()

    perform(main)


def test_channels_of_one_connection_do_not_disturb_each_other(perform: Perform) -> None:
    """A second command of the same connection has streams of its own."""

    async def main() -> None:
        def echo() -> asyncio.StreamReaderProtocol:
            async def send_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                writer.write(await reader.readexactly(len(MEGABYTE)))
                writer.close()

            return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=len(MEGABYTE)), send_back)

        async with listening({b"echo": echo, b"stay": ProtocolEnd}) as port:
            # The connection is closed with the channel that it was made for.
            staying, end = await txasync.connect(endpoint_of(b"stay", port), ProtocolEnd)
            connection = staying.get_extra_info("twisted_transport").conn
            endpoint = SSHCommandClientEndpoint.existingConnection(connection, b"echo")
            first, second = await txasync.open_connection(endpoint), await txasync.open_connection(endpoint)
            for _, writer in first, second:
                writer.write(MEGABYTE)
            assert list(await asyncio.gather(second[0].read(), first[0].read())) == [MEGABYTE] * 2
            for _, writer in first, second:
                writer.close()
                await writer.wait_closed()
            staying.close()
            await end.lost

    perform(main)


def test_an_exit_status_other_than_zero_is_how_the_connection_was_lost(perform: Perform) -> None:
    """The streams raise, and Twisted's error, the cause, has the status."""

    async def main() -> None:
        async with both_ends() as ((_, writer), (peer_reader, peer_writer)):
            process = writer.get_extra_info("twisted_transport")
            process.session.conn.sendRequest(process.session, b"exit-status", struct.pack(">L", 3))
            writer.close()
            with pytest.raises(ConnectionResetError) as error:
                await peer_reader.read()
            assert error.value.__cause__ is not None
            assert getattr(error.value.__cause__, "exitCode", None) == 3
            with pytest.raises(ConnectionResetError):
                await peer_writer.wait_closed()

    perform(main)


def test_a_connection_that_is_lost_ends_its_channels(perform: Perform) -> None:
    """Conch says of each of them that it was closed, whatever has become of the connection."""

    async def main() -> None:
        async with both_ends() as ((reader, writer), (peer_reader, peer_writer)):
            connection = peer_writer.get_extra_info("twisted_transport").conn
            connection.transport.transport.abortConnection()
            assert await reader.read() == b""
            await writer.wait_closed()
            # Twisted's endpoint does not pass this on to the channels of its connection, as Conch's client does.
            connection.serviceStopped()
            assert await peer_reader.read() == b""
            await peer_writer.wait_closed()

    perform(main)


def test_nothing_is_delivered_while_reading_is_paused(perform: Perform) -> None:
    """Conch goes on receiving, beyond its window: what comes waits in the adapter, however much it is."""

    async def main() -> None:
        made: list[ProtocolEnd] = []

        def command() -> ProtocolEnd:
            made.append(ProtocolEnd())
            return made[-1]

        async with listening({b"command": command}) as port:
            transport, client = await txasync.connect(endpoint_of(b"command", port), ProtocolEnd)
            (served,) = made
            transport.pause_reading()
            channel = transport.get_extra_info("twisted_transport")
            served.send(MEGABYTE + b"end")
            while served.transport.get_extra_info("twisted_transport").session.buf:
                await asyncio.sleep(0)
            served.transport.close()
            assert await served.lost is None
            while not channel.remoteClosed:
                await asyncio.sleep(0)
            assert not client.lost.done()
            transport.resume_reading()
            assert await client.receives(len(MEGABYTE) + 3) == MEGABYTE + b"end"
            assert await client.lost is None

    perform(main)


def test_a_channel_of_conchs_says_nothing_of_what_it_holds(perform: Perform) -> None:
    """It is no consumer, so that nobody is asked to pause writing; nothing is lost."""

    async def main() -> None:
        async with both_ends() as ((_, writer), (peer_reader, peer_writer)):
            peer_writer.transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(4):
                writer.write(MEGABYTE)
                await writer.drain()
            assert writer.transport.get_write_buffer_size() == 0
            peer_writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert await peer_reader.readexactly(4 * len(MEGABYTE)) == MEGABYTE * 4

    perform(main)


@implementer(IConsumer)
class ConsumingSession(SSHSession):
    """A channel that tells its producer: Conch's own tells subclasses, and whoever looks."""

    _producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def stopWriting(self) -> None:
        if self._producer is not None:
            self._producer.pauseProducing()

    def addWindowBytes(self, data: int) -> None:
        super().addWindowBytes(data)  # type: ignore[no-untyped-call]
        if not self.buf and self._producer is not None:
            self._producer.resumeProducing()


def test_a_channel_that_is_a_consumer_holds_its_writer_up(perform: Perform) -> None:
    """What the other side's window has no room for is bounded by a chunk, and nothing is lost."""

    async def main() -> None:
        chunk = bytes(64 * 1024)
        most = written = 0

        async def write(writer: asyncio.StreamWriter) -> None:
            nonlocal most, written
            session = writer.get_extra_info("twisted_transport")
            for _ in range(64):
                writer.write(chunk)
                written += len(chunk)
                most = max(most, len(session.buf))
                await writer.drain()
            writer.close()

        async with both_ends(ConsumingSession) as ((_, writer), (peer_reader, _)):
            writing = asyncio.ensure_future(write(writer))
            read = len(await peer_reader.read())
            await writing
            assert read == written == 64 * len(chunk)
            assert 0 < most <= len(chunk)

    perform(main)


@pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh program is installed")
def test_openssh_talks_to_an_asyncio_protocol(perform: Perform, tmp_path: Path) -> None:
    """It gets its input's end to the streams, and what they write to its output."""

    async def main() -> None:
        async def reverse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read())[::-1])
            writer.close()

        key = tmp_path / "key"
        key.touch(0o600)
        key.write_bytes(user_key().toString("openssh"))
        options = ["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-q"]
        service: Services = {b"reverse": lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), reverse)}
        async with listening(service) as port:
            address = ["-p", str(port), "-i", str(key), "user@127.0.0.1"]
            pipes: dict[str, Any] = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
            process = await asyncio.create_subprocess_exec("ssh", *options, *address, "reverse", **pipes)
            output, _ = await process.communicate(MEGABYTE)
            assert output == MEGABYTE[::-1]

    perform(main)
