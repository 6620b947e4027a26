"""Twisted's process protocols on children of any asyncio loop, compared with those of ``reactor.spawnProcess()``."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import hashlib
import io
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IConsumer, IProcessTransport, IPullProducer, IPushProducer
from twisted.internet.protocol import ProcessProtocol
from twisted.protocols.basic import FileSender
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txasync import ReactorEventLoop, as_future, spawn_pty
from txasync.adapters import _on_asyncio, as_asyncio_subprocess_protocol

from ..conftest import Reports, Runner, disposable_reactor
from .any_loop import Perform, host, perform
from .children import (
    MEGABYTES,
    Boom,
    TwistedRecorder,
    children_of_this_process,
    is_writing_freely,
    others_stay,
    settled,
    shell,
)

__all__ = ["host", "others_stay", "perform"]

Start = Callable[..., Awaitable[Any]]
"""Starts a program for a protocol, and returns its transport: Twisted's."""

PLACE: contextvars.ContextVar[str] = contextvars.ContextVar("PLACE", default="nowhere")

LIMIT_S = 30.0


@pytest.fixture(autouse=True)
def no_child_is_left() -> Any:
    """A test that leaves a child behind, or a zombie, fails."""
    yield
    assert not children_of_this_process()


def is_uvloop(host: Any) -> bool:
    """Whether the loop is uvloop's."""
    return getattr(host, "__module__", "").startswith("uvloop")


async def start(protocol: ProcessProtocol, program: tuple[str, ...], **options: Any) -> Any:
    """Start *program* by the loop that runs; the transport of Twisted's."""
    adapter = as_asyncio_subprocess_protocol(protocol)
    await asyncio.get_running_loop().subprocess_exec(lambda: adapter, *program, **options)
    return protocol.transport


# Scenarios: what they return is to be the same for a child of a reactor's


def by_reactor(reactor: Any) -> Start:
    """Starts children by *reactor*."""

    async def start(protocol: ProcessProtocol, program: tuple[str, ...]) -> Any:
        return reactor.spawnProcess(protocol, program[0], program, env=None)

    return start


async def ended(protocol: TwistedRecorder) -> Any:
    """What there is to compare when a child has ended; the order in which things come to pass is the kernel's."""
    await protocol.until_ended()
    transport: Any = protocol.transport
    for signal_id in "KILL", 0:
        with pytest.raises(ProcessExitedAlready):
            transport.signalProcess(signal_id)
    reason = protocol.reason
    return (
        sorted(protocol.calls),
        protocol.calls[0],
        protocol.calls[-1],
        bytes(protocol.output[1]),
        bytes(protocol.output[2]),
        (type(reason), str(reason), reason.exitCode, reason.signal, reason.status),
        (transport.pid, transport.status),
    )


async def output_errors_and_an_exit(start: Start) -> Any:
    await start(protocol := TwistedRecorder(), shell("echo out; echo err >&2; exit 3"))
    return await ended(protocol)


async def input_and_output(start: Start) -> Any:
    transport = await start(protocol := TwistedRecorder(), ("/bin/cat",))
    transport.write(b"hello")
    transport.writeSequence([b" ", b"wor", b""])
    transport.write(b"")
    transport.writeToChild(0, b"ld")
    await protocol.until(lambda: protocol.output[1] == b"hello world")
    transport.closeStdin()
    transport.closeStdin()
    return await ended(protocol)


async def a_child_that_dies_before_anything(start: Start) -> Any:
    await start(protocol := TwistedRecorder(), ("/bin/false",))
    return await ended(protocol)


async def a_child_that_kills_itself(start: Start) -> Any:
    await start(protocol := TwistedRecorder(), shell("kill -9 $$"))
    return await ended(protocol)


async def killed_by(signal_id: str | int, start: Start) -> Any:
    transport = await start(protocol := TwistedRecorder(), ("/bin/cat",))
    transport.signalProcess(0)
    transport.signalProcess(signal_id)
    return await ended(protocol)


async def stopped_and_continued(start: Start) -> Any:
    transport = await start(protocol := TwistedRecorder(), ("/bin/cat",))
    transport.signalProcess("STOP")
    transport.write(b"x")
    await settled()
    transport.signalProcess(signal.SIGCONT)
    await protocol.until(lambda: bool(protocol.output[1]))
    transport.loseConnection()
    return sorted(protocol.calls), await ended(protocol)


