"""Traces of stream transports: files that are sent, by the kernel and by hand."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import Callable
from typing import Any

from ..conftest import Reports
from .combinations import Combination
from .traces import SMALL, Scenarios, Stage, play_on_both

scenario = Scenarios()

CONTENT = bytes(range(251)) * 4000
LITTLE = 10_000


def a_file() -> Any:
    """A regular file, positioned at its beginning."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  # the caller's to close
    file.write(CONTENT)
    file.seek(0)
    return file


def a_nameless_file() -> Any:
    """A file that has no descriptor. It is small: see test_stream_behaviour for how asyncio mixes up large ones."""
    return io.BytesIO(CONTENT[:LITTLE])


FILES: tuple[Callable[[], Any], ...] = (a_file, a_nameless_file)


async def sent(stage: Stage, protocol: Any, peer: Any, file: Any, *args: Any, **kwargs: Any) -> None:
    """Send *file* while the peer reads, and note how that ends."""
    what = f"sent {args} {kwargs}"
    sending = stage.loop.create_task(
        stage.attempt_to_await(what, stage.loop.sendfile(protocol.transport, file, *args, **kwargs))
    )
    await stage.drain(peer, until=sending)
    if (count := await sending) is not None:
        stage.note("count", count)
        stage.note("position", file.tell())


@scenario
async def whole(stage: Stage) -> None:
    """A file is sent from its offset on, as much as is asked for, and is left at the end of what was sent."""
    for make in FILES:
        protocol = stage.protocol()
        size = len(CONTENT) if make is a_file else LITTLE
        peer = await stage.connect(protocol, sndbuf=SMALL if make is a_file else None)
        with make() as file:
            await sent(stage, protocol, peer, file)
            await sent(stage, protocol, peer, file, 100)
            await sent(stage, protocol, peer, file, 5, 10)
            await sent(stage, protocol, peer, file, size - 5, 10)
            await sent(stage, protocol, peer, file, size + 5)
        protocol.attempt("write", b"after it")
        await stage.drain(peer)


@scenario
async def over_tcp(stage: Stage) -> None:
    """TCP is no different."""
    for make in FILES:
        protocol = stage.protocol()
        peer = await stage.connect_tcp(protocol)
        with make() as file:
            sending = stage.loop.create_task(stage.loop.sendfile(protocol.transport, file))
            await stage.expect(peer, len(CONTENT) if make is a_file else LITTLE)
            stage.note("count", await sending)


@scenario
async def after_what_is_in_the_buffer(stage: Stage) -> None:
    """The file comes after what was written before."""
    for make in FILES:
        protocol = stage.protocol()
        peer = await stage.connect(protocol, sndbuf=SMALL)
        protocol.attempt("write", b"before it" * 10_000)
        with make() as file:
            await sent(stage, protocol, peer, file)


@scenario
async def without_fallback(stage: Stage) -> None:
    """What only a fallback could send is refused if that is not wanted."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    with a_file() as file:
        await sent(stage, protocol, peer, file, 0, 10, fallback=False)
    with a_nameless_file() as nameless:
        await sent(stage, protocol, peer, nameless, 0, 10, fallback=False)
    protocol.attempt("write", b"after it")
    await stage.drain(peer)


@scenario
async def wrong_arguments(stage: Stage) -> None:
    """Files of text, counts and offsets that make no sense, and transports that close are refused."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol)
    with a_file() as file, tempfile.TemporaryFile("w+") as text:
        await sent(stage, protocol, peer, text)
        await sent(stage, protocol, peer, file, -1)
        await sent(stage, protocol, peer, file, 0, 0)
        await sent(stage, protocol, peer, file, 0, -5)
        await sent(stage, protocol, peer, file, 0.5)
        protocol.attempt("close")
        await sent(stage, protocol, peer, file)


@scenario
async def writing_meanwhile(stage: Stage) -> None:
    """While the kernel sends a file, nothing else can be sent."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    with a_file() as file:
        sending = stage.loop.create_task(stage.loop.sendfile(protocol.transport, file))
        await stage.quiet()
        protocol.attempt("write", b"amid it")
        protocol.attempt("writelines", [b"amid it"])
        await stage.drain(peer, until=sending)
        stage.note("count", await sending)
    protocol.attempt("write", b"after it")
    await stage.drain(peer)


@scenario
async def reading_meanwhile(stage: Stage) -> None:
    """What arrives while a file is sent is delivered when it was sent, and a pause outlives the sending."""
    for paused in False, True:
        protocol = stage.protocol()
        peer = await stage.connect(protocol, sndbuf=SMALL)
        if paused:
            protocol.attempt("pause_reading")
        with a_file() as file:
            sending = stage.loop.create_task(stage.loop.sendfile(protocol.transport, file))
            await stage.quiet()
            stage.note("reading", protocol.transport.is_reading())
            peer.send(b"hello")
            await stage.drain(peer, until=sending)
            stage.note("count", await sending)
        await stage.quiet()
        protocol.note_state()


@scenario
async def peer_gone_meanwhile(stage: Stage) -> None:
    """If the peer goes, sending fails."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    with a_file() as file:
        sending = stage.loop.create_task(stage.loop.sendfile(protocol.transport, file))
        await stage.quiet()
        peer.sock.close()
        await stage.attempt_to_await("sent", sending)
    await stage.quiet()
    stage.note("lost", protocol.lost.done())


@scenario
async def cancelled(stage: Stage) -> None:
    """A cancelled sendfile leaves a transport that works."""
    protocol = stage.protocol()
    peer = await stage.connect(protocol, sndbuf=SMALL)
    with a_file() as file:
        sending = stage.loop.create_task(stage.loop.sendfile(protocol.transport, file))
        await stage.quiet()
        sending.cancel()
        await asyncio.wait([sending])
        stage.note("cancelled", sending.cancelled())
    while peer.receive():
        await stage.quiet()
    protocol.attempt("write", b"after it")
    peer.send(b"hello")
    await stage.drain(peer)
    protocol.note_state()


@scenario
async def to_a_transport_that_cannot(stage: Stage) -> None:
    """Only streams can send files."""
    transport, _ = await stage.loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
    with a_file() as file:
        await stage.attempt_to_await("sent", stage.loop.sendfile(transport, file))  # type: ignore[arg-type]
    transport.close()


@scenario.every
def test_the_trace_is_that_of_asyncio(scenario: Any, combination: Combination, reports: Reports) -> None:
    """Files are sent as asyncio's own loop of this version sends them."""
    traced, expected = play_on_both(scenario, combination, reports)
    assert traced == expected
