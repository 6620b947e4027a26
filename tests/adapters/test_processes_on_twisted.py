"""asyncio's subprocess protocols on children of ``reactor.spawnProcess()``, compared with those of our loop."""

from __future__ import annotations

import asyncio
import contextvars
import fcntl
import functools
import hashlib
import logging
import os
import re
import signal
import struct
import sys
import termios
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IProcessProtocol, IProcessTransport
from twisted.internet.process import reapAllProcesses
from twisted.logger import globalLogPublisher
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txasync.adapters import _on_twisted, as_twisted_process_protocol
from txasync.transports._process import WAIT_ENDS_AT_EXIT

from ..conftest import Reports, Runner
from ..transports.combinations import COMBINATIONS
from ..transports.test_process import CALLS, PLACE, Boom, Recorder
from .children import MEGABYTES, children_of_this_process, is_writing_freely, others_stay, settled, shell

__all__ = ["others_stay"]

Start = Callable[..., Awaitable[Any]]
"""Starts a program for a protocol, and returns its transport."""

Scenario = Callable[[Start], Coroutine[Any, Any, Any]]

Perform = Callable[[Callable[[], Awaitable[Any]]], Any]

LIMIT_S = 30.0

# A reactor that runs first is stopped by its own means.
ASYNCIO_FIRST = [combination for combination in COMBINATIONS if combination.mode == "asyncio-first"]

WINDOW = struct.Struct("HHHH")

# Twisted's children on terminals, and of other users, are forks; Python does not like that beside pytest's threads.
forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def unhandled() -> Iterator[list[str]]:
    """What Twisted's own code has logged as "Unhandled Error"; what is left in it at the end fails the test."""
    errors: list[str] = []

    def see(event: Any) -> None:
        if event.get("isError") and "failure" in event:
            errors.append(repr(event["failure"].value))

    observer: Any = see
    globalLogPublisher.addObserver(observer)
    yield errors
    globalLogPublisher.removeObserver(observer)
    assert not errors


@pytest.fixture
def perform(run: Runner, unhandled: list[str]) -> Iterator[Perform]:
    """Run a coroutine function, which must end in time, and leave no child."""
    yield lambda main: run(lambda: asyncio.wait_for(main(), LIMIT_S))
    assert not children_of_this_process()


def spawn(
    reactor: Any, protocol: asyncio.SubprocessProtocol, program: tuple[str, ...], **options: Any
) -> _on_twisted.AsyncioSubprocessTransport:
    """Start *program* by Twisted; the transport of asyncio's."""
    adapter = as_twisted_process_protocol(protocol)
    reactor.spawnProcess(adapter, program[0], program, env=None, **options)
    transport = adapter.asyncio_transport
    assert transport is not None
    return transport


@pytest.fixture
def start(run: Runner) -> Callable[..., Any]:
    """`spawn` by this test's reactor."""
    return functools.partial(spawn, run.reactor)


# Scenarios: what they return is to be the same for a child of our loop's


def by_loop() -> Start:
    """Starts children by the loop that runs."""

    async def start(protocol: asyncio.SubprocessProtocol, program: tuple[str, ...]) -> Any:
        return (await asyncio.get_running_loop().subprocess_exec(lambda: protocol, *program))[0]

    return start


def by_reactor(reactor: Any) -> Start:
    """Starts children by *reactor*."""

    async def start(protocol: asyncio.SubprocessProtocol, program: tuple[str, ...]) -> Any:
        return spawn(reactor, protocol, program)

    return start


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
        protocol.transport.is_closing(),
        [protocol.transport.get_pipe_transport(fd).is_closing() for fd in range(3)],
    )


async def output_errors_and_an_exit(start: Start) -> Any:
    await start(protocol := Recorder(), shell("echo out; echo err >&2; exit 3"))
    return await ended(protocol)


async def input_and_output(start: Start) -> Any:
    transport = await start(protocol := Recorder(), ("/bin/cat",))
    stdin = transport.get_pipe_transport(0)
    assert stdin.can_write_eof()
    stdin.write(b"hello")
    stdin.writelines([b" ", bytearray(b"wor"), memoryview(b"ld")])
    stdin.write(b"")
    await protocol.until(lambda: protocol.output[1] == b"hello world")
    stdin.write_eof()
    return await ended(protocol)


async def a_child_that_dies_before_anything(start: Start) -> Any:
    await start(protocol := Recorder(), ("/bin/false",))
    return await ended(protocol)


async def a_child_that_kills_itself(start: Start) -> Any:
    await start(protocol := Recorder(), shell("kill -9 $$"))
    return await ended(protocol)


async def killed_by(start: Start, how: str, *args: int) -> Any:
    transport = await start(protocol := Recorder(), ("/bin/cat",))
    getattr(transport, how)(*args)
    result = await ended(protocol)
    with pytest.raises(ProcessLookupError):
        transport.kill()
    with pytest.raises(ProcessLookupError):
        transport.send_signal(0)
    return result


async def killed(start: Start) -> Any:
    return await killed_by(start, "kill")


async def terminated(start: Start) -> Any:
    return await killed_by(start, "terminate")


async def hung_up(start: Start) -> Any:
    return await killed_by(start, "send_signal", signal.SIGHUP)


async def signalled_without_a_name(start: Start) -> Any:
    return await killed_by(start, "send_signal", signal.SIGUSR1)


