"""
Bad TLS peers, and what a connection to one comes to.

A peer is a script for a `Line`: a plain socket, worked by the coroutine's own loop. Where it speaks TLS, it does so by
the standard library in memory, so that what it sends can be cut or spoilt anywhere. Scripts meet stock asyncio as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import itertools
import socket
import ssl
import struct
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    TLSVersion,
    optionsForClientTLS,
    trustRootFromCertificates,
)

from ..conftest import open_descriptors
from ..tls.contexts import authority, certificate, client_context, server_context
from .combinations import COMBINATIONS

LIMIT_S = 10.0
"""Whatever takes longer hangs."""

UNUSUAL_CIPHERS = "ECDHE-ECDSA-ARIA128-GCM-SHA256:@SECLEVEL=1"
"""For TLS 1.2: what nobody has who does not ask for it."""

Script = Callable[["Line"], Awaitable[None]]
"""What a peer does."""


# Which loops


def spread(rows: tuple[Row, ...], kinds: tuple[str, ...]) -> pytest.MarkDecorator:
    """Each row for each kind, in one of the combinations, by turns."""
    cases = [
        (row, kind, COMBINATIONS[(i + j) % len(COMBINATIONS)])
        for (i, row), (j, kind) in itertools.product(enumerate(rows), enumerate(kinds))
    ]
    ids = ["-".join((str(row), kind, *combination)) for row, kind, combination in cases]
    return pytest.mark.parametrize(("row", "kind", "combination"), cases, ids=ids, indirect=["combination"])


def each_in_its_combination(kinds: tuple[str, ...]) -> pytest.MarkDecorator:
    """Each kind, in one of the combinations."""
    cases = list(zip(kinds, itertools.cycle(COMBINATIONS)))
    ids = ["-".join((kind, *combination)) for kind, combination in cases]
    return pytest.mark.parametrize(("kind", "combination"), cases, ids=ids, indirect=["combination"])


# Certificates


@functools.cache
def strangers() -> trustme.CA:
    """An authority that nobody trusts."""
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@functools.cache
def expired() -> trustme.LeafCert:
    """A certificate that was good in 2010."""
    return _for_a_year(2010)


@functools.cache
def premature() -> trustme.LeafCert:
    """A certificate that is to be good in 2090."""
    return _for_a_year(2090)


def _for_a_year(year: int) -> trustme.LeafCert:
    january, december = datetime.datetime(year, 1, 1), datetime.datetime(year, 12, 1)
    return authority().issue_cert("localhost", not_before=january, not_after=december)


@functools.cache
def strange() -> trustme.LeafCert:
    """A certificate by an authority that nobody trusts."""
    return strangers().issue_cert("localhost", "127.0.0.1")


@functools.cache
def made_by_hand(
    *names: str, common_name: str = "localhost", self_signed: bool = False, weak_key: bool = False
) -> trustme.LeafCert:
    """
    A certificate such as a good authority would not issue.

    Args:
        names: Its subjectAltName, as it is; it has none if there are none.
        common_name: Its common name.
        self_signed: Whether no authority has signed it.
        weak_key: Whether its key is one of RSA that is too short.
    """
    key: Any = rsa.generate_private_key(65537, 1024) if weak_key else ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(authority().cert_pem.bytes())
    signing: Any = serialization.load_pem_private_key(authority().private_key_pem.bytes(), None)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if self_signed else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(2020, 1, 1))
        .not_valid_after(datetime.datetime(2090, 1, 1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((key if self_signed else signing).public_key()),
            critical=False,
        )
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    made = builder.sign(key if self_signed else signing, hashes.SHA256())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return trustme.LeafCert(pem, made.public_bytes(serialization.Encoding.PEM), [])


# Contexts: the peers', and ours where a test wants more of them than tests.tls.contexts gives


@functools.cache
def peer_context(
    leaf: trustme.LeafCert | None = None,
    *,
    server_side: bool,
    at_least: ssl.TLSVersion | None = None,
    at_most: ssl.TLSVersion | None = None,
    ciphers: str = "ALL:@SECLEVEL=0",
    wants: Callable[[], trustme.CA] | None = None,
) -> ssl.SSLContext:
    """
    A peer's context, which is not particular about anything.

    Args:
        leaf: The peer's certificate. Default: a server's is `certificate()`, a client has none.
        server_side: Whether the peer is the server.
        at_least: The lowest version of TLS.
        at_most: The highest version of TLS.
        ciphers: Those of TLS 1.2.
        wants: The authority that must have issued the other end's certificate. Default: it need have none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE if wants is None else ssl.CERT_REQUIRED
    context.set_ciphers(ciphers)
    if wants is not None:
        wants().configure_trust(context)
    if leaf is not None or server_side:
        (leaf or certificate()).configure_cert(context)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions
        if at_least is not None or at_most is not None:
            context.minimum_version = at_least or ssl.TLSVersion.MINIMUM_SUPPORTED
        if at_most is not None:
            context.maximum_version = at_most
    return context


