"""The pipe transports: as asyncio's own where that is right, and every fault of a pipe."""

from __future__ import annotations

import array
import asyncio
import contextlib
import contextvars
import errno
import gc
import io
import logging
import os
import re
import socket
import stat
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from txasync import ReactorEventLoop
from txasync.transports import _pipe, _stream
from txasync.transports._pipe import ReadPipeTransport, WritePipeTransport, tells_of_its_reader

from ..conftest import Reports, Runner
from .conftest import RunIntoExit

PLACE: contextvars.ContextVar[str] = contextvars.ContextVar("PLACE", default="nowhere")

OWN_CALLS = ("connection_made", "data_received", "eof_received", "connection_lost", "pause_writing", "resume_writing")

# Of Linux, by default.
PIPE_CAPACITY = 65536


class Boom(Exception):
    """What a protocol raises here."""


class Recorder(asyncio.Protocol):
    """
    Notes its calls, of which it asserts the legal order.

    Args:
        raising: The callback that raises after it has been noted.
        places: Whether the context of each call is noted.
    """

    def __init__(self, raising: str = "", places: bool = False) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.transport: Any = None
        self.on: dict[str, Callable[[], object]] = {}
        self._raising = raising
        self._places = places
        self._waiter: asyncio.Future[None] | None = None

    def _note(self, name: str, value: str = "") -> None:
        assert (name == "connection_made") == (not self.calls), self.calls
        assert not self.lost, self.calls
        if name != "data_received" or not self.calls or not self.calls[-1].startswith(name):
            self.calls.append(name + value + (f" in {PLACE.get()}" if self._places else ""))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self.on.get(name, lambda: None)()
        if name == self._raising:
            raise Boom(name)

    @property
    def lost(self) -> bool:
        return bool(self.calls) and self.calls[-1].startswith("connection_lost")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a call has made *condition* true."""
        while not condition():
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    async def until_lost(self) -> None:
        await self.until(lambda: self.lost)
        await settled()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._note("connection_made")

    def data_received(self, data: bytes) -> None:
        assert is_reading(self.transport)
        self.data += data
        self._note("data_received")

    def eof_received(self) -> None:
        self._note("eof_received")

    def connection_lost(self, exc: BaseException | None) -> None:
        self._note("connection_lost", f" {type(exc).__name__}")

    def pause_writing(self) -> None:
        self._note("pause_writing")

    def resume_writing(self) -> None:
        self._note("resume_writing")


def is_reading(transport: Any) -> bool:
    """As the transport says; asyncio's own says nothing on Python 3.10."""
    try:
        return bool(transport.is_reading())
    except NotImplementedError:
        return not transport._paused and not transport._closing


async def settled() -> None:
    """Let what is ready be run, and what that adds."""
    for _ in range(4):
        await asyncio.sleep(0)


def reported_to(trace: list[str]) -> None:
    """Let the running loop note in *trace* what is reported."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: trace.append(f"reported {context['exception']!r}"))


async def reading(protocol: Recorder | None = None) -> tuple[Any, Recorder, int]:
    """A pipe that we read from, and the descriptor to write to."""
    source, sink = os.pipe()
    recorder = protocol or Recorder()
    file: Any = io.FileIO(source, "r")
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: recorder, file)
    return transport, recorder, sink


async def writing(protocol: Recorder | None = None) -> tuple[Any, Recorder, int]:
    """A pipe that we write to, and the descriptor to read from."""
    source, sink = os.pipe()
    os.set_blocking(source, False)
    recorder = protocol or Recorder()
    file: Any = io.FileIO(sink, "w")
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(lambda: recorder, file)
    return transport, recorder, source


def drain(source: int) -> bytes:
    """All that is in a pipe."""
    pieces: list[bytes] = []
    while True:
        try:
            piece = os.read(source, 1 << 20)
        except BlockingIOError:
            return b"".join(pieces)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


async def drain_until(source: int, condition: Callable[[], bool]) -> bytes:
    """What comes through a pipe until *condition* is true."""
    got = drain(source)
    while not condition():
        await asyncio.sleep(0)
        got += drain(source)
    return got


@contextlib.contextmanager
def seen_in_log(messages: list[str]) -> Iterator[None]:
    """Note what asyncio's logger is told."""

    def see(record: logging.LogRecord) -> bool:
        messages.append(record.getMessage())
        return False

    logger = logging.getLogger("asyncio")
    logger.addFilter(see)
    yield
    logger.removeFilter(see)


