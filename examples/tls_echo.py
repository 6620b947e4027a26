"""
One TLS echo server for each kind of context, and one client of each kind for each of them.

    python examples/tls_echo.py

The contexts are the standard library's and pyOpenSSL's, as asyncio's libraries and Twisted's applications have them.
Any may talk to any. A line tells what each pair has negotiated, or that the certificate was refused, where the client
wanted to talk to somebody else.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from typing import Any

from OpenSSL import SSL
from OpenSSL.crypto import FILETYPE_PEM, X509, load_certificate, load_privatekey
from tls_certificates import Pem, make
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)

import txasync


def server_contexts(pem: Pem) -> dict[str, Any]:
    """Each kind of context for a server."""
    stdlib = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem.certificate + pem.key)
        file.flush()
        stdlib.load_cert_chain(file.name)
    bare = SSL.Context(SSL.TLS_METHOD)
    bare.use_certificate(load_certificate(FILETYPE_PEM, pem.certificate))
    bare.use_privatekey(load_privatekey(FILETYPE_PEM, pem.key))
    own = PrivateCertificate.loadPEM(pem.certificate + pem.key)
    options = CertificateOptions(privateKey=own.privateKey.original, certificate=own.original)
    return {"ssl.SSLContext": stdlib, "CertificateOptions": options, "OpenSSL.SSL.Context": bare}


def client_contexts(pem: Pem, host: str) -> dict[str, Any]:
    """Each kind of context for a client that wants to talk to *host*."""
    stdlib = ssl.create_default_context(cadata=pem.authority.decode())
    bare = SSL.Context(SSL.TLS_METHOD)
    store = bare.get_cert_store()
    assert store is not None
    authority: X509 = load_certificate(FILETYPE_PEM, pem.authority)
    store.add_cert(authority)
    bare.set_verify(SSL.VERIFY_PEER)
    root = trustRootFromCertificates([Certificate.loadPEM(pem.authority)])
    return {
        "ssl.SSLContext": stdlib,
        "optionsForClientTLS": optionsForClientTLS(host, trustRoot=root),
        "CertificateOptions": CertificateOptions(trustRoot=root),
        "OpenSSL.SSL.Context": bare,
    }


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes."""
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def talk(port: int, context: Any, host: str) -> str:
    """Exchange a message with a server on *port*, which must be *host*, and tell how that was secured."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        return f"refused: {error.verify_message}"
    writer.write(b"Guten Tag\n")
    assert await reader.readline() == b"Guten Tag\n"
    version, cipher = writer.get_extra_info("tls_version"), writer.get_extra_info("cipher")[0]
    subject = writer.get_extra_info("peercert")["subject"]
    writer.close()
    await writer.wait_closed()
    return f"{version} with {cipher}, to {subject[0][0][1]}"


async def main() -> None:
    """Let every client talk to every server, once by the right name, and once by a wrong one."""
    pem = make()
    for server_kind, server_context in server_contexts(pem).items():
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context)
        port = server.sockets[0].getsockname()[1]
        for host in "localhost", "example.org":
            for client_kind, client_context in client_contexts(pem, host).items():
                print(f"{client_kind} to {server_kind}: {await talk(port, client_context, host)}")
        server.close()
        await server.wait_closed()


if __name__ == "__main__":
    txasync.run(main())