class Demands(NamedTuple):
    """
    What our context asks for, and what it offers.

    Attributes:
        host: Whom our client wants to talk to.
        only: The only version of TLS.
        leaf: Our client's certificate, if it has any.
        clients_of: The authority that must have issued clients' certificates, if they are to have any.
        common_name_counts: Whether a certificate's common name is its name, where it has no subjectAltName; this is
            so by default in the standard library, and never elsewhere.
    """

    host: str = "localhost"
    only: ssl.TLSVersion | None = None
    leaf: Callable[[], trustme.LeafCert] | None = None
    clients_of: Callable[[], trustme.CA] | None = None
    common_name_counts: bool = True


def our_client(kind: str, demands: Demands = Demands()) -> Any:
    """What our client's ``ssl=`` is given: *kind* is one of ``CLIENT_KINDS``."""
    # All but one kind are told the host by create_connection(), so that one context is enough for all hosts.
    return _our_client(kind, demands if kind == "creator" else demands._replace(host=""))


@functools.cache
def _our_client(kind: str, demands: Demands) -> Any:
    if demands.only is not None and kind in ("options", "creator"):
        root = trustRootFromCertificates([Certificate.loadPEM(authority().cert_pem.bytes())])
        versions = _twisted_versions(demands.only)
        if kind == "options":
            return CertificateOptions(trustRoot=root, **versions)
        return optionsForClientTLS(demands.host, trustRoot=root, extraCertificateOptions=versions)
    given = client_context(kind, demands.host, leaf=demands.leaf and demands.leaf())
    if isinstance(given, ssl.SSLContext):
        given.hostname_checks_common_name = demands.common_name_counts
    return _with_version(given, demands.only)


@functools.cache
def our_server(kind: str, demands: Demands = Demands()) -> Any:
    """What our server's ``ssl=`` is given: *kind* is one of ``SERVER_KINDS``."""
    if demands.only is not None and kind == "options":
        own = PrivateCertificate.loadPEM(certificate().private_key_and_cert_chain_pem.bytes())
        versions = _twisted_versions(demands.only)
        return CertificateOptions(privateKey=own.privateKey.original, certificate=own.original, **versions)
    given = server_context(kind, clients_of=demands.clients_of and demands.clients_of())
    return _with_version(given, demands.only)


def _twisted_versions(only: ssl.TLSVersion) -> dict[str, Any]:
    version = {ssl.TLSVersion.TLSv1_2: TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3: TLSVersion.TLSv1_3}[only]
    return {"insecurelyLowerMinimumTo": version, "lowerMaximumSecurityTo": version}


def _with_version(given: Any, only: ssl.TLSVersion | None) -> Any:
    if only is None:
        return given
    if isinstance(given, ssl.SSLContext):
        given.minimum_version = given.maximum_version = only
    else:
        given.set_min_proto_version(only)
        given.set_max_proto_version(only)
    return given


# Peers