async def what_is_no_signal(start: Start) -> Any:
    transport = await start(protocol := TwistedRecorder(), ("/bin/cat",))
    with pytest.raises(TypeError):
        transport.signalProcess("USR1")
    with pytest.raises(OSError, match="Invalid argument") as caught:
        transport.signalProcess(12345)
    transport.loseConnection()
    return caught.value.errno, (await ended(protocol))[-1]


async def a_signal_in_process_exited(start: Start) -> Any:
    protocol = TwistedRecorder()

    def kill() -> None:
        with pytest.raises(ProcessExitedAlready):
            protocol.transport.signalProcess("KILL")  # type: ignore[union-attr]

    protocol.on["processExited"] = kill
    await start(protocol, ("/bin/true",))
    return await ended(protocol)


async def signalled_until_the_exit(start: Start) -> Any:
    transport = await start(protocol := TwistedRecorder(), ("/bin/true",))
    with pytest.raises(ProcessExitedAlready):
        while True:
            transport.signalProcess(0)
            await asyncio.sleep(0)
    return await ended(protocol)


async def closed_while_it_runs(start: Start) -> Any:
    transport = await start(protocol := TwistedRecorder(), ("/bin/cat",))
    transport.loseConnection()
    transport.loseConnection()
    return (await ended(protocol))[0]


async def closed_in_connection_made(start: Start) -> Any:
    protocol = TwistedRecorder()
    protocol.on["connectionMade"] = lambda: protocol.transport.loseConnection()  # type: ignore[union-attr]
    await start(protocol, ("/bin/cat",))
    return (await ended(protocol))[0]


async def written_and_closed_in_connection_made(start: Start) -> Any:
    protocol = TwistedRecorder()

    def write_and_close() -> None:
        transport: Any = protocol.transport
        transport.closeStdin()
        transport.write(b"what is written in the same turn is sent")

    protocol.on["connectionMade"] = write_and_close
    await start(protocol, ("/bin/cat",))
    return await ended(protocol)


async def each_pipe_is_closed_early(start: Start) -> Any:
    transport = await start(protocol := TwistedRecorder(), shell("echo; exec sleep 3600"))
    await protocol.until(lambda: bool(protocol.output[1]))
    for fd in 2, 1, 0:
        transport.closeChildFD(fd)
        await protocol.until(lambda: protocol.has(f"childConnectionLost {fd}"))
        transport.closeChildFD(fd)
    transport.closeChildFD(17)
    transport.write(b"nobody")
    with pytest.raises(KeyError) as caught:
        transport.writeToChild(0, b"nobody")
    with pytest.raises(KeyError):
        transport.writeToChild(17, b"nobody")
    transport.signalProcess("KILL")
    return caught.value.args, await ended(protocol)


async def a_child_that_closes_its_input(start: Start) -> Any:
    transport = await start(protocol := TwistedRecorder(), shell("exec 0<&-; echo closed; exec sleep 3600"))
    await protocol.until(lambda: protocol.has("childConnectionLost 0") and bool(protocol.output[1]))
    transport.write(b"nobody")
    transport.signalProcess("KILL")
    return await ended(protocol)


async def a_child_that_closes_its_output_and_lives_on(start: Start) -> Any:
    transport = await start(protocol := TwistedRecorder(), shell("echo out; exec 1>&- 2>&-; read line; exit 4"))
    await protocol.until(lambda: protocol.has("childConnectionLost 1") and protocol.has("childConnectionLost 2"))
    assert isinstance(transport.pid, int)
    transport.write(b"\n")
    return await ended(protocol)


async def input_that_nobody_reads(start: Start) -> Any:
    transport = await start(protocol := TwistedRecorder(), shell("head -c 1 >/dev/null"))
    transport.write(b"x" * 1_000_000)
    return await ended(protocol)


async def much_input_is_closed(start: Start) -> Any:
    transport = await start(protocol := TwistedRecorder(), shell("read line; exec cat"))
    transport.write(b"\n" + b"x" * 1_000_000)
    transport.closeStdin()
    return await ended(protocol)


