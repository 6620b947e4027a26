"""The process transport: as asyncio's own where that is right, and every fault of a child."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import pathlib
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from txasync import ReactorEventLoop
from txasync.transports import _process
from txasync.transports._child_exits import ChildExits
from txasync.transports._process import WAIT_ENDS_AT_EXIT, ProcessTransport

from ..conftest import Reports, Runner
from .combinations import COMBINATIONS
from .conftest import RunIntoExit

PLACE: contextvars.ContextVar[str] = contextvars.ContextVar("PLACE", default="nowhere")

CALLS = ("connection_made", "pipe_data_received", "pipe_connection_lost", "process_exited", "connection_lost")


class Boom(Exception):
    """What a protocol raises here."""


class Recorder(asyncio.SubprocessProtocol):
    """
    Notes its calls, of which it asserts the legal order.

    Args:
        raising: The callback that raises after it has been noted.
        places: Whether the context of each call is noted.
    """

    def __init__(self, raising: str = "", places: bool = False) -> None:
        self.calls: list[str] = []
        self.output = {1: bytearray(), 2: bytearray()}
        self.transport: Any = None
        self.on: dict[str, Callable[[], object]] = {}
        self._raising = raising
        self._places = places
        self._waiter: asyncio.Future[None] | None = None

    def _note(self, name: str, value: str = "") -> None:
        entry = name + value + (f" in {PLACE.get()}" if self._places else "")
        assert (name == "connection_made") == (not self.calls), self.calls
        assert not self.lost, self.calls
        if name == "pipe_data_received":
            assert not self.has(f"pipe_connection_lost{value}"), self.calls
            if entry not in self.calls:
                self.calls.append(entry)
        else:
            assert "writing" in name or entry not in self.calls, self.calls
            self.calls.append(entry)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self.on.get(name, lambda: None)()
        if name == self._raising:
            raise Boom(name)

    def has(self, call: str) -> bool:
        """Whether *call*, or its beginning, was made."""
        return any(noted.startswith(call) for noted in self.calls)

    @property
    def lost(self) -> bool:
        return self.has("connection_lost")

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

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output[fd] += data
        self._note("pipe_data_received", f" {fd}")

    def pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        self._note("pipe_connection_lost", f" {fd} {type(exc).__name__}")

    def process_exited(self) -> None:
        assert self.transport.get_returncode() is not None
        self._note("process_exited")

    def connection_lost(self, exc: BaseException | None) -> None:
        assert self.has("process_exited")
        self._note("connection_lost", f" {exc}")
        self.transport.close()

    def pause_writing(self) -> None:
        self._note("pause_writing")

    def resume_writing(self) -> None:
        self._note("resume_writing")


def as_any(transport: ProcessTransport) -> Any:
    return transport


async def settled() -> None:
    """Let what is ready be run, and what that adds."""
    for _ in range(4):
        await asyncio.sleep(0)


async def started(*args: Any, protocol: Recorder | None = None, **kwargs: Any) -> tuple[Any, Recorder]:
    """A child, by way of the loop."""
    recorder = protocol or Recorder()
    transport, _ = await asyncio.get_running_loop().subprocess_exec(lambda: recorder, *args, **kwargs)
    return transport, recorder


async def shell(command: str, **kwargs: Any) -> tuple[Any, Recorder]:
    return await started("/bin/sh", "-c", command, **kwargs)


# Scenarios: what they return is to be the same on asyncio's own loop


async def ended(protocol: Recorder) -> Any:
    """What there is to compare when a child has ended; the order in which things come to pass is the kernel's."""
    await protocol.until_lost()
    return (
        sorted(protocol.calls),
        protocol.calls[0],
        protocol.calls[-1],
        bytes(protocol.output[1]),
        bytes(protocol.output[2]),
        protocol.transport.get_returncode(),
    )


async def output_errors_and_an_exit() -> Any:
    transport, protocol = await shell("echo out; echo err >&2; exit 3")
    return await ended(protocol), transport.is_closing()


