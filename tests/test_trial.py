"""Under trial, which runs and crashes the reactor for every test and complains of whatever is left in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import txasync

TESTS = """
import asyncio
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
import txasync


def deferred_of(coroutine):
    return Deferred.fromFuture(asyncio.ensure_future(coroutine))


class LoopTests(TestCase):
    def setUp(self):
        txasync.install()

    def test_nothing_of_asyncios(self):
        pass

    def test_streams_and_children(self):
        async def main():
            server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello")
            writer.write_eof()
            self.assertEqual(await reader.read(), b"hello")
            writer.close()
            await writer.wait_closed()
            server.close()
            process = await asyncio.create_subprocess_exec("true")
            self.assertEqual(await process.wait(), 0)

        return self.when_running(main)

    async def serve(self, reader, writer):
        writer.write(await reader.read())
        writer.close()

    def when_running(self, main):
        deferred = Deferred()
        reactor.callWhenRunning(lambda: deferred_of(main()).chainDeferred(deferred))
        return deferred

    test_again = test_streams_and_children

    def test_an_idle_loop_with_a_timer_is_clean(self):
        async def main():
            asyncio.get_running_loop().call_later(3600, print)
            await asyncio.sleep(0.01)

        return self.when_running(main)

    def test_an_error_in_a_callback_is_logged(self):
        async def main():
            asyncio.get_running_loop().call_soon(lambda: 1 / 0)
            await asyncio.sleep(0.01)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

        return self.when_running(main)

    def test_iterating_the_reactor(self):
        ran = []
        reactor.callLater(0, lambda: ran.append(asyncio.get_running_loop()))
        asyncio.get_running_loop().call_soon(ran.append, "asyncio's")
        for _ in range(5):
            reactor.iterate(0.01)
        self.assertEqual(len(ran), 2)


class LaterLoopTests(LoopTests):
    pass
"""


@pytest.mark.parametrize("reactor", ["txasync", "epoll", "select"])
def test_a_suite_of_asyncio_tests_passes_and_leaves_the_reactor_clean(tmp_path: Path, reactor: str) -> None:
    """Sockets, children, timers and errors, test after test, with ``reactor.run()`` for each."""
    (tmp_path / "test_with_trial.py").write_text(TESTS)
    command = [sys.executable, "-c", "from twisted.scripts.trial import run; run()", f"--reactor={reactor}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(txasync.__file__).parents[1]), "."])}
    ended = subprocess.run(
        [*command, "test_with_trial"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "PASSED (successes=12)" in ended.stdout