async def a_grandchild_that_holds_the_pipe(start: Start) -> Any:
    command = "exec 3<&0; (read line <&3; echo late) & echo early; exec sleep 3600"
    transport = await start(protocol := TwistedRecorder(), shell(command))
    await protocol.until(lambda: bool(protocol.output[1]))
    transport.signalProcess("KILL")
    await protocol.until(lambda: protocol.has("processExited"))
    await settled()
    assert not protocol.has("processEnded")
    assert not protocol.has("childConnectionLost 1")
    transport.write(b"\n")
    return await ended(protocol)


async def paused_in_connection_made(start: Start) -> Any:
    protocol = TwistedRecorder()
    protocol.on["connectionMade"] = lambda: protocol.transport.pauseProducing()  # type: ignore[union-attr]
    transport = await start(protocol, shell("echo early; echo err >&2"))
    await protocol.until(lambda: protocol.has("processExited"))
    await settled()
    before = [call for call in protocol.calls if call != "childConnectionLost 0"]
    transport.resumeProducing()
    return before, await ended(protocol)


async def paused_in_data(start: Start) -> Any:
    """Nothing of the other pipe comes either, though it was there in the same moment."""
    protocol = TwistedRecorder()

    def pause() -> None:
        protocol.on.clear()
        protocol.transport.pauseProducing()  # type: ignore[union-attr]

    protocol.on["childDataReceived"] = pause
    transport = await start(protocol, shell("echo out; echo err >&2"))
    await protocol.until(lambda: protocol.has("processExited") and protocol.has("childDataReceived"))
    await settled()
    before = bool(protocol.output[1]) + bool(protocol.output[2])
    transport.resumeProducing()
    return before, await ended(protocol)


async def a_paused_child_is_closed(start: Start) -> Any:
    protocol = TwistedRecorder()
    protocol.on["connectionMade"] = lambda: protocol.transport.pauseProducing()  # type: ignore[union-attr]
    transport = await start(protocol, ("/usr/bin/head", "-c", "5000000", "/dev/zero"))
    await settled()
    transport.loseConnection()
    await protocol.until_ended()
    return sorted(protocol.calls), bytes(protocol.output[1])


class Pusher:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if not name.endswith("Producing"):
            raise AttributeError(name)
        return lambda: self.asked.append(name)


async def what_a_push_producer_is_asked(start: Start) -> Any:
    transport = await start(protocol := TwistedRecorder(), shell("read line; exec cat >/dev/null"))
    transport.registerProducer(producer := Pusher(), True)
    transport.write(b"\n")
    with pytest.raises(RuntimeError, match="was never unregistered"):
        transport.registerProducer(Pusher(), True)
    transport.signalProcess("STOP")
    transport.write(b"x" * 1_000_000)
    paused = list(producer.asked)
    transport.signalProcess(signal.SIGCONT)
    while "resumeProducing" not in producer.asked:
        await asyncio.sleep(0)
    transport.closeStdin()
    await settled()
    closed = protocol.has("childConnectionLost 0")
    transport.unregisterProducer()
    return paused, closed, producer.asked, await ended(protocol)


async def what_a_producer_is_asked_of_a_child_that_dies(start: Start) -> Any:
    transport = await start(protocol := TwistedRecorder(), ("/bin/cat",))
    transport.registerProducer(producer := Pusher(), True)
    transport.signalProcess("KILL")
    result = await ended(protocol)
    transport.unregisterProducer()
    transport.registerProducer(late := Pusher(), False)
    return producer.asked, late.asked, result


SCENARIOS: list[Callable[[Start], Awaitable[Any]]] = [
    output_errors_and_an_exit,
    input_and_output,
    a_child_that_dies_before_anything,
    a_child_that_kills_itself,
    *[functools.partial(killed_by, signal_id) for signal_id in ("HUP", "INT", "KILL", "TERM", 9, signal.SIGUSR1)],
    stopped_and_continued,
    what_is_no_signal,
    a_signal_in_process_exited,
    signalled_until_the_exit,
    closed_while_it_runs,
    closed_in_connection_made,
    written_and_closed_in_connection_made,
    each_pipe_is_closed_early,
    a_child_that_closes_its_input,
    a_child_that_closes_its_output_and_lives_on,
    input_that_nobody_reads,
    much_input_is_closed,
    a_grandchild_that_holds_the_pipe,
    paused_in_connection_made,
    paused_in_data,
    a_paused_child_is_closed,
    what_a_push_producer_is_asked,
    what_a_producer_is_asked_of_a_child_that_dies,
]