async def a_signal_that_is_caught(start: Start) -> Any:
    program = "import os, signal as s; s.signal(s.SIGTERM, lambda *a: os._exit(5)); os.write(1, b'ready'); s.pause()"
    transport = await start(protocol := Recorder(), (sys.executable, "-S", "-c", program))
    await protocol.until(lambda: bool(protocol.output[1]))
    transport.terminate()
    return await ended(protocol)


async def a_signal_after_the_exit(start: Start) -> Any:
    """It is no error until the very end, as Popen has it."""
    transport = await start(protocol := Recorder(), ("/bin/true",))
    protocol.on["process_exited"] = transport.kill
    return await ended(protocol)


async def closed_while_it_runs(start: Start) -> Any:
    transport = await start(protocol := Recorder(), ("/bin/cat",))
    transport.close()
    transport.close()
    assert transport.is_closing()
    return await ended(protocol)


async def closed_in_connection_made(start: Start) -> Any:
    protocol = Recorder()
    protocol.on["connection_made"] = lambda: protocol.transport.close()
    await start(protocol, ("/bin/cat",))
    return await ended(protocol)


async def each_pipe_is_closed_early(start: Start) -> Any:
    transport = await start(protocol := Recorder(), shell("echo; exec sleep 3600"))
    await protocol.until(lambda: bool(protocol.output[1]))
    for fd in 2, 1, 0:
        transport.get_pipe_transport(fd).close()
        transport.get_pipe_transport(fd).close()
    transport.get_pipe_transport(0).abort()
    await protocol.until(lambda: sum("pipe_connection_lost" in call for call in protocol.calls) == 3)
    transport.kill()
    return await ended(protocol)


async def a_full_pipe_is_closed_although_nobody_reads(start: Start) -> Any:
    """Its kernel's buffer is full, and nothing is left to write; that is no reason to keep it open."""
    transport = await start(protocol := Recorder(), shell("exec sleep 3600"))
    stdin = transport.get_pipe_transport(0)
    size = fcntl.fcntl(_descriptor_of(stdin), fcntl.F_GETPIPE_SZ)
    stdin.set_write_buffer_limits(high=10 * size)
    stdin.write(b"x" * size)
    while stdin.get_write_buffer_size():
        await asyncio.sleep(0)
    stdin.close()
    await protocol.until(lambda: protocol.has("pipe_connection_lost 0"))
    transport.kill()
    return await ended(protocol)


def _descriptor_of(pipe: Any) -> int:
    below = pipe.get_extra_info("twisted_transport") or pipe.get_extra_info("pipe")
    fd: int = below.fileno()
    return fd


async def a_writer_is_aborted(start: Start) -> Any:
    transport = await start(protocol := Recorder(), shell("exec sleep 3600"))
    stdin = transport.get_pipe_transport(0)
    stdin.write(b"x" * 1_000_000)
    stdin.abort()
    size = stdin.get_write_buffer_size()
    await protocol.until(lambda: protocol.has("pipe_connection_lost 0"))
    for _ in range(3):
        stdin.write(b"too late")
    transport.kill()
    return size, await ended(protocol)


async def a_closing_writer_is_aborted(start: Start) -> Any:
    transport = await start(protocol := Recorder(), shell("exec sleep 3600"))
    stdin = transport.get_pipe_transport(0)
    stdin.write(b"x" * 1_000_000)
    stdin.close()
    await settled()
    stdin.abort()
    await protocol.until(lambda: protocol.has("pipe_connection_lost 0"))
    transport.kill()
    return await ended(protocol)


async def a_child_that_closes_its_input(start: Start) -> Any:
    transport = await start(protocol := Recorder(), shell("exec 0<&-; echo closed; exec sleep 3600"))
    await protocol.until(lambda: protocol.has("pipe_connection_lost 0") and bool(protocol.output[1]))
    transport.kill()
    return await ended(protocol)


async def a_child_that_closes_its_output_and_lives_on(start: Start) -> Any:
    transport = await start(protocol := Recorder(), shell("echo out; exec 1>&- 2>&-; read line; exit 4"))
    await protocol.until(lambda: protocol.has("pipe_connection_lost 1") and protocol.has("pipe_connection_lost 2"))
    assert transport.get_returncode() is None
    transport.get_pipe_transport(0).write(b"\n")
    return await ended(protocol)


async def input_that_nobody_reads(start: Start) -> Any:
    transport = await start(protocol := Recorder(), shell("head -c 1 >/dev/null"))
    transport.get_pipe_transport(0).write(b"x" * 1_000_000)
    return await ended(protocol)


async def a_full_pipe_drains(start: Start) -> Any:
    transport = await start(protocol := Recorder(), shell("read line; exec cat"))
    stdin = transport.get_pipe_transport(0)
    stdin.write(b"\n" + b"x" * 1_000_000)
    paused = protocol.calls[-1]
    await protocol.until(lambda: protocol.has("resume_writing"))
    stdin.close()
    return paused, await ended(protocol)


async def a_full_pipe_drains_while_it_closes(start: Start) -> Any:
    transport = await start(protocol := Recorder(), shell("read line; exec cat"))
    stdin = transport.get_pipe_transport(0)
    stdin.write(b"\n" + b"x" * 1_000_000)
    stdin.close()
    stdin.write(b"too late")
    return await ended(protocol)


