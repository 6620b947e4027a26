"""twisted.web's site, on the transports of every asyncio loop and without a reactor: requests and answers."""

from __future__ import annotations

import asyncio
import datetime
import http.client
import re
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone

from ..conftest import Reports
from ..tls.contexts import server_context
from .any_loop import LIMIT_S, Perform, connected, host, listening, perform, serving
from .web_site import Answer, answer_of, browse, get, read_answer, request_lines, tree

__all__ = ["host", "perform"]


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    """Whether it is HTTPS."""
    return bool(request.param == "tls")


def options(tls: bool) -> dict[str, Any]:
    """What create_server() gets."""
    return {"ssl": server_context("stdlib")} if tls else {}


def test_a_connection_is_kept_alive(perform: Perform, tls: bool) -> None:
    """Several requests go over one connection, and a resource knows whether it is secure."""

    def visit(connection: http.client.HTTPConnection) -> list[Answer]:
        first = get(connection, "/hello")
        sock = connection.sock
        second = get(connection, "/hello?again")
        assert connection.sock is sock
        return [first, second]

    async def main() -> None:
        async with serving(tree().site, **options(tls)) as port:
            first, second = await browse(port, visit, tls=tls)
        kind = b"secure" if tls else b"plain"
        assert (first.status, first.body) == (200, b"hello 1, %s, /hello" % kind)
        assert (second.status, second.body) == (200, b"hello 2, %s, /hello?again" % kind)

    perform(main)


@pytest.mark.parametrize("size", [7, 100_000], ids="{} bytes at a time".format)
def test_pipelined_requests_are_answered_in_order(perform: Perform, size: int) -> None:
    """Those that are answered late hold back those that follow, and nothing of these is lost."""
    body = bytes(range(256)) * 10
    # A site reads ahead while it is busy, and stops when it has read enough.
    script = b"".join(
        request_lines("/hello") + request_lines("/later") + request_lines("/upload", body=body) for _ in range(20)
    )
    uploaded = b"%d bytes, crc %08x" % (len(body), zlib.crc32(body))

    async def main() -> None:
        async with listening(tree().site) as port, connected(port) as (reader, writer):
            for start in range(0, len(script), size):
                writer.write(script[start : start + size])
                await asyncio.sleep(0)
            answers = [await read_answer(reader) for _ in range(60)]
        for turn in range(20):
            assert answers[3 * turn : 3 * turn + 3] == [
                (200, b"hello %d, plain, /hello" % (turn + 1)),
                (200, b"one, two, three"),
                (200, uploaded),
            ]

    perform(main)


def test_a_connection_ends_after_the_answer_if_the_client_says_so(perform: Perform, tls: bool) -> None:
    """``Connection: close``: the server hangs up, when all was sent."""

    def visit(connection: http.client.HTTPConnection) -> Answer:
        connection.request("GET", "/later", headers={"Connection": "close"})
        sock = connection.sock
        answer = answer_of(connection)
        assert connection.sock is None
        assert sock is not None
        return answer

    async def main() -> None:
        async with serving(tree().site, **options(tls)) as port:
            answer = await browse(port, visit, tls=tls)
        assert (answer.status, answer.body) == (200, b"one, two, three")

    perform(main)


def test_an_answer_of_unknown_length_is_chunked(perform: Perform) -> None:
    """To a client of HTTP/1.1; to one of HTTP/1.0, the end of the connection is the end of it."""

    async def main() -> None:
        async with listening(tree().site) as port:
            answer = await browse(port, lambda connection: get(connection, "/later"))
            assert answer.headers["transfer-encoding"] == "chunked"
            assert answer.body == b"one, two, three"
            async with connected(port) as (reader, writer):
                writer.write(b"GET /later HTTP/1.0\r\n\r\n")
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            assert b"chunked" not in head.lower()
            assert body == b"one, two, three"

    perform(main)


def test_a_coroutine_of_asyncio_renders(perform: Perform) -> None:
    """``as_deferred()`` makes a Deferred of it, which twisted.web need not know of."""

    async def main() -> None:
        async with serving(tree().site) as port:
            answer = await browse(port, lambda connection: get(connection, "/coroutine"))
        assert (answer.status, answer.body) == (200, b"by a coroutine")

    perform(main)