# Scenarios: what they return is to be the same on asyncio's own loop


async def what_comes_is_delivered_up_to_the_end() -> Any:
    _, protocol, sink = await reading()
    os.write(sink, b"one")
    await protocol.until(lambda: protocol.data == b"one")
    os.write(sink, b"two")
    os.close(sink)
    await protocol.until_lost()
    return protocol.calls, bytes(protocol.data)


async def a_reader_closes() -> Any:
    transport, protocol, sink = await reading()
    os.write(sink, b"unread")
    states = [transport.is_closing(), is_reading(transport)]
    transport.close()
    transport.close()
    states += [transport.is_closing(), is_reading(transport), protocol.lost]
    transport.pause_reading()
    transport.resume_reading()
    await protocol.until_lost()
    transport.close()
    with pytest.raises(BrokenPipeError):
        os.write(sink, b"x")
    os.close(sink)
    return protocol.calls, states, transport.get_protocol()


async def a_reader_closes_in(callback: str) -> Any:
    protocol = Recorder()
    protocol.on[callback] = lambda: protocol.transport.close()
    _, _, sink = await reading(protocol)
    if not protocol.lost:
        os.write(sink, b"x" * 100)
    await protocol.until_lost()
    os.close(sink)
    return protocol.calls


async def a_reader_closes_when_made() -> Any:
    return await a_reader_closes_in("connection_made")


async def a_reader_closes_on_data() -> Any:
    return await a_reader_closes_in("data_received")


async def reading_pauses_and_resumes() -> Any:
    transport, protocol, sink = await reading()
    transport.resume_reading()
    transport.pause_reading()
    transport.pause_reading()
    os.write(sink, b"x" * 1000)
    await settled()
    paused = bytes(protocol.data), is_reading(transport)
    transport.resume_reading()
    transport.resume_reading()
    await protocol.until(lambda: len(protocol.data) == 1000)
    transport.pause_reading()
    os.close(sink)
    await settled()
    calls = list(protocol.calls)
    transport.resume_reading()
    await protocol.until_lost()
    return paused, calls, protocol.calls


async def a_paused_reader_is_closed() -> Any:
    transport, protocol, sink = await reading()
    transport.pause_reading()
    os.write(sink, b"x")
    transport.close()
    await protocol.until_lost()
    os.close(sink)
    return protocol.calls


async def what_is_written_arrives() -> Any:
    transport, protocol, source = await writing()
    got = []
    for data in b"bytes", bytearray(b"bytearray"), memoryview(b"memoryview"), b"":
        transport.write(data)
        got.append(drain(source))
    transport.write_eof()
    transport.write_eof()
    await protocol.until_lost()
    got.append(os.read(source, 1))
    os.close(source)
    return protocol.calls, got, transport.can_write_eof(), transport.is_closing()


async def a_full_pipe_pauses_the_writer() -> Any:
    transport, protocol, source = await writing()
    transport.write(b"x" * 1_000_000)
    calls = list(protocol.calls)
    got = await drain_until(source, lambda: "resume_writing" in protocol.calls)
    size = transport.get_write_buffer_size()
    transport.write(b"y")
    transport.close()
    await protocol.until_lost()
    got += drain(source)
    os.close(source)
    return calls, protocol.calls, got == b"x" * 1_000_000 + b"y", size


async def closing_waits_for_what_is_written() -> Any:
    transport, protocol, source = await writing()
    transport.write(b"x" * 300_000)
    transport.close()
    transport.write(b"dropped")
    states = [transport.is_closing(), transport.get_write_buffer_size() > 0]
    got = await drain_until(source, lambda: protocol.lost)
    await settled()
    got += drain(source)
    os.close(source)
    return protocol.calls, got == b"x" * 300_000, states


async def abort_drops_what_is_written() -> Any:
    transport, protocol, source = await writing()
    transport.write(b"x" * 1_000_000)
    transport.abort()
    states = [transport.is_closing(), transport.get_write_buffer_size(), protocol.lost]
    await protocol.until_lost()
    got = drain(source)
    os.close(source)
    return protocol.calls, len(got) < 1_000_000, states