async def a_grandchild_that_holds_the_pipe(start: Start) -> Any:
    command = "exec 3<&0; (read line <&3; echo late) & echo early; exec sleep 3600"
    transport = await start(protocol := Recorder(), shell(command))
    await protocol.until(lambda: bool(protocol.output[1]))
    transport.kill()
    await protocol.until(lambda: protocol.has("process_exited"))
    await settled()
    assert not protocol.has("pipe_connection_lost 1")
    transport.get_pipe_transport(0).write(b"\n")
    return await ended(protocol)


async def pipes_are_paused_in_connection_made(start: Start) -> Any:
    protocol = Recorder()
    protocol.on["connection_made"] = lambda: protocol.transport.get_pipe_transport(1).pause_reading()
    transport = await start(protocol, shell("echo early; echo; exec 1>&-; echo >&2; read line"))
    stdout = transport.get_pipe_transport(1)
    stdout.pause_reading()
    await protocol.until(lambda: bool(protocol.output[2]))
    before = stdout.is_reading(), bytes(protocol.output[1]), protocol.has("pipe_connection_lost 1")
    stdout.resume_reading()
    stdout.resume_reading()
    await protocol.until(lambda: protocol.has("pipe_connection_lost 1"))
    transport.get_pipe_transport(0).close()
    return before, await ended(protocol)


async def a_paused_pipe_is_closed(start: Start) -> Any:
    transport = await start(protocol := Recorder(), shell("head -c 5000000 /dev/zero"))
    stdout = transport.get_pipe_transport(1)
    stdout.pause_reading()
    stdout.close()
    stdout.resume_reading()
    assert not stdout.is_reading()
    return await ended(protocol)


async def contexts(start: Start) -> Any:
    PLACE.set("start")
    protocol = Recorder(places=True)
    transport = await contextvars.copy_context().run(asyncio.ensure_future, start(protocol, ("/bin/cat",)))
    PLACE.set("afterwards")
    transport.get_pipe_transport(0).write(b"x")
    await protocol.until(lambda: bool(protocol.output[1]))
    transport.kill()
    await protocol.until_lost()
    # Which of the exit and the ends of the pipes is last is chance, and so is the context of connection_lost().
    return sorted(re.sub("(connection_lost None).*", r"\1", call) for call in protocol.calls)