class Line:
    """A peer's end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock

    async def send(self, data: bytes) -> None:
        """Send *data*, as far as the other end is still there."""
        with contextlib.suppress(ConnectionError):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive(self) -> bytes:
        """What has come, when something has; nothing once the other end has closed, or reset, the connection."""
        try:
            return await asyncio.get_running_loop().sock_recv(self.sock, 1 << 16)
        except ConnectionError:
            return b""

    async def see_end(self) -> None:
        """Return when the other end has closed, or reset, the connection."""
        while self.sock.fileno() != -1 and await self.receive():
            pass

    def end(self) -> None:
        """Send nothing any more."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close the connection with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Speaker:
    """
    TLS, in memory, on a line.

    Attributes:
        told: The text of the error that the other end has caused, if it has.
    """

    def __init__(self, line: Line, context: ssl.SSLContext) -> None:
        self.line = line
        self.told = ""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server_side = context.protocol == ssl.PROTOCOL_TLS_SERVER
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side)

    def flight(self) -> bytes:
        """What is to be sent now, which is up to the caller."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._outgoing.read()

    async def hear(self) -> None:
        """Take what comes from the other end."""
        data = await self.line.receive()
        self._incoming.write(data) if data else self._incoming.write_eof()

    async def shake_hands(self) -> bool:
        """Complete the handshake; false if that fails."""
        try:
            await self._do(self._tls.do_handshake)
        except ssl.SSLError as error:
            self.told = str(error)
            return False
        return True

    async def say(self, data: bytes) -> None:
        """Send *data*."""
        await self.line.send(self.record(data))

    def record(self, data: bytes) -> bytes:
        """The bytes of the record that says *data*."""
        self._tls.write(data)
        return self._outgoing.read()

    async def listen(self) -> bytes:
        """What the other end has said; nothing if it has ended."""
        try:
            heard: bytes = await self._do(self._tls.read, 1 << 16)
        except ssl.SSLError as error:
            self.told = str(error)
            return b""
        return heard

    async def _do(self, operation: Callable[..., Any], *args: Any) -> Any:
        while True:
            try:
                return operation(*args)
            except ssl.SSLWantReadError:
                pass
            finally:
                # Alerts, too.
                if data := self._outgoing.read():
                    await self.line.send(data)
            await self.hear()


# What becomes of a connection


class Witness(asyncio.Protocol):
    """
    Our protocol.

    Attributes:
        calls: The callbacks so far, with their arguments.
        lost: Done when the connection is lost.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.error: Exception | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("connection_made")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.calls.append(f"data_received {data!r}")
        self.transport.write(data)

    def eof_received(self) -> None:
        self.calls.append("eof_received")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append(f"connection_lost {class_of(exc)}")
        self.error = exc
        self.lost.set_result(None)

    def forget(self) -> None:
        """End the connection, if there is one still; in asyncio of 3.10, that is not too late when it is lost."""
        if self.transport is not None:
            self.transport.abort()
            self.transport = None


def class_of(error: BaseException | None) -> str:
    """The name of *error*'s class, as the standard library would have it."""
    if error is None:
        return "None"
    return next(base.__name__ for base in type(error).__mro__ if not base.__module__.startswith("txasync"))


def shape_of(error: BaseException | None) -> tuple[str, Any]:
    """*error*'s class and, if it is of OpenSSL, its reason."""
    return class_of(error), getattr(error, "verify_message", None) or getattr(error, "reason", None)


class Outcome(NamedTuple):
    """What our end has seen of a bad peer: the error that there was, and the callbacks."""

    error: BaseException | None
    calls: list[str]

    @property
    def shape(self) -> tuple[Any, ...]:
        """What is to be the same in stock asyncio."""
        return *shape_of(self.error), self.calls


@contextlib.contextmanager
def overheard(loop: asyncio.AbstractEventLoop) -> Iterator[list[dict[str, Any]]]:
    """What *loop*'s exception handler is called with."""
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: contexts.append(context))
    yield contexts
    loop.set_exception_handler(None)