def name_of(scenario: Any) -> str:
    """Its name, and what it is about."""
    if isinstance(scenario, functools.partial):
        return f"{scenario.func.__name__}_{scenario.args[0]}"
    name: str = scenario.__name__
    return name


@functools.cache
def native(scenario: Callable[[Start], Awaitable[Any]]) -> Any:
    """What *scenario* returns for a child of a reactor's."""
    with disposable_reactor("epoll") as reactor:
        loop = ReactorEventLoop(reactor)
        try:
            run = Runner("reactor-first", reactor, loop)
            return run(lambda: asyncio.wait_for(scenario(by_reactor(reactor)), LIMIT_S))
        finally:
            loop.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=name_of)
def test_a_child_behaves_as_a_native_one(
    host: Any, perform: Perform, scenario: Callable[[Start], Awaitable[Any]]
) -> None:
    """The same calls, the same output, the same reason, whoever has started the child."""
    if is_uvloop(host) and scenario in (
        a_child_that_closes_its_input,
        a_child_that_closes_its_output_and_lives_on,
    ):
        pytest.skip("uvloop's children have a second descriptor of each pipe, of which they do not know: libuv#3716")
    if host is asyncio.SelectorEventLoop and scenario is signalled_until_the_exit and sys.version_info < (3, 13):
        pytest.skip("asyncio loses the return code of a child that it signals after its exit: cpython#87744")
    expected = native(scenario)

    async def main() -> None:
        assert await scenario(start) == expected

    perform(main)


# The whole way, and every fault on it


@implementer(IPushProducer)
class Pump(TwistedRecorder):
    """Writes to the child while it may, and pauses its output now and then, for a while."""

    def __init__(self, rest: bytes) -> None:
        super().__init__()
        self.rest = rest
        self.written = 0
        self.most_on_the_way = 0
        self.pauses = 0
        self.writes = self.reads = True
        self.pieces = 0

    def resumeProducing(self) -> None:
        self.writes = True
        transport: Any = self.transport
        while self.writes and self.rest:
            transport.write(self.rest[:20_000])
            self.written += len(self.rest[:20_000])
            self.rest = self.rest[20_000:]
            self.most_on_the_way = max(self.most_on_the_way, self.written - len(self.output[1]))
        if not self.rest:
            transport.unregisterProducer()
            transport.closeStdin()

    def pauseProducing(self) -> None:
        self.writes = False
        self.pauses += 1

    def stopProducing(self) -> None:
        raise AssertionError("the child has died")

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        assert self.reads
        super().childDataReceived(childFD, data)
        self.pieces += 1
        if self.pieces % 20 == 0:
            self.reads = False
            self.transport.pauseProducing()  # type: ignore[union-attr]
            asyncio.get_running_loop().call_later(0.001, self.read_on)

    def read_on(self) -> None:
        self.reads = True
        self.transport.resumeProducing()  # type: ignore[union-attr]


def test_megabytes_go_through_a_child_with_flow_control(perform: Perform) -> None:
    """Nothing is lost, and what is on the way is no more than the buffers of asyncio, the kernel and the child."""

    async def main() -> None:
        protocol = Pump(MEGABYTES)
        transport = await start(protocol, ("/bin/cat",))
        transport.registerProducer(protocol, True)
        protocol.resumeProducing()
        await protocol.until_ended()
        assert hashlib.sha256(protocol.output[1]).digest() == hashlib.sha256(MEGABYTES).digest()
        assert protocol.pauses
        assert protocol.most_on_the_way < len(MEGABYTES) // 3
        assert protocol.calls[-1] == "processEnded"

    perform(main)


def test_a_file_is_sent_by_a_pull_producer(perform: Perform) -> None:
    """Twisted's own, which ends by itself."""

    async def main() -> None:
        transport = await start(protocol := TwistedRecorder(), ("/bin/cat",))
        sent: Deferred[bytes] = FileSender().beginFileTransfer(io.BytesIO(MEGABYTES), transport)
        transport.closeStdin()
        assert await as_future(sent) == MEGABYTES[-1:]
        await protocol.until_ended()
        assert hashlib.sha256(protocol.output[1]).digest() == hashlib.sha256(MEGABYTES).digest()

    perform(main)