SCENARIOS: list[Scenario] = [
    output_errors_and_an_exit,
    input_and_output,
    a_child_that_dies_before_anything,
    a_child_that_kills_itself,
    killed,
    terminated,
    hung_up,
    signalled_without_a_name,
    a_signal_that_is_caught,
    a_signal_after_the_exit,
    closed_while_it_runs,
    closed_in_connection_made,
    each_pipe_is_closed_early,
    a_full_pipe_is_closed_although_nobody_reads,
    a_writer_is_aborted,
    a_closing_writer_is_aborted,
    a_child_that_closes_its_input,
    a_child_that_closes_its_output_and_lives_on,
    input_that_nobody_reads,
    a_full_pipe_drains,
    a_full_pipe_drains_while_it_closes,
    a_grandchild_that_holds_the_pipe,
    pipes_are_paused_in_connection_made,
    a_paused_pipe_is_closed,
    contexts,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_child_behaves_as_a_native_one(run: Runner, perform: Perform, scenario: Scenario) -> None:
    """The same calls, the same output, the same return code, whoever has started the child."""

    async def main() -> None:
        # Not the same context for both: a scenario may set something there.
        native = asyncio.create_task(scenario(by_loop()))
        assert await asyncio.create_task(scenario(by_reactor(run.reactor))) == await native

    perform(main)


# The whole way, and every fault on it


class Pump(Recorder):
    """Writes to the child while it may, and pauses its output now and then, for a while."""

    def __init__(self, rest: bytes) -> None:
        super().__init__()
        self.rest = rest
        self.largest = 0
        self.pieces = 0
        self.writes = True

    def write_on(self) -> None:
        stdin = self.transport.get_pipe_transport(0)
        while self.writes and self.rest:
            stdin.write(self.rest[:20_000])
            self.rest = self.rest[20_000:]
            self.largest = max(self.largest, stdin.get_write_buffer_size())
        if not self.rest:
            stdin.close()

    def pause_writing(self) -> None:
        self.writes = False
        super().pause_writing()

    def resume_writing(self) -> None:
        self.writes = True
        super().resume_writing()
        self.write_on()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        stdout = self.transport.get_pipe_transport(1)
        assert stdout.is_reading()
        super().pipe_data_received(fd, data)
        self.pieces += 1
        if self.pieces % 20 == 0:
            stdout.pause_reading()
            asyncio.get_running_loop().call_later(0.001, stdout.resume_reading)


def test_megabytes_go_through_a_child_with_flow_control(perform: Perform, start: Callable[..., Any]) -> None:
    """Nothing is lost, and no more is held than the high-water mark and one piece."""

    async def main() -> None:
        protocol = Pump(MEGABYTES)
        start(protocol, ("/bin/cat",))
        protocol.write_on()
        await protocol.until_lost()
        assert hashlib.sha256(protocol.output[1]).digest() == hashlib.sha256(MEGABYTES).digest()
        assert protocol.has("pause_writing")
        assert 65536 < protocol.largest <= 65536 + 20_000
        assert protocol.calls[-1] == "connection_lost None"

    perform(main)


def test_what_a_killed_child_has_written_is_delivered(perform: Perform, start: Callable[..., Any]) -> None:
    """It wrote megabytes; what fits into the pipe is all there, also for a reader that was paused meanwhile."""

    async def main() -> None:
        transport = start(protocol := Recorder(), ("/usr/bin/head", "-c", "5000000", "/dev/zero"))
        stdout = transport.get_pipe_transport(1)
        stdout.pause_reading()
        while is_writing_freely(transport.get_pid()):
            await asyncio.sleep(0)
        transport.kill()
        await protocol.until(lambda: protocol.has("process_exited"))
        assert not protocol.output[1]
        assert not protocol.has("pipe_connection_lost 1")
        stdout.resume_reading()
        await protocol.until_lost()
        assert len(protocol.output[1]) >= 65536
        assert transport.get_returncode() == -signal.SIGKILL

    perform(main)


@pytest.mark.parametrize("callback", [*CALLS, "pause_writing", "resume_writing"])
def test_what_a_callback_raises_is_reported_and_the_child_goes_on(
    run: Runner, perform: Perform, start: Callable[..., Any], callback: str
) -> None:
    """With everything there is to know; the callbacks that are due still come."""

    async def main() -> None:
        seen: list[dict[str, Any]] = []
        run.loop.set_exception_handler(lambda _, context: seen.append(context))
        transport = start(protocol := Recorder(raising=callback), ("/bin/cat",))
        stdin = transport.get_pipe_transport(0)
        stdin.write(b"x" * 300_000)
        await protocol.until(lambda: len(protocol.output[1]) == 300_000)
        stdin.close()
        await protocol.until_lost()
        assert transport.get_returncode() == 0
        assert {type(context["exception"]) for context in seen} == {Boom}
        assert {context["message"] for context in seen} == {f"protocol.{callback}() failed"}
        assert {context["transport"] for context in seen} == {transport}
        assert {context["protocol"] for context in seen} == {protocol}

    perform(main)


@pytest.mark.parametrize("combination", ASYNCIO_FIRST, ids="-".join, indirect=True)
@pytest.mark.parametrize("callback", ["connection_made", "pipe_data_received", "process_exited", "connection_lost"])
def test_system_exit_leaves_the_loop(run: Runner, start: Callable[..., Any], callback: str) -> None:
    """Twisted's reactors would log it and go on."""
    protocol = Recorder()

    def leave() -> None:
        protocol.on.clear()
        raise SystemExit(callback)

    protocol.on[callback] = leave

    async def main() -> None:
        start(protocol, ("/bin/echo",))
        await protocol.until_lost()

    task = run.loop.create_task(main())
    with pytest.raises(SystemExit, match=callback):
        run.loop.run_until_complete(task)
    run.loop.run_until_complete(asyncio.wait_for(task, LIMIT_S))


def test_many_children_at_once_leave_nothing(perform: Perform, start: Callable[..., Any]) -> None:
    """None lost, no zombie, no descriptor."""

    async def one(number: int) -> None:
        transport = start(protocol := Recorder(), shell(f"cat; echo {number}; exit {number}"))
        transport.get_pipe_transport(0).write(b"x" * 1000)
        transport.get_pipe_transport(0).close()
        await protocol.until_lost()
        assert protocol.output[1] == b"x" * 1000 + b"%d\n" % number
        assert transport.get_returncode() == number

    async def main() -> None:
        await asyncio.gather(*map(one, range(50)))
        assert not children_of_this_process()

    perform(main)


# asyncio's own streams


def by_streams(
    run: Runner, program: tuple[str, ...], limit: int = 2**16, **options: Any
) -> tuple[asyncio.subprocess.Process, Any]:
    """A child of Twisted's as asyncio's ``Process``, and its transport."""
    protocol = asyncio.subprocess.SubprocessStreamProtocol(limit=limit, loop=run.loop)
    transport = spawn(run.reactor, protocol, program, **options)
    return asyncio.subprocess.Process(transport, protocol, run.loop), transport


def test_communicate(run: Runner, perform: Perform) -> None:
    """With megabytes in both directions, and a limit that has the reader pause."""

    async def main() -> None:
        process, _ = by_streams(run, shell("cat; echo err >&2; exit 3"), limit=1000)
        assert await process.communicate(MEGABYTES) == (MEGABYTES, b"err\n")
        assert process.returncode == await process.wait() == 3

    perform(main)


def test_drain_waits_until_the_child_reads(run: Runner, perform: Perform) -> None:
    """And the reader has its limit."""

    async def main() -> None:
        process, _ = by_streams(run, shell("read line; exec cat"), limit=100)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x" * 500_000)
        draining = asyncio.ensure_future(process.stdin.drain())
        await settled()
        assert not draining.done()
        process.stdin.write(b"\n" + b"y" * 1000)
        received = bytearray()
        while not draining.done() or len(received) < 1000:
            received += await process.stdout.read(10_000)
        process.stdin.close()
        await process.stdin.wait_closed()
        received += await process.stdout.read()
        assert received == b"y" * 1000
        assert await process.wait() == 0

    perform(main)


def test_a_process_by_streams_is_killed_and_waited_for(run: Runner, perform: Perform) -> None:
    """By many, one of whom gives up."""

    async def main() -> None:
        process, transport = by_streams(run, ("/bin/cat",))
        waiting = [asyncio.ensure_future(process.wait()) for _ in range(4)]
        await settled()
        waiting[0].cancel()
        await settled()
        process.kill()
        assert await asyncio.gather(*waiting[1:]) == [-9, -9, -9]
        while not transport.is_closing():
            await asyncio.sleep(0)
        await settled()

    perform(main)


def test_waiting_ends_at_exit_or_with_the_pipes_as_in_this_version(run: Runner, perform: Perform) -> None:
    """As for the children of the loop."""

    async def main() -> None:
        process, _ = by_streams(run, shell("exec 3<&0; (read line <&3; echo late) & echo early; exec sleep 3600"))
        assert process.stdin is not None
        assert process.stdout is not None
        waiting = asyncio.ensure_future(process.wait())
        await process.stdout.readline()
        process.kill()
        while process.returncode is None:
            await asyncio.sleep(0)
        await settled()
        assert waiting.done() == WAIT_ENDS_AT_EXIT
        process.stdin.write(b"\n")
        assert await process.stdout.read() == b"late\n"
        process.stdin.close()
        assert await waiting == -9
        await settled()

    perform(main)


# What Twisted's children have besides


def test_pipes_of_any_number(perform: Perform, start: Callable[..., Any]) -> None:
    """``childFDs`` gives a child more pipes, or fewer, and each has its transport."""

    async def main() -> None:
        protocol = Recorder()
        protocol.output[4] = bytearray()
        transport = start(protocol, shell("cat <&3 >&4; exit 2"), childFDs={3: "w", 4: "r", 1: 1})
        assert [transport.get_pipe_transport(fd) is None for fd in range(6)] == [True, True, True, False, False, True]
        transport.get_pipe_transport(3).write(b"by way of 3 and 4")
        transport.get_pipe_transport(3).close()
        await protocol.until_lost()
        assert protocol.output[4] == b"by way of 3 and 4"
        assert sorted(protocol.calls[1:-1]) == [
            "pipe_connection_lost 3 NoneType",
            "pipe_connection_lost 4 NoneType",
            "pipe_data_received 4",
            "process_exited",
        ]

    perform(main)


def test_no_pipes_at_all(perform: Perform, start: Callable[..., Any]) -> None:
    """The exit is the end."""

    async def main() -> None:
        transport = start(protocol := Recorder(), shell("exit 2"), childFDs={0: 0, 1: 1, 2: 2})
        await protocol.until_lost()
        assert protocol.calls == ["connection_made", "process_exited", "connection_lost None"]
        assert transport.get_returncode() == 2

    perform(main)


def test_a_protocol_is_paused_once_for_several_pipes(perform: Perform, start: Callable[..., Any]) -> None:
    """It is not told which pipe is full: it may write again when none is."""

    async def main() -> None:
        protocol = Recorder()
        command = "read go; cat <&3 >/dev/null; echo; cat <&4 >/dev/null"
        transport = start(protocol, shell(command), childFDs={0: "w", 1: "r", 3: "w", 4: "w"})
        for fd in 3, 4:
            transport.get_pipe_transport(fd).write(b"x" * 500_000)
        assert protocol.calls.count("pause_writing") == 1
        transport.get_pipe_transport(0).write(b"\n")
        transport.get_pipe_transport(3).close()
        await protocol.until(lambda: bool(protocol.output[1]))
        assert not protocol.has("resume_writing")
        await protocol.until(lambda: protocol.has("resume_writing"))
        transport.get_pipe_transport(4).close()
        await protocol.until_lost()
        assert protocol.calls.count("resume_writing") == 1

    perform(main)


def test_a_full_pipe_that_is_lost_stops_no_other(perform: Perform, start: Callable[..., Any]) -> None:
    """Its end is told, and that writing may go on."""

    async def main() -> None:
        protocol = Recorder()
        transport = start(protocol, shell("exec 3<&-; exec cat"), childFDs={0: "w", 1: "r", 3: "w"})
        transport.get_pipe_transport(3).write(b"x" * 500_000)
        assert protocol.calls[-1] == "pause_writing"
        await protocol.until(lambda: protocol.has("resume_writing"))
        assert protocol.calls[-2:] == ["pipe_connection_lost 3 BrokenPipeError", "resume_writing"]
        transport.get_pipe_transport(0).write(b"goes on")
        transport.get_pipe_transport(0).close()
        await protocol.until_lost()
        assert protocol.output[1] == b"goes on"

    perform(main)


def test_a_nested_iteration_of_the_reactor(run: Runner, perform: Perform, start: Callable[..., Any]) -> None:
    """What it brings is delivered, although the protocol is being called already."""

    async def main() -> None:
        protocol = Recorder()
        nested: list[bytes] = []

        def iterate() -> None:
            protocol.on.clear()
            while not protocol.output[2]:
                run.reactor.iterate(0.001)
            nested.append(bytes(protocol.output[2]))

        protocol.on["pipe_data_received"] = iterate
        transport = start(protocol, shell("echo out; read line; echo err >&2"))
        transport.get_pipe_transport(0).write(b"\n")
        await protocol.until_lost()
        assert nested == [b"err\n"]

    perform(main)


def test_what_is_closed_by_twisteds_own_methods_ends(perform: Perform, start: Callable[..., Any]) -> None:
    """What watches the write buffer does not keep it open."""

    async def main() -> None:
        transport = start(protocol := Recorder(), ("/bin/cat",))
        transport.get_pipe_transport(0).write(b"all of this")
        itransport = transport.get_extra_info("twisted_transport")
        itransport.closeStdin()
        await protocol.until_lost()
        assert protocol.output[1] == b"all of this"
        assert transport.get_returncode() == 0

        transport = start(protocol := Recorder(), ("/bin/cat",))
        transport.get_extra_info("twisted_transport").loseConnection()
        await protocol.until_lost()
        assert "pipe_connection_lost 1 NoneType" in protocol.calls

    perform(main)


@implementer(IProcessTransport)
class NoMoreThanPromised:
    """What ``IProcessTransport`` has, of a process that has more."""

    def __init__(self, process: Any) -> None:
        self._process = process

    def __getattr__(self, name: str) -> Any:
        if name not in IProcessTransport:
            raise AttributeError(name)
        return getattr(self._process, name)


def test_a_transport_that_has_no_more_than_its_interface(run: Runner, perform: Perform) -> None:
    """It has the three standard pipes, without flow control."""

    class Adapter(_on_twisted.TwistedProcessProtocol):
        def makeConnection(self, transport: Any) -> None:
            super().makeConnection(NoMoreThanPromised(transport))  # type: ignore[no-untyped-call]

    async def main() -> None:
        protocol = Recorder()
        adapter = Adapter(protocol)
        run.reactor.spawnProcess(adapter, "/bin/sh", shell("cat; echo err >&2; exit 6"), env=None)
        transport: Any = adapter.asyncio_transport
        stdin = transport.get_pipe_transport(0)
        stdin.write(b"x" * 300_000)
        assert stdin.get_write_buffer_size() == 0
        transport.get_pipe_transport(2).pause_reading()
        stdin.close()
        await protocol.until(lambda: protocol.has("process_exited"))
        assert not protocol.output[2]
        transport.get_pipe_transport(2).resume_reading()
        await protocol.until_lost()
        assert protocol.output == {1: b"x" * 300_000, 2: b"err\n"}
        assert transport.get_returncode() == 6

        adapter = Adapter(protocol := Recorder())
        process = run.reactor.spawnProcess(adapter, "/bin/sh", shell("echo; exec 1>&-; exec sleep 3600"), env=None)
        transport = adapter.asyncio_transport
        stdout = transport.get_pipe_transport(1)
        stdout.pause_reading()
        while 1 in process.pipes:
            await asyncio.sleep(0)
        await settled()
        assert protocol.calls == ["connection_made"]
        stdout.close()
        await protocol.until(lambda: protocol.has("pipe_connection_lost 1"))
        transport.close()
        await protocol.until_lost()
        assert not protocol.output[1]
        assert transport.get_returncode() == -9

    perform(main)


# On a pseudo-terminal


def terminal_of(transport: Any) -> int:
    """The descriptor of our side."""
    fd: int = transport.get_extra_info("twisted_transport").fileno()
    return fd


@forks
def test_a_child_on_a_terminal(perform: Perform, start: Callable[..., Any]) -> None:
    """It echoes, and ^D is the end of input."""

    async def main() -> None:
        transport = start(protocol := Recorder(), ("/bin/cat",), usePTY=True)
        assert transport.get_pipe_transport(2) is None
        transport.get_pipe_transport(0).write(b"hello\n")
        await protocol.until(lambda: protocol.output[1] == b"hello\r\nhello\r\n")
        transport.get_pipe_transport(0).write(b"\x04")
        await protocol.until_lost()
        assert transport.get_returncode() == 0
        assert sorted(protocol.calls[1:-1]) == [
            "pipe_connection_lost 0 NoneType",
            "pipe_connection_lost 1 NoneType",
            "pipe_data_received 1",
            "process_exited",
        ]

    perform(main)


@forks
def test_the_window_of_a_terminal(perform: Perform, start: Callable[..., Any]) -> None:
    """The terminal is Twisted's transport; its child hears of the window."""
    # A handler that is called for between the last instruction and the wait for input would run after the input; that
    # there is one keeps the signal, which nobody else heeds, from being discarded.
    program = (
        "import os, signal; "
        "signal.signal(signal.SIGWINCH, lambda *_: None); "
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH]); "
        "print('ready', flush=True); "
        "signal.sigwait([signal.SIGWINCH]); "
        "print('%d %d;' % os.get_terminal_size(), flush=True); input()"
    )

    async def main() -> None:
        transport = start(protocol := Recorder(), (sys.executable, "-S", "-c", program), usePTY=True)
        await protocol.until(lambda: b"ready" in protocol.output[1])
        fcntl.ioctl(terminal_of(transport), termios.TIOCSWINSZ, WINDOW.pack(30, 100, 0, 0))
        await protocol.until(lambda: b"100 30;" in protocol.output[1])
        transport.get_pipe_transport(0).write(b"\n")
        await protocol.until_lost()
        assert transport.get_returncode() == 0

    perform(main)


