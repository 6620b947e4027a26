"""Children on pseudo-terminals: what a terminal promises them, and how they end; on every loop."""

from __future__ import annotations

import asyncio
import errno
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import txasync
from txasync import ReactorEventLoop
from txasync.transports._pty import PtyTransport, spawn_pty

from ..conftest import Runner
from .combinations import COMBINATIONS
from .conftest import RunIntoExit
from .test_process import CALLS, Recorder, is_reaped, on_stock, pids, settled

__all__ = ["pids"]

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "pty_shell.py"


async def on_terminal(*args: Any, protocol: Recorder | None = None, **kwargs: Any) -> tuple[Any, Recorder]:
    """A child on a terminal."""
    recorder = protocol or Recorder()
    transport, _ = await spawn_pty(lambda: recorder, *args, **kwargs)
    return transport, recorder


async def shell(command: str, **kwargs: Any) -> tuple[Any, Recorder]:
    return await on_terminal("/bin/sh", "-c", command, **kwargs)


async def printed(protocol: Recorder, text: str) -> None:
    """Wait until the child has printed *text*."""
    await protocol.until(lambda: text.encode() in protocol.output[1])


# Scenarios: they hold on every asyncio loop


async def the_terminal_is_the_controlling_one() -> None:
    """The child leads a session of its own, its group is in the foreground, and all three streams are the terminal."""
    transport, protocol = await shell("tty; tty <&1; tty <&2; echo again >/dev/tty; cut -d' ' -f1,5,6,8 /proc/$$/stat")
    await protocol.until_lost()
    first, second, third, again, numbers = protocol.output[1].decode().split("\r\n")[:5]
    assert first == second == third
    assert first.startswith("/dev/pts/")
    assert again == "again"
    assert numbers.split() == [str(transport.get_pid())] * 4


async def what_is_typed_is_echoed_and_read() -> None:
    """As in any terminal, a line at a time."""
    transport, protocol = await on_terminal("/bin/cat")
    keyboard = transport.get_pipe_transport(0)
    keyboard.write(b"hello\n")
    await printed(protocol, "hello\r\nhello\r\n")
    keyboard.write(b"\x04")
    await protocol.until_lost()
    assert transport.get_returncode() == 0
    assert transport.get_pipe_transport(2) is None


async def the_window_has_a_size() -> None:
    """The child knows it from the beginning, and is sent SIGWINCH when it changes."""
    transport, protocol = await shell(
        "stty size; trap 'stty size; exit 0' WINCH; read line; read line", rows=11, columns=222
    )
    assert transport.get_window_size() == (11, 222)
    await printed(protocol, "11 222\r\n")
    while "W" not in signals_caught(transport.get_pid()):
        await asyncio.sleep(0)
    transport.set_window_size(33, 444)
    assert transport.get_window_size() == (33, 444)
    transport.get_pipe_transport(0).write(b"\n")
    await printed(protocol, "33 444\r\n")
    await protocol.until_lost()
    for use in transport.get_window_size, lambda: transport.set_window_size(1, 1):
        with pytest.raises(OSError) as caught:
            use()
        assert caught.value.errno == errno.EBADF


def signals_caught(pid: int) -> str:
    """The first letters of those signals that a test waits for and the process of *pid* handles."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    mask = int(status.partition("SigCgt:")[2].split()[0], 16)
    letters = {signal.SIGWINCH: "W", signal.SIGINT: "I", signal.SIGHUP: "H"}
    return "".join(letter for number, letter in letters.items() if mask >> (number - 1) & 1)


async def a_program_can_set_the_size() -> None:
    """What ``get_window_size()`` gives is the terminal's size, whoever has set it."""
    transport, protocol = await shell("stty rows 5 cols 6; echo done; read line")
    await printed(protocol, "done")
    assert transport.get_window_size() == (5, 6)
    transport.close()
    await protocol.until_lost()