async def abort_ends_a_closing_pipe() -> Any:
    transport, protocol, source = await writing()
    transport.write(b"x" * 1_000_000)
    transport.close()
    await settled()
    transport.abort()
    await protocol.until_lost()
    os.close(source)
    return protocol.calls


async def the_peer_closes() -> Any:
    transport, protocol, source = await writing()
    os.close(source)
    await protocol.until_lost()
    return protocol.calls, transport.is_closing()


async def the_peer_closes_before_all_is_written() -> Any:
    transport, protocol, source = await writing()
    transport.write(b"x" * 1_000_000)
    os.close(source)
    await protocol.until_lost()
    return protocol.calls, transport.get_write_buffer_size()


async def a_write_finds_the_pipe_broken() -> Any:
    transport, protocol, source = await writing()
    os.close(source)
    transport.write(b"x")
    await protocol.until_lost()
    return protocol.calls


async def writes_after_the_end_are_dropped() -> Any:
    told = []
    for broken in False, True:
        transport, protocol, source = await writing()
        if broken:
            os.close(source)
            transport.write(b"x")
        else:
            transport.close()
        records: list[str] = []
        with seen_in_log(records):
            for i in range(7):
                transport.write(b"x")
                records.append(str(i))
        await protocol.until_lost()
        if not broken:
            os.close(source)
        told.append((records, protocol.calls))
    return told


async def the_water_marks() -> Any:
    transport, protocol, source = await writing()
    marks = [transport.get_write_buffer_limits()]
    for arguments in {"high": 100}, {"low": 10}, {"high": 0}, {"high": 50, "low": 50}:
        transport.set_write_buffer_limits(**arguments)
        marks.append(transport.get_write_buffer_limits())
    with pytest.raises(ValueError):
        transport.set_write_buffer_limits(high=1, low=2)
    transport.write(b"x" * (PIPE_CAPACITY + 50))
    calls = list(protocol.calls)
    transport.write(b"x")
    transport.write(b"x")
    transport.abort()
    await protocol.until_lost()
    os.close(source)
    return marks, calls, protocol.calls


async def contexts_of_a_reader() -> Any:
    PLACE.set("connect")
    transport, protocol, sink = await reading(Recorder(places=True))
    PLACE.set("write")
    os.write(sink, b"x")
    await protocol.until(lambda: bool(protocol.data))
    PLACE.set("resume")
    transport.pause_reading()
    protocol.calls.append("---")
    transport.resume_reading()
    PLACE.set("afterwards")
    os.write(sink, b"x")
    await protocol.until(lambda: len(protocol.data) == 2)
    os.close(sink)
    await protocol.until_lost()
    return protocol.calls


async def contexts_of_closing() -> Any:
    PLACE.set("connect")
    transport, protocol, sink = await reading(Recorder(places=True))
    PLACE.set("close")
    transport.close()
    PLACE.set("afterwards")
    await protocol.until_lost()
    os.close(sink)
    return protocol.calls


async def contexts_of_a_writer() -> Any:
    PLACE.set("connect")
    transport, protocol, source = await writing(Recorder(places=True))
    PLACE.set("write")
    transport.write(b"x" * 1_000_000)
    PLACE.set("afterwards")
    await drain_until(source, lambda: any("resume" in call for call in protocol.calls))
    os.close(source)
    await protocol.until_lost()
    return protocol.calls


async def raising_in(callback: str) -> Any:
    protocol = Recorder(raising=callback)
    reported: list[str] = []
    reported_to(reported)
    if "writing" in callback:
        transport, _, source = await writing(protocol)
        transport.write(b"x" * 1_000_000)
        await drain_until(source, lambda: "resume_writing" in protocol.calls)
        transport.close()
        await protocol.until_lost()
        os.close(source)
    else:
        transport, _, sink = await reading(protocol)
        os.write(sink, b"x")
        await protocol.until(lambda: protocol.data == b"x")
        protocol.calls.append("---")
        os.write(sink, b"y")
        await protocol.until(lambda: protocol.data == b"xy")
        os.close(sink)
        await protocol.until_lost()
    return protocol.calls, reported