def test_a_file_for_a_child_that_dies_is_stopped(perform: Perform) -> None:
    """Twisted's own producer says so."""

    async def main() -> None:
        transport = await start(protocol := TwistedRecorder(), shell("head -c 1 >/dev/null"))
        sending = as_future(FileSender().beginFileTransfer(io.BytesIO(MEGABYTES), transport))
        with pytest.raises(Exception, match="Consumer asked us to stop producing"):
            await sending
        await protocol.until_ended()

    perform(main)


@implementer(IPullProducer)
class Late:
    """Writes some time after it was asked to, and twice."""

    def __init__(self, transport: Any, rest: int) -> None:
        self.transport = transport
        self.rest = rest
        self.asked = 0

    def resumeProducing(self) -> None:
        self.asked += 1
        asyncio.get_running_loop().call_later(0.001, self.write)

    def write(self) -> None:
        for _ in range(2):
            self.transport.write(b"x" * 1000)
        self.rest -= 1
        if not self.rest:
            self.transport.unregisterProducer()
            self.transport.closeStdin()

    def stopProducing(self) -> None:
        raise AssertionError("the child has died")


def test_a_pull_producer_may_take_its_time(perform: Perform) -> None:
    """It is asked once for each time that it has written."""

    async def main() -> None:
        transport = await start(protocol := TwistedRecorder(), ("/bin/cat",))
        producer = Late(transport, 20)
        transport.registerProducer(producer, False)
        await protocol.until_ended()
        assert len(protocol.output[1]) == 40_000
        assert producer.asked == 20

    perform(main)


def test_what_a_producer_raises_is_reported_and_ends_the_pipe(perform: Perform) -> None:
    """As on Twisted's transports, where it is logged."""

    @implementer(IPullProducer)
    class Broken:
        asked = 0

        def resumeProducing(self) -> None:
            self.asked += 1
            if self.asked == 2:
                raise Boom
            protocol.transport.write(b"x")  # type: ignore[union-attr]

        def stopProducing(self) -> None:
            raise Boom

    protocol = TwistedRecorder()

    async def main() -> None:
        seen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
        transport = await start(protocol, ("/bin/cat",))
        transport.registerProducer(Broken(), False)
        await protocol.until_ended()
        assert protocol.output[1] == b"x"
        assert protocol.reason.exitCode == 0
        assert [type(context["exception"]) for context in seen] == [Boom, Boom]
        assert {context["message"] for context in seen} == {"the producer of standard input failed"}

    perform(main)


def test_what_a_killed_child_has_written_is_delivered(perform: Perform) -> None:
    """It wrote megabytes; what fits into the pipe is all there, also for a reader that was paused meanwhile."""

    async def main() -> None:
        protocol = TwistedRecorder()
        protocol.on["connectionMade"] = lambda: protocol.transport.pauseProducing()  # type: ignore[union-attr]
        transport = await start(protocol, ("/usr/bin/head", "-c", "5000000", "/dev/zero"))
        while is_writing_freely(transport.pid):
            await asyncio.sleep(0)
        transport.signalProcess("KILL")
        await protocol.until(lambda: protocol.has("processExited"))
        await settled()
        assert not protocol.output[1]
        assert not protocol.has("childConnectionLost 1")
        transport.resumeProducing()
        await protocol.until_ended()
        assert len(protocol.output[1]) >= 65536
        assert protocol.reason.signal == signal.SIGKILL

    perform(main)


def over_before_anybody_looks() -> None:
    """Have the running loop do nothing, from its next round on, until the one child there is has ended."""

    def wait() -> None:
        for pid in children_of_this_process():
            # Before 3.12, asyncio's own waits for it in a thread.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    asyncio.get_running_loop().call_soon(wait)


@pytest.mark.parametrize("pipes", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2), ()], ids=str)
def test_a_child_that_is_over_before_its_protocol_hears_of_it(perform: Perform, pipes: tuple[int, ...]) -> None:
    """Everything is told, and in its order, which is not that of every loop."""

    async def main() -> None:
        over_before_anybody_looks()
        protocol = TwistedRecorder()
        streams = {
            name: subprocess.PIPE if fd in pipes else subprocess.DEVNULL
            for fd, name in enumerate(("stdin", "stdout", "stderr"))
        }
        await start(protocol, shell("echo out; echo err >&2; exit 3"), **streams)
        await protocol.until_ended()
        assert protocol.reason.exitCode == 3
        data = [f"childDataReceived {fd}" for fd in pipes if fd]
        ends = [f"childConnectionLost {fd}" for fd in pipes]
        assert sorted(protocol.calls[1:-1]) == sorted([*data, *ends, "processExited"])

    perform(main)