@forks
def test_job_control_on_a_terminal(perform: Perform, start: Callable[..., Any]) -> None:
    """^C interrupts."""

    async def main() -> None:
        transport = start(protocol := Recorder(), shell("echo ready; exec sleep 3600"), usePTY=True)
        await protocol.until(lambda: b"ready" in protocol.output[1])
        transport.get_pipe_transport(0).write(b"\x03")
        await protocol.until_lost()
        assert transport.get_returncode() == -signal.SIGINT

    perform(main)


@forks
def test_a_terminal_is_read_to_the_end(perform: Perform, start: Callable[..., Any]) -> None:
    """Also by one who pauses."""

    async def main() -> None:
        command = "stty -echo -opost; echo ready; head -c 200000 /dev/zero; echo end"
        transport = start(protocol := Recorder(), shell(command), usePTY=True)
        await protocol.until(lambda: b"ready" in protocol.output[1])
        stdout = transport.get_pipe_transport(1)
        stdout.pause_reading()
        await settled()
        stdout.resume_reading()
        await protocol.until_lost()
        assert protocol.output[1].endswith(b"\0end\n")
        assert protocol.output[1].count(b"\0") == 200_000

    perform(main)


@forks
def test_each_direction_of_a_terminal_is_closed_by_itself(perform: Perform, start: Callable[..., Any]) -> None:
    """To close the one that writes tells the child nothing; when both are closed, it is sent SIGHUP."""

    async def main() -> None:
        command = "stty -echo; echo ready; read line; echo $line; exec sleep 3600"
        transport = start(protocol := Recorder(), shell(command), usePTY=True)
        await protocol.until(lambda: b"ready" in protocol.output[1])
        transport.get_pipe_transport(0).write(b"hello\n")
        transport.get_pipe_transport(0).close()
        await protocol.until(lambda: protocol.has("pipe_connection_lost 0"))
        await protocol.until(lambda: b"hello\r\n" in protocol.output[1])
        assert transport.get_returncode() is None
        transport.get_pipe_transport(1).close()
        await protocol.until_lost()
        assert transport.get_returncode() == -signal.SIGHUP

    perform(main)


