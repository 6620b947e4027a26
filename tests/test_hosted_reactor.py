"""Where a loop of others runs, install() puts a reactor on it: it works, it stops, and it ends with its host."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from textwrap import dedent, indent

import pytest

from .test_running import in_child

HOSTS = {
    "asyncio.run": "asyncio.run(main())",
    "Runner": "with asyncio.Runner() as runner: runner.run(main())",
    "uvloop.run": "__import__('uvloop').run(main())",
    "thread": "thread = threading.Thread(target=lambda: asyncio.run(main())); thread.start(); thread.join()",
}

PROLOGUE = """
import asyncio, contextlib, gc, os, signal, sys, threading
import txasync

def watch_shutdown():
    from twisted.internet import reactor, task
    before = lambda: task.deferLater(reactor, 0.01, print, "before")
    reactor.addSystemEventTrigger("before", "shutdown", before)
    reactor.addSystemEventTrigger("during", "shutdown", print, "during")
    reactor.addSystemEventTrigger("after", "shutdown", print, "after")

"""


def host_called(name: str) -> str:
    """The statement that runs ``main()`` on such a host."""
    if name == "uvloop.run" and importlib.util.find_spec("uvloop") is None:
        pytest.skip("uvloop is not installed: the test extra has it")
    if name == "Runner" and sys.version_info < (3, 11):
        pytest.skip("asyncio.Runner is new in 3.11")
    return HOSTS[name]


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    """Each way in which a program or a library runs a loop."""
    return host_called(request.param)


@pytest.fixture(params=["asyncio.run", "uvloop.run"])
def main_host(request: pytest.FixtureRequest) -> str:
    """asyncio's own loop, and another one."""
    return host_called(request.param)


def on_host(main: str, host: str = HOSTS["asyncio.run"], epilogue: str = "", exit_code: int = 0) -> list[str]:
    """Run *main*, the body of ``async def main()``, on *host* in a process of its own; the lines that it printed."""
    body = indent(dedent(main), "    ")
    program = f"{PROLOGUE}\nasync def main():\n{body}\n{host}\n{dedent(epilogue)}"
    # uvloop itself uses deprecated names of asyncio's on new Pythons.
    warnings = "ignore::DeprecationWarning" if "uvloop" in host else "error"
    return in_child(program, warnings=warnings, exit_code=exit_code).splitlines()


# What works


def test_both_worlds_work(host: str) -> None:
    """Names, threads and children, of either side, in the tasks of the host."""
    printed = on_host(
        """
        loop = txasync.install()
        assert loop is asyncio.get_running_loop() is txasync.install() is txasync.get_event_loop()
        from twisted.internet import reactor
        from twisted.internet.threads import deferToThread
        from twisted.internet.utils import getProcessValue
        from twisted.python import threadable
        assert reactor.running and threadable.isInIOThread()
        assert await txasync.as_future(reactor.resolve("localhost")) == "127.0.0.1"  # this task was there before

        async def task():
            assert await deferToThread(threading.current_thread) is not threading.current_thread()
            # Such a child is not heard of by its pipes.
            quiet = "exec >&- 2>&- <&-; sleep 0.05; exit "
            theirs = [getProcessValue("/bin/sh", ["-c", quiet + str(code)]) for code in (3, 4)]
            process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "sleep 0.05; exit 5")
            return [*[await child for child in theirs], await process.wait()]

        print(await asyncio.wait_for(asyncio.create_task(task()), 30))
        """,
        host,
    )
    assert printed == ["[3, 4, 5]"]


def test_twisteds_servers_and_clients_work_beside_asyncios(main_host: str) -> None:
    """Twisted's web server and client, and aiohttp's, on one loop; and the adapters' endpoints by their names."""
    pytest.importorskip("treq", reason="treq is not installed: the test extra has it")
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: the test extra has it")
    printed = on_host(
        """
        txasync.install()
        import aiohttp, treq
        from twisted.internet import reactor
        from twisted.web.client import Agent
        from twisted.web.resource import Resource
        from twisted.web.server import Site

        class Page(Resource):
            isLeaf = True
            def render_GET(self, request):
                return b"from twisted.web"

        async def echo(reader, writer):
            writer.write(await reader.readline())
            writer.close()

        async def task():
            port = reactor.listenTCP(0, Site(Page()), interface="127.0.0.1")
            url = f"http://localhost:{port.getHost().port}/"
            response = await Agent(reactor).request(b"GET", url.encode())
            print(await treq.text_content(response))
            print(await treq.content(await treq.get(url, persistent=False)) == b"from twisted.web")
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                print(await response.text())
            server = await txasync.start_server(echo, "tcp:0:interface=127.0.0.1")
            number = server.sockets[0].getsockname()[1]
            reader, writer = await txasync.open_connection(f"tcp:localhost:{number}")
            writer.write(b"by endpoints\\n")
            print((await reader.readline()).decode(), end="")
            writer.close()
            server.close()
            await server.wait_closed()
            await port.stopListening()

        await asyncio.wait_for(asyncio.create_task(task()), 30)
        """,
        main_host,
    )
    assert printed == ["from twisted.web", "True", "from twisted.web", "by endpoints"]