async def input_and_output() -> Any:
    transport, protocol = await started("/bin/cat")
    transport.get_pipe_transport(0).write(b"hello")
    await protocol.until(lambda: protocol.output[1] == b"hello")
    transport.get_pipe_transport(0).close()
    return await ended(protocol)


async def errors_go_where_output_goes() -> Any:
    transport, protocol = await shell("echo out; echo err >&2", stderr=subprocess.STDOUT)
    return await ended(protocol), transport.get_pipe_transport(2)


async def no_pipes() -> Any:
    transport, protocol = await started("/bin/true", stdin=None, stdout=subprocess.DEVNULL, stderr=None)
    return await ended(protocol), [transport.get_pipe_transport(fd) for fd in (0, 1, 2, 3)]


async def a_child_that_dies_at_once() -> Any:
    return await ended((await shell("kill -9 $$"))[1])


async def killed_by(how: str) -> Any:
    transport, protocol = await started("/bin/cat")
    getattr(transport, how)(*([signal.SIGHUP] if how == "send_signal" else []))
    result = await ended(protocol)
    with pytest.raises(ProcessLookupError):
        transport.kill()
    return result


async def killed() -> Any:
    return await killed_by("kill")


async def terminated() -> Any:
    return await killed_by("terminate")


async def signalled() -> Any:
    return await killed_by("send_signal")


async def closed_while_it_runs() -> Any:
    transport, protocol = await started("/bin/cat")
    transport.close()
    transport.close()
    assert transport.is_closing()
    result = await ended(protocol)
    transport.close()
    return result


async def a_program_that_does_not_exist() -> Any:
    with pytest.raises(FileNotFoundError) as caught:
        await started("/nonexistent/program")
    return str(caught.value)


async def a_child_that_closes_its_input() -> Any:
    transport, protocol = await shell("exec 0<&-; echo closed; exec sleep 3600")
    await protocol.until(lambda: protocol.has("pipe_connection_lost 0") and bool(protocol.output[1]))
    transport.kill()
    return await ended(protocol)


async def input_that_nobody_reads() -> Any:
    transport, protocol = await shell("head -c 1 >/dev/null")
    transport.get_pipe_transport(0).write(b"x" * 1_000_000)
    return await ended(protocol)


async def a_full_pipe_drains() -> Any:
    transport, protocol = await shell("read line; exec cat")
    stdin = transport.get_pipe_transport(0)
    stdin.write(b"\n" + b"x" * 1_000_000)
    paused = protocol.calls[-1]
    await protocol.until(lambda: protocol.has("resume_writing"))
    stdin.close()
    return paused, await ended(protocol)


async def what_a_child_is_given() -> Any:
    commands: list[tuple[str, dict[str, Any]]] = [
        ("echo $FOO; env | grep -v -e PWD -e _ -e SHLVL", {"env": {"FOO": "bar"}}),
        ("env | grep -v -e PWD -e _ -e SHLVL", {"env": {}}),
        ("pwd", {"cwd": pathlib.Path("/")}),
        ("umask", {"umask": 0o027}),
        ("test $(cut -d' ' -f6 /proc/$$/stat) = $$ && echo leader", {"start_new_session": True}),
        ("echo $0", {"executable": "/bin/sh"}),
        ("echo before", {"preexec_fn": lambda: os.write(1, b"preexec\n")}),
        ("id -u; id -g", {"user": os.getuid(), "group": os.getgid(), "extra_groups": None}),
        ("ls /proc/self/fd | wc -l", {"pass_fds": (), "startupinfo": None, "creationflags": 0}),
    ]
    if sys.version_info >= (3, 11):
        commands.append(("test $(cut -d' ' -f5 /proc/$$/stat) = $$ && echo leader", {"process_group": 0}))
    results = []
    for command, kwargs in commands:
        _, protocol = await shell(command, **kwargs)
        results.append(await ended(protocol))
    return results


async def descriptors_that_are_passed() -> Any:
    source, sink = os.pipe()
    _, protocol = await shell(f"echo passed >/proc/self/fd/{sink}", pass_fds=[sink])
    result = await ended(protocol), os.read(source, 100)
    os.close(source)
    os.close(sink)
    return result


