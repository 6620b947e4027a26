"""TLS transports: how much they hold, when they ask to wait, and that nothing is lost, with contexts of every kind."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .test_stream_behaviour import VIEWS
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

PIECE = bytes(range(256)) * 40

# What a record adds to its bytes, at most: RFC 8446 section 5.2.
OVERHEAD = 5 + 256


class Reader:
    """A peer that reads when it is asked to, and knows what it has read by its digest."""

    def __init__(self, peer: TLSPeer) -> None:
        self.peer = peer
        self.size = 0
        self._digest = hashlib.sha256()

    def read(self) -> int:
        """Read all that has arrived; how much it was, in bytes."""
        data = self.peer.receive()
        self.size += len(data)
        self._digest.update(data)
        return len(data)

    async def read_all(self, stage: TLSStage, size: int) -> None:
        """Read until *size* bytes have come, and nothing more."""
        while self.size < size:
            self.read()
            await stage.a_round()
        await stage.quiet()
        self.read()
        assert self.size == size

    def digest(self) -> str:
        """That of all that was read."""
        return self._digest.hexdigest()


def digest(*pieces: bytes) -> str:
    """What a `Reader`'s digest is to be."""
    return hashlib.sha256(b"".join(pieces)).hexdigest()


# Water marks


@every_kind
@pytest.mark.parametrize("high", [0, 50_000])
def test_a_slow_reader_does_not_make_the_buffer_grow(way: Way, high: int) -> None:
    """A writer that obeys pause_writing() never has more in the buffer than the high-water mark and one write."""
    most = high + len(PIECE) + OVERHEAD * (1 + (high + len(PIECE)) // RECORD)

    async def scenario(stage: TLSStage) -> None:
        total, sent = 100 * len(PIECE), 0
        may_write = asyncio.Event()
        may_write.set()
        protocol = stage.protocol(
            connection_made=lambda transport: transport.set_write_buffer_limits(high),
            pause_writing=may_write.clear,
            resume_writing=may_write.set,
        )
        reader = Reader(await stage.connect(protocol, sndbuf=SMALL))

        async def write() -> None:
            nonlocal sent
            while sent < total:
                await may_write.wait()
                protocol.transport.write(PIECE)
                sent += len(PIECE)
                assert protocol.transport.get_write_buffer_size() <= most

        writing = stage.loop.create_task(write())
        while reader.size < total:
            assert protocol.transport.get_write_buffer_size() <= most
            # The kernel holds some of it, too, but nobody holds what was not written yet.
            assert sent - reader.size <= most + 100_000
            if not reader.read():
                await stage.a_round()
        await writing
        await stage.quiet()
        assert protocol.transport.get_write_buffer_size() == 0
        assert protocol.log.count("pause_writing") == protocol.log.count("resume_writing") > 5
        assert reader.digest() == digest(PIECE * 100)

    play_on_ours(scenario, way)


@every_kind
def test_who_ignores_the_marks_is_told_once_and_loses_nothing(way: Way) -> None:
    """pause_writing() comes once, resume_writing() once, when nearly all is sent."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol()
        reader = Reader(await stage.connect(protocol, sndbuf=SMALL))
        for _ in range(20):
            protocol.transport.write(MUCH)
        assert protocol.log == ["connection_made", "pause_writing"]
        low, high = protocol.transport.get_write_buffer_limits()
        assert protocol.transport.get_write_buffer_size() > high
        while protocol.paused:
            reader.read()
            await stage.a_round()
        assert protocol.transport.get_write_buffer_size() <= low
        await reader.read_all(stage, 20 * len(MUCH))
        assert protocol.log == ["connection_made", "pause_writing", "resume_writing"]
        assert reader.digest() == digest(MUCH * 20)

    play_on_ours(scenario, way)


@every_kind
def test_marks_of_nothing_pause_at_the_first_byte_that_waits(way: Way) -> None:
    """With both at 0, what the kernel takes at once pauses nobody, and the protocol resumes when all is sent."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol(connection_made=lambda transport: transport.set_write_buffer_limits(0))
        peer = await stage.connect(protocol, sndbuf=SMALL)
        assert protocol.transport.get_write_buffer_limits() == (0, 0)
        protocol.attempt("write", b"fits")
        await stage.drain(peer)
        for _ in range(2):
            protocol.attempt("write", MUCH)
            await Reader(peer).read_all(stage, len(MUCH))
            protocol.attempt("get_write_buffer_size")

    assert play_on_ours(scenario, way) == [
        "connection_made",
        "connected",
        "write",
        "the peer has read b'fits' ''",
        *["pause_writing", "write", "resume_writing", "get_write_buffer_size 0"] * 2,
    ]


@every_kind
def test_limits_below_what_waits_pause_at_once(way: Way) -> None:
    """Raised ones do not resume by themselves."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol(connection_made=lambda transport: transport.set_write_buffer_limits(10_000_000))
        reader = Reader(await stage.connect(protocol, sndbuf=SMALL))
        protocol.attempt("write", MUCH)
        protocol.attempt("set_write_buffer_limits", 1000)
        protocol.attempt("set_write_buffer_limits", 500)
        protocol.attempt("set_write_buffer_limits", 10_000_000)
        await stage.quiet()
        stage.note("the peer reads")
        await reader.read_all(stage, len(MUCH))

    assert play_on_ours(scenario, way) == [
        "connection_made",
        "connected",
        "write",
        "pause_writing",
        "set_write_buffer_limits",
        "set_write_buffer_limits",
        "set_write_buffer_limits",
        "the peer reads",
        "resume_writing",
    ]


@every_kind
def test_a_writer_that_was_paused_before_an_upgrade_stays_paused(way: Way) -> None:
    """It is resumed once, when what it wrote before is sent; asyncio fails there (python/cpython#109051)."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol()
        ours, plain = stage.pair(SMALL)
        await stage.loop.create_connection(lambda: protocol, sock=ours)
        protocol.attempt("write", MUCH)
        upgrading = stage.loop.create_task(stage.upgraded(protocol))
        read = b""
        while len(read) < len(MUCH):
            try:
                read += plain.sock.recv(len(MUCH) - len(read))
            except BlockingIOError:
                await stage.a_round()
        assert read == MUCH
        peer = stage.tls_peer(plain)
        await stage.greet(peer, upgrading)
        protocol.transport = await upgrading
        protocol.attempt("write", b"secret")
        await stage.drain(peer)

    assert play_on_ours(scenario, way) == [
        "connection_made",
        "pause_writing",
        "write",
        "resume_writing",
        "write",
        "the peer has read b'secret' ''",
    ]


# What may be written, and in which pieces


@some_kinds
def test_twenty_megabytes_in_one_write_arrive(way: Way) -> None:
    """However much is written at once; the peer's reading is all that it takes."""
    data = MUCH * 80

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol()
        reader = Reader(await stage.connect(protocol))
        protocol.attempt("write", data)
        await reader.read_all(stage, len(data))
        assert reader.digest() == digest(data)

    assert play_on_ours(scenario, way) == ["connection_made", "connected", "pause_writing", "write", "resume_writing"]


@every_kind
def test_a_bytearray_may_be_changed_when_write_has_returned(way: Way) -> None:
    """What is sent is what was in it when it was written, whether it can be sent at once or not."""

    async def scenario(stage: TLSStage) -> None:
        writes: tuple[Callable[[Any, Any], object], ...] = (
            lambda transport, data: transport.write(data),
            lambda transport, data: transport.write(memoryview(data)),
            lambda transport, data: transport.writelines([b"", data]),
            lambda transport, data: transport.writelines([memoryview(data)[:5], memoryview(data)[5:]]),
        )
        protocol = stage.protocol()
        reader = Reader(await stage.connect(protocol, sndbuf=SMALL))
        for number, write in enumerate(writes):
            for _ in range(2):
                data = bytearray(MUCH)
                write(protocol.transport, data)
                data[:] = bytes(len(data))
            await reader.read_all(stage, (number + 1) * 2 * len(MUCH))
        assert reader.digest() == digest(MUCH * 2 * len(writes))

    play_on_ours(scenario, way)


@some_kinds
@pytest.mark.parametrize("by", ["write", "writelines"])
def test_a_memoryview_of_any_shape_is_sent_whole(way: Way, by: str) -> None:
    """Its bytes are what tobytes() says, however many there are to an element, and however they lie in memory."""

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol()
        reader = Reader(await stage.connect(protocol, sndbuf=SMALL))
        sent = b""
        for make in VIEWS.values():
            data = make()
            for _ in range(2):
                protocol.transport.write(data) if by == "write" else protocol.transport.writelines([data])
            sent += data.tobytes() * 2
            await reader.read_all(stage, len(sent))
        assert reader.digest() == digest(sent)

    play_on_ours(scenario, way)


@every_kind
def test_writelines_obeys_the_marks_and_takes_anything(way: Way) -> None:
    """Lists, generators, empty pieces; what the kernel does not take waits, and pauses the protocol."""

    def generated() -> Iterator[bytes]:
        yield b""
        yield MUCH
        yield b"end"

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol(connection_made=lambda transport: transport.set_write_buffer_limits(1000))
        reader = Reader(await stage.connect(protocol, sndbuf=SMALL))
        for pieces in [], [b"", bytearray(), memoryview(b"")], iter([b"a", bytearray(b"b")]), generated(), [b"c"]:
            protocol.attempt("writelines", pieces)
        await reader.read_all(stage, len(MUCH) + 6)
        assert reader.digest() == digest(b"ab", MUCH, b"endc")
        for wrong in ["text"], [b"bytes", "text"], 5:
            protocol.attempt("writelines", wrong)

    assert play_on_ours(scenario, way) == [
        "connection_made",
        "connected",
        *["writelines"] * 3,
        "pause_writing",
        "writelines",
        "writelines",
        "resume_writing",
        *["writelines raised TypeError"] * 3,
    ]


@every_kind
def test_many_small_writes_arrive_in_order(way: Way) -> None:
    """Whether they can be sent at once or not."""
    pieces = [b"%d," % number for number in range(5000)]

    async def scenario(stage: TLSStage) -> None:
        protocol = stage.protocol()
        reader = Reader(await stage.connect(protocol, sndbuf=SMALL))
        for piece in pieces:
            protocol.transport.write(piece)
        await reader.read_all(stage, len(b"".join(pieces)))
        assert reader.digest() == digest(*pieces)

    play_on_ours(scenario, way)


# Both directions


@every_kind
def test_much_in_both_directions_at_once_arrives(way: Way) -> None:
    """Two ends that both write and do not wait for one another lose nothing, and do not wait for ever."""
    size = 3_000_000
    there, back = MUCH * (size // len(MUCH)), bytes(reversed(MUCH)) * (size // len(MUCH))

    class Bulk(asyncio.Protocol):
        def __init__(self, data: bytes) -> None:
            self.data = data
            self.digest = hashlib.sha256()
            self.size = 0
            self.ended = asyncio.get_running_loop().create_future()

        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            transport.write(self.data)

        def data_received(self, data: bytes) -> None:
            self.digest.update(data)
            self.size += len(data)
            if self.size == size:
                self.ended.set_result(None)

    async def scenario(stage: TLSStage) -> None:
        kinds = {"server": "stdlib", "client": "stdlib", way.side: way.kind}
        accepted = stage.loop.create_future()

        def factory() -> Bulk:
            accepted.set_result(protocol := Bulk(there))
            return protocol

        server = await stage.serve(factory, ssl=server_context(kinds["server"]))
        client = Bulk(back)
        await stage.loop.create_connection(
            lambda: client,
            *server.sockets[0].getsockname(),
            ssl=client_context(kinds["client"]),
            server_hostname="localhost",
        )
        served = await accepted
        await asyncio.gather(client.ended, served.ended)
        assert client.digest.hexdigest() == digest(there)
        assert served.digest.hexdigest() == digest(back)
        for end in client, served:
            end.transport.abort()

    play_on_ours(scenario, way)


# Reading


@every_kind
@pytest.mark.parametrize("buffered", [False, True])
def test_a_pause_holds_whatever_was_decrypted_already(way: Way, buffered: bool) -> None:
    """Each resumption delivers one piece, until all has come in order; then comes the peer's end, which waited, too."""
    data = MUCH * 4

    async def scenario(stage: TLSStage) -> None:
        pieces: list[bytes] = []

        def take(piece: Any) -> None:
            pieces.append(bytes(protocol.buffer[:piece]) if buffered else piece)
            protocol.transport.pause_reading()

        protocol: Any = (stage.buffered_protocol if buffered else stage.protocol)()
        protocol.buffer = bytearray(70_000)
        protocol.on["buffer_updated" if buffered else "data_received"] = take
        peer = await stage.connect_tcp(protocol)
        records = b"".join(peer.encrypted(data[start : start + 7000]) for start in range(0, len(data), 7000))
        records += peer.goodbye()
        sent = 0
        while True:
            before = len(pieces)
            try:
                sent += peer.sock.send(records[sent:])
            except BlockingIOError:
                pass
            await stage.quiet()
            assert len(pieces) <= before + 1, "something came during a pause"
            assert "eof_received" not in protocol.log
            if sum(map(len, pieces)) == len(data):
                break
            protocol.transport.resume_reading()
        assert max(map(len, pieces)) <= (70_000 if buffered else 256 * 1024 + RECORD)
        protocol.transport.resume_reading()
        await stage.until(lambda: "eof_received" in protocol.log)
        assert b"".join(pieces) == data

    play_on_ours(scenario, way)


@every_kind
@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize("method", ["close", "abort"])
def test_nothing_comes_after_the_end_however_much_is_in_hand(way: Way, buffered: bool, method: str) -> None:
    """A protocol that ends the connection when data comes gets no second piece."""

    async def scenario(stage: TLSStage) -> None:
        callback = "buffer_updated" if buffered else "data_received"
        protocol: Any = (stage.buffered_protocol if buffered else stage.protocol)()
        protocol.buffer = bytearray(100)
        protocol.on[callback] = lambda what: getattr(protocol.transport, method)()
        peer = await stage.connect(protocol)
        peer.send_raw(b"".join(peer.encrypted(bytes(5000)) for _ in range(8)))
        await stage.quiet()
        assert protocol.log.count(callback) == 1

    play_on_ours(scenario, way)


@every_kind
def test_a_new_protocol_gets_all_that_is_in_hand(way: Way) -> None:
    """set_protocol() when data comes: the rest is the new protocol's, in order, in whichever way it takes it."""
    data = bytes(range(256)) * 600

    async def scenario(stage: TLSStage) -> None:
        taken = bytearray()

        def take(nbytes: int) -> None:
            taken.extend(first.buffer[:nbytes])
            second = stage.protocol("second", state="open", data_received=taken.extend)
            second.transport = first.transport
            first.transport.set_protocol(second)

        first = stage.buffered_protocol("first", buffer_updated=take)
        first.buffer = bytearray(20_000)
        peer = await stage.connect(first)
        peer.send(data[:100_000])
        peer.send(data[100_000:])
        await stage.quiet()
        assert taken == data
        assert first.log == ["connection_made", "buffer_updated"]

    play_on_ours(scenario, way)


@every_kind
def test_a_buffered_protocol_may_have_a_buffer_of_any_size(way: Way) -> None:
    """It need not be a view, as it has to be in asyncio."""
    data = bytes(range(256)) * 12

    async def scenario(stage: TLSStage) -> None:
        class Taker(asyncio.BufferedProtocol):
            def __init__(self, size: int) -> None:
                self.memory = bytearray(size)
                self.taken = bytearray()

            def get_buffer(self, sizehint: int) -> Any:
                return self.memory

            def buffer_updated(self, nbytes: int) -> None:
                self.taken += self.memory[:nbytes]

        first = stage.protocol()
        peer = await stage.connect(first)
        for size in 7, 1000, RECORD, RECORD + 1, 100_000:
            taker = Taker(size)
            first.transport.set_protocol(taker)
            peer.send_raw(peer.encrypted(data) + peer.encrypted(data))
            while len(taker.taken) < 2 * len(data):
                await stage.a_round()
            assert taker.taken == data * 2

    play_on_ours(scenario, way)
