"""TLS transports: how they end, and within what time, with contexts of every kind."""

from __future__ import annotations

import asyncio
import io
import re
import ssl
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ..conftest import Reports
from ..tls import contexts
from .recorders import describe
from .tls_stage import (
    RECORD,
    TLSPeer,
    TLSStage,
    Way,
    client_context,
    every_kind,
    play_on_ours,
    server_context,
    some_kinds,
)
from .traces import MUCH, SMALL

SHORT_S = 0.05


async def connect(stage: TLSStage, protocol: Any, sndbuf: int | None = None, **options: Any) -> TLSPeer:
    """Connect *protocol*; before 3.11 only an upgrade takes ``ssl_shutdown_timeout``."""
    if sys.version_info >= (3, 11):
        return await stage.connect(protocol, sndbuf=sndbuf, **options)
    ours, plain = stage.pair(sndbuf)
    await stage.loop.create_connection(lambda: protocol, sock=ours)
    peer = stage.tls_peer(plain)
    protocol.transport = await stage.meet(peer, stage.upgraded(protocol, **options))
    return peer


# Time


@every_kind
def test_a_handshake_that_takes_too_long_fails(way: Way) -> None:
    """A peer that says nothing within ssl_handshake_timeout is a ConnectionAbortedError, and the socket is closed."""

    async def scenario(stage: TLSStage) -> None:
        ours, peer = stage.pair()
        protocol = stage.protocol()
        with pytest.raises(ConnectionAbortedError, match=r"longer than 0.05 seconds"):
            await stage.secured(protocol, ours, ssl_handshake_timeout=SHORT_S)
        assert ours.fileno() == -1
        peer.receive()
        assert peer.ending == "eof"

    assert play_on_ours(scenario, way) == []


def test_a_server_gives_up_a_handshake_that_takes_too_long() -> None:
    """A client that says nothing is disconnected; nobody hears of it."""

    async def scenario(stage: TLSStage) -> None:
        server = await stage.serve(stage.protocol, ssl=stage.context, ssl_handshake_timeout=SHORT_S)
        peer = stage.client_of(server)
        await stage.until(lambda: [peer.receive(), peer.ending][-1])
        stage.note("the peer has seen", peer.ending)

    for kind in contexts.SERVER_KINDS:
        assert play_on_ours(scenario, Way("server", kind)) == ["the peer has seen 'eof'"]


@every_kind
def test_a_peer_that_does_not_answer_close_notify_is_not_waited_for(way: Way) -> None:
    """After ssl_shutdown_timeout the connection is lost, with a TimeoutError; all that was written has arrived."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol()
        peer = await connect(stage, protocol, ssl_shutdown_timeout=SHORT_S)
        protocol.attempt("write", b"all of it")
        before = stage.loop.time()
        protocol.attempt("close")
        await protocol.lost
        assert stage.loop.time() - before > 0.9 * SHORT_S
        await stage.drain(peer)

    assert play_on_ours(scenario, way) == [
        "connection_made",
        "connected",
        "write",
        "close",
        "connection_lost TimeoutError(None)",
        "the peer has read b'all of it' 'close_notify, eof'",
    ]


@every_kind
def test_a_peer_that_does_not_read_is_not_waited_for(way: Way) -> None:
    """What it has not taken within ssl_shutdown_timeout is dropped."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol()
        await connect(stage, protocol, SMALL, ssl_shutdown_timeout=SHORT_S)
        protocol.transport.write(MUCH)
        protocol.attempt("close")
        await stage.quiet()
        assert protocol.transport.get_write_buffer_size() > 0
        await protocol.lost
        protocol.attempt("get_write_buffer_size")

    assert play_on_ours(scenario, way) == [
        "connection_made",
        "connected",
        "close",
        "connection_lost TimeoutError(None)",
        "get_write_buffer_size 0",
    ]