@pytest.mark.parametrize("then", ["resumeProducing", "loseConnection"])
def test_a_child_that_is_over_before_it_is_paused(perform: Perform, then: str) -> None:
    """Whether asyncio's transports have read already or not, nothing comes before it is resumed or closed."""

    async def main() -> None:
        over_before_anybody_looks()
        protocol = TwistedRecorder()
        protocol.on["connectionMade"] = lambda: protocol.transport.pauseProducing()  # type: ignore[union-attr]
        transport = await start(protocol, shell("echo out; echo err >&2; exit 3"))
        await protocol.until(lambda: protocol.has("processExited"))
        await settled()
        assert set(protocol.calls) <= {"connectionMade", "processExited", "childConnectionLost 0"}
        getattr(transport, then)()
        await protocol.until_ended()
        resumed = then == "resumeProducing"
        assert protocol.output == ({1: b"out\n", 2: b"err\n"} if resumed else {1: b"", 2: b""})
        assert {f"childConnectionLost {fd}" for fd in range(3)} <= set(protocol.calls)

    perform(main)


@pytest.mark.parametrize("callback", ["makeConnection", "childDataReceived", "resumeProducing"])
def test_system_exit_leaves_the_loop(callback: str) -> None:
    """Twisted's reactors would log it and go on."""
    protocol = TwistedRecorder()

    def leave() -> None:
        protocol.on.clear()
        protocol.look_again()
        raise SystemExit(callback)

    @implementer(IPullProducer)
    class Producer(Late):
        def resumeProducing(self) -> None:
            self.asked += 1
            if self.asked == 2:
                leave()
            self.transport.write(b"x")

        def stopProducing(self) -> None:
            pass

    protocol.on[{"makeConnection": "connectionMade"}.get(callback, callback)] = leave

    async def main() -> None:
        transport = await start(protocol, shell("echo; read line"))
        if callback == "resumeProducing":
            transport.registerProducer(Producer(transport, 0), False)
        while protocol.on:
            await asyncio.sleep(0)
        transport.write(b"\n")
        await protocol.until_ended()

    with contextlib.closing(asyncio.SelectorEventLoop()) as loop:
        task = loop.create_task(main())
        with pytest.raises(SystemExit, match=callback):
            loop.run_until_complete(task)
        loop.run_until_complete(asyncio.wait_for(task, LIMIT_S))


def test_a_producer_that_comes_after_the_end_is_stopped(perform: Perform) -> None:
    """Though what was written before has not gone out yet."""

    async def main() -> None:
        transport = await start(protocol := TwistedRecorder(), shell("exec sleep 3600"))
        transport.write(b"x" * 1_000_000)
        transport.closeStdin()
        await settled()
        transport.registerProducer(producer := Pusher(), True)
        assert producer.asked == ["stopProducing"]
        transport.signalProcess("KILL")
        await protocol.until_ended()

    perform(main)


CALLS = ("connectionMade", "childDataReceived", "childConnectionLost", "processExited", "processEnded")


async def a_callback_raises(callback: str, start: Start) -> Any:
    """The child goes on, but for the pipe whose data were not borne."""
    transport = await start(protocol := TwistedRecorder(raising=callback), ("/bin/cat",))
    transport.write(b"x")
    await protocol.until(lambda: bool(protocol.output[1]))
    if callback == "childDataReceived":
        await protocol.until(lambda: protocol.has("childConnectionLost 1"))
    transport.closeStdin()
    return await ended(protocol)