def test_coroutines_of_twisteds_work(main_host: str) -> None:
    """``deferred_coroutine`` and ``as_deferred`` make tasks of the host; a thread reaches them."""
    printed = on_host(
        """
        txasync.install()
        from twisted.internet import reactor
        from twisted.internet.task import LoopingCall, deferLater
        from twisted.internet.threads import deferToThread

        calls = []
        @txasync.deferred_coroutine
        async def tick():
            await asyncio.sleep(0)
            calls.append(await deferLater(reactor, 0, lambda: "tick"))
            if len(calls) == 3:
                looping.stop()

        def in_thread():
            async def both():
                return await asyncio.sleep(0, await deferLater(reactor, 0, lambda: "in the reactor's thread"))
            return txasync.run_in_reactor_thread(both).result(20)

        looping = LoopingCall(tick)
        await asyncio.wait_for(txasync.as_future(looping.start(0.001)), 20)
        print(*calls)
        print(await asyncio.wait_for(txasync.as_future(deferToThread(in_thread)), 20))
        """,
        main_host,
    )
    assert printed == ["tick tick tick", "in the reactor's thread"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_eager_tasks_stay_eager() -> None:
    """Those of ``asyncio.eager_task_factory`` become ours, and the host has its own back at the reactor's end."""
    printed = on_host(
        """
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        txasync.install()
        from twisted.internet import reactor
        from twisted.internet.task import deferLater
        async def task():
            print("at once")
            return await deferLater(reactor, 0, lambda: "deferred")
        started = asyncio.create_task(task())
        print("after it")
        print(await started)
        ended = asyncio.Event()
        reactor.addSystemEventTrigger("after", "shutdown", ended.set)
        reactor.stop()
        await ended.wait()
        assert loop.get_task_factory() is asyncio.eager_task_factory
        """
    )
    assert printed == ["at once", "after it", "deferred"]


def test_a_task_factory_of_the_hosts_own_is_left_alone() -> None:
    """It may do anything; ``as_future`` works in its tasks."""
    on_host(
        """
        loop = asyncio.get_running_loop()
        def factory(loop, coro, **kwargs):
            return asyncio.Task(coro, loop=loop, **kwargs)
        loop.set_task_factory(factory)
        txasync.install()
        assert loop.get_task_factory() is factory
        from twisted.internet import reactor
        from twisted.internet.task import deferLater
        async def task():
            return await txasync.as_future(deferLater(reactor, 0, lambda: "deferred"))
        assert await asyncio.create_task(task()) == "deferred"
        """
    )


# Children


def test_children_are_heard_of_where_the_kernel_has_no_descriptors_for_them(main_host: str) -> None:
    """They are looked for now and then."""
    printed = on_host(
        """
        if hasattr(os, "pidfd_open"):
            del os.pidfd_open
        txasync.install()
        from twisted.internet.utils import getProcessValue
        for code in 3, 4:
            child = getProcessValue("/bin/sh", ["-c", f"exec >&- 2>&- <&-; sleep 0.05; exit {code}"])
            print(await asyncio.wait_for(txasync.as_future(child), 30))
        """,
        main_host,
    )
    assert printed == ["3", "4"]


def test_children_whose_pipes_end_before_or_after_them(main_host: str) -> None:
    """Either way each is reaped once, and nothing goes wrong about the other."""
    printed = on_host(
        """
        txasync.install()
        from twisted.internet.utils import getProcessValue
        scripts = ["exit 3", "exec >&- 2>&- <&-; exit 4", "exec >&- 2>&- <&-; sleep 0.02; exit 5", "exit 6"]
        async def task():
            for _ in range(8):
                children = [getProcessValue("/bin/sh", ["-c", script]) for script in scripts]
                assert [await child for child in children] == [3, 4, 5, 6]
        await asyncio.wait_for(asyncio.create_task(task()), 50)
        """,
        main_host,
    )
    assert not printed, printed


def test_a_child_on_a_terminal_that_ends_at_once_and_one_that_outlives_the_reactor() -> None:
    """The one is heard of; the other is left alone, and no descriptor is left for it."""
    printed = on_host(
        """
        import twisted.internet.asyncioreactor  # brings ctypes, and some versions of libffi keep a file open
        before = len(os.listdir("/proc/self/fd"))
        txasync.install()
        from twisted.internet import reactor
        from twisted.internet.defer import Deferred
        from twisted.internet.protocol import ProcessProtocol
        class Child(ProcessProtocol):
            def __init__(self):
                self.ended = Deferred()
            def processEnded(self, reason):
                self.ended.callback(reason.value.exitCode)
        child = Child()
        reactor.spawnProcess(child, "/bin/sh", ["sh", "-c", "exit 6"], usePTY=True)
        print(await asyncio.wait_for(txasync.as_future(child.ended), 30))
        outliving = reactor.spawnProcess(Child(), "/bin/sleep", ["sleep", "600"])
        ended = asyncio.Event()
        reactor.addSystemEventTrigger("after", "shutdown", ended.set)
        reactor.stop()
        await ended.wait()
        os.kill(outliving.pid, signal.SIGKILL)
        os.waitpid(outliving.pid, 0)
        print(len(os.listdir("/proc/self/fd")) - before)
        """
    )
    assert printed == ["6", "0"]


# The end


def test_the_reactor_is_shut_down_at_the_end_of_its_host(host: str) -> None:
    """All of its triggers are called while the loop works, and their Deferreds awaited."""
    printed = on_host(
        """
        txasync.install()
        watch_shutdown()
        from twisted.internet import reactor
        from twisted.internet.protocol import DatagramProtocol
        from twisted.internet.threads import deferToThread
        reactor.callLater(3600, print)
        reactor.listenUDP(0, DatagramProtocol(), interface="127.0.0.1")
        reactor.addSystemEventTrigger("before", "shutdown", deferToThread, print, "in a thread")
        reactor.callInThread(os.getpid)
        print("main")
        """,
        host,
        """
        gc.collect()
        from twisted.internet import reactor
        assert not reactor.running and not reactor.getReaders() and not reactor.getDelayedCalls()
        assert threading.active_count() == 1
        print("end")
        """,
    )
    assert printed[0] == "main"
    assert set(printed[1:3]) == {"in a thread", "before"}
    assert printed[3:] == ["during", "after", "end"]


def test_an_exception_in_main_passes_through() -> None:
    """The reactor is shut down, and whoever runs the host gets it."""
    printed = on_host(
        """
        txasync.install()
        watch_shutdown()
        raise LookupError("mine")
        """,
        "with contextlib.suppress(LookupError): asyncio.run(main())",
        "print('end')",
    )
    assert printed == ["before", "during", "after", "end"]


def test_ctrl_c_is_the_hosts() -> None:
    """It cancels the main task, as always under ``asyncio.run``, and the reactor is shut down after that."""
    printed = on_host(
        """
        txasync.install()
        watch_shutdown()
        press = threading.Thread(target=os.kill, args=[os.getpid(), signal.SIGINT])
        asyncio.get_running_loop().call_soon(press.start)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("cancelled")
            raise
        """,
        "with contextlib.suppress(KeyboardInterrupt): asyncio.run(main())",
        "print('end')",
    )
    assert printed == ["cancelled", "before", "during", "after", "end"]


def test_stop_stops_the_reactor_and_not_the_host(main_host: str) -> None:
    """After it nothing is left of the reactor on the loop, and it is for ever, which every way in says."""
    printed = on_host(
        """
        loop = txasync.install()
        watch_shutdown()
        from twisted.internet import reactor
        from twisted.internet.error import ReactorNotRestartable
        from twisted.internet.protocol import DatagramProtocol
        reactor.listenUDP(0, DatagramProtocol(), interface="127.0.0.1")
        never = [reactor.callLater(3600, print, "never"), reactor.callLater(0.2, print, "never")]
        ended = asyncio.Event()
        reactor.addSystemEventTrigger("after", "shutdown", ended.set)
        reactor.stop()
        assert txasync.install() is loop  # it is still there for the triggers
        await ended.wait()
        await asyncio.sleep(0)
        assert not reactor.running and not reactor.getReaders() and not reactor.getDelayedCalls()
        assert not any(call.active() for call in never)
        assert loop.get_task_factory() is None
        reactor.callLater(0, print, "never")
        reactor.callFromThread(print, "never")
        await asyncio.sleep(0.01)
        for use, error, said in [
            (txasync.install, RuntimeError, "restart the kernel"),
            (txasync.new_event_loop, RuntimeError, "private=True"),
            (reactor.run, ReactorNotRestartable, "for ever"),
            (reactor.getThreadPool, RuntimeError, "starts no threads"),
        ]:
            try:
                use()
            except error as caught:
                assert said in str(caught), caught
            else:
                raise AssertionError(use)
        print("main")
        """,
        main_host,
    )
    assert printed == ["before", "during", "after", "main"]


def test_crash_leaves_it_restartable() -> None:
    """As on every reactor; the host goes on, and ``install()`` starts it again."""
    printed = on_host(
        """
        loop = txasync.install()
        watch_shutdown()
        from twisted.internet import reactor
        reactor.crash()
        await asyncio.sleep(0)
        assert not reactor.running
        assert txasync.install() is loop
        assert reactor.running
        reactor.crash()
        """,
        epilogue="print('end')",
    )
    assert printed == ["before", "during", "after", "end"]


def test_it_cannot_be_run_or_iterated() -> None:
    """Its host is run by others; the errors say what to do instead, and the host is not stopped by them."""
    on_host(
        """
        txasync.install()
        from twisted.internet import reactor
        from twisted.internet.error import ReactorAlreadyRunning
        async def another():
            pass
        for use, error, said in [
            (reactor.run, ReactorAlreadyRunning, "leave out reactor.run()"),
            (reactor.iterate, RuntimeError, "cannot be iterated"),
            (txasync.new_event_loop, RuntimeError, "txasync.install() gives you a loop"),
            (lambda: txasync.run(another()), RuntimeError, "await the coroutine"),
        ]:
            try:
                use()
            except error as caught:
                assert said in str(caught), caught
            else:
                raise AssertionError(use)
        await asyncio.sleep(0.05)
        """
    )


# Hosts that end without a word


BARE = """
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
"""
# The interpreter calls what was registered last first: the loop is open when the reactor's turn comes.
LEFT_OPEN = """
import atexit
loop = asyncio.new_event_loop()
atexit.register(loop.close)
loop.run_until_complete(main())
"""


def test_a_host_that_is_just_closed() -> None:
    """At exit, the triggers are called; what they wait for cannot come any more. A job in a thread is finished."""
    printed = on_host(
        """
        txasync.install()
        watch_shutdown()
        from twisted.internet import reactor
        from twisted.internet.protocol import DatagramProtocol
        reactor.listenUDP(0, DatagramProtocol(), interface="127.0.0.1")
        started, closed = threading.Event(), threading.Event()
        def job():
            started.set()
            closed.wait(30)
            reactor.callFromThread(print, "never")
            print("job")
        reactor.callInThread(job)
        started.wait(30)
        globals().update(closed=closed)
        """,
        BARE + "loop.close()\n",
        """
        try:
            txasync.install()
        except RuntimeError as error:
            assert "ended with its loop" in str(error), error
        try:
            txasync.get_event_loop()
        except RuntimeError as error:
            assert "has no asyncio loop" in str(error), error
        print("end")
        closed.set()
        """,
    )
    assert set(printed[:2]) == {"job", "end"}
    assert printed[2:] == ["during", "after"]


def test_a_host_that_is_left_open() -> None:
    """At exit it is run once more, for the triggers; a job in a thread is finished."""
    printed = on_host(
        """
        txasync.install()
        watch_shutdown()
        from twisted.internet import reactor
        reactor.callInThread(os.getpid)
        """,
        LEFT_OPEN,
        "print('end')",
    )
    assert printed == ["end", "before", "during", "after"]


def test_a_host_that_runs_in_a_daemonic_thread_until_the_process_ends() -> None:
    """The reactor is shut down there, and the process does not wait for the loop."""
    printed = on_host(
        """
        txasync.install()
        watch_shutdown()
        from twisted.internet import reactor
        reactor.callInThread(os.getpid)
        ready.set()
        await asyncio.sleep(3600)
        """,
        """
ready = threading.Event()
threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
ready.wait(30)
""",
        "print('end')",
    )
    assert printed == ["end", "before", "during", "after"]


def test_an_exit_does_not_wait_for_ever() -> None:
    """A job that waits for a reactor whose loop is closed, and a trigger that never fires, are given up in time."""
    stuck = on_host(
        """
        import txasync._hosted_reactor
        txasync._hosted_reactor.EXIT_TIMEOUT_S = 0.1
        txasync.install()
        from twisted.internet import reactor
        from twisted.internet.threads import blockingCallFromThread
        started = threading.Event()
        def job():
            started.set()
            threading.Event().wait()
        reactor.callInThread(job)
        started.wait(30)
        """,
        BARE + "loop.close()\n",
        "print('end')",
    )
    assert stuck[0] == "end"
    waiting = on_host(
        """
        import txasync._host_end
        txasync._host_end.EXIT_TIMEOUT_S = 0.1
        txasync.install()
        from twisted.internet import reactor
        from twisted.internet.defer import Deferred
        reactor.addSystemEventTrigger("before", "shutdown", Deferred)
        reactor.addSystemEventTrigger("after", "shutdown", print, "after")
        """,
        LEFT_OPEN,
        "print('end')",
    )
    assert waiting[:2] == ["end", "after"]
    assert "shutdown triggers were not done 0.1 s after" in waiting[2]


def test_the_exit_of_a_forked_child_leaves_the_parents_reactor_alone() -> None:
    """It has a copy of everything, but the loop's descriptors are shared."""
    printed = on_host(
        """
        txasync.install()
        watch_shutdown()
        from twisted.internet import reactor
        from twisted.internet.task import deferLater
        """,
        BARE,
        """
        import warnings
        warnings.simplefilter("ignore")
        sys.stdout.flush()
        child = os.fork()
        if not child:
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        """,
    )
    assert printed == ["7", "before", "during", "after"]


# Interactive


def test_the_repl_of_asyncio() -> None:
    """``python -m asyncio``: one statement installs, the next awaits a Deferred, and the end of input is the end."""
    statements = """
        import txasync
        _ = txasync.install()
        from twisted.internet import reactor, task, threads
        _ = reactor.addSystemEventTrigger("before", "shutdown", print, "before")
        _ = reactor.addSystemEventTrigger("after", "shutdown", print, "after")
        await task.deferLater(reactor, 0.01, lambda: 6 * 7)
        await threads.deferToThread(lambda: "in a thread")
    """
    repl = subprocess.run(
        [sys.executable, "-m", "asyncio"],
        input=dedent(statements).lstrip(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = [line for line in repl.stdout.replace(">>> ", "").splitlines() if line]
    assert lines == ["42", "'in a thread'", "before", "after"], repl.stderr
    assert repl.returncode == 0
    assert "Traceback" not in repl.stderr


# The wrong reactor


def test_another_reactor_that_was_installed_before() -> None:
    """It can never run here; the error says so, and what to do."""
    printed = on_host(
        """
        from twisted.internet import reactor
        try:
            txasync.install()
        except RuntimeError as error:
            print(error)
        """
    )
    assert "does not run, and cannot run in this thread" in printed[0]
    assert "before anything imports twisted.internet.reactor" in printed[0]


def test_an_asyncio_reactor_on_another_loop() -> None:
    """It belongs to that; so does one of ours whose host is gone."""
    printed = on_host(
        """
        try:
            txasync.install()
        except RuntimeError as error:
            print(error)
        """,
        """
from twisted.internet import asyncioreactor
asyncioreactor.install(other := asyncio.new_event_loop())
asyncio.run(main())
other.close()
asyncio.run(main())
""",
    )
    assert "call txasync.install() on the loop that runs" in printed[0]
    assert "ended with its loop" in printed[1]


def test_a_second_run_of_the_host() -> None:
    """The process's reactor has ended with the first; the error names what works instead, and that does work."""
    printed = on_host(
        """
        try:
            txasync.install()
        except RuntimeError as error:
            print(error)
        """,
        "asyncio.run(main()); asyncio.run(main())",
        """
        loop = txasync.new_event_loop(private=True)
        print(loop.run_until_complete(asyncio.sleep(0, "slept")))
        loop.close()
        """,
    )
    assert "ended with its loop" in printed[0]
    assert "txasync.new_event_loop(private=True)" in printed[0]
    assert printed[1:] == ["slept"]


def test_a_reactor_that_is_in_another_thread() -> None:
    """Each thread has its own loop, and the process one reactor."""
    printed = on_host(
        """
        loop = txasync.install()
        async def elsewhere():
            try:
                txasync.install()
            except RuntimeError as error:
                print(error)
        await loop.run_in_executor(None, lambda: asyncio.run(elsewhere()))
        """
    )
    assert "in another thread than the one in which" in printed[0]
    assert "new_event_loop(private=True)" in printed[0]


def test_a_private_loop_that_runs_is_not_a_host() -> None:
    """It has a reactor already, which is not the process's."""
    printed = on_host(
        """
        try:
            txasync.install()
        except RuntimeError as error:
            print(error)
        loop = asyncio.get_running_loop()
        assert txasync.install(loop.reactor) is loop
        """,
        "loop = txasync.new_event_loop(private=True); loop.run_until_complete(main()); loop.close()",
    )
    assert "private reactor" in printed[0]