async def ctrl_c_is_sigint() -> None:
    """For those in the foreground."""
    transport, protocol = await on_terminal("/bin/cat")
    transport.get_pipe_transport(0).write(b"typed\n")
    await printed(protocol, "typed\r\ntyped")
    transport.get_pipe_transport(0).write(b"\x03")
    await protocol.until_lost()
    assert transport.get_returncode() == -signal.SIGINT


async def all_that_was_printed_comes_before_the_end() -> None:
    """Though the child is long gone; the end of a terminal is no error, and everything is told once."""
    transport, protocol = await shell("head -c 100000 /dev/zero | tr '\\0' x; exit 7")
    await protocol.until_lost()
    assert protocol.output[1] == b"x" * 100_000
    assert transport.get_returncode() == 7
    assert sorted(protocol.calls) == [
        "connection_lost None",
        "connection_made",
        "pipe_connection_lost 0 NoneType",
        "pipe_connection_lost 1 NoneType",
        "pipe_data_received 1",
        "process_exited",
    ]
    assert protocol.calls[0] == "connection_made"
    assert protocol.calls[-1] == "connection_lost None"
    assert transport.is_closing()


async def a_reader_that_is_paused_misses_nothing() -> None:
    """From the very beginning."""
    protocol = Recorder()
    protocol.on["connection_made"] = lambda: protocol.transport.get_pipe_transport(1).pause_reading()
    transport, _ = await shell("echo early", protocol=protocol)
    await protocol.until(lambda: protocol.has("process_exited"))
    await settled()
    assert not protocol.output[1]
    assert not protocol.has("pipe_connection_lost 1")
    assert transport.get_window_size() == (24, 80)
    transport.get_pipe_transport(1).resume_reading()
    await protocol.until_lost()
    assert protocol.output[1] == b"early\r\n"


async def closing_both_directions_hangs_up() -> None:
    """The child is sent SIGHUP."""
    transport, protocol = await shell("trap 'exit 5' HUP; echo ready; while :; do read line; done")
    await printed(protocol, "ready")
    transport.get_pipe_transport(0).close()
    await protocol.until(lambda: protocol.has("pipe_connection_lost 0"))
    assert transport.get_window_size() == (24, 80)
    transport.get_pipe_transport(1).close()
    await protocol.until_lost()
    assert transport.get_returncode() == 5


async def close_kills() -> None:
    """Also a child that minds no SIGHUP; what it has not read is dropped."""
    transport, protocol = await shell("trap '' HUP; echo ready; exec sleep 3600")
    await printed(protocol, "ready")
    transport.get_pipe_transport(0).write(b"x" * 1_000_000)
    assert protocol.calls[-1] == "pause_writing"
    transport.close()
    transport.close()
    assert transport.is_closing()
    await protocol.until_lost()
    assert transport.get_returncode() == -signal.SIGKILL


async def signals_reach_the_child() -> None:
    """As with any process."""
    for send in "terminate", "kill", "send_signal":
        transport, protocol = await on_terminal("/bin/cat")
        getattr(transport, send)(*([signal.SIGQUIT] if send == "send_signal" else []))
        await protocol.until_lost()
        assert transport.get_returncode() in (-signal.SIGTERM, -signal.SIGKILL, -signal.SIGQUIT)


async def writes_after_the_end_are_dropped() -> None:
    """As in any pipe, if there are not too many."""
    transport, protocol = await on_terminal("/bin/true")
    await protocol.until_lost()
    transport.get_pipe_transport(0).write(b"x")
    transport.close()


async def a_full_terminal_pauses_the_writer() -> None:
    """Until the child reads on."""
    with tempfile.TemporaryDirectory() as directory:
        go = pathlib.Path(directory, "go")
        waiting = "while [ ! -e $GO ]; do sleep 0.01; done"  # else it may read as fast as we write
        command = f"stty raw -echo; echo ready; {waiting}; head -c 200000 | wc -c"
        transport, protocol = await shell(command, env={**os.environ, "GO": str(go)})
        await printed(protocol, "ready")
        transport.get_pipe_transport(0).write(b"x" * 200_000)
        go.touch()
        await protocol.until_lost()
    assert protocol.output[1].split() == [b"ready", b"200000"]
    assert protocol.calls.count("pause_writing") == protocol.calls.count("resume_writing") == 1


