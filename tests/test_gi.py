"""On a GLib reactor, without a screen."""

from __future__ import annotations

import signal
import socket
import textwrap
from pathlib import Path

import pytest

from .application.twistd_process import TwistdProcess
from .test_running import in_child

pytest.importorskip("gi", reason="PyGObject is not installed: it is Debian's python3-gi, for the system's Python")

PROLOGUE = """
import asyncio, os, signal, sys, threading
from twisted.internet import gireactor
gireactor.install(useGtk=False)
from twisted.internet import reactor
from twisted.internet.utils import getProcessValue
import txasync

# Such a child is heard of by SIGCHLD alone.
QUIET = ["-c", "exec >&- 2>&- <&-; sleep 0.1; exit 7"]

def future_of(deferred):
    future = asyncio.get_running_loop().create_future()
    deferred.addCallbacks(future.set_result, lambda failure: future.set_exception(failure.value))
    return future

def reactor_first(main):
    loop = txasync.install()
    tasks = []
    def start():
        tasks.append(loop.create_task(main()))
        tasks[0].add_done_callback(lambda task: reactor.stop())
    reactor.callWhenRunning(start)
    reactor.run()
    return tasks[0].result()
"""


def on_gi(program: str, exit_code: int = 0) -> str:
    """Run *program* in a process with that reactor."""
    # PyGObject and the GLib reactor use deprecated names of their own.
    return in_child(PROLOGUE + textwrap.dedent(program), warnings="ignore", exit_code=exit_code)


@pytest.mark.parametrize("run", ["txasync.run(main())", "reactor_first(main)"])
def test_sockets_timers_threads_and_children(run: str) -> None:
    """What a program does with asyncio, with both kinds of children and a signal handler."""
    printed = on_gi(
        f"""
        async def main():
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x" * 1_000_000)
            writer.write_eof()
            assert len(await reader.read()) == 1_000_000
            writer.close()
            server.close()
            await asyncio.gather(*(asyncio.sleep(0.001 * i) for i in range(50)))
            await asyncio.get_running_loop().run_in_executor(None, threading.get_ident)
            came = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, came.set)
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(came.wait(), 20)
            asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)
            process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 3")
            codes = await asyncio.gather(process.wait(), future_of(getProcessValue("/bin/sh", QUIET)))
            return codes, type(asyncio.get_running_loop().reactor).__name__

        async def serve(reader, writer):
            writer.write(await reader.read())
            writer.close()

        print({run})
        """
    )
    assert printed == "([3, 7], 'GIReactor')\n"


def test_runs_again_and_again() -> None:
    """``asyncio.run`` any number of times."""
    printed = on_gi(
        """
        for i in range(5):
            assert txasync.run(asyncio.sleep(0.001, i)) == i
        print("fine")
        """
    )
    assert printed == "fine\n"


def test_ctrl_c_is_the_programs_in_a_run_of_the_loop() -> None:
    """And SIGTERM's handler, which the reactor sets twice, is not the reactor's."""
    printed = on_gi(
        """
        async def main():
            await asyncio.sleep(0.05)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT]).start()
            try:
                await asyncio.sleep(30)
            finally:
                print("ended")
        try:
            txasync.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert printed == "ended\ninterrupted\n"


def test_a_handler_of_the_user_survives_the_reactors_second_try() -> None:
    """The reactor sets its signal handlers once more in its first turn."""
    printed = on_gi(
        """
        async def main():
            came = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, came.set)
            await asyncio.sleep(0.1)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(came.wait(), 20)
            return "came"
        print(reactor_first(main))
        """
    )
    assert printed == "came\n"


def test_a_thread_wakes_it_and_idle_it_does_not_spin() -> None:
    """Half a second of sleep costs next to no CPU."""
    printed = on_gi(
        """
        import time
        async def main():
            loop = asyncio.get_running_loop()
            before = time.process_time()
            done = loop.create_future()
            threading.Timer(0.5, lambda: loop.call_soon_threadsafe(done.set_result, None)).start()
            await done
            return time.process_time() - before < 0.25
        print(txasync.run(main()))
        """
    )
    assert printed == "True\n"


def test_twistd_is_told_to_stop(installed: Path, tmp_path: Path) -> None:
    """The reactor installs its handlers twice; the first signal stops it gracefully, the second one at once."""
    (tmp_path / "program.py").write_text(
        "import asyncio\n"
        "async def lines(reader, writer):\n"
        "    while line := await reader.readline():\n"
        "        print('got', line, flush=True)\n"
        "        writer.write(line.upper())\n"
        "    await asyncio.sleep(3600)\n"
    )
    command = ["--reactor", "gi", "txasync", "--listen", "tcp:0:interface=127.0.0.1", "--stream"]
    with TwistdProcess(installed, tmp_path, [*command, "--protocol", "program:lines", "--graceful", "3600"]) as twistd:
        with socket.create_connection(("127.0.0.1", twistd.listens()), timeout=60) as client:
            client.sendall(b"hello\n")
            twistd.says("got")
            twistd.send(signal.SIGTERM)
            twistd.says("Closed")
            assert client.recv(10) == b"HELLO\n"
            twistd.send(signal.SIGTERM)
            assert twistd.end() == -signal.SIGTERM
        assert "Traceback" not in twistd.text