async def a_program_by_its_path() -> Any:
    _, protocol = await started(pathlib.Path("/bin/echo"), pathlib.Path("/a/path"), b"bytes")
    return await ended(protocol)


async def how_it_shows_itself() -> Any:
    transport, protocol = await started("/bin/cat", stderr=None)
    shown = [repr(transport)]
    transport.close()
    shown.append(repr(transport))
    await protocol.until_lost()
    shown.append(repr(transport))
    return [re.sub(r"(fd|pid)=\d+", r"\1=N", re.sub(r"<_Unix(Sub)?", "<", line)).lower() for line in shown]


async def contexts() -> Any:
    PLACE.set("start")
    _, protocol = await started("/bin/cat", stderr=None, protocol=Recorder(places=True))
    PLACE.set("afterwards")
    protocol.transport.get_pipe_transport(0).write(b"x")
    await protocol.until(lambda: bool(protocol.output[1]))
    protocol.transport.get_pipe_transport(1).pause_reading()
    PLACE.set("resume")
    protocol.transport.get_pipe_transport(1).resume_reading()
    PLACE.set("write")
    protocol.transport.get_pipe_transport(0).write(b"x")
    await protocol.until(lambda: len(protocol.output[1]) == 2)
    protocol.transport.kill()
    await protocol.until_lost()
    # Which of the exit and the ends of the pipes is last is chance, and so is the context of connection_lost().
    return sorted(re.sub("(connection_lost None).*", r"\1", call) for call in protocol.calls)