@forks
def test_a_terminal_whose_output_is_closed_ends_with_its_child(perform: Perform, start: Callable[..., Any]) -> None:
    """Nobody reads from it, and so nobody would notice."""

    async def main() -> None:
        transport = start(protocol := Recorder(), shell("read line; exit 3"), usePTY=True)
        transport.get_pipe_transport(1).close()
        await protocol.until(lambda: protocol.has("pipe_connection_lost 1"))
        transport.get_pipe_transport(0).write(b"\n")
        await protocol.until_lost()
        assert transport.get_returncode() == 3

    perform(main)


@forks
@pytest.mark.parametrize("close", ["close", "loseConnection", "loseConnection and close"])
def test_a_terminal_is_closed_while_its_child_runs(perform: Perform, start: Callable[..., Any], close: str) -> None:
    """Whoever closes it, the child does not outlive it."""

    async def main() -> None:
        transport = start(protocol := Recorder(), shell("echo ready; exec sleep 3600"), usePTY=True)
        await protocol.until(lambda: b"ready" in protocol.output[1])
        if close == "close":
            transport.close()
        else:
            itransport = transport.get_extra_info("twisted_transport")
            itransport.loseConnection()
            while itransport.connected:
                await asyncio.sleep(0)
            for fd in (0, 1) if "and close" in close else ():
                transport.get_pipe_transport(fd).close()
        await protocol.until_lost()
        assert transport.get_returncode() in (-signal.SIGHUP, *([-signal.SIGKILL] if close == "close" else []))

    perform(main)


