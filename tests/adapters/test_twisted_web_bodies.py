"""twisted.web's site, on the transports of every asyncio loop: bodies larger than buffers, files and ranges."""

from __future__ import annotations

import http.client
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..tls.contexts import server_context
from .any_loop import LIMIT_S, Perform, connected, host, install_clock, listening, perform, serving
from .web_site import MUCH, Answer, answer_of, browse, get, read_answer, request_lines, tree

__all__ = ["host", "install_clock", "perform"]


InstallClock = Callable[[], None]


@pytest.fixture(params=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    """Whether it is HTTPS."""
    return bool(request.param == "tls")


def options(tls: bool) -> dict[str, Any]:
    """What create_server() gets."""
    return {"ssl": server_context("stdlib")} if tls else {}


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a large file and a small one."""
    directory = tmp_path_factory.mktemp("files")
    (directory / "much.bin").write_bytes(MUCH)
    (directory / "little.txt").write_text("little")
    return directory


def test_a_large_body_is_posted(perform: Perform, tls: bool) -> None:
    """With its length said before, and in chunks; the connection is good for another request."""

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(MUCH), 77_777):
            yield MUCH[start : start + 77_777]

    def visit(connection: http.client.HTTPConnection) -> list[Answer]:
        answers = []
        connection.request("POST", "/upload", body=MUCH)
        answers.append(answer_of(connection))
        connection.request(
            "POST", "/upload", body=pieces(), encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
        )
        answers.append(answer_of(connection))
        return [*answers, get(connection, "/hello")]

    async def main() -> None:
        async with serving(tree().site, **options(tls)) as port:
            *posted, hello = await browse(port, visit, tls=tls)
        assert [answer.body for answer in posted] == [b"%d bytes, crc %08x" % (len(MUCH), zlib.crc32(MUCH))] * 2
        assert hello.status == 200

    perform(main)


def test_a_push_producer_waits_for_a_slow_reader(perform: Perform) -> None:
    """It is paused while nobody reads, and told to resume; nothing is lost, and the connection can be used again."""

    async def main() -> None:
        site = tree()
        async with listening(site.site) as port, connected(port) as (reader, writer):
            writer.write(request_lines("/flood"))
            await site.flood.stalled.wait()
            assert site.flood.position < len(MUCH)
            writer.write(request_lines("/hello"))
            assert await read_answer(reader) == (200, MUCH)
            assert await site.flood.finished is None
            assert (await read_answer(reader))[0] == 200
        assert site.flood.told[0] == "pause"
        assert "resume" in site.flood.told
        assert "stop" not in site.flood.told

    perform(main)


def test_a_push_producer_goes_over_tls(perform: Perform) -> None:
    """As without it."""

    async def main() -> None:
        site = tree()
        async with serving(site.site, **options(True)) as port:
            answer = await browse(port, lambda connection: get(connection, "/flood"), tls=True)
        assert answer.body == MUCH
        assert await site.flood.finished is None

    perform(main)


def test_a_large_file_is_served(perform: Perform, install_clock: InstallClock, directory: Path, tls: bool) -> None:
    """A pull producer, ``static.File``, sends it, and is asked for more when there is room; the file is closed."""

    def visit(connection: http.client.HTTPConnection) -> list[Answer]:
        return [get(connection, "/files/much.bin") for _ in range(2)]

    async def main() -> None:
        install_clock()
        async with serving(tree(directory).site, **options(tls)) as port:
            answers = await browse(port, visit, tls=tls)
        assert [answer.body for answer in answers] == [MUCH, MUCH]

    perform(main)


def test_files_are_served_in_parts(perform: Perform, install_clock: InstallClock, directory: Path) -> None:
    """One range, several, and one that is not there; and the head alone."""

    def visit(connection: http.client.HTTPConnection) -> list[Answer]:
        path = "/files/much.bin"
        answers = [
            get(connection, path, Range=ranges)
            for ranges in ("bytes=1000-3000999", "bytes=-5", "bytes=10-19,4000000-4000009", "bytes=9999999-")
        ]
        connection.request("HEAD", path)
        return [*answers, answer_of(connection), get(connection, "/files/little.txt")]

    async def main() -> None:
        install_clock()
        async with listening(tree(directory).site) as port:
            one, end, several, absent, head, little = await browse(port, visit)
        assert (one.status, one.body) == (206, MUCH[1000:3001000])
        assert one.headers["content-range"] == f"bytes 1000-3000999/{len(MUCH)}"
        assert (end.status, end.body) == (206, MUCH[-5:])
        assert several.status == 206
        assert several.headers.get_content_type() == "multipart/byteranges"
        assert MUCH[10:20] in several.body
        assert MUCH[4_000_000:4_000_010] in several.body
        assert absent.status == 416
        assert (head.status, head.headers["content-length"], head.body) == (200, str(len(MUCH)), b"")
        assert (little.status, little.body) == (200, b"little")

    perform(main)


def test_a_file_that_has_not_changed_is_not_sent(
    perform: Perform, install_clock: InstallClock, directory: Path
) -> None:
    """``If-Modified-Since``, with the time that the site has said."""

    def visit(connection: http.client.HTTPConnection) -> Answer:
        first = get(connection, "/files/little.txt")
        return get(connection, "/files/little.txt", If_Modified_Since=first.headers["last-modified"])

    async def main() -> None:
        install_clock()
        async with serving(tree(directory).site) as port:
            answer = await browse(port, visit)
        assert (answer.status, answer.body) == (304, b"")

    perform(main)


@pytest.mark.parametrize("ends", ["closes", "aborts"])
def test_a_reader_that_goes_away_releases_the_file(
    perform: Perform, install_clock: InstallClock, directory: Path, ends: str
) -> None:
    """Half-way through a large file: its producer is stopped, the file is closed, and the site serves others."""

    async def main() -> None:
        install_clock()
        async with serving(tree(directory).site) as port:
            async with connected(port) as (reader, writer):
                writer.write(request_lines("/files/much.bin"))
                await reader.readexactly(1_000)
                if ends == "aborts":
                    writer.transport.abort()
            answer = await browse(port, lambda connection: get(connection, "/files/little.txt"))
        assert answer.body == b"little"

    perform(main)


def test_a_client_that_goes_away_in_its_request_leaves_nothing(perform: Perform) -> None:
    """Half-way through a body that is so large that the site keeps it in a file."""

    async def main() -> None:
        site = tree()
        async with serving(site.site) as port:
            async with connected(port) as (_, writer):
                writer.write(request_lines("/upload", body=MUCH)[: len(MUCH) // 2])
                await writer.drain()
            answer = await browse(port, lambda connection: get(connection, "/hello"))
        assert answer.body.startswith(b"hello 1")

    perform(main)


PROGRAM = """
import asyncio, sys, urllib.request
from twisted.internet.main import installReactor
from txasync.adapters import LoopClock, LoopServerEndpoint
import txasync

async def main():
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop)
    installReactor(clock)
    from twisted.web.server import Site
    from twisted.web.static import File
    site = Site(File(sys.argv[1]), reactor=clock)
    port = await txasync.as_future(LoopServerEndpoint(loop, "127.0.0.1", 0).listen(site))
    url = f"http://127.0.0.1:{port.getHost().port}/much.bin"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    print(len(await loop.run_in_executor(None, lambda: opener.open(url).read())))
    await txasync.as_future(port.stopListening())

asyncio.run(main())
"""


def test_the_loops_clock_as_the_global_reactor_is_enough_for_files(directory: Path) -> None:
    """Requests ask the global reactor for turns of their pull producers; ``installReactor()`` takes a `LoopClock`."""
    # twisted.web.static calls a function of Twisted's that is deprecated.
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", PROGRAM, str(directory)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (child.stdout, child.stderr) == (f"{len(MUCH)}\n", "")