async def by_way_of_streams() -> Any:
    process = await asyncio.create_subprocess_exec("/bin/cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output = await process.communicate(b"x" * 300_000)
    again = await process.wait()
    shelled = await asyncio.create_subprocess_shell("echo $0; exit 4", stdout=subprocess.PIPE)
    return output, again, process.returncode, await shelled.communicate(), shelled.returncode


async def many_wait() -> Any:
    process = await asyncio.create_subprocess_exec("/bin/cat", stdin=subprocess.PIPE)
    waiting = [asyncio.ensure_future(process.wait()) for _ in range(5)]
    await settled()
    waiting[0].cancel()
    await settled()
    process.kill()
    return [task.cancelled() or await task for task in waiting]


async def waiting_while_a_grandchild_holds_the_pipe() -> Any:
    process = await asyncio.create_subprocess_shell(
        "exec 3<&0; (read line <&3; echo late) & echo early; exec sleep 3600",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    waiting = asyncio.ensure_future(process.wait())
    await process.stdout.readline()
    process.kill()
    while process.returncode is None:
        await asyncio.sleep(0)
    await settled()
    ended_at_exit = waiting.done()
    later = await process.wait()
    process.stdin.write(b"\n")
    rest = await process.stdout.read()
    process.stdin.close()
    result = await waiting
    await settled()
    return ended_at_exit, later, result, rest


SCENARIOS: list[Callable[[], Awaitable[Any]]] = [
    output_errors_and_an_exit,
    input_and_output,
    errors_go_where_output_goes,
    no_pipes,
    a_child_that_dies_at_once,
    killed,
    terminated,
    signalled,
    closed_while_it_runs,
    a_program_that_does_not_exist,
    a_child_that_closes_its_input,
    input_that_nobody_reads,
    a_full_pipe_drains,
    what_a_child_is_given,
    descriptors_that_are_passed,
    a_program_by_its_path,
    how_it_shows_itself,
    contexts,
    by_way_of_streams,
    many_wait,
    waiting_while_a_grandchild_holds_the_pipe,
]


def on_stock(scenario: Callable[[], Awaitable[Any]]) -> Any:
    """The result of *scenario* on asyncio's own loop."""
    loop = asyncio.SelectorEventLoop()
    try:
        if sys.version_info < (3, 12):
            watcher = asyncio.PidfdChildWatcher()
            watcher.attach_loop(loop)
            asyncio.set_child_watcher(watcher)
        return loop.run_until_complete(asyncio.wait_for(scenario(), 20))
    finally:
        if sys.version_info < (3, 12):
            asyncio.set_child_watcher(None)
        loop.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_child_behaves_as_asyncios(run: Runner, scenario: Callable[[], Awaitable[Any]]) -> None:
    """The same calls, the same output, the same return code, the same words."""
    assert run(scenario) == on_stock(scenario)


@pytest.mark.parametrize("callback", [*CALLS, "pause_writing", "resume_writing"])
def test_what_a_callback_raises_is_reported_and_the_child_goes_on(run: Runner, callback: str) -> None:
    """With everything there is to know; the callbacks that are due still come."""

    async def main() -> None:
        seen: list[dict[str, Any]] = []
        run.loop.set_exception_handler(lambda _, context: seen.append(context))
        transport, protocol = await started("/bin/cat", protocol=Recorder(raising=callback))
        stdin = transport.get_pipe_transport(0)
        stdin.write(b"x" * 300_000)
        await protocol.until(lambda: len(protocol.output[1]) == 300_000)
        stdin.close()
        await protocol.until_lost()
        transport.close()
        assert {type(context["exception"]) for context in seen} == {Boom}
        assert {context["message"] for context in seen} == {f"protocol.{callback}() failed"}
        assert {context["transport"] for context in seen} == {transport}
        assert {context["protocol"] for context in seen} == {protocol}

    run(main)


# The order of things


def test_pipes_can_be_paused_in_connection_made(run: Runner) -> None:
    """Nothing of a child that writes at once comes before that."""

    async def main() -> None:
        protocol = Recorder()
        protocol.on["connection_made"] = lambda: protocol.transport.get_pipe_transport(1).pause_reading()
        transport, _ = await shell("echo early; exec 1>&-; read line", protocol=protocol)
        await settled()
        assert protocol.calls == ["connection_made"]
        transport.get_pipe_transport(1).resume_reading()
        await protocol.until(lambda: protocol.has("pipe_connection_lost 1"))
        assert protocol.output[1] == b"early\n"
        transport.close()
        await protocol.until_lost()

    run(main)


def test_what_a_killed_child_has_written_is_delivered_before_its_pipe_ends(run: Runner) -> None:
    """It wrote 5 MB; what fits into the pipe is all there, also for a reader that was paused meanwhile."""

    async def main() -> None:
        transport, protocol = await shell("head -c 5000000 /dev/zero; read line")
        stdout = transport.get_pipe_transport(1)
        stdout.pause_reading()
        got = len(protocol.output[1])
        while is_writing_freely(transport.get_pid()):
            await asyncio.sleep(0)
        transport.kill()
        await protocol.until(lambda: protocol.has("process_exited"))
        assert len(protocol.output[1]) == got
        assert not protocol.has("pipe_connection_lost 1")
        stdout.resume_reading()
        await protocol.until(lambda: protocol.has("pipe_connection_lost 1"))
        assert len(protocol.output[1]) >= got + 65536
        await protocol.until_lost()

    run(main)


def is_writing_freely(pid: int) -> bool:
    """Whether the child of *pid*, which writes, has not been stopped by a full pipe yet."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return not children or "pipe_write" not in pathlib.Path(f"/proc/{children[0]}/wchan").read_text()


@pytest.mark.parametrize("combination", COMBINATIONS[:1], ids="-".join, indirect=True)
def test_a_thousand_children_are_told_of_each_and_leave_nothing(loop: ReactorEventLoop) -> None:
    """In parallel batches: none lost, no zombie, no descriptor."""
    pids: list[int] = []

    async def one(number: int) -> None:
        _, protocol = await shell(f"echo {number}; exit {number % 256}", stdin=None, stderr=None)
        pids.append(protocol.transport.get_pid())
        await protocol.until_lost()
        assert protocol.output[1] == f"{number}\n".encode()
        assert protocol.transport.get_returncode() == number % 256

    async def main() -> None:
        for batch in range(0, 1000, 100):
            await asyncio.gather(*map(one, range(batch, batch + 100)))

    loop.run_until_complete(main())
    assert len(pids) == 1000
    assert all(map(is_reaped, pids))


def is_reaped(pid: int) -> bool:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def test_waiting_ends_at_exit_or_with_the_pipes_as_in_this_version(run: Runner) -> None:
    """What the scenario has compared with asyncio, by name; 3.10, and 3.14 on, end at exit."""
    assert run(waiting_while_a_grandchild_holds_the_pipe) == (WAIT_ENDS_AT_EXIT, -9, -9, b"late\n")
    if sys.version_info < (3, 11) or sys.version_info >= (3, 14):
        assert WAIT_ENDS_AT_EXIT


@pytest.mark.parametrize("at_exit", [True, False])
def test_each_way_of_waiting(run: Runner, monkeypatch: pytest.MonkeyPatch, at_exit: bool) -> None:
    """Both are here, whatever the version."""
    monkeypatch.setattr(_process, "WAIT_ENDS_AT_EXIT", at_exit)
    assert run(waiting_while_a_grandchild_holds_the_pipe) == (at_exit, -9, -9, b"late\n")


# Cancellation


class RecordedPopen(subprocess.Popen):  # type: ignore[type-arg]  # only its number is looked at
    """Keeps the numbers of the children that were started."""

    pids: list[int] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pids.append(self.pid)


@pytest.fixture
def pids(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the children that a test starts."""
    monkeypatch.setattr(subprocess, "Popen", RecordedPopen)
    monkeypatch.setattr(RecordedPopen, "pids", [])
    return RecordedPopen.pids


def test_a_start_can_be_cancelled_at_any_point(run: Runner, pids: list[int]) -> None:
    """The child is killed and reaped before the cancelled call ends; no descriptor is left, and nothing is reported."""

    async def main() -> int:
        for rounds in range(50):
            starting = asyncio.ensure_future(asyncio.create_subprocess_exec("/bin/cat", stdin=-1, stdout=-1, stderr=-1))
            for _ in range(rounds):
                await asyncio.sleep(0)
            starting.cancel()
            try:
                process = await starting
            except asyncio.CancelledError:
                assert all(map(is_reaped, pids))
            else:
                process.kill()
                await process.wait()
                return rounds
        raise AssertionError("the child never started")

    assert run(main) > 1
    assert pids


def test_a_cancelled_start_that_is_cancelled_again_ends_at_once(run: Runner, pids: list[int]) -> None:
    """The child is reaped in the loop all the same."""

    async def main() -> None:
        protocol = Recorder()
        starting = asyncio.ensure_future(started("/bin/cat", protocol=protocol))
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await protocol.until_lost()
        assert all(map(is_reaped, pids))

    run(main)


def test_a_wait_that_is_cancelled_leaves_no_waiter(run: Runner) -> None:
    """And the others are told."""

    async def main() -> None:
        transport, protocol = await started("/bin/cat")
        waiting = [asyncio.ensure_future(transport._wait()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await settled()
        assert len(transport._exit_waiters) == 2
        transport.kill()
        waiting[0].add_done_callback(lambda _: waiting[2].cancel())
        assert await waiting[0] == -9
        with pytest.raises(asyncio.CancelledError):
            await waiting[1]
        await asyncio.wait(waiting)
        await protocol.until_lost()
        assert not transport._exit_waiters

    run(main)


class ExitsAtWill(ChildExits):
    """Tells of an exit when the test says so."""

    exited: Callable[[int | None], object]

    def watch(self, pid: int, exited: Callable[[int | None], object]) -> None:
        self.exited = exited


@pytest.mark.parametrize("at_exit", [True, False])
def test_a_wait_can_be_cancelled_in_the_round_of_the_exit(
    run: Runner, monkeypatch: pytest.MonkeyPatch, at_exit: bool
) -> None:
    """A waiter that is done already is given no result."""
    monkeypatch.setattr(_process, "WAIT_ENDS_AT_EXIT", at_exit)

    async def main() -> None:
        protocol = Recorder()
        services = run.loop._services
        exits = ExitsAtWill(services)
        transport = ProcessTransport(services, protocol, ["/bin/true"], False, None, None, None, 0, exits=exits)
        await protocol.until(lambda: protocol.has("connection_made"))
        waiting = asyncio.ensure_future(transport._wait())
        await asyncio.sleep(0)
        transport.get_extra_info("subprocess").wait()
        waiting.cancel()
        exits.exited(0)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await protocol.until_lost()

    run(main)


# Children that somebody else has to do with


def test_no_signal_is_sent_to_a_child_that_was_reaped(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number may be a stranger's; after ``connection_lost()`` there is an error."""
    sent: list[int] = []

    async def main() -> None:
        transport, protocol = await started("/bin/cat")
        popen = transport.get_extra_info("subprocess")
        popen.kill()
        popen.wait()
        protocol.on["process_exited"] = transport.kill
        with monkeypatch.context() as recording:
            recording.setattr(os, "kill", lambda pid, number: sent.append(number))
            transport.terminate()
            await protocol.until_lost()
        assert transport.get_returncode() == -9
        with pytest.raises(ProcessLookupError):
            transport.send_signal(signal.SIGHUP)

    run(main)
    assert not sent


def test_a_child_that_the_system_reaps_gets_no_signal(run: Runner, reports: Reports) -> None:
    """With SIGCHLD ignored there is no return code to be had: 255, as asyncio says, and a warning."""

    async def main() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        transport, protocol = await started("/bin/true", stdin=None, stdout=None, stderr=None)
        while os.path.exists(f"/proc/{transport.get_pid()}"):
            pass
        transport.terminate()
        await protocol.until_lost()
        assert transport.get_returncode() == 255

    run(main)
    (record,) = reports.asyncio
    assert re.fullmatch(
        r"child process pid \d+ exit status already read:  will report returncode 255", record.getMessage()
    )
    reports.clear()


def test_close_sends_no_signal_to_a_child_that_has_ended(run: Runner) -> None:
    """Neither to one whose end has not been told yet."""

    async def main() -> None:
        transport, protocol = await started("/bin/cat")
        popen = transport.get_extra_info("subprocess")
        transport.kill()
        popen.wait()
        popen.kill = lambda: 1 / 0
        transport.close()
        await protocol.until_lost()

    run(main)


@pytest.mark.parametrize("error", [ProcessLookupError, PermissionError])
def test_close_minds_no_child_that_cannot_be_killed(run: Runner, error: type[OSError]) -> None:
    """It has ended, or runs as another user."""

    async def main() -> None:
        transport, protocol = await started("/bin/cat")
        popen = transport.get_extra_info("subprocess")
        kill = popen.kill

        def refuse() -> None:
            raise error

        popen.kill = refuse
        transport.close()
        kill()
        await protocol.until_lost()

    run(main)


# Failures at the start, leftovers, debug mode


def test_a_child_whose_pipes_cannot_be_connected_is_killed(
    run: Runner, monkeypatch: pytest.MonkeyPatch, pids: list[int]
) -> None:
    """Nothing is left of it, and the protocol never hears of it."""

    def refuse(*args: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(_process, "ReadPipeTransport", refuse)

    async def main() -> None:
        protocol = Recorder()
        with pytest.raises(MemoryError):
            await started("/bin/cat", stdin=None, protocol=protocol)
        assert all(map(is_reaped, pids))
        await settled()
        assert not protocol.calls

    run(main)
    assert pids


def test_a_child_that_cannot_be_started_leaves_nothing(run: Runner) -> None:
    """Not even a warning."""

    async def main() -> None:
        with pytest.raises(FileNotFoundError):
            await started("/nonexistent")
        with pytest.raises(TypeError):
            await started("/bin/true", nonsense=1)
        gc.collect()

    run(main)


def test_a_forgotten_child_is_killed_with_a_warning(loop: ReactorEventLoop) -> None:
    """Also after the loop is closed, which is not touched. As in asyncio, Popen warns, too."""

    async def main() -> Any:
        transport, protocol = await started("/bin/cat", stderr=None)
        protocol.transport = None
        return transport

    transport = loop.run_until_complete(main())
    popen = transport.get_extra_info("subprocess")
    loop.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport
        gc.collect()
    assert "unclosed transport <ProcessTransport pid=" in "\n".join(str(warning.message) for warning in caught)
    assert popen.wait() == -9
    for file in popen.stdin, popen.stdout:
        assert file.closed


def test_a_child_that_has_ended_unclosed_warns_only(run: Runner) -> None:
    """As asyncio's: whoever has a transport is to close it."""

    class Careless(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            self._note("connection_lost")
            self.transport = None

    async def main() -> None:
        _, protocol = await started("/bin/true", protocol=Careless())
        await protocol.until_lost()

    with pytest.warns(ResourceWarning, match=r"unclosed transport <ProcessTransport pid=\d+ returncode=0"):
        run(main)


def test_a_child_can_be_closed_after_its_loop(loop: ReactorEventLoop) -> None:
    """It is killed; its pipes, which the loop would have closed, warn."""

    async def main() -> Any:
        return (await started("/bin/sleep", "3600", stdin=None, stderr=None))[0]

    transport = loop.run_until_complete(main())
    popen = transport.get_extra_info("subprocess")
    loop.close()
    transport.close()
    assert popen.wait() == -9
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        del transport
        gc.collect()
    assert popen.stdout.closed


def test_debug_mode_tells_what_happens(run: Runner, caplog: pytest.LogCaptureFixture, reports: Reports) -> None:
    """With the words of asyncio."""
    caplog.set_level(logging.DEBUG, "asyncio")

    async def main() -> None:
        run.loop.set_debug(True)
        run.loop.slow_callback_duration = 10
        transport, protocol = await started("/bin/cat")
        transport.close()
        await protocol.until_lost()
        transport, protocol = await asyncio.get_running_loop().subprocess_shell(Recorder, "true")
        await protocol.until_lost()

    run(main)
    for line in "process '/bin/cat' created: pid", "process 'true' created: pid", "Close running child process: kill":
        assert line in caplog.text
    assert re.search("<ProcessTransport closed pid=.* running.*> exited with return code -9", caplog.text)
    assert [record.levelno for record in reports.asyncio] == [logging.WARNING]
    reports.clear()


def test_protocols_and_information(run: Runner) -> None:
    """``get_extra_info("subprocess")`` is the Popen, which knows the return code as well."""

    async def main() -> None:
        transport, protocol = await started("/bin/cat")
        assert isinstance(transport, ProcessTransport)
        assert isinstance(transport, asyncio.SubprocessTransport)
        assert not hasattr(transport, "__dict__")
        assert transport.get_protocol() is protocol
        popen = transport.get_extra_info("subprocess")
        assert popen.pid == transport.get_pid()
        assert transport.get_returncode() is popen.returncode is None
        second = Recorder()
        second.calls.append("connection_made")
        second.transport = transport
        transport.set_protocol(second)
        assert "fd=0 of <ProcessTransport" in repr(as_any(transport).get_pipe_transport(0).get_protocol())
        transport.kill()
        await second.until_lost()
        assert protocol.calls == ["connection_made"]
        assert transport.get_returncode() == popen.returncode == -9
        assert transport.get_extra_info("nothing", 5) == 5

    run(main)


def test_a_transport_can_be_made_without_a_waiter(run: Runner) -> None:
    """Then only the protocol hears of it."""

    async def main() -> None:
        protocol = Recorder()
        loop = run.loop
        ProcessTransport(
            loop._services, protocol, ["/bin/true"], False, None, None, None, 0, exits=ChildExits(loop._services)
        )
        await protocol.until_lost()

    run(main)


@pytest.mark.parametrize("callback", CALLS)
def test_system_exit_out_of_a_callback_ends_the_run(
    loop: ReactorEventLoop, run_into_exit: RunIntoExit, callback: str
) -> None:
    """As from any callback; the loop can go on afterwards, and the child ends as it should."""
    protocol = Recorder()

    async def main() -> None:
        await shell("echo x", protocol=protocol)
        await protocol.until_lost()

    loop.run_until_complete(run_into_exit(main(), protocol.on, callback))
    protocol.transport.close()