@forks
def test_a_terminal_by_streams(run: Runner, perform: Perform) -> None:
    """``usePTY`` takes nothing from asyncio's ``Process``."""

    async def main() -> None:
        process, _ = by_streams(run, shell("stty -echo; echo ready; read line; echo got $line"), usePTY=True)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is None
        assert await process.stdout.readline() == b"ready\r\n"
        process.stdin.write(b"hello\n")
        await process.stdin.drain()
        assert await process.stdout.read() == b"got hello\r\n"
        assert await process.wait() == 0
        await settled()

    perform(main)


# The edges


def test_a_protocol_or_what_makes_one(run: Runner, perform: Perform) -> None:
    """An object, a class and a function; the latter are called at once, in the context of the conversion."""

    class Protocol(asyncio.SubprocessProtocol):
        def __init__(self) -> None:
            self.place = PLACE.get()

    async def main() -> None:
        PLACE.set("here")
        for given in Protocol(), Protocol, lambda: Protocol():
            adapter = as_twisted_process_protocol(given)
            assert isinstance(adapter.protocol, Protocol)
            assert adapter.protocol.place == "here"
            assert IProcessProtocol.providedBy(adapter)
            verifyObject(IProcessProtocol, adapter)

    perform(main)


@pytest.mark.parametrize("nonsense", [None, 1, asyncio.Protocol(), asyncio.Protocol, dict])
def test_what_is_no_process_protocol_is_refused(nonsense: Any) -> None:
    """Before any child is started, and with what it was."""
    with pytest.raises(TypeError, match="SubprocessProtocol.*expected, got"):
        as_twisted_process_protocol(nonsense)


def test_without_a_loop_a_child_is_killed(reactor: Any, unhandled: list[str]) -> None:
    """And the message names what is missing; it goes to Twisted's log, as all that protocols raise there."""
    adapter = as_twisted_process_protocol(protocol := Recorder())
    process = reactor.spawnProcess(adapter, "/bin/cat", ["cat"], env=None)
    while process.pid is not None or process.pipes:
        reapAllProcesses()
        reactor.iterate(0.001)
    assert not protocol.calls
    (error,) = unhandled
    assert error.startswith("RuntimeError(")
    assert "txasync.install()" in error
    assert "loop=" in error
    unhandled.clear()


