"""A graceful stop under load: what was accepted is answered, and the server's count is that of its clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..application.twistd_process import LIMIT_S, TwistdProcess
from .conftest import TLSFiles
from .load import BLOCKING, HTTP, LINES, STOP_AFTER, WORKERS, Client, Dialogue, Load
from .services import AIOHTTP, AIOHTTP_ALONE, ASGI, STREAMS, needs, place, tls_endpoint

__all__ = ["place"]

# So long that a process that waits for the end of it does not end within the time limit of a test.
GRACEFUL = ["--graceful", "3600"]
# How many clients wait in the queue of a port; Twisted's has room for 50.
WAITING = 20


def serve_under_load(
    installed: Path,
    place: Path,
    options: list[str],
    dialogue: Dialogue,
    *,
    reactor: str = "epoll",
    keeps_asking: bool = True,
    tls: ssl.SSLContext | None = None,
) -> Load:
    """Start twistd with *options*, tell it to stop under load, and compare its count of requests with its clients'."""
    needs(*options)
    with TwistdProcess(installed, place, ["--reactor", reactor, "txasync", *options, *GRACEFUL]) as twistd:
        port = int(twistd.says(r" starting on (\d+)$")[1])
        load = Load(port, dialogue, lambda: twistd.send(signal.SIGTERM), keeps_asking=keeps_asking, tls=tls)
        load.run()
        assert twistd.end() == -signal.SIGTERM
    assert "Traceback" not in twistd.text
    served = sorted(map(int, re.findall(r" served (\d+)$", twistd.text, re.MULTILINE)))
    begun = sorted(map(int, re.findall(r" begun (\d+)$", twistd.text, re.MULTILINE)))
    assert begun == served == sorted(load.answered)
    assert len(load.answered) == STOP_AFTER + load.answered_late
    assert load.answered_late > 0
    assert load.refused == WORKERS
    return load


def accepted(load: Load) -> list[object]:
    """What was dropped though it was accepted."""
    return [dropped for dropped in load.dropped if dropped.was_accepted]


@pytest.mark.parametrize("reactor", ["epoll", "select"])
def test_an_asgi_application_answers_what_it_has_accepted(installed: Path, place: Path, reactor: str) -> None:
    """Connections that are kept are closed between two requests; no client has to help the process to end."""
    load = serve_under_load(installed, place, ASGI, HTTP, reactor=reactor)
    assert accepted(load) == []


def test_an_asgi_application_answers_by_tls_what_it_has_accepted(
    installed: Path, place: Path, tls_files: TLSFiles
) -> None:
    """Handshakes that were begun before the end are finished."""
    options = ["--listen", tls_endpoint(tls_files), "--asgi", "starlette_service:app"]
    tls = ssl.create_default_context(cafile=tls_files["ca"])
    assert accepted(serve_under_load(installed, place, options, HTTP, tls=tls)) == []


def test_streams_answer_what_they_have_accepted(installed: Path, place: Path) -> None:
    """Connections that clients keep are served for as long as they are used."""
    load = serve_under_load(installed, place, STREAMS, LINES, keeps_asking=False)
    assert accepted(load) == []


def test_a_protocol_of_aiohttps_answers_what_it_has_accepted(installed: Path, place: Path) -> None:
    """A server of any library, on an endpoint: likewise."""
    load = serve_under_load(installed, place, AIOHTTP, HTTP, keeps_asking=False)
    assert accepted(load) == []


def test_aiohttps_runner_answers_what_it_has_begun(installed: Path, place: Path) -> None:
    """
    What has been read when the function is cancelled is answered.

    The rest is aiohttp's business, who listens, and closes its connections: without looking whether something has come
    that was not read yet.
    """
    serve_under_load(installed, place, AIOHTTP_ALONE, HTTP)