@pytest.mark.parametrize("callback", CALLS)
def test_what_a_callback_raises_is_reported_and_the_child_goes_on(
    perform: Perform, reports: Reports, callback: str
) -> None:
    """As with Twisted's children, but to the loop's exception handler, with everything there is to know."""
    scenario = functools.partial(a_callback_raises, callback)
    expected = native(scenario)
    reports.clear()

    async def main() -> None:
        seen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
        assert await scenario(start) == expected
        name = "makeConnection" if callback == "connectionMade" else callback
        assert {type(context["exception"]) for context in seen} == {Boom}
        assert {context["message"] for context in seen} == {f"protocol.{name}() failed"}
        assert all(isinstance(context["transport"].get_pid(), int) for context in seen)
        assert all(type(context["protocol"]) is _on_asyncio.AsyncioSubprocessProtocol for context in seen)

    perform(main)


def test_many_children_at_once_leave_nothing(perform: Perform) -> None:
    """None lost, no zombie, no descriptor."""

    async def one(number: int) -> None:
        transport = await start(protocol := TwistedRecorder(), shell(f"cat; echo {number}; exit {number}"))
        transport.write(b"x" * 1000)
        transport.closeStdin()
        await protocol.until_ended()
        assert protocol.output[1] == b"x" * 1000 + b"%d\n" % number
        assert protocol.reason.exitCode == number

    async def main() -> None:
        await asyncio.gather(*map(one, range(50)))
        assert not children_of_this_process()

    perform(main)


def test_callbacks_have_the_context_of_the_start(host: Any, perform: Perform) -> None:
    """As asyncio has it; Twisted's children have none."""
    places: set[str] = set()
    protocol = TwistedRecorder()
    # Before 3.12, asyncio itself hears of the exit in a thread, which has no context.
    exit_has_none = host is asyncio.SelectorEventLoop and sys.version_info < (3, 12)
    for callback in CALLS[:-2] if exit_has_none else CALLS:
        protocol.on[callback] = lambda: places.add(PLACE.get())

    async def main() -> None:
        PLACE.set("start")
        transport = await start(protocol, ("/bin/cat",))
        PLACE.set("afterwards")
        transport.write(b"x")
        await protocol.until(lambda: bool(protocol.output[1]))
        transport.signalProcess("KILL")
        await protocol.until_ended()

    perform(main)
    assert places == {"start"}


# What asyncio's children have besides


def test_a_child_by_the_shell(perform: Perform) -> None:
    """``subprocess_shell()`` takes the protocol as well."""

    async def main() -> None:
        adapter = as_asyncio_subprocess_protocol(protocol := TwistedRecorder())
        await asyncio.get_running_loop().subprocess_shell(lambda: adapter, "echo $0; exit 4")
        await protocol.until_ended()
        assert protocol.output[1] == b"/bin/sh\n"
        assert protocol.reason.exitCode == 4

    perform(main)


def test_errors_go_where_output_goes(perform: Perform) -> None:
    """Then there is no pipe for them."""

    async def main() -> None:
        transport = await start(
            protocol := TwistedRecorder(), shell("echo out; echo err >&2"), stderr=subprocess.STDOUT
        )
        transport.closeStderr()
        await protocol.until_ended()
        assert protocol.output == {1: b"out\nerr\n", 2: b""}
        assert not protocol.has("childConnectionLost 2")

    perform(main)


def test_no_pipes_at_all(perform: Perform) -> None:
    """The exit is the end; what is written is lost, and who produces it is stopped, as with Twisted's children."""

    async def main() -> None:
        transport = await start(protocol := TwistedRecorder(), shell("exit 2"), stdin=None, stdout=None, stderr=None)
        transport.write(b"nobody")
        transport.writeSequence([b"nobody"])
        with pytest.raises(KeyError):
            transport.writeToChild(0, b"nobody")
        transport.registerProducer(producer := Pusher(), True)
        transport.unregisterProducer()
        transport.pauseProducing()
        transport.resumeProducing()
        transport.loseConnection()
        await protocol.until_ended()
        assert producer.asked == ["stopProducing"]
        assert protocol.calls == ["connectionMade", "processExited", "processEnded"]

    perform(main)


# On a pseudo-terminal