async def meet_server(
    script: Script, given: Any, demands: Demands = Demands(), timeout_s: float = LIMIT_S, *, late: bool = False
) -> Outcome:
    """
    Connect our client, whose ``ssl=`` is *given*, to a server that does what *script* says.

    Args:
        script: What the server does.
        given: Our context.
        demands: What *given* asks for.
        timeout_s: The time for the handshake.
        late: Whether TLS begins by `start_tls()`.

    Returns:
        The error with which that failed, or that the connection, once made, was lost with.
    """
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        peer = loop.create_task(_play_server(listening, script))
        witness = Witness()
        error: BaseException | None = None
        try:
            address = listening.getsockname()
            tls: Any = {"server_hostname": demands.host, "ssl_handshake_timeout": timeout_s}
            if late:
                plain, _ = await loop.create_connection(lambda: witness, *address)
                witness.transport = await asyncio.wait_for(loop.start_tls(plain, witness, given, **tls), LIMIT_S)
            else:
                await asyncio.wait_for(loop.create_connection(lambda: witness, *address, ssl=given, **tls), LIMIT_S)
            await asyncio.wait_for(witness.lost, LIMIT_S)
            error = witness.error
        except OSError as failure:
            error = without_frames(failure)
        finally:
            witness.forget()
        await asyncio.wait_for(peer, LIMIT_S)
    return Outcome(error, witness.calls)


def without_frames(error: BaseException) -> BaseException:
    """*error*, and what caused it, without the frames that they came from, and all that is in these."""
    reason: BaseException | None = error
    while reason is not None:
        reason.__traceback__ = None
        reason = reason.__cause__ or reason.__context__
    return error


async def _play_server(listening: socket.socket, script: Script) -> None:
    sock, _ = await asyncio.get_running_loop().sock_accept(listening)
    with sock:
        await script(Line(sock))