@every_kind
def test_a_peer_that_does_not_read_after_its_own_end_is_not_waited_for(way: Way) -> None:
    """Who ended the connection makes no difference."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol()
        peer = await connect(stage, protocol, SMALL, ssl_shutdown_timeout=SHORT_S)
        protocol.transport.write(MUCH)
        peer.leave()
        await protocol.lost

    assert play_on_ours(scenario, way) == [
        "connection_made",
        "connected",
        "eof_received",
        "connection_lost TimeoutError(None)",
    ]


@every_kind
def test_a_peer_that_never_stops_sending_is_not_waited_for(way: Way) -> None:
    """What it sends after close() is dropped, and after ssl_shutdown_timeout the connection is lost."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol()
        peer = await connect(stage, protocol, ssl_shutdown_timeout=SHORT_S)
        protocol.attempt("close")
        while not protocol.lost.done():
            try:
                peer.send(b"on and on")
            except (OSError, AssertionError):
                pass  # it is full, or gone
            await stage.a_round()

    trace = play_on_ours(scenario, way)
    assert trace[:3] == ["connection_made", "connected", "close"]
    assert trace[3:] == ["connection_lost TimeoutError(None)"]


@every_kind
def test_abort_waits_for_nothing(way: Way) -> None:
    """Neither for a peer that does not read, nor for its close_notify, nor for a paused protocol."""

    async def scenario(stage: TLSStage) -> None:
        for before in ["pause_reading"], ["write"], ["write", "close"], ["close"], ["pause_reading", "write", "close"]:
            protocol = stage.protocol()
            await stage.connect(protocol, sndbuf=SMALL)
            for method in before:
                getattr(protocol.transport, method)(*[MUCH] if method == "write" else [])
            await stage.quiet()
            protocol.attempt("abort")
            await stage.quiet()
            assert protocol.transport.get_write_buffer_size() == 0

    assert play_on_ours(scenario, way) == ["connection_made", "connected", "abort", "connection_lost None"] * 5


# Ends


@every_kind
def test_what_arrives_after_close_is_dropped(way: Way) -> None:
    """All that was written arrives, though the peer sends, before it hears of the end and after it."""

    async def scenario(stage: TLSStage) -> None:
        for early in True, False:
            protocol = stage.protocol()
            peer = await stage.connect(protocol, sndbuf=SMALL)
            protocol.transport.write(MUCH)
            if early:
                peer.send(b"crosses the close_notify")
            protocol.attempt("close")
            await stage.drain(peer)
            peer.send(b"too late")
            await stage.quiet()
            peer.leave()
            await stage.quiet()

    trace = [line for line in play_on_ours(scenario, way) if line != "eof_received"]
    for ending in "close_notify, eof", "close_notify":
        assert trace[:5] == [
            "connection_made",
            "connected",
            "close",
            f"the peer has read {describe(MUCH)} {ending!r}",
            "connection_lost None",
        ]
        del trace[:5]
    assert trace == []


@every_kind
def test_what_was_decrypted_before_close_is_dropped(way: Way) -> None:
    """A protocol that was paused with data in hand, and closes, gets nothing any more, and no error."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect(protocol)
        protocol.attempt("pause_reading")
        peer.send(b"never seen")
        await stage.quiet()
        protocol.attempt("close")
        await stage.quiet()
        peer.receive()
        assert peer.ending.startswith("close_notify")
        peer.leave()
        await stage.quiet()

    trace = play_on_ours(scenario, way)
    assert trace[:4] == ["connection_made", "connected", "pause_reading", "close"]
    assert trace[-1] == "connection_lost None"
    assert len(trace) <= 6


@every_kind
def test_an_end_without_close_notify_is_an_end(way: Way) -> None:
    """The protocol is told as of any other; the peer gets what was written, and a close_notify."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect(protocol, sndbuf=SMALL)
        protocol.transport.write(MUCH)
        peer.send(b"that's all")
        peer.hang_up()
        await stage.drain(peer)

    trace = play_on_ours(scenario, way)
    assert sorted(trace) == sorted(
        [
            "connection_made",
            "connected",
            'data_received b"that\'s all"',
            "eof_received",
            "connection_lost None",
            f"the peer has read {describe(MUCH)} 'close_notify, eof'",
        ]
    )


