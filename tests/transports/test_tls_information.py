"""TLS transports: what they tell of a connection, before its end and after it, and TLS in TLS."""

from __future__ import annotations

import functools
import ssl
from asyncio.trsock import TransportSocket
from typing import Any

import pytest
from OpenSSL import SSL

from ..tls import contexts
from .recorders import describe
from .tls_stage import (
    TLSPeer,
    TLSStage,
    Way,
    client_context,
    every_kind,
    play_on_ours,
    server_context,
    some_kinds,
)
from .traces import MUCH, Peer

ALPN = ("h2", "http/1.1")
OF_TLS = ("peercert", "peercert_der", "cipher", "compression", "alpn_protocol", "tls_version")
ALL = (*OF_TLS, "sslcontext", "ssl_object", "socket", "sockname", "peername", "nothing of the kind")

STDLIB = ("stdlib", "memory")


@functools.cache
def clients_certificate() -> Any:
    """What a client shows."""
    return contexts.authority().issue_cert("client.example.org", "someone@example.org", common_name="Clïent")


@functools.cache
def context_of(side: str, kind: str, *, mutual: bool, at_most: ssl.TLSVersion | None = None) -> Any:
    """
    A context for *side* of a connection.

    Args:
        side: Which side.
        kind: What kind of context.
        mutual: Whether both sides have certificates, and speak of protocols.
        at_most: The highest version of TLS, for a context of the standard library.
    """
    if side == "server":
        trust = contexts.authority() if mutual else None
        context = contexts.server_context(kind, clients_of=trust, alpn=ALPN if mutual else ())
    else:
        leaf = clients_certificate() if mutual else None
        context = contexts.client_context(kind, leaf=leaf, alpn=ALPN if mutual else ())
    if at_most is not None:
        context.maximum_version = at_most
    return context


async def connected(stage: TLSStage, protocol: Any, *, mutual: bool, at_most: ssl.TLSVersion) -> TLSPeer:
    """Connect *protocol*, with contexts that `context_of` tells of."""
    peers_context = context_of(
        "client" if stage.side == "server" else "server", "stdlib", mutual=mutual, at_most=at_most
    )
    options = {"ssl": context_of(stage.side, stage.kind, mutual=mutual)}
    return await stage.connect_tcp(protocol, peers_context=peers_context, **options)


def certificate_shown(stage: TLSStage, *, mutual: bool) -> bytes | None:
    """The certificate that the peer has shown, in binary form."""
    if stage.side == "server":
        leaf = clients_certificate() if mutual else None
    else:
        leaf = contexts.certificate()
    return None if leaf is None else ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())


VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


@every_kind
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mutual", [False, True])
def test_what_the_handshake_has_settled_is_told_in_the_standard_librarys_form(
    way: Way, version: str, mutual: bool
) -> None:
    """Whatever the kind of context, the certificate of the peer and the rest are what the standard library tells."""

    async def told(stage: TLSStage) -> dict[str, Any]:
        protocol = stage.protocol()
        peer = await connected(stage, protocol, mutual=mutual, at_most=VERSIONS[version])
        transport = protocol.transport
        assert transport.get_extra_info("tls_version") == version
        assert transport.get_extra_info("cipher") == peer.ssl.cipher()
        assert transport.get_extra_info("compression", "the default") is None
        assert transport.get_extra_info("alpn_protocol", "the default") == ("h2" if mutual else None)
        assert transport.get_extra_info("peercert_der") == certificate_shown(stage, mutual=mutual)
        assert transport.get_extra_info("sockname") == peer.sock.getpeername()
        assert transport.get_extra_info("peername") == peer.sock.getsockname()
        assert transport.get_extra_info("nothing of the kind") is None
        assert transport.get_extra_info("nothing of the kind", "the default") == "the default"
        assert isinstance(transport.get_extra_info("socket"), TransportSocket)
        told = {name: transport.get_extra_info(name) for name in OF_TLS}
        transport.abort()
        await protocol.lost
        return told

    async def scenario(stage: TLSStage) -> None:
        ours = await told(stage)
        stage.kind = "stdlib"
        assert ours == await told(stage)
        if mutual or stage.side == "client":
            assert set(ours["peercert"]) >= {"subject", "issuer", "version", "serialNumber", "notBefore", "notAfter"}
        else:
            assert ours["peercert"] is None

    play_on_ours(scenario, way)


@every_kind
def test_what_is_told_outlives_the_connection(way: Way) -> None:
    """It is the same from connection_made to long after connection_lost."""

    async def scenario(stage: TLSStage) -> None:
        told: list[dict[str, Any]] = []

        def note(*args: Any) -> None:
            told.append({name: protocol.transport.get_extra_info(name) for name in ALL})

        protocol = stage.protocol(connection_made=note, connection_lost=note)
        peer = await connected(stage, protocol, mutual=True, at_most=ssl.TLSVersion.TLSv1_3)
        note()
        protocol.transport.close()
        note()
        peer.leave()
        await protocol.lost
        note()
        assert len(told) == 5
        assert all(each == told[0] for each in told)
        assert told[0]["sslcontext"] is not None
        assert isinstance(told[0]["ssl_object"], ssl.SSLObject if way.kind in STDLIB else SSL.Connection)
        assert told[0]["socket"].fileno() == -1

    play_on_ours(scenario, way)