class Served:
    """
    Our server, whose ``ssl=`` is *given*, to be met by bad clients and by good ones.

    Attributes:
        witnesses: The protocols so far.
    """

    def __init__(self, given: Any, timeout_s: float = LIMIT_S) -> None:
        self._given = given
        self._timeout_s = timeout_s
        self.witnesses: list[Witness] = []

    async def __aenter__(self) -> Served:
        self._server = await asyncio.get_running_loop().create_server(
            self._witness, "127.0.0.1", 0, ssl=self._given, ssl_handshake_timeout=self._timeout_s
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.wait_for(self._server.wait_closed(), LIMIT_S)
        # The server, and so this, may wait for the garbage collector; connections may not.
        while self.witnesses:
            self.witnesses.pop().forget()

    def _witness(self) -> Witness:
        self.witnesses.append(Witness())
        return self.witnesses[-1]

    async def meet_client(self, script: Script) -> None:
        """Have a client that does what *script* says connect, and see that our end of it is closed afterwards."""
        await self.meet_clients([script])

    async def meet_clients(self, scripts: list[Script]) -> None:
        """The same with several clients at once."""
        before = len(open_descriptors())
        await asyncio.wait_for(asyncio.gather(*map(self._play_client, scripts)), LIMIT_S)
        await until(lambda: len(open_descriptors()) <= before)

    async def _play_client(self, script: Script) -> None:
        with socket.socket() as sock:
            line = Line(sock)
            await asyncio.get_running_loop().sock_connect(sock, self._server.sockets[0].getsockname())
            await script(line)

    async def serves(self, leaf: trustme.LeafCert | None = None) -> bool:
        """Whether a good client, with the certificate *leaf*, is served."""
        heard: list[bytes] = []

        async def ask(line: Line) -> None:
            speaker = Speaker(line, peer_context(leaf, server_side=False, wants=authority))
            if await speaker.shake_hands():
                await speaker.say(b"hello")
                heard.append(await speaker.listen())

        await self.meet_client(ask)
        return heard == [b"hello"]


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until *condition* is true."""

    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0)

    await asyncio.wait_for(wait(), LIMIT_S)


# What bad peers do

SERVER, CLIENT = True, False


def speaks(side: bool, leaf: Callable[[], trustme.LeafCert] | None = None, **settings: Any) -> Script:
    """A peer that means well, as far as `peer_context` lets it."""

    async def script(line: Line) -> None:
        context = peer_context(None if leaf is None else leaf(), server_side=side, **settings)
        await Speaker(line, context).shake_hands()
        await line.see_end()

    return script


def sends(data: bytes) -> Script:
    """A peer that sends *data*, whatever it hears."""

    async def script(line: Line) -> None:
        await line.send(data)
        await line.see_end()

    return script


def answers(data: bytes) -> Script:
    """A peer that answers with *data*, whatever it hears."""

    async def script(line: Line) -> None:
        await line.receive()
        await sends(data)(line)

    return script


def breaks_off(side: bool, then: Callable[[Line], object], at: int | None = None, *, hears: bool = False) -> Script:
    """
    A peer that gives up in the handshake.

    Args:
        side: Whether it is the server.
        then: What it does then.
        at: Where its first flight ends, as an index.
        hears: Whether a client takes the answer to its first flight.
    """

    async def script(line: Line) -> None:
        speaker = Speaker(line, peer_context(server_side=side))
        if side is SERVER:
            await speaker.hear()
        await line.send(speaker.flight()[:at])
        if hears:
            await speaker.hear()
        then(line)
        await line.see_end()

    return script


def shakes_hands(side: bool, and_then: Callable[[Speaker], Awaitable[object]]) -> Script:
    """A peer whose handshake is good, but what it does then is not."""

    async def script(line: Line) -> None:
        speaker = Speaker(line, peer_context(server_side=side))
        assert await speaker.shake_hands()
        await and_then(speaker)
        await line.see_end()

    return script


def waits(_line: Line) -> None:
    """The line is left open."""


async def says_hello_and_ends(speaker: Speaker) -> None:
    """No close_notify before the end."""
    await speaker.say(b"hello")
    assert await speaker.listen() == b"hello"
    speaker.line.end()


async def ends_in_a_record(speaker: Speaker) -> None:
    """The end comes too early."""
    await speaker.line.send(speaker.record(b"x" * 100)[:50])
    speaker.line.end()


async def spoils_a_record(speaker: Speaker) -> None:
    """A bit was changed on the way."""
    record = speaker.record(b"x" * 100)
    await speaker.line.send(record[:-1] + bytes([record[-1] ^ 1]))


# The tables


class Row(NamedTuple):
    """
    A bad peer, and what it comes to.

    Attributes:
        name: What is bad.
        script: What it does.
        error: The class of our end's error, if there is any.
        says: What its text matches, whatever the case of the letters.
        demands: What our context asks for.
        calls: Our protocol's callbacks, if the badness shows only after the handshake.
        timeout_s: The time for the handshake.
    """

    name: str
    script: Script
    error: type[BaseException] | None
    says: str = ""
    demands: Demands = Demands()
    calls: tuple[str, ...] = ()
    timeout_s: float = LIMIT_S

    def __str__(self) -> str:
        return self.name.replace(", ", "-").replace(" ", "-")


TLS1_1, TLS1_2, TLS1_3 = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

# The calls of what has its handshake, but no good end.
ENDED = "connection_made", "data_received b'hello'", "eof_received", "connection_lost None"
CUT_OFF = "connection_made", "eof_received", "connection_lost None"
BROKEN = "connection_made", "connection_lost SSLError"

# In the second form where service_identity refuses the certificate as a whole.
MISMATCH = "mismatch, certificate is not valid for '|certificate cannot be checked for '"
BAD_MAC = "bad record mac|record layer failure"

WITH_CERTIFICATE = Demands(leaf=certificate)
WANTS_CERTIFICATES = Demands(clients_of=authority)

HTTP_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HTTP_RESPONSE = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"

GARBAGE = {
    "garbage": bytes(range(255, -1, -1)),
    "zeros": bytes(300),
    "a record that is too long": b"\x16\x03\x03\xff\xff" + bytes(300),
    "a record of garbage": b"\x16\x03\x03\x00\x40" + bytes(range(255, 191, -1)),
    "data before the handshake": b"\x17\x03\x03\x00\x05hello",
}

# An alert: the handshake has failed.
ALERT = b"\x15\x03\x03\x00\x02\x02\x28"


def _refused(name: str, leaf: Callable[[], trustme.LeafCert], says: str, host: str = "localhost", **more: Any) -> Row:
    return Row(name, speaks(SERVER, leaf), ssl.SSLCertVerificationError, says, Demands(host, **more))


def _wildcard(pattern: str, host: str) -> Row:
    return _refused(f"wildcard {pattern} for {host}", functools.partial(made_by_hand, pattern), MISMATCH, host)


def _fails(name: str, script: Script, says: str = "", demands: Demands = Demands(), calls: tuple[str, ...] = ()) -> Row:
    return Row(name, script, ssl.SSLError, says, demands, calls)


def _hangs(name: str, script: Script) -> Row:
    # Long enough for our own part, and a tenth of a second is not waited for often.
    return Row(name, script, ConnectionAbortedError, "longer than 0.1 seconds", timeout_s=0.1)


def _ends(name: str, script: Script) -> Row:
    return Row(name, script, ConnectionResetError)


_self_signed = functools.partial(made_by_hand, "localhost", self_signed=True)
_weak = functools.partial(made_by_hand, "localhost", weak_key=True)

BAD_SERVERS = (
    # Certificates
    _refused("expired", expired, "certificate has expired"),
    _refused("not yet valid", premature, "certificate is not yet valid"),
    _refused("self-signed", _self_signed, "self-signed certificate"),
    _refused("unknown authority", strange, "unable to get local issuer certificate"),
    _refused("wrong host", lambda: certificate("example.org"), "hostname mismatch.*'localhost'"),
    _refused("wrong address", lambda: certificate("127.0.0.2"), "IP address mismatch.*'127.0.0.1'", "127.0.0.1"),
    _refused("address as a name", lambda: made_by_hand("127.0.0.1"), MISMATCH, "127.0.0.1"),
    _wildcard("*", "localhost"),
    _wildcard("*.com", "example.com"),
    _wildcard("*.example.com", "a.b.example.com"),
    _wildcard("*.*.example.com", "a.b.example.com"),
    _refused("no subjectAltName", made_by_hand, MISMATCH, common_name_counts=False),
    _refused("no name at all", functools.partial(made_by_hand, common_name="nobody"), MISMATCH),
    _refused("weak key", _weak, "key too weak"),
    # Our certificate
    _fails("missing certificate, TLS 1.2", speaks(SERVER, wants=strangers, at_most=TLS1_2), "handshake failure"),
    _fails("missing certificate", speaks(SERVER, wants=strangers), "certificate required", calls=BROKEN),
    _fails("refusal, TLS 1.2", speaks(SERVER, wants=strangers, at_most=TLS1_2), "unknown ca", WITH_CERTIFICATE),
    _fails("refusal", speaks(SERVER, wants=strangers), "unknown ca", WITH_CERTIFICATE, BROKEN),
    # What cannot be agreed upon
    _fails("TLS 1.1", speaks(SERVER, at_most=TLS1_1), "protocol version|unsupported protocol"),
    _fails("TLS 1.2 for 1.3", speaks(SERVER, at_most=TLS1_2), "protocol version", Demands(only=TLS1_3)),
    _fails("TLS 1.3 for 1.2", speaks(SERVER, at_least=TLS1_3), "protocol version", Demands(only=TLS1_2)),
    _fails("no common cipher", speaks(SERVER, at_most=TLS1_2, ciphers=UNUSUAL_CIPHERS), "handshake failure"),
    _fails("an alert", answers(ALERT), "handshake failure"),
    # What is no TLS
    _fails("HTTP", answers(HTTP_RESPONSE), "wrong version number|packet length|http"),
    *[_fails(name, answers(data)) for name, data in GARBAGE.items()],
    # Those that do not go on
    _hangs("silence", sends(b"")),
    _hangs("silence in the handshake", breaks_off(SERVER, waits, -10)),
    _ends("the end at once", breaks_off(SERVER, Line.end, 0)),
    _ends("the end in the handshake", breaks_off(SERVER, Line.end, -10)),
    _ends("a reset at once", breaks_off(SERVER, Line.reset, 0)),
    _ends("a reset in the handshake", breaks_off(SERVER, Line.reset, -10)),
    # Those that go wrong afterwards
    Row("the end without close_notify", shakes_hands(SERVER, says_hello_and_ends), None, calls=ENDED),
    Row("the end in a record", shakes_hands(SERVER, ends_in_a_record), None, calls=CUT_OFF),
    _fails("a spoilt record", shakes_hands(SERVER, spoils_a_record), BAD_MAC, calls=BROKEN),
)


def _refused_clients(name: str, leaf: Callable[[], trustme.LeafCert], says: str) -> list[Row]:
    versions = {"TLS 1.2": TLS1_2, "TLS 1.3": TLS1_3}
    scripts = {f"{name}, {version}": speaks(CLIENT, leaf, at_most=at_most) for version, at_most in versions.items()}
    refusal = ssl.SSLCertVerificationError
    return [Row(name, script, refusal, says, WANTS_CERTIFICATES) for name, script in scripts.items()]


BAD_CLIENTS = (
    # Certificates
    *_refused_clients("expired", expired, "certificate has expired"),
    *_refused_clients("not yet valid", premature, "certificate is not yet valid"),
    *_refused_clients("self-signed", _self_signed, "self-signed certificate"),
    *_refused_clients("unknown authority", strange, "unable to get local issuer certificate"),
    *_refused_clients("weak key", _weak, "key too weak"),
    _fails("none, TLS 1.2", speaks(CLIENT, at_most=TLS1_2), "did not return a certificate", WANTS_CERTIFICATES),
    _fails("none, TLS 1.3", speaks(CLIENT), "did not return a certificate", WANTS_CERTIFICATES),
    # Our certificate
    _fails("refusal, TLS 1.2", speaks(CLIENT, wants=strangers, at_most=TLS1_2), "unknown ca"),
    _fails("refusal, TLS 1.3", speaks(CLIENT, wants=strangers), "unknown ca"),
    # What cannot be agreed upon
    _fails("TLS 1.1", speaks(CLIENT, at_most=TLS1_1), "unsupported protocol|version too low"),
    _fails("TLS 1.2 for 1.3", speaks(CLIENT, at_most=TLS1_2), "unsupported protocol", Demands(only=TLS1_3)),
    _fails("TLS 1.3 for 1.2", speaks(CLIENT, at_least=TLS1_3), "unsupported protocol", Demands(only=TLS1_2)),
    _fails("no common cipher", speaks(CLIENT, at_most=TLS1_2, ciphers=UNUSUAL_CIPHERS), "no shared cipher"),
    _fails("an alert", sends(ALERT)),
    # What is no TLS
    _fails("HTTP", sends(HTTP_REQUEST), "http request"),
    *[_fails(name, sends(data)) for name, data in GARBAGE.items()],
    # Those that do not go on
    _hangs("silence", sends(b"")),
    _hangs("silence in its first flight", breaks_off(CLIENT, waits, -10)),
    _hangs("silence after our first flight", breaks_off(CLIENT, waits, hears=True)),
    _ends("the end at once", breaks_off(CLIENT, Line.end, 0)),
    _ends("the end in its first flight", breaks_off(CLIENT, Line.end, -10)),
    _ends("the end after our first flight", breaks_off(CLIENT, Line.end, hears=True)),
    _ends("a reset at once", breaks_off(CLIENT, Line.reset, 0)),
    _ends("a reset in its first flight", breaks_off(CLIENT, Line.reset, -10)),
    _ends("a reset after our first flight", breaks_off(CLIENT, Line.reset, hears=True)),
    # Those that go wrong afterwards
    Row("the end without close_notify", shakes_hands(CLIENT, says_hello_and_ends), None, calls=ENDED),
    Row("the end in a record", shakes_hands(CLIENT, ends_in_a_record), None, calls=CUT_OFF),
    _fails("a spoilt record", shakes_hands(CLIENT, spoils_a_record), BAD_MAC, calls=BROKEN),
)