@contextlib.contextmanager
def stopped(twistd: TwistdProcess) -> Iterator[None]:
    """A moment in which the process does not run, and knows nothing of what happens, though the kernel does."""
    limit = time.monotonic() + LIMIT_S
    twistd.send(signal.SIGSTOP)
    while Path(f"/proc/{twistd.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < limit
        os.sched_yield()
    yield
    twistd.send(signal.SIGCONT)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system does not tell when a process is stopped")
@pytest.mark.parametrize("options", [ASGI, STREAMS, AIOHTTP], ids=["asgi", "streams", "protocol"])
def test_what_waits_unread_is_answered(installed: Path, place: Path, options: list[str]) -> None:
    """Connections that nobody has accepted yet, and requests that nobody has read yet, when the process is told."""
    needs(*options)
    dialogue = LINES if options is STREAMS else HTTP

    async def scenario(twistd: TwistdProcess, port: int) -> None:
        async with contextlib.AsyncExitStack() as stack:

            async def client() -> Client:
                return await stack.enter_async_context(await Client.connected(port, dialogue))

            kept, idle = await client(), await client()
            for each in kept, idle:
                each.send(100)
                assert await each.answer() == 100
            with stopped(twistd):
                kept.send(101)
                waiting = [await client() for _ in range(WAITING)]
                for number, each in enumerate(waiting):
                    each.send(number, is_last=True)
                silent = await client()
                twistd.send(signal.SIGTERM)
            twistd.says("Port .*Closed")
            assert await kept.answer() == 101
            # The first request of a connection may come a little later; meanwhile, others go on.
            for number in 102, 103:
                kept.send(number)
                assert await kept.answer() == number
            silent.send(200, is_last=True)
            for number, each in enumerate(waiting):
                assert await each.answer() == number
            assert await silent.answer() == 200
            if options is ASGI:
                assert await idle.is_closed()

    with TwistdProcess(installed, place, ["txasync", *options, *GRACEFUL]) as twistd:
        asyncio.run(asyncio.wait_for(scenario(twistd, int(twistd.says(r" starting on (\d+)$")[1])), LIMIT_S))
        assert twistd.end() == -signal.SIGTERM
    assert "Traceback" not in twistd.text


def test_what_comes_while_the_application_blocks_is_answered(installed: Path, place: Path) -> None:
    """Late as everything is then: what has come is read before connections are closed."""
    needs(*ASGI)

    async def scenario(twistd: TwistdProcess, port: int) -> None:
        async with await Client.connected(port, HTTP) as kept, await Client.connected(port, BLOCKING) as blocking:
            kept.send(1)
            assert await kept.answer() == 1
            blocking.send(2)
            twistd.says("blocking")
            kept.send(3)
            twistd.send(signal.SIGTERM)
            (place / "go").touch()
            assert await blocking.answer() == 2
            assert await kept.answer() == 3

    with TwistdProcess(installed, place, ["txasync", *ASGI, *GRACEFUL]) as twistd:
        asyncio.run(asyncio.wait_for(scenario(twistd, int(twistd.says(r" starting on (\d+)$")[1])), LIMIT_S))
        assert twistd.end() == -signal.SIGTERM
    assert "Traceback" not in twistd.text


@pytest.mark.parametrize("options", [ASGI, STREAMS, AIOHTTP_ALONE], ids=["asgi", "streams", "aiohttp"])
def test_a_second_signal_waits_for_no_request(installed: Path, place: Path, options: list[str]) -> None:
    """What is in flight is ended."""
    needs(*options)
    with TwistdProcess(installed, place, ["txasync", *options, *GRACEFUL]) as twistd:
        port = int(twistd.says(r" starting on (\d+)$")[1])
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as client:
            client.sendall(b"hang\n" if options is STREAMS else b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
            twistd.says("hang")
            twistd.send(signal.SIGTERM)
            twistd.says("Received SIGTERM")
            twistd.send(signal.SIGTERM)
            assert twistd.end() == -signal.SIGTERM
            with contextlib.suppress(ConnectionResetError):
                while client.recv(65536):
                    pass