async def how_a_reader_shows_itself() -> Any:
    transport, protocol, sink = await reading()
    shown = [repr(transport)]
    transport.pause_reading()
    shown.append(repr(transport))
    transport.close()
    shown.append(repr(transport))
    await protocol.until_lost()
    shown.append(repr(transport))
    os.close(sink)
    return [re.sub(r"<\w+ ", "<", re.sub(r"fd=\d+", "fd=N", line)) for line in shown]


async def how_a_writer_shows_itself() -> Any:
    transport, protocol, source = await writing()
    shown = [repr(transport)]
    transport.write(b"x" * PIPE_CAPACITY)
    transport.write(b"rest")
    shown.append(repr(transport))
    transport.close()
    shown.append(repr(transport))
    drain(source)
    await protocol.until_lost()
    shown.append(repr(transport))
    os.close(source)
    return [re.sub(r"<\w+ ", "<", re.sub(r"fd=\d+", "fd=N", line)) for line in shown]


async def what_is_no_pipe_is_refused() -> Any:
    loop = asyncio.get_running_loop()
    messages = []
    with tempfile.TemporaryFile("w+b", 0) as file:
        for connect in loop.connect_read_pipe, loop.connect_write_pipe:
            with pytest.raises(ValueError) as caught:
                await connect(Recorder, file)
            messages.append(str(caught.value))
        file.write(b"still open")
    return messages


async def sockets_are_pipes_too() -> Any:
    loop = asyncio.get_running_loop()
    left, right = socket.socketpair()
    out, writer = await loop.connect_write_pipe(Recorder, left)
    into, reader = await loop.connect_read_pipe(Recorder, right)
    same = out.get_extra_info("pipe") is left, into.get_extra_info("pipe") is right, into.get_extra_info("none", 5)
    out.write(b"hello")
    out.close()
    await writer.until_lost()
    await reader.until_lost()
    return writer.calls, reader.calls, bytes(reader.data), same


async def connecting_is_cancelled() -> Any:
    loop = asyncio.get_running_loop()
    calls = []
    for connect, end in (loop.connect_read_pipe, 0), (loop.connect_write_pipe, 1):
        ends = os.pipe()
        protocol = Recorder()
        file: Any = io.FileIO(ends[end], "r" if end == 0 else "w")
        task = asyncio.ensure_future(connect(lambda: protocol, file))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await protocol.until_lost()
        os.close(ends[1 - end])
        calls.append(protocol.calls)
    return calls


async def the_protocol_is_changed() -> Any:
    transport, first, sink = await reading()
    os.write(sink, b"x")
    await first.until(lambda: first.data == b"x")
    second = Recorder()
    second.calls.append("connection_made")
    second.transport = transport
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    os.write(sink, b"y")
    os.close(sink)
    await second.until_lost()
    return first.calls, second.calls, bytes(second.data)


SCENARIOS: list[Callable[[], Awaitable[Any]]] = [
    what_comes_is_delivered_up_to_the_end,
    a_reader_closes,
    a_reader_closes_when_made,
    a_reader_closes_on_data,
    reading_pauses_and_resumes,
    a_paused_reader_is_closed,
    what_is_written_arrives,
    a_full_pipe_pauses_the_writer,
    closing_waits_for_what_is_written,
    abort_drops_what_is_written,
    abort_ends_a_closing_pipe,
    the_peer_closes,
    the_peer_closes_before_all_is_written,
    a_write_finds_the_pipe_broken,
    the_water_marks,
    contexts_of_a_reader,
    contexts_of_closing,
    contexts_of_a_writer,
    how_a_reader_shows_itself,
    how_a_writer_shows_itself,
    what_is_no_pipe_is_refused,
    sockets_are_pipes_too,
    connecting_is_cancelled,
    the_protocol_is_changed,
]


def on_stock(scenario: Callable[[], Awaitable[Any]]) -> Any:
    """The result of *scenario* on asyncio's own loop."""
    loop = asyncio.SelectorEventLoop()
    try:
        return loop.run_until_complete(asyncio.wait_for(scenario(), 20))
    finally:
        loop.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_pipe_behaves_as_asyncios(run: Runner, scenario: Callable[[], Awaitable[Any]]) -> None:
    """The same calls in the same order, the same states, the same words."""
    assert run(scenario) == on_stock(scenario)