def test_a_coroutine_that_fails_is_an_internal_error(perform: Perform, reports: Reports) -> None:
    """``processingFailed()`` reports it as for Twisted's own coroutines, and the site goes on."""

    def visit(connection: http.client.HTTPConnection) -> list[Answer]:
        return [get(connection, "/coroutine?fail=1"), get(connection, "/hello")]

    async def main() -> None:
        async with serving(tree().site) as port:
            failed, fine = await browse(port, visit)
        assert failed.status == 500
        assert fine.status == 200

    perform(main)
    assert [report.value for report in reports.twisted] == ["it was asked to fail"]
    reports.clear()


@pytest.mark.parametrize("path", ["/endless", "/flood"])
def test_a_resource_is_told_that_the_client_has_gone(perform: Perform, path: str) -> None:
    """notifyFinish() fails, whether the resource waits or a push producer is paused; and the producer is stopped."""

    async def main() -> None:
        site = tree()
        resource = site.endless if path == "/endless" else site.flood
        async with serving(site.site) as port, connected(port) as (reader, writer):
            writer.write(request_lines(path))
            await reader.readline()
            if path == "/flood":
                await site.flood.stalled.wait()
            writer.transport.abort()
            failure = await resource.finished
        assert failure is not None
        assert failure.check(Exception)
        if path == "/flood":
            assert site.flood.told[-1] == "stop"

    perform(main)


def test_a_resource_is_told_of_an_orderly_end_too(perform: Perform) -> None:
    """A client that closes has gone, too: the reason is ConnectionDone, as on Twisted's transports."""

    async def main() -> None:
        site = tree()
        async with serving(site.site) as port:
            async with connected(port) as (reader, writer):
                writer.write(request_lines("/endless"))
                body = b""
                while b"once upon a time" not in body:
                    body += await reader.read(1000)
            (await site.endless.finished).trap(ConnectionDone)

    perform(main)


def test_an_idle_connection_is_closed(perform: Perform) -> None:
    """The site's timeout runs on its `LoopClock`."""

    async def main() -> None:
        async with listening(tree(timeout=0.1).site) as port, connected(port) as (reader, writer):
            writer.write(request_lines("/hello"))
            assert (await read_answer(reader))[0] == 200
            assert await asyncio.wait_for(reader.read(), LIMIT_S) == b""

    perform(main)


def test_the_access_log_has_the_time_of_day(perform: Perform, tmp_path: Path) -> None:
    """A `LoopClock` counts from the epoch, as the reactors' clocks do."""
    log = tmp_path / "access.log"

    async def main() -> None:
        async with serving(tree(logPath=str(log)).site) as port:
            await browse(port, lambda connection: get(connection, "/hello"))

    before = time.time()
    perform(main)
    line = re.fullmatch(r'.* \[(.*)\] "GET /hello HTTP/1.1" 200 .*\n', log.read_text())
    assert line is not None
    logged = datetime.datetime.strptime(line[1], "%d/%b/%Y:%H:%M:%S %z")
    # It is cut to seconds, and made anew once in a second.
    assert before - 2 <= logged.timestamp() <= time.time() + 1


PROGRAM = """
import asyncio, sys, urllib.request
from twisted.web.resource import Resource
from twisted.web.server import Site
from txasync.adapters import LoopClock, LoopServerEndpoint
import txasync

class Hello(Resource):
    def render_GET(self, request):
        return b"hello"

async def main():
    loop = asyncio.get_running_loop()
    root = Resource()
    root.putChild(b"", Hello())
    site = Site(root, reactor=LoopClock(loop))
    port = await txasync.as_future(LoopServerEndpoint(loop, "127.0.0.1", 0).listen(site))
    url = f"http://127.0.0.1:{port.getHost().port}/"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    print(await asyncio.to_thread(lambda: opener.open(url).read()))
    await txasync.as_future(port.stopListening())
    print("twisted.internet.reactor" in sys.modules)

asyncio.run(main())
"""


def test_a_site_needs_no_reactor() -> None:
    """On asyncio's own loop, twisted.web serves, and ``twisted.internet.reactor`` is not even imported."""
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    child = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (child.stdout, child.stderr) == ("b'hello'\nFalse\n", "")
