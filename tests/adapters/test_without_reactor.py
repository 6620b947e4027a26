"""Twisted's protocols run on loops that are not ours without any reactor, TLS in mid-stream included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ..tls.contexts import authority, certificate

PROGRAM = """
import asyncio, sys

from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS, trustRootFromCertificates
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer

from txasync.adapters import as_asyncio_factory, as_asyncio_protocol

kind, own, trusted = sys.argv[1:]


class Server(LineReceiver):
    def lineReceived(self, line):
        if line == b"STARTTLS":
            self.sendLine(b"go ahead")
            with open(own, "rb") as file:
                self.transport.startTLS(PrivateCertificate.loadPEM(file.read()).options())
        else:
            self.sendLine(line.upper())
            self.transport.loseConnection()


@implementer(IHandshakeListener)
class Client(LineReceiver):
    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connectionMade(self):
        self.sendLine(b"STARTTLS")

    def lineReceived(self, line):
        print(line.decode())
        if line == b"go ahead":
            with open(trusted, "rb") as file:
                root = trustRootFromCertificates([Certificate.loadPEM(file.read())])
            self.transport.startTLS(optionsForClientTLS("localhost", trustRoot=root))

    def handshakeCompleted(self):
        self.sendLine(b"a secret")

    def connectionLost(self, reason):
        self.lost.set_result(reason.type.__name__)


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(as_asyncio_factory(Factory.forProtocol(Server)), "127.0.0.1", 0)
    client = Client()
    address = server.sockets[0].getsockname()
    await loop.create_connection(lambda: as_asyncio_protocol(client, is_client=True), *address)
    print(await client.lost)
    server.close()
    await server.wait_closed()
    print("twisted.internet.reactor" in sys.modules, type(loop).__module__.split(".")[0])


if kind == "uvloop":
    import uvloop
    loop = uvloop.new_event_loop()
else:
    loop = asyncio.SelectorEventLoop()
loop.run_until_complete(asyncio.wait_for(main(), 60))
loop.close()
"""


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_lines_are_served_and_asked_for_without_a_reactor(kind: str, tmp_path: Path) -> None:
    """A program with a server and a client, which begin TLS in mid-stream, never imports a reactor."""
    if kind == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop is not installed: the test extra has it")
    own, trusted = tmp_path / "own.pem", tmp_path / "trusted.pem"
    certificate().private_key_and_cert_chain_pem.write_to_path(str(own))
    authority().cert_pem.write_to_path(str(trusted))
    arguments = [sys.executable, "-W", "ignore", "-c", PROGRAM, kind, str(own), str(trusted)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=90)
    assert (done.stdout.splitlines(), done.stderr) == (["go ahead", "A SECRET", "ConnectionDone", f"False {kind}"], "")