@every_kind
@pytest.mark.parametrize("name", OF_TLS)
def test_what_nobody_has_asked_for_is_told_after_the_end(way: Way, name: str) -> None:
    """Even if the connection was never closed properly."""

    async def scenario(stage: TLSStage) -> None:
        answers = []
        for when in "before", "after":
            protocol = stage.protocol()
            await connected(stage, protocol, mutual=True, at_most=ssl.TLSVersion.TLSv1_3)
            if when == "before":
                answers.append(protocol.transport.get_extra_info(name))
            protocol.transport.abort()
            await protocol.lost
            if when == "after":
                answers.append(protocol.transport.get_extra_info(name))
        assert answers[0] == answers[1]

    play_on_ours(scenario, way)


@every_kind
def test_the_context_is_the_one_that_was_given_or_was_made_of_it(way: Way) -> None:
    """``sslcontext`` is an ``ssl.SSLContext`` of the standard library, or an ``OpenSSL.SSL.Context``."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol()
        await stage.connect(protocol)
        context = protocol.transport.get_extra_info("sslcontext")
        if way.kind in (*STDLIB, "context"):
            assert context is stage.context
        assert isinstance(context, ssl.SSLContext if way.kind in STDLIB else SSL.Context)

    play_on_ours(scenario, way)


@pytest.mark.parametrize("kind", STDLIB)
def test_a_certificate_that_was_not_verified_is_shown_in_binary_form_only(kind: str) -> None:
    """``peercert`` is empty then, as the standard library has it."""

    async def scenario(stage: TLSStage) -> None:
        context = contexts.client_context(kind)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        protocol = stage.protocol()
        await stage.connect(protocol, ssl=context)
        assert protocol.transport.get_extra_info("peercert") == {}
        assert protocol.transport.get_extra_info("peercert_der") == certificate_shown(stage, mutual=False)

    play_on_ours(scenario, Way("client", kind))


# TLS in TLS


class Tunnel:
    """What a `TLSPeer` takes for its socket: the inside of another one."""

    def __init__(self, outside: TLSPeer) -> None:
        self._outside = outside

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""

    def recv(self, size: int) -> bytes:
        """What has come."""
        data = self._outside.receive()
        if not data and not self._outside.ending:
            raise BlockingIOError
        return data

    def send(self, data: bytes) -> int:
        """Send it all."""
        self._outside.send(data)
        return len(data)


async def nested(stage: TLSStage, protocol: Any, inner: str) -> tuple[TLSPeer, TLSPeer]:
    """Connect *protocol* by TLS in TLS, with *inner* for the kind of the second context; both peers."""
    outside = await stage.connect(protocol)
    sock: Any = Tunnel(outside)
    inside = stage.tls_peer(Peer(sock))
    context = (server_context if stage.side == "server" else client_context)(inner)
    upgrading = stage.loop.create_task(stage.upgraded(protocol, sslcontext=context))
    await stage.greet(inside, upgrading)
    protocol.transport = await upgrading
    return outside, inside


@some_kinds
@pytest.mark.parametrize("inner", ["stdlib", "options"])
def test_tls_in_tls_ends_from_the_inside_out(way: Way, inner: str) -> None:
    """Each layer says goodbye, the inner one first, whoever ends."""

    async def scenario(stage: TLSStage) -> None:
        for end in "close", "leave":
            protocol = stage.protocol(data_received=lambda data: protocol.transport.write(data))
            outside, inside = await nested(stage, protocol, inner)
            inside.send(MUCH[:50_000])
            await stage.drain(inside)
            if end == "close":
                protocol.attempt("close")
                await stage.drain(inside)
                inside.say_goodbye()
            else:
                inside.say_goodbye()
                await stage.drain(inside)
            await stage.quiet()
            outside.receive()
            stage.note("the outer layer has ended", outside.ending)
            outside.leave()
            await stage.quiet()

    echoed = [
        "connection_made",
        "connected",
        f"data_received {describe(MUCH[:50_000])}",
        f"the peer has read {describe(MUCH[:50_000])} ''",
    ]
    assert play_on_ours(scenario, way) == [
        *echoed,
        "close",
        "the peer has read b'' 'close_notify'",
        "eof_received",
        "the outer layer has ended 'close_notify'",
        "connection_lost None",
        *echoed,
        "eof_received",
        "the peer has read b'' 'close_notify, eof'",
        "the outer layer has ended 'close_notify'",
        "connection_lost None",
    ]


@some_kinds
def test_tls_in_tls_may_end_at_any_layer(way: Way) -> None:
    """The end of the outer layer, or of the connection, is that of the inner one; abort() and a loss go through."""

    async def scenario(stage: TLSStage) -> None:
        for end in "say_goodbye", "hang_up", "abort", "gone", "garbage":
            protocol = stage.protocol()
            outside, inside = await nested(stage, protocol, "stdlib")
            stage.note(end)
            if end == "abort":
                protocol.transport.abort()
            elif end == "gone":
                outside.receive()
                outside.sock.close()
            elif end == "garbage":
                outside.send(b"no record at all")
            else:
                getattr(outside, end)()
            await stage.quiet()
            if not protocol.lost.done():
                outside.receive()
                outside.hang_up()
                await stage.quiet()
            stage.note("lost", protocol.lost.done())

    begin = ["connection_made", "connected"]
    assert play_on_ours(scenario, way) == [
        *[*begin, "say_goodbye", "eof_received", "connection_lost None", "lost True"],
        *[*begin, "hang_up", "eof_received", "connection_lost None", "lost True"],
        *[*begin, "abort", "connection_lost None", "lost True"],
        *[*begin, "gone", "eof_received", "connection_lost None", "lost True"],
        *[*begin, "garbage", "connection_lost SSLError(EPERM)", "lost True"],
    ]