def test_a_child_on_a_terminal(host: Any, perform: Perform) -> None:
    """`txasync.spawn_pty` takes the protocol as well: the child echoes, has a window, and ^D is the end of input."""

    async def main() -> None:
        protocol = TwistedRecorder()
        spawned, _ = await spawn_pty(
            lambda: as_asyncio_subprocess_protocol(protocol), *shell("stty size; exec cat"), rows=30, columns=100
        )
        transport: Any = protocol.transport
        await protocol.until(lambda: protocol.output[1] == b"30 100\r\n")
        transport.write(b"hello\n")
        await protocol.until(lambda: protocol.output[1] == b"30 100\r\nhello\r\nhello\r\n")
        assert spawned.get_window_size() == (30, 100)
        transport.write(b"\x04")
        await protocol.until_ended()
        assert protocol.reason.exitCode == 0
        assert protocol.has("childConnectionLost 1")

    if is_uvloop(host):
        pytest.skip("uvloop's children have no session yet when they could take the terminal")
    perform(main)


def test_job_control_on_a_terminal(host: Any, perform: Perform) -> None:
    """^C interrupts."""

    async def main() -> None:
        protocol = TwistedRecorder()
        await spawn_pty(lambda: as_asyncio_subprocess_protocol(protocol), *shell("echo ready; exec sleep 3600"))
        await protocol.until(lambda: b"ready" in protocol.output[1])
        protocol.transport.write(b"\x03")  # type: ignore[union-attr]
        await protocol.until_ended()
        assert protocol.reason.signal == signal.SIGINT

    if is_uvloop(host):
        pytest.skip("uvloop's children have no session yet when they could take the terminal")
    perform(main)


# The edges


@pytest.mark.parametrize("nonsense", [None, 1, asyncio.SubprocessProtocol(), ProcessProtocol])
def test_what_is_no_process_protocol_is_refused(nonsense: Any) -> None:
    """Before any child is started, and with what it was."""
    with pytest.raises(TypeError, match="takes an IProcessProtocol of Twisted's, got"):
        as_asyncio_subprocess_protocol(nonsense)


def test_protocols_and_information(perform: Perform) -> None:
    """What there is to know of a transport, and what there is not, as with Twisted's children."""

    async def main() -> None:
        protocol = TwistedRecorder()
        adapter = as_asyncio_subprocess_protocol(protocol)
        assert isinstance(adapter, asyncio.SubprocessProtocol)
        assert adapter.protocol is protocol
        transport, _ = await asyncio.get_running_loop().subprocess_exec(lambda: adapter, "/bin/cat")
        itransport: Any = protocol.transport
        for interface in IProcessTransport, IConsumer:
            verifyObject(interface, itransport)
        assert itransport.proto is protocol
        assert itransport.pid == transport.get_pid()
        assert itransport.status == -1
        assert repr(itransport).startswith(f"<TwistedProcessTransport pid={itransport.pid} status=-1 over <")
        for ask in itransport.getPeer, itransport.getHost:
            with pytest.raises(NotImplementedError):
                ask()
        with pytest.raises(TypeError, match="write bytes, got str"):
            itransport.write("text")
        itransport.signalProcess("TERM")
        await protocol.until_ended()
        assert transport.is_closing()
        assert repr(itransport).startswith("<TwistedProcessTransport pid=None status=15 over <")

    perform(main)


PROGRAM = """
import asyncio, sys
from twisted.internet.protocol import ProcessProtocol
from txasync.adapters import as_asyncio_subprocess_protocol

class Cat(ProcessProtocol):
    output = b""

    def connectionMade(self):
        self.transport.write(b"hello")
        self.transport.closeStdin()

    def outReceived(self, data):
        self.output += data

    def processEnded(self, reason):
        ended.set_result((self.output, reason.value.exitCode))

async def main():
    global ended
    ended = asyncio.get_running_loop().create_future()
    await asyncio.get_running_loop().subprocess_exec(lambda: as_asyncio_subprocess_protocol(Cat()), "/bin/cat")
    print(await ended)

loop = {loop}
if sys.version_info < (3, 12):
    asyncio.set_event_loop(loop)
loop.run_until_complete(main())
loop.close()
print("twisted.internet.reactor" in sys.modules)
"""


@pytest.mark.parametrize("loop", ["asyncio.SelectorEventLoop()", "__import__('uvloop').new_event_loop()"])
def test_no_reactor_is_imported(loop: str) -> None:
    """A program of asyncio's stays one."""
    if "uvloop" in loop:
        pytest.importorskip("uvloop", reason="uvloop is not installed: the test extra has it")
    program = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM).format(loop=loop)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (program.stdout, program.stderr) == ("(b'hello', 0)\nFalse\n", "")