@every_kind
@pytest.mark.parametrize("goodbye", [True, False])
def test_a_peer_that_ends_and_is_gone_at_once_is_no_error(way: Way, goodbye: bool) -> None:
    """That it does not wait for our close_notify is its own affair: it has got all that was written."""

    async def scenario(stage: TLSStage) -> None:
        for connect in stage.connect, stage.connect_tcp:
            protocol = stage.protocol()
            peer = await connect(protocol)
            protocol.transport.write(b"all of it")
            while not peer.receive():
                await stage.a_round()
            peer.send(b"that's all")
            if goodbye:
                peer.say_goodbye()
            peer.sock.close()
            await protocol.lost

    ending = ['data_received b"that\'s all"', "eof_received", "connection_lost None"]
    assert play_on_ours(scenario, way) == ["connection_made", "connected", *ending] * 2


@every_kind
@pytest.mark.parametrize("answers", [False, True])
def test_a_corrupted_record_is_the_reason_though_data_before_it_was_answered(way: Way, answers: bool) -> None:
    """What came before it is delivered; whatever the protocol does then, connection_lost is told what was wrong."""

    async def scenario(stage: TLSStage) -> None:
        errors: list[Any] = []
        protocol = stage.protocol(connection_lost=errors.append)
        if answers:
            protocol.on["data_received"] = lambda data: protocol.transport.write(b"answer")
        peer = await stage.connect(protocol)
        good, bad = peer.encrypted(bytes(RECORD)), bytearray(peer.encrypted(b"bad"))
        bad[-1] ^= 1
        peer.send_raw(good + bad)
        await stage.quiet()
        assert "data_received" in protocol.log
        assert isinstance(errors[0], ssl.SSLError)
        # From 3.2 on, OpenSSL adds another reason, and the standard library tells that one only.
        assert re.search("bad record mac|record layer failure", str(errors[0]))

    play_on_ours(scenario, way)


@every_kind
def test_a_peer_that_is_gone_is_a_connection_error(way: Way) -> None:
    """Whether that is noticed by writing or by reading; what it did not take is dropped."""

    async def scenario(stage: TLSStage) -> None:
        for paused in False, True:
            for closing in False, True:
                errors: list[Any] = []
                protocol = stage.protocol(connection_lost=errors.append)
                peer = await stage.connect_tcp(protocol)
                if paused:
                    protocol.transport.pause_reading()
                for _ in range(40):
                    protocol.transport.write(MUCH)
                if closing:
                    protocol.transport.close()
                peer.reset()
                await protocol.lost
                assert isinstance(errors[0], ConnectionResetError | BrokenPipeError), errors
                assert protocol.transport.get_write_buffer_size() == 0
                assert "eof_received" not in protocol.log

    play_on_ours(scenario, way)


@every_kind
def test_a_file_fails_with_its_connection(way: Way) -> None:
    """If the peer goes while it is sent, sendfile() is a ConnectionError, and the protocol hears of the loss once."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect(protocol, sndbuf=SMALL)
        sending = stage.loop.create_task(stage.loop.sendfile(protocol.transport, io.BytesIO(MUCH)))
        while not peer.receive():
            await stage.a_round()
        peer.sock.close()
        with pytest.raises(ConnectionError):
            await sending
        await protocol.lost
        await stage.quiet()
        assert protocol.log == ["connection_made", "connection_lost"]

    play_on_ours(scenario, way)


@every_kind
def test_writing_after_the_end_is_dropped_whoever_ended(way: Way, reports: Reports) -> None:
    """There is a warning from the sixth time on."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect(protocol)
        peer.leave()
        await protocol.lost
        for number in range(8):
            protocol.transport.write(b"dropped")
            protocol.transport.writelines([b"dropped", b"as well"] if number % 2 else [])
        await stage.drain(peer)

    trace = play_on_ours(scenario, way)
    reports.asyncio.clear()
    assert trace[-1] == "the peer has read b'' 'close_notify, eof'"
    assert trace.count("logged as WARNING: SSL connection is closed") == 8 + 4 - 5