@pytest.mark.parametrize("callback", OWN_CALLS)
def test_what_a_callback_raises_is_reported_and_the_pipe_goes_on(run: Runner, callback: str) -> None:
    """As in asyncio: an exception out of a pipe's protocol is no end of the pipe."""
    outcome = run(lambda: raising_in(callback))
    assert outcome == on_stock(lambda: raising_in(callback))
    # One for each piece of data, else one.
    assert set(outcome[1]) == {f"reported Boom({callback!r})"}


def test_writes_after_the_end_are_dropped_and_told_of_from_the_fifth(run: Runner, reports: Reports) -> None:
    """After an error that ended the pipe; after ``close()``, as asyncio counts, from the sixth."""
    assert run(writes_after_the_end_are_dropped) == on_stock(writes_after_the_end_are_dropped)
    assert {record.getMessage() for record in reports.asyncio} == {
        "pipe closed by peer or os.write(pipe, data) raised exception."
    }
    reports.clear()


def test_a_report_names_transport_and_protocol(run: Runner) -> None:
    """The exception handler gets everything there is to know."""

    async def main() -> None:
        seen: list[dict[str, Any]] = []
        run.loop.set_exception_handler(lambda _, context: seen.append(context))
        protocol = Recorder(raising="data_received")
        transport, _, sink = await reading(protocol)
        os.write(sink, b"x")
        await protocol.until(lambda: bool(protocol.data))
        await settled()
        (context,) = seen
        assert isinstance(context.pop("exception"), Boom)
        assert context == {
            "message": "protocol.data_received() failed",
            "transport": transport,
            "protocol": protocol,
        }
        os.close(sink)
        await protocol.until_lost()

    run(main)


# Where we are better than asyncio


def test_reading_can_be_paused_in_connection_made(run: Runner) -> None:
    """Nothing comes until it is resumed, on every version of Python."""

    async def main() -> None:
        protocol = Recorder()
        protocol.on["connection_made"] = lambda: protocol.transport.pause_reading()
        transport, _, sink = await reading(protocol)
        os.write(sink, b"x")
        await settled()
        assert not protocol.data
        transport.resume_reading()
        os.close(sink)
        await protocol.until_lost()
        assert protocol.data == b"x"

    run(main)


def test_writing_resumes_at_the_low_water_mark(run: Runner) -> None:
    """Not only when nothing is left."""

    async def main() -> None:
        transport, protocol, source = await writing()
        transport.set_write_buffer_limits(high=200_000, low=150_000)
        transport.write(b"x" * 300_000)
        assert protocol.calls[-1] == "pause_writing"
        while protocol.calls[-1] != "resume_writing":
            os.read(source, 10_000)
            await asyncio.sleep(0)
        assert 0 < transport.get_write_buffer_size() <= 150_000
        transport.abort()
        await protocol.until_lost()
        os.close(source)

    run(main)


@pytest.mark.parametrize("then", ["write", "close", "write and close", "abort"])
def test_resume_writing_may_do_anything(run: Runner, then: str) -> None:
    """What it writes is not lost, and the end comes once."""

    async def main() -> bytes:
        protocol = Recorder()
        transport, _, source = await writing(protocol)

        def resumed() -> None:
            if "write" in then:
                transport.write(b"y" * 100_000)
            if "close" in then:
                transport.close()
            if "abort" in then:
                transport.abort()

        protocol.on["resume_writing"] = resumed
        transport.write(b"x" * 200_000)
        got = await drain_until(source, lambda: protocol.calls.count("resume_writing") == 1)
        if then == "write":
            transport.close()
        got += await drain_until(source, lambda: protocol.lost)
        await settled()
        got += drain(source)
        os.close(source)
        assert protocol.calls[-1] == "connection_lost NoneType"
        return got

    got = run(main)
    if then == "abort":
        assert len(got) >= 200_000 - 16384  # the low-water mark
    else:
        assert got == b"x" * 200_000 + (b"y" * 100_000 if "write" in then else b"")


def test_abort_twice_or_after_the_end_is_nothing(run: Runner) -> None:
    """``connection_lost()`` comes once."""

    async def main() -> None:
        transport, protocol, source = await writing()
        transport.close()
        transport.abort()
        transport.abort()
        await protocol.until_lost()
        transport.abort()
        await settled()
        os.close(source)

    run(main)