def test_a_loop_can_be_named_before_it_runs(run: Runner, perform: Perform) -> None:
    """Then a child can be started before anything runs."""
    protocol = Recorder()
    adapter = as_twisted_process_protocol(protocol, loop=run.loop)
    run.reactor.spawnProcess(adapter, "/bin/echo", ["echo", "early"], env=None)
    assert protocol.calls == ["connection_made"]
    perform(protocol.until_lost)
    assert protocol.output[1] == b"early\n"


def test_protocols_and_information(perform: Perform, start: Callable[..., Any]) -> None:
    """What there is to know of a transport, and of its pipes, and what there is not."""

    async def main() -> None:
        transport = start(protocol := Recorder(), ("/bin/cat",))
        assert isinstance(transport, asyncio.SubprocessTransport)
        itransport = transport.get_extra_info("twisted_transport")
        assert IProcessTransport.providedBy(itransport)
        pid = transport.get_pid()
        assert pid == itransport.pid
        assert transport.get_extra_info("subprocess", "none") == "none"
        assert transport.get_protocol() is protocol
        assert re.fullmatch(rf"<AsyncioSubprocessTransport pid={pid} running over <Process .*>>", repr(transport))
        stdin, stdout = transport.get_pipe_transport(0), transport.get_pipe_transport(1)
        assert isinstance(stdin, asyncio.WriteTransport)
        assert isinstance(stdout, asyncio.ReadTransport)
        assert stdin.get_extra_info("twisted_transport") is transport.get_extra_info("twisted_transport").pipes[0]
        assert stdin.get_extra_info("pipe", "none") == "none"
        assert stdin.get_protocol() is stdout.get_protocol() is protocol
        assert repr(stdin) == "<WriteChildPipe open fd=0 of the child>"
        second = Recorder()
        second.calls.append("connection_made")
        second.transport = transport
        transport.set_protocol(second)
        stdin.write(b"x")
        await second.until(lambda: bool(second.output[1]))
        stdin.close()
        assert repr(stdin) == "<WriteChildPipe closing fd=0 of the child>"
        await second.until_lost()
        assert repr(stdout) == "<ReadChildPipe closed fd=1 of the child>"
        assert transport.get_pid() == pid
        assert "closed" in repr(transport)
        assert "returncode=0" in repr(transport)

    perform(main)


def test_the_marks_of_a_writer(perform: Perform, start: Callable[..., Any]) -> None:
    """They are asyncio's, and nonsense is refused, as are data that are none."""

    async def main() -> None:
        transport = start(protocol := Recorder(), shell("exec sleep 3600"))
        stdin = transport.get_pipe_transport(0)
        assert stdin.get_write_buffer_limits() == (16384, 65536)
        stdin.write(b"x" * 1000)
        assert stdin.get_write_buffer_size() == 1000
        stdin.set_write_buffer_limits(high=500)
        assert stdin.get_write_buffer_limits() == (125, 500)
        assert protocol.calls[-1] == "pause_writing"
        with pytest.raises(ValueError, match="high >= low"):
            stdin.set_write_buffer_limits(high=1, low=2)
        with pytest.raises(TypeError, match="bytes-like"):
            stdin.write("text")
        transport.close()
        await protocol.until_lost()

    perform(main)


def test_writes_after_the_end_are_dropped_with_a_warning(
    perform: Perform, start: Callable[..., Any], reports: Reports
) -> None:
    """From the sixth on."""

    async def main() -> None:
        transport = start(protocol := Recorder(), ("/bin/cat",))
        stdin = transport.get_pipe_transport(0)
        stdin.close()
        await protocol.until_lost()
        for _ in range(5):
            stdin.write(b"x")
        assert not reports.asyncio
        stdin.write(b"x")

    perform(main)
    (record,) = reports.asyncio
    assert "pipe closed by peer" in record.getMessage()
    reports.clear()


def test_debug_mode_tells_what_happens(
    run: Runner, perform: Perform, start: Callable[..., Any], caplog: pytest.LogCaptureFixture, reports: Reports
) -> None:
    """With the words of asyncio."""
    caplog.set_level(logging.DEBUG, "asyncio")

    async def main() -> None:
        run.loop.set_debug(True)
        run.loop.slow_callback_duration = 10
        transport = start(protocol := Recorder(), ("/bin/cat",))
        transport.close()
        await protocol.until_lost()

    perform(main)
    assert "Close running child process: kill <AsyncioSubprocessTransport closed" in caplog.text
    assert "exited with return code -9" in caplog.text
    assert [record.levelno for record in reports.asyncio] == [logging.WARNING]
    reports.clear()


@forks
def test_close_minds_no_child_that_cannot_be_killed(run: Runner, perform: Perform) -> None:
    """It runs as another user; its end is told when it comes."""
    if os.getuid() != 0:
        pytest.skip("only root can start a child as somebody else")

    async def main() -> None:
        transport = spawn(run.reactor, protocol := Recorder(), shell("echo; read line"), uid=65534, gid=65534)
        await protocol.until(lambda: bool(protocol.output[1]))
        itransport: Any = transport.get_extra_info("twisted_transport")
        # Root may kill anybody: what the system would say to others.
        os.seteuid(65533)
        try:
            with pytest.raises(PermissionError):
                transport.kill()
            transport.close()
        finally:
            os.seteuid(0)
        await protocol.until_lost()
        with pytest.raises(ProcessExitedAlready):
            itransport.signalProcess("KILL")

    perform(main)