@pytest.mark.parametrize("side", ["server", "client"])
def test_the_ssl_object_of_a_lost_connection_does_nothing_any_more(side: str) -> None:
    """The descriptor that it stood on may be somebody else's; what it knows it still tells."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect(protocol)
        ssl_object = protocol.transport.get_extra_info("ssl_object")
        peer.send(b"in the socket")
        protocol.transport.abort()
        await protocol.lost
        cipher = protocol.transport.get_extra_info("cipher")
        for use in (
            lambda: ssl_object.read(10),
            lambda: ssl_object.read(10, bytearray(10)),
            lambda: ssl_object.write(b"to somebody else"),
            ssl_object.unwrap,
            ssl_object.do_handshake,
        ):
            with pytest.raises(ValueError, match="is lost"):
                use()
        assert ssl_object.cipher() == cipher
        assert ssl_object.version() == "TLSv1.3"

    play_on_ours(scenario, Way(side, "stdlib"))


# Others


def _fill(transport: Any) -> None:
    for _ in range(20):
        transport.write(MUCH)


WAITS: dict[str, Callable[[Any, TLSPeer], object]] = {
    "paused, and it has sent": lambda transport, peer: [transport.pause_reading(), peer.send(bytes(1000))],
    "paused, and it has ended": lambda transport, peer: [transport.pause_reading(), peer.leave()],
    "paused, and it is gone": lambda transport, peer: [transport.pause_reading(), peer.reset()],
    "full": lambda transport, peer: _fill(transport),
    "full, and it has ended": lambda transport, peer: [_fill(transport), peer.leave()],
    "full, and closing": lambda transport, peer: [_fill(transport), transport.close()],
    "full, closing, and it has sent": lambda transport, peer: [
        _fill(transport),
        transport.close(),
        peer.send(bytes(1000)),
    ],
    "full, closing, and it has ended": lambda transport, peer: [_fill(transport), transport.close(), peer.hang_up()],
    "closing": lambda transport, peer: transport.close(),
    "closing, and it has sent": lambda transport, peer: [peer.send(bytes(1000)), transport.close()],
}
"""What a connection does, and what its peer does, which does not read or answer."""


@some_kinds
@pytest.mark.parametrize("state", WAITS)
def test_a_connection_that_waits_costs_nothing(way: Way, state: str) -> None:
    """In whatever state it waits for its peer, nothing is polled that is ready all the time."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol()
        peer = await stage.connect_tcp(protocol)
        WAITS[state](protocol.transport, peer)
        await stage.quiet()
        selector: Any = stage.loop._selector  # type: ignore[attr-defined]
        select = selector.select
        polls: list[Any] = []
        selector.select = lambda timeout=None: [polls.append(timeout), select(timeout)][-1]
        try:
            await asyncio.sleep(0.02)
        finally:
            selector.select = select
        assert len(polls) < 20

    play_on_ours(scenario, way)


@every_kind
def test_endless_traffic_leaves_time_for_everything_else(way: Way) -> None:
    """Two transports that never stop talking starve neither timers, nor callbacks, nor Twisted, nor a third one."""

    async def scenario(stage: TLSStage) -> None:
        ends: list[Any] = []

        class PingPong(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport
                ends.append(transport)

            def data_received(self, data: bytes) -> None:
                self.transport.write(data)

        kinds = {"server": "stdlib", "client": "stdlib", way.side: way.kind}
        server = await stage.serve(PingPong, ssl=server_context(kinds["server"]))
        await stage.loop.create_connection(
            PingPong,
            *server.sockets[0].getsockname(),
            ssl=client_context(kinds["client"]),
            server_hostname="localhost",
        )
        ends[0].write(bytes(500_000))
        protocol = stage.protocol()
        peer = await stage.connect(protocol)
        seen: list[str] = []
        everything = stage.loop.create_future()

        def see(what: str) -> None:
            seen.append(what)
            if len(seen) == 4:
                everything.set_result(None)

        stage.loop.call_soon(see, "callback")
        stage.loop.call_later(0.01, see, "timer")
        stage.loop.reactor.callLater(0.01, see, "Twisted")  # type: ignore[attr-defined]
        protocol.on["data_received"] = lambda data: see("data")
        peer.send(b"hello")
        await everything
        for end in ends:
            end.abort()
        await stage.quiet()

    play_on_ours(scenario, way)