async def a_program_that_cannot_be_started() -> None:
    """Nothing is left of the attempt, and the protocol never hears of it."""
    protocol = Recorder()
    with pytest.raises(FileNotFoundError):
        await on_terminal("/nonexistent", protocol=protocol)
    with pytest.raises(PermissionError):
        await on_terminal("/etc/passwd", protocol=protocol)
    await settled()
    assert protocol.calls == []


async def what_popen_takes() -> None:
    """The environment, the directory, and a function to be called in the child, after it has its terminal."""
    transport, protocol = await shell(
        "echo $FOO $PWD; exec 9>&-",
        env={"FOO": "bar"},
        cwd="/",
        preexec_fn=lambda: os.write(os.open("/dev/tty", os.O_WRONLY), b"preexec\n"),
    )
    await protocol.until_lost()
    assert protocol.output[1] == b"preexec\r\nbar /\r\n"


async def as_a_process_of_streams() -> None:
    """``asyncio.subprocess`` can be put on top."""
    loop = asyncio.get_running_loop()
    transport, protocol = await spawn_pty(
        lambda: asyncio.subprocess.SubprocessStreamProtocol(limit=2**16, loop=loop), "/bin/cat"
    )
    process: Any = asyncio.subprocess.Process(transport, protocol, loop)
    process.stdin.write(b"hello\n\x04")
    waiting = [asyncio.ensure_future(process.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    assert await process.stdout.read() == b"hello\r\nhello\r\n"
    assert await waiting[1] == await process.wait() == 0
    await settled()


async def information() -> None:
    """What a transport of a process knows."""
    transport, protocol = await on_terminal("/bin/cat")
    assert isinstance(transport, PtyTransport)
    assert isinstance(transport, asyncio.SubprocessTransport)
    assert transport.get_extra_info("nothing", 5) == 5
    assert not transport.is_closing()
    assert f"pid={transport.get_pid()} running" in repr(transport)
    assert repr(transport).startswith("<PtyTransport <")
    assert transport.get_protocol() is protocol
    second = Recorder()
    second.calls.append("connection_made")
    second.transport = transport
    transport.set_protocol(second)
    transport.kill()
    await second.until_lost()
    assert repr(transport).startswith("<PtyTransport closed <")


SCENARIOS: list[Callable[[], Awaitable[None]]] = [
    the_terminal_is_the_controlling_one,
    what_is_typed_is_echoed_and_read,
    the_window_has_a_size,
    a_program_can_set_the_size,
    ctrl_c_is_sigint,
    all_that_was_printed_comes_before_the_end,
    a_reader_that_is_paused_misses_nothing,
    closing_both_directions_hangs_up,
    close_kills,
    signals_reach_the_child,
    writes_after_the_end_are_dropped,
    a_full_terminal_pauses_the_writer,
    a_program_that_cannot_be_started,
    what_popen_takes,
    as_a_process_of_streams,
    information,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_child_on_a_terminal(run: Runner, scenario: Callable[[], Awaitable[None]]) -> None:
    """Each scenario's first line is the rule."""
    run(scenario)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_child_on_a_terminal_on_asyncios_loop(scenario: Callable[[], Awaitable[None]]) -> None:
    """There is nothing of ours in it but the coroutine."""
    on_stock(scenario)


# On our loop


def test_a_thread_is_no_reason_for_a_warning(run: Runner) -> None:
    """A process with threads may start children on terminals; warnings are errors here."""
    ending = threading.Event()
    thread = threading.Thread(target=ending.wait)
    thread.start()
    try:
        run(what_is_typed_is_echoed_and_read)
    finally:
        ending.set()
        thread.join()


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr", "start_new_session", "process_group"])
def test_what_the_terminal_decides_is_refused(run: Runner, name: str) -> None:
    """Before anything is opened."""

    async def main() -> None:
        with pytest.raises(TypeError, match=f"leave out {name}"):
            await on_terminal("/bin/cat", **{name: None})

    run(main)


@pytest.mark.parametrize(("rows", "columns"), [(-1, 80), (24, 65536)])
def test_a_window_has_a_possible_size(run: Runner, rows: int, columns: int) -> None:
    """From the beginning, and later."""

    async def main() -> None:
        with pytest.raises(ValueError, match="must be in 0 to 65535"):
            await on_terminal("/bin/cat", rows=rows, columns=columns)
        transport, protocol = await on_terminal("/bin/cat")
        with pytest.raises(ValueError, match="must be in 0 to 65535"):
            transport.set_window_size(rows, columns)
        transport.close()
        await protocol.until_lost()

    run(main)


def test_a_start_can_be_cancelled_at_any_point(run: Runner, pids: list[int]) -> None:
    """The child is killed and reaped, and the terminal is closed, before the cancelled call ends."""

    async def main() -> int:
        for rounds in range(50):
            protocol = Recorder()
            starting = asyncio.ensure_future(on_terminal("/bin/cat", protocol=protocol))
            for _ in range(rounds):
                await asyncio.sleep(0)
            starting.cancel()
            try:
                transport, _ = await starting
            except asyncio.CancelledError:
                assert all(map(is_reaped, pids))
                if protocol.calls:
                    await protocol.until_lost()
            else:
                transport.close()
                await protocol.until_lost()
                return rounds
        raise AssertionError("the child never started")

    assert run(main) > 3
    assert pids


@pytest.mark.parametrize(
    "callback", ["connection_made", "pipe_data_received", "pipe_connection_lost", "process_exited"]
)
def test_what_a_callback_raises_is_reported(run: Runner, callback: str) -> None:
    """And the child goes on."""

    async def main() -> None:
        seen: list[dict[str, Any]] = []
        run.loop.set_exception_handler(lambda _, context: seen.append(context))
        transport, protocol = await shell("echo x", protocol=Recorder(raising=callback))
        await protocol.until_lost()
        assert {context["message"] for context in seen} == {f"protocol.{callback}() failed"}
        assert {(context["transport"], context["protocol"]) for context in seen} == {(transport, protocol)}

    run(main)


@pytest.mark.parametrize("callback", CALLS)
def test_system_exit_out_of_a_callback_ends_the_run(
    loop: ReactorEventLoop, run_into_exit: RunIntoExit, callback: str
) -> None:
    """As from any callback; the loop can go on afterwards."""
    protocol = Recorder()

    async def main() -> None:
        await shell("echo x", protocol=protocol)
        await protocol.until_lost()

    loop.run_until_complete(run_into_exit(main(), protocol.on, callback))


def test_other_errors_of_the_terminal_are_told(run: Runner) -> None:
    """Only EIO is its end, and only on the way to us."""

    async def main() -> None:
        run.loop.set_exception_handler(lambda _, context: None)
        transport, protocol = await on_terminal("/bin/cat")
        for end in 1, 0:
            transport.get_pipe_transport(end)._fail(OSError(errno.ENXIO, "strange"), "strange")
        await protocol.until_lost()
        assert {"pipe_connection_lost 0 OSError", "pipe_connection_lost 1 OSError"} <= set(protocol.calls)

    run(main)


def test_an_end_of_file_is_the_end_of_output_as_well(run: Runner) -> None:
    """Systems other than Linux have no EIO; the terminal stays open until the child's exit all the same."""

    async def main() -> None:
        transport, protocol = await on_terminal("/bin/cat")
        output = transport.get_pipe_transport(1)
        output.get_protocol().eof_received()
        output.close()
        transport.get_pipe_transport(0).close()
        await protocol.until(lambda: protocol.has("pipe_connection_lost 0"))
        await settled()
        assert transport.get_window_size() == (24, 80)
        transport.kill()
        await protocol.until_lost()
        assert transport.get_returncode() == -signal.SIGKILL

    run(main)


def test_a_terminal_that_cannot_be_connected_is_closed(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the loop has against it."""

    async def refuse(protocol_factory: Any, pipe: Any) -> Any:
        raise OSError("no")

    async def main() -> None:
        for connect in "connect_read_pipe", "connect_write_pipe":
            with monkeypatch.context() as refusing:
                refusing.setattr(run.loop, connect, refuse)
                with pytest.raises(OSError, match="no"):
                    await on_terminal("/bin/cat")

    run(main)


def test_a_terminal_can_be_closed_after_its_loop(loop: ReactorEventLoop) -> None:
    """The child is killed."""

    async def main() -> Any:
        transport, protocol = await on_terminal("/bin/cat")
        for end in 0, 1:
            transport.get_pipe_transport(end).close()
        await protocol.until(lambda: protocol.has("pipe_connection_lost 0") and protocol.has("pipe_connection_lost 1"))
        return transport

    loop.run_until_complete(loop.create_task(asyncio.sleep(0)))
    transport = loop.run_until_complete(main())
    popen = transport.get_extra_info("subprocess")
    loop.close()
    transport.close()
    assert popen.wait() in (-signal.SIGKILL, -signal.SIGHUP)


def test_without_a_descriptor_to_spare_nothing_is_left(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a terminal is closed again."""

    def refuse(fd: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    async def main() -> None:
        with monkeypatch.context() as refusing:
            refusing.setattr(os, "dup", refuse)
            with pytest.raises(OSError, match="Too many open files"):
                await on_terminal("/bin/cat")

    run(main)


# The example


async def prompt(protocol: Recorder) -> None:
    """Wait until the shell asks for a command."""
    await protocol.until(lambda: protocol.output[1].endswith(b"$ "))


@pytest.mark.parametrize("launcher", [[], ["-m", "txasync", "--reactor", "poll"]], ids=["stock", "poll"])
def test_the_example_types_what_it_is_given(launcher: list[str]) -> None:
    """Its input goes to the shell, whose output and exit code it has."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *launcher, str(EXAMPLE), "/bin/sh"],
        input=b"tty; stty size; exit 3\n",
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(txasync.__file__).parent.parent)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert b"/dev/pts/" in done.stdout
    assert b"24 80\r\n" in done.stdout


@pytest.mark.parametrize("combination", COMBINATIONS[:1], ids="-".join, indirect=True)
def test_the_example_is_a_terminal_in_a_terminal(loop: ReactorEventLoop) -> None:
    """It passes on keys and the size of the window, and ends as the inner shell does."""
    protocol = Recorder()

    async def main() -> None:
        environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(txasync.__file__).parent.parent), "PS1": "$ "}
        command = [sys.executable, "-W", "error", "-m", "txasync", str(EXAMPLE), "/bin/sh"]
        transport, _ = await on_terminal(*command, rows=10, columns=100, env=environment, protocol=protocol)
        keyboard = transport.get_pipe_transport(0)
        await prompt(protocol)
        keyboard.write(b"stty size\r")
        await printed(protocol, "10 100\r\n$ ")
        # The shell itself may lose what is typed while it is interrupted; this one says when it is ready for it.
        keyboard.write(b"sh -c 'trap \"exit 0\" INT; echo ready; while :; do read line; done'\r")
        await printed(protocol, "\r\nready\r\n")
        keyboard.write(b"\x03")
        await prompt(protocol)
        transport.set_window_size(20, 200)
        keyboard.write(b"until stty size | grep 20; do :; done\r")
        await printed(protocol, "20 200\r\n$ ")
        keyboard.write(b"exit 4\r")
        await protocol.until_lost()
        assert transport.get_returncode() == 4

    try:
        loop.run_until_complete(asyncio.wait_for(main(), 20))
    except asyncio.TimeoutError:
        pytest.fail(f"no answer after {bytes(protocol.output[1])!r}")