def test_data_of_any_shape_is_written_whole_and_copied(run: Runner) -> None:
    """A memoryview counts in bytes, and what is changed after ``write()`` was written as it was."""

    async def main() -> None:
        transport, protocol, source = await writing()
        words = array.array("I", range(10))
        transport.write(memoryview(words))
        assert drain(source) == words.tobytes()
        transport.write(memoryview(bytes(range(20)))[::2])
        assert drain(source) == bytes(range(0, 20, 2))
        transport.write(memoryview(b"")[:0])
        changing = bytearray(b"x" * 200_000)
        transport.write(changing)
        changing[:] = b"y" * 200_000
        transport.write(changing)
        changing.clear()
        got = await drain_until(source, lambda: not transport.get_write_buffer_size())
        assert got + drain(source) == b"x" * 200_000 + b"y" * 200_000
        with pytest.raises(TypeError, match="bytes-like object, not 'str'"):
            transport.write("text")
        transport.close()
        await protocol.until_lost()
        os.close(source)

    run(main)


# Faults


class ShortWrites:
    """The ``os`` module, but every other write finds no room, and the rest take one byte."""

    def __init__(self) -> None:
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, fd: int, data: Any) -> int:
        self.writes += 1
        if self.writes % 2 == 0:
            raise BlockingIOError
        return os.write(fd, memoryview(data)[:1])


