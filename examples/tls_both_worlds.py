"""
TLS between two worlds, on one reactor: an asyncio client of a Twisted server, a Twisted client of an asyncio server.

    python examples/tls_both_worlds.py

Both servers have the same ``CertificateOptions``: a program that moves from Twisted to asyncio keeps its security
settings. The asyncio client brings an ``ssl.SSLContext``, Twisted's own client ``optionsForClientTLS()``.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from tls_certificates import Pem, make
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ClientEndpoint, SSL4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)

import txasync


class TwistedEcho(Protocol):
    """A server of Twisted's."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"Twisted has heard: " + data)


class TwistedClient(Protocol):
    """A client of Twisted's, which says one thing."""

    def __init__(self) -> None:
        self.answer: Deferred[bytes] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"Bonjour")

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.loseConnection()
        self.answer.callback(data)


class AsyncioEcho(asyncio.Protocol):
    """A server of asyncio's."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"asyncio has heard: " + data)


def result_of(deferred: Deferred[Any]) -> asyncio.Future[Any]:
    """A Deferred's result, for a coroutine."""
    future = asyncio.get_running_loop().create_future()
    deferred.addCallbacks(future.set_result, lambda failure: future.set_exception(failure.value))
    return future


async def asyncio_client(port: int, pem: Pem) -> bytes:
    """Say one thing to the server on *port*."""
    context = ssl.create_default_context(cadata=pem.authority.decode())
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    writer.write(b"Guten Tag")
    answer = await reader.read(1000)
    writer.close()
    await writer.wait_closed()
    return answer


async def main() -> None:
    """Begin both servers, and have each called from the other world."""
    pem = make()
    own = PrivateCertificate.loadPEM(pem.certificate + pem.key)
    options = CertificateOptions(privateKey=own.privateKey.original, certificate=own.original)

    twisted_server = await result_of(
        SSL4ServerEndpoint(reactor, 0, options, interface="127.0.0.1").listen(Factory.forProtocol(TwistedEcho))
    )
    print((await asyncio_client(twisted_server.getHost().port, pem)).decode())
    await result_of(twisted_server.stopListening())

    loop = asyncio.get_running_loop()
    asyncio_server = await loop.create_server(AsyncioEcho, "127.0.0.1", 0, ssl=options)
    port = asyncio_server.sockets[0].getsockname()[1]
    root = trustRootFromCertificates([Certificate.loadPEM(pem.authority)])
    endpoint = SSL4ClientEndpoint(reactor, "127.0.0.1", port, optionsForClientTLS("localhost", trustRoot=root))
    client = await result_of(connectProtocol(endpoint, TwistedClient()))
    print((await result_of(client.answer)).decode())
    asyncio_server.close()
    await asyncio_server.wait_closed()


if __name__ == "__main__":
    txasync.run(main())