def test_short_writes_and_full_pipes_lose_nothing(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte is taken, then EAGAIN, then one byte..."""
    monkeypatch.setattr(_pipe, "os", ShortWrites())

    async def main() -> None:
        transport, protocol, source = await writing()
        transport.write(b"one")
        transport.write(b"two")
        transport.close()
        await protocol.until_lost()
        assert drain(source) == b"onetwo"
        os.close(source)

    run(main)


def test_a_read_that_finds_nothing_is_nothing(run: Runner) -> None:
    """Somebody else may have read what there was."""

    async def main() -> None:
        transport, protocol, sink = await reading()
        transport._readable()
        await settled()
        os.close(sink)
        await protocol.until_lost()
        assert protocol.calls == ["connection_made", "eof_received", "connection_lost NoneType"]

    run(main)


def test_five_megabytes_come_through_in_large_reads(run: Runner) -> None:
    """A reader takes more at a time after full reads."""

    async def main() -> None:
        left, right = socket.socketpair()
        right.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        transport, protocol = await run.loop.connect_read_pipe(Recorder, left)
        sent = run.loop.run_in_executor(None, lambda: right.sendall(b"x" * 5_000_000))
        await protocol.until(lambda: len(protocol.data) == 5_000_000)
        await sent
        assert isinstance(transport, ReadPipeTransport)
        assert transport._read_size == _stream.LARGEST_READ_SIZE
        right.close()
        await protocol.until_lost()

    run(main)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENXIO])
def test_a_read_error_ends_the_pipe(run: Runner, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """It is reported, but for EIO, by which a terminal tells that it was hung up."""

    class FailingReads(ShortWrites):
        def read(self, fd: int, size: int) -> bytes:
            raise OSError(number, os.strerror(number))

    async def main() -> None:
        reported: list[str] = []
        reported_to(reported)
        run.loop.set_debug(True)
        _, protocol, sink = await reading()
        monkeypatch.setattr(_pipe, "os", FailingReads())
        os.write(sink, b"x")
        await protocol.until_lost()
        assert protocol.calls == ["connection_made", "connection_lost OSError"]
        assert len(reported) == (number != errno.EIO)
        os.close(sink)

    run(main)


def test_a_write_error_while_the_buffer_drains_ends_the_pipe(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is dropped, and ``connection_lost()`` tells why."""

    class FailingWrites(ShortWrites):
        def write(self, fd: int, data: Any) -> int:
            raise OSError(errno.EIO, "broken")

    async def main() -> None:
        transport, protocol, source = await writing()
        transport.write(b"x" * 100_000)
        monkeypatch.setattr(_pipe, "os", FailingWrites())
        drain(source)
        await protocol.until_lost()
        assert protocol.calls == ["connection_made", "pause_writing", "connection_lost OSError"] or protocol.calls == [
            "connection_made",
            "connection_lost OSError",
        ]
        assert transport.get_write_buffer_size() == 0
        os.close(source)

    run(main)


def test_a_device_that_cannot_be_watched_ends_the_pipe(run: Runner) -> None:
    """epoll refuses /dev/null; asyncio's reader would wait for ever."""

    async def main() -> None:
        reported: list[str] = []
        reported_to(reported)
        protocol = Recorder()
        await run.loop.connect_read_pipe(lambda: protocol, io.FileIO(os.devnull, "r"))
        await protocol.until_lost()
        if reported:
            assert reported == ["reported PermissionError(1, 'Operation not permitted')"]
            assert protocol.calls == ["connection_made", "connection_lost PermissionError"]
        else:
            assert protocol.calls == ["connection_made", "eof_received", "connection_lost NoneType"]

    run(main)


def test_a_device_can_be_written_to(run: Runner) -> None:
    """A character device does not tell of a reader, and need not."""

    async def main() -> None:
        protocol = Recorder()
        transport, _ = await run.loop.connect_write_pipe(lambda: protocol, io.FileIO(os.devnull, "w"))
        transport.write(b"x" * 1_000_000)
        transport.close()
        await protocol.until_lost()
        assert protocol.calls == ["connection_made", "connection_lost NoneType"]

    run(main)


def test_a_writer_that_cannot_be_watched_ends(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the rest cannot be waited for, it cannot be written."""

    async def main() -> None:
        transport, protocol, source = await writing()

        def refuse(fd: int, callback: Any) -> None:
            raise OSError(errno.ENOSPC, "no watches left")

        monkeypatch.setattr(run.loop._poller, "set_writer", refuse)
        transport.write(b"x" * 1_000_000)
        await protocol.until_lost()
        assert protocol.calls == ["connection_made", "connection_lost OSError"]
        os.close(source)

    run(main)


# A pipe that is closed behind our back


def test_closing_after_the_file_was_closed_leaves_a_stranger_alone(run: Runner) -> None:
    """The descriptor's number may belong to somebody else by then, who reads on."""

    async def main() -> None:
        old, old_protocol, old_sink = await reading()
        number = old.get_extra_info("pipe").fileno()
        old.get_extra_info("pipe").close()
        source, sink = os.pipe()
        assert source == number
        _, protocol = await run.loop.connect_read_pipe(Recorder, io.FileIO(source, "r"))
        old.close()
        await old_protocol.until_lost()
        os.write(sink, b"for the stranger")
        await protocol.until(lambda: bool(protocol.data))
        os.close(sink)
        await protocol.until_lost()
        os.close(old_sink)

    run(main)


def test_a_file_that_was_closed_can_be_closed_again(run: Runner) -> None:
    """Nobody else has the number: the pipe ends as any other."""

    async def main() -> None:
        transport, protocol, sink = await reading()
        transport.get_extra_info("pipe").close()
        transport.close()
        await protocol.until_lost()
        os.close(sink)
        left, right = socket.socketpair()
        transport, protocol = await run.loop.connect_read_pipe(Recorder, left)
        left.close()
        transport.close()
        await protocol.until_lost()
        right.close()

    run(main)


def test_resuming_or_writing_a_closed_file_ends_the_pipe(run: Runner) -> None:
    """The error is the reason that ``connection_lost()`` is given."""

    async def main() -> None:
        reported: list[str] = []
        reported_to(reported)
        into, reader, sink = await reading()
        into.pause_reading()
        into.get_extra_info("pipe").close()
        into.resume_reading()
        await reader.until_lost()
        out, writer, source = await writing()
        out.get_extra_info("pipe").close()
        out.write(b"x")
        await writer.until_lost()
        assert reader.calls == writer.calls == ["connection_made", "connection_lost OSError"]
        assert reported == ["reported OSError(9, 'Bad file descriptor')"]
        os.close(sink)
        os.close(source)

    run(main)


# Interruptions, leftovers, debug mode


@pytest.mark.parametrize("callback", OWN_CALLS)
def test_system_exit_out_of_a_callback_ends_the_run(
    loop: ReactorEventLoop, run_into_exit: RunIntoExit, callback: str
) -> None:
    """As from any callback; the loop can go on afterwards, and so can the pipe."""
    protocol = Recorder()

    async def main() -> None:
        if "writing" in callback:
            transport, _, source = await writing(protocol)
            loop.call_soon(transport.write, b"x" * 200_000)
            await drain_until(source, lambda: protocol.lost)
            os.close(source)
        else:
            _, _, sink = await reading(protocol)
            os.write(sink, b"x")
            await protocol.until(lambda: bool(protocol.data))
            os.close(sink)
            await protocol.until_lost()

    task = run_into_exit(main(), protocol.on, callback)
    if "writing" in callback:
        protocol.transport.close()
    loop.run_until_complete(task)
    loop.run_until_complete(protocol.until_lost())


def test_a_forgotten_transport_warns_and_closes_its_descriptor(loop: ReactorEventLoop) -> None:
    """Also after the loop is closed, and in another thread: the loop is not touched."""

    async def main() -> tuple[Any, Any, int, int]:
        into, reader, sink = await reading()
        into.pause_reading()
        out, writer, source = await writing()
        # In a cycle, the file might be collected first, and warn as well.
        reader.transport = writer.transport = None
        return into, out, sink, source

    into, out, sink, source = loop.run_until_complete(main())
    descriptors = [transport.get_extra_info("pipe").fileno() for transport in (into, out)]
    loop.close()
    shown = [repr(into), repr(out)]
    assert shown == [f"<ReadPipeTransport fd={descriptors[0]} open>", f"<WritePipeTransport fd={descriptors[1]} open>"]
    both = [into, out]
    del into, out

    def forget_first() -> None:
        del both[0]
        gc.collect()

    def forget_both() -> None:
        with pytest.warns(ResourceWarning, match="unclosed transport <ReadPipeTransport"):
            forget_first()
        with pytest.warns(ResourceWarning, match="unclosed transport <WritePipeTransport"):
            forget_first()

    thread = threading.Thread(target=forget_both)
    thread.start()
    thread.join()
    for fd in descriptors:
        with pytest.raises(OSError):
            os.fstat(fd)
    os.close(sink)
    os.close(source)


def test_debug_mode_tells_what_happens(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    """With the words of asyncio."""
    caplog.set_level(logging.DEBUG, "asyncio")

    async def main() -> None:
        run.loop.set_debug(True)
        transport, protocol, sink = await reading()
        transport.pause_reading()
        transport.resume_reading()
        os.close(sink)
        await protocol.until_lost()
        transport, protocol, source = await writing()
        os.close(source)
        await protocol.until_lost()
        transport, protocol, source = await writing()
        os.close(source)
        transport.write(b"x")
        await protocol.until_lost()

    run(main)
    text = re.sub(r"<\w+ (closing )?fd=[^>]*>", "PIPE", caplog.text)
    for line in (
        "PIPE pauses reading",
        "PIPE resumes reading",
        "PIPE was closed by peer",
        "PIPE: Fatal write error on pipe",
    ):
        assert line in text


def test_the_classes_are_asyncios_and_small(run: Runner) -> None:
    """They are instances of the public classes, and no more."""

    async def main() -> None:
        into, reader, sink = await reading()
        out, writer, source = await writing()
        assert isinstance(into, ReadPipeTransport)
        assert isinstance(into, asyncio.ReadTransport)
        assert isinstance(out, WritePipeTransport)
        assert isinstance(out, asyncio.WriteTransport)
        assert not hasattr(into, "__dict__") and not hasattr(out, "__dict__")
        into.close()
        out.close()
        await reader.until_lost()
        await writer.until_lost()
        os.close(sink)
        os.close(source)

    run(main)


def test_a_file_without_a_descriptor_is_refused(run: Runner) -> None:
    """Nothing is left of the attempt, not even a warning."""

    async def main() -> None:
        with pytest.raises(io.UnsupportedOperation):
            await run.loop.connect_read_pipe(Recorder, io.BytesIO())
        gc.collect()

    run(main)


@pytest.mark.parametrize(
    ("mode", "links", "platform", "tells"),
    [
        (stat.S_IFIFO, 1, "linux", True),
        (stat.S_IFIFO, 0, "darwin", True),
        (stat.S_IFIFO, 1, "darwin", False),
        (stat.S_IFIFO, 1, "aix7", False),
        (stat.S_IFSOCK, 1, "aix7", True),
        (stat.S_IFCHR, 1, "linux", False),
    ],
)
def test_which_pipes_tell_of_their_reader(mode: int, links: int, platform: str, tells: bool) -> None:
    """Sockets everywhere, devices nowhere, pipes almost everywhere, pipes with names not everywhere."""
    assert tells_of_its_reader(mode, links, platform) is tells
