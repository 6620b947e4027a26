"""``twistd txasync``, installed, as processes that are started, talked to, signalled, and read the log of."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..line_process import state_of
from .twistd_process import LIMIT_S, TwistdProcess, environment, run_to_end

REACTORS = ("txasync", "epoll", "select")
CLASSES = {
    "txasync": "txasync.reactor.SharedEPollReactor",
    "epoll": "twisted.internet.epollreactor.EPollReactor",
    "poll": "twisted.internet.pollreactor.PollReactor",
    "select": "twisted.internet.selectreactor.SelectReactor",
}
NOBODY = 65534

PROGRAM = """
import asyncio, logging, os, sys, threading

async def short():
    print("running on", type(asyncio.get_running_loop()).__name__, sys.argv, flush=True)
    await asyncio.sleep(0.01)

async def seven():
    return 7

async def leaving():
    raise SystemExit(3)

async def complaining():
    raise SystemExit("no configuration")

async def something():
    return ["not", "a", "code"]

async def failing():
    raise LookupError("from the task")

async def cancelled():
    raise asyncio.CancelledError

async def stopping():
    from twisted.internet import reactor
    reactor.stop()
    await asyncio.sleep(3600)

def plain():
    return "no coroutine"

value = 1

async def forever():
    print("waiting", flush=True)
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.01)
        print("cleaned up", flush=True)

async def stubborn():
    print("waiting", flush=True)
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            print("cancelled", flush=True)

async def with_a_task():
    async def work():
        print("working", flush=True)
        await asyncio.sleep(0.3)
        print("worked", flush=True)
    task = asyncio.create_task(work())
    await asyncio.sleep(3600)

async def handling_signals():
    import signal
    loop = asyncio.get_running_loop()
    for signum in signal.SIGTERM, signal.SIGINT:
        loop.add_signal_handler(signum, print, "not yet")
        loop.remove_signal_handler(signum)
    await forever()

async def logging_things():
    logging.getLogger("a.b").info("an {unusual} message with %s", "arguments")
    try:
        1 / 0
    except ZeroDivisionError:
        logging.getLogger("a.b").exception("it %s", "failed")
    logging.getLogger("a.b").debug("details")
    asyncio.get_running_loop().call_soon(lambda: [][1])
    await asyncio.sleep(0.01)

class Upper(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data.upper())

def make_upper():
    return Upper()

async def lines(reader, writer):
    while line := await reader.readline():
        print("got", line, flush=True)
        await asyncio.sleep(0.1)
        writer.write(line.upper())
        await writer.drain()
    writer.close()

async def slow_lines(reader, writer):
    await reader.readline()
    print("asked", flush=True)
    await asyncio.sleep(3600)

async def daemon():
    process = await asyncio.create_subprocess_exec("true")
    code = await process.wait()
    resolved = await asyncio.get_running_loop().getaddrinfo("localhost", 1)
    print("child", code, "resolved", bool(resolved), "uid", os.getuid(), "gid", os.getgid(), flush=True)
    open("made", "w").close()
    await forever()

async def who():
    print("uid", os.getuid(), "gid", os.getgid(), flush=True)
    await forever()

from twisted.internet.protocol import Factory
factory = Factory()
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with the user's module, in which twistd is started."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "broken.py").write_text("import sys\n\nundefined_name\n")
    return tmp_path


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as connection:
        yield connection


def until_refused(port: int) -> None:
    """Connect until nobody listens any more: Twisted says that a port is closed just before it is."""
    deadline = time.monotonic() + LIMIT_S
    with pytest.raises(ConnectionRefusedError):
        while time.monotonic() < deadline:
            socket.create_connection(("127.0.0.1", port)).close()


def listen(protocol: str, *more: str) -> list[str]:
    """Options that let *protocol* listen on a free port."""
    return ["txasync", "--listen", "tcp:0:interface=127.0.0.1", "--protocol", protocol, *more]


# --run


@pytest.mark.parametrize("reactor", CLASSES)
def test_the_end_of_the_function_stops_the_process(installed: Path, place: Path, reactor: str) -> None:
    """On each reactor that twistd can be told to use; what follows ``--`` is the function's command line."""
    command = ["--reactor", reactor, "txasync", "--run", "program:short", "--", "--one", "two"]
    ended = run_to_end(installed, place, command)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "running on ReactorEventLoop ['program:short', '--one', 'two']" in ended.stdout
    assert f"reactor class: {CLASSES[reactor]}." in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


def test_it_runs_on_the_reactor_that_is_asyncios(installed: Path, place: Path) -> None:
    """There, the loop is the one that the reactor stands on."""
    ended = run_to_end(installed, place, ["--reactor", "asyncio", "txasync", "--run", "program:short"])
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "running on _UnixSelectorEventLoop" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("function", "code", "said"),
    [
        ("seven", 7, ""),
        ("leaving", 3, ""),
        ("complaining", 1, "no configuration"),
        ("something", 0, ""),
        ("stopping", 0, ""),
    ],
)
def test_the_function_decides_about_the_exit_code(
    installed: Path, place: Path, function: str, code: int, said: str
) -> None:
    """By an integer that it returns, or by SystemExit."""
    ended = run_to_end(installed, place, ["txasync", "--run", f"program:{function}"])
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert said in ended.stdout
    assert "Server Shut Down." in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("failing", "LookupError: from the task"),
        ("cancelled", "CancelledError"),
        ("plain", "TypeError: 'program:plain' is to be an async def function; it has returned 'no coroutine'"),
    ],
)
def test_a_failure_is_in_the_log_and_in_the_exit_code(installed: Path, place: Path, function: str, error: str) -> None:
    """With its traceback, once."""
    ended = run_to_end(installed, place, ["txasync", "--run", f"program:{function}"])
    assert ended.returncode == 1
    assert ended.stdout.count(error) == 1, ended.stdout
    assert "Server Shut Down." in ended.stdout


# Signals


@pytest.mark.parametrize(
    ("reactor", "signum"), [("epoll", signal.SIGTERM), ("poll", signal.SIGINT), ("select", signal.SIGTERM)]
)
def test_a_signal_cancels_the_function_and_awaits_it(installed: Path, place: Path, reactor: str, signum: int) -> None:
    """And twistd ends by that signal, as it always does."""
    with TwistdProcess(installed, place, ["--reactor", reactor, "txasync", "--run", "program:forever"]) as twistd:
        twistd.says("waiting")
        twistd.send(signum)
        twistd.says("cleaned up")
        assert twistd.end() == -signum
        assert "Server Shut Down." in twistd.text
        assert "Traceback" not in twistd.text


def test_signals_are_twistds_after_the_program_has_used_them(installed: Path, place: Path) -> None:
    """``remove_signal_handler()`` gives them back."""
    with TwistdProcess(installed, place, ["txasync", "--run", "program:handling_signals"]) as twistd:
        twistd.says("waiting")
        twistd.send(signal.SIGTERM)
        twistd.says("cleaned up")
        assert twistd.end() == -signal.SIGTERM
        assert "not yet" not in twistd.text


def test_tasks_that_run_are_waited_for(installed: Path, place: Path) -> None:
    """Others than the function itself, which is cancelled at once."""
    with TwistdProcess(installed, place, ["txasync", "--run", "program:with_a_task"]) as twistd:
        twistd.says("working")
        twistd.send(signal.SIGTERM)
        twistd.says("worked")
        assert twistd.end() == -signal.SIGTERM


@pytest.mark.parametrize("reactor", ["epoll", "asyncio"])
def test_tasks_are_not_waited_for_longer_than_told(installed: Path, place: Path, reactor: str) -> None:
    """With ``--graceful 0``, they are cancelled."""
    command = ["--reactor", reactor, "txasync", "--run", "program:with_a_task", "--graceful", "0"]
    with TwistdProcess(installed, place, command) as twistd:
        twistd.says("working")
        twistd.send(signal.SIGTERM)
        assert twistd.end() == -signal.SIGTERM
        assert "worked" not in twistd.text
        assert "pending" not in twistd.text


@pytest.mark.parametrize("reactor", REACTORS)
def test_a_second_signal_is_at_once(installed: Path, place: Path, reactor: str) -> None:
    """Connections are aborted, and a task that will not be cancelled is left; the log says which."""
    command = ["--reactor", reactor, *listen("program:slow_lines", "--stream", "--graceful", "3600")]
    with TwistdProcess(installed, place, [*command, "--run", "program:stubborn"]) as twistd:
        port = twistd.listens()
        twistd.says("waiting")
        with connected(port) as client:
            client.sendall(b"a\n")
            twistd.says("asked")
            twistd.send(signal.SIGTERM)
            twistd.says("cancelled")
            twistd.send(signal.SIGTERM)
            assert twistd.end() == -signal.SIGTERM
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(10) == b""


def test_a_third_signal_needs_nobodys_help(installed: Path, place: Path) -> None:
    """It ends the process by its default action."""
    (place / "blocked.py").write_text(
        "import asyncio, time\nasync def main():\n    print('waiting', flush=True)\n    while True:\n"
        "        try:\n            await asyncio.sleep(3600)\n        except asyncio.CancelledError:\n"
        "            print('blocking', flush=True)\n            while True: time.sleep(0.01)\n"
    )
    with TwistdProcess(installed, place, ["txasync", "--run", "blocked:main"]) as twistd:
        twistd.says("waiting")
        twistd.send(signal.SIGTERM)
        twistd.says("blocking")
        twistd.send(signal.SIGTERM)
        twistd.send(signal.SIGINT)
        assert twistd.end() in (-signal.SIGINT, -signal.SIGTERM)


# --listen


@pytest.mark.parametrize("reactor", ["txasync", "poll", "select"])
def test_protocols_listen_on_endpoints(installed: Path, place: Path, reactor: str) -> None:
    """Classes, functions, and functions of streams; several, on several endpoints, beside a main function."""
    path = str(place / "socket")
    tcp = "tcp:0:interface=127.0.0.1"
    command = [
        *listen("program:Upper"),
        *["--listen", tcp, "--listen", f"unix:{path}", "--protocol", "program:make_upper"],
        *["--listen", tcp, "--stream", "--protocol", "program:lines"],
        *["--run", "program:forever"],
    ]
    with TwistdProcess(installed, place, ["--reactor", reactor, *command]) as twistd:
        ports = [twistd.listens() for _ in range(2)]
        twistd.says("starting on .*socket")
        ports.append(twistd.listens())
        for port in ports:
            with connected(port) as client:
                client.sendall(b"hello\n")
                assert client.recv(10) == b"HELLO\n"
        with socket.socket(socket.AF_UNIX) as unix:
            unix.connect(path)
            unix.sendall(b"hello")
            assert unix.recv(10) == b"HELLO"
        twistd.send(signal.SIGTERM)
        assert twistd.end() == -signal.SIGTERM
        assert "cleaned up" in twistd.text
    assert not os.path.exists(path)


def test_what_was_accepted_is_answered_after_a_signal(installed: Path, place: Path) -> None:
    """Also by a server that is used with streams; new connections are refused meanwhile."""
    with TwistdProcess(installed, place, listen("program:lines", "--stream")) as twistd:
        port = twistd.listens()
        with connected(port) as client:
            client.sendall(b"hello\n")
            twistd.says("got")
            twistd.send(signal.SIGTERM)
            twistd.says("Closed")
            until_refused(port)
            assert client.recv(10) == b"HELLO\n"
            client.shutdown(socket.SHUT_WR)
            assert client.recv(10) == b""
        assert twistd.end() == -signal.SIGTERM


# The log


def test_what_the_logging_module_gets_is_in_the_log(installed: Path, place: Path) -> None:
    """Once, with level and traceback; asyncio's errors, too."""
    ended = run_to_end(installed, place, ["txasync", "--run", "program:logging_things"])
    assert ended.returncode == 0
    assert re.search(r"\[a\.b#info\] an {unusual} message with arguments\n", ended.stdout)
    assert re.search(r"\[a\.b#error\] it failed\n\tTraceback", ended.stdout)
    assert ended.stdout.count("ZeroDivisionError: division by zero") == 1
    assert ended.stdout.count("IndexError: list index out of range") == 1
    assert "details" not in ended.stdout
    assert (
        "details"
        in run_to_end(installed, place, ["txasync", "--log-level", "debug", "--run", "program:logging_things"]).stdout
    )


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "nothing"], "'nothing' is not of the form module:name"),
        (["--run", "missing_module:main"], "cannot import 'missing_module:main': ModuleNotFoundError: No module named"),
        (["--run", "program:missing"], "module 'program' has no attribute 'missing'"),
        (["--run", "program:value"], "'program:value' is 1, which cannot be called"),
        (["--run", "broken:main"], r"NameError: name 'undefined_name' is not defined \(.*broken.py, line 3\)"),
        (listen("program:factory")[1:], "'program:factory' is a factory of Twisted's"),
        (listen("program:lines")[1:], "'program:lines' is a coroutine function: .* add --stream"),
        (["--listen", "tcp:x", "--protocol", "program:Upper"], "'tcp:x' does not describe a server endpoint"),
        (["--listen", "nothing:x", "--protocol", "program:Upper"], "'nothing:x' does not describe a server endpoint"),
        (
            ["--listen", "ssl:0:privateKey=missing.pem", "--protocol", "program:Upper"],
            "--listen=ssl:0:privateKey=missing.pem: .*missing.pem",
        ),
        (["--listen", "stdio:", "--protocol", "program:Upper"], "--listen=stdio:: that is a connection"),
        (["--listen", "tcp:0", "--asgi", "program:missing"], "module 'program' has no attribute 'missing'"),
    ],
)
def test_what_cannot_be_had_is_told_in_one_line(
    installed: Path, place: Path, arguments: list[str], message: str
) -> None:
    """On stderr, with an exit code of 1; nothing else is printed."""
    ended = run_to_end(installed, place, ["txasync", *arguments])
    assert ended.returncode == 1
    assert re.fullmatch(rf"twistd txasync: .*{message}.*\n", ended.stderr), ended.stderr
    assert not ended.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to run"),
        (["--listen", "tcp:0"], "--listen=tcp:0 needs a --protocol after it, or --asgi"),
        (["--protocol", "program:Upper"], "belongs to a --listen before it"),
        (["--stream"], "belongs to a --listen before it"),
        ([*listen("program:Upper")[1:], "--protocol", "program:Upper"], "belongs to a --listen before it"),
        (["--asgi", "program:short"], "needs a --listen without a --protocol"),
        (["--run", "program:short", "--graceful", "-1"], "not negative, got '-1'"),
        (["--run", "program:short", "--graceful", "soon"], "not negative, got 'soon'"),
        (["--run", "program:short", "--log-level", "loud"], "got 'loud'"),
        (
            ["--listen", "tcp:0", "--stream", "--asgi", "program:short"],
            "--stream after --listen=tcp:0 needs a --protocol",
        ),
        ([*listen("program:Upper")[1:], "--", "argument"], "arguments are for --run"),
    ],
)
def test_options_that_do_not_go_together_are_told_in_one_line(
    installed: Path, place: Path, arguments: list[str], message: str
) -> None:
    """Likewise; the list of all options is for ``--help``."""
    ended = run_to_end(installed, place, ["txasync", *arguments])
    assert ended.returncode == 1
    assert re.fullmatch(f"twistd txasync: .*{re.escape(message)}.*\n", ended.stderr), ended.stderr
    assert not ended.stdout


def test_a_port_in_use_is_told_in_one_line(installed: Path, place: Path) -> None:
    """On stderr and in the log; the pid file is gone."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = ["--logfile=log", "--pidfile=pid", "txasync", "--listen", f"tcp:{port}:interface=127.0.0.1"]
        ended = run_to_end(installed, place, [*command, "--protocol", "program:Upper"])
    message = rf"Couldn't listen on 127\.0\.0\.1:{port}: \[Errno \d+\] Address already in use\n"
    assert ended.returncode == 1
    assert re.fullmatch(f"twistd txasync: {message}", ended.stderr), ended.stderr
    assert not ended.stdout
    log = (place / "log").read_text()
    assert len(re.findall(message, log)) == 1
    assert "Traceback" not in log
    assert not (place / "pid").exists()


# Daemons


def wait_for(path: Path, pattern: str) -> str:
    """Wait until *pattern* is found in the file at *path*; return its text."""
    deadline = time.monotonic() + LIMIT_S
    text = ""
    while time.monotonic() < deadline:
        text = path.read_text() if path.exists() else ""
        if re.search(pattern, text):
            return text
        time.sleep(0.01)
    raise AssertionError(f"{pattern!r} is not in {path}: {text}")


def end_daemon(pid: int) -> None:
    """Send SIGTERM, and wait until the process is gone."""
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if state_of(pid) == "Z":
            return  # nobody reaps orphans here
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError(f"process {pid} does not end")


@pytest.mark.parametrize("reactor", REACTORS)
def test_a_daemon_serves_until_it_is_told_to_stop(installed: Path, place: Path, reactor: str) -> None:
    """The parent exits when it listens; its loop, children and threads are its own; the pid file goes at the end."""
    options = ["--reactor", reactor, "--pidfile=pid", "--logfile=log", "--umask=027"]
    command = [*options, *listen("program:Upper"), "--run", "program:daemon"]
    parent = run_to_end(installed, place, command, daemon=True)
    assert (parent.returncode, parent.stdout, parent.stderr) == (0, "", "")
    pid = int((place / "pid").read_text())
    try:
        log = wait_for(place / "log", "waiting")
        assert f"child 0 resolved True uid {os.getuid()}" in log
        assert stat.S_IMODE((place / "made").stat().st_mode) == 0o640
        with connected(int(re.findall(r"Upper starting on (\d+)", log)[0])) as client:
            client.sendall(b"hello")
            assert client.recv(10) == b"HELLO"
    finally:
        end_daemon(pid)
    log = (place / "log").read_text()
    assert "cleaned up" in log
    assert "Server Shut Down." in log
    assert "Traceback" not in log
    assert not (place / "pid").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_daemon_sheds_its_privileges_when_it_listens(installed: Path, place: Path) -> None:
    """The socket is root's, and the program is nobody's."""
    for writable in (place, *place.glob("*.py")):
        os.chown(writable, NOBODY, NOBODY)
    for directory in place.parents:
        directory.chmod(directory.stat().st_mode | stat.S_IXOTH)
    options = ["--pidfile=pid", "--logfile=log", f"--uid={NOBODY}", f"--gid={NOBODY}"]
    command = [*options, "txasync", "--listen", f"unix:{place}/socket", "--protocol", "program:Upper"]
    # Who cannot read the modules of this Python finds those that are imported already.
    parent = run_to_end(installed, place, [*command, "--run", "program:who"], daemon=True)
    assert (parent.returncode, parent.stdout, parent.stderr) == (0, "", "")
    pid = int((place / "pid").read_text())
    try:
        assert f"uid {NOBODY} gid {NOBODY}" in wait_for(place / "log", "waiting")
        assert (place / "socket").stat().st_uid == 0
        with socket.socket(socket.AF_UNIX) as unix:
            unix.connect(str(place / "socket"))
            unix.sendall(b"hello")
            assert unix.recv(10) == b"HELLO"
    finally:
        end_daemon(pid)


def test_a_daemon_that_cannot_listen_says_so_before_it_is_one(installed: Path, place: Path) -> None:
    """The parent's exit code is 1, the log has the line, and there is no pid file."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = ["--logfile=log", "--pidfile=pid", "txasync", "--listen", f"tcp:{port}:interface=127.0.0.1"]
        parent = run_to_end(installed, place, [*command, "--protocol", "program:Upper"], daemon=True)
    assert parent.returncode == 1
    assert f"Couldn't listen on 127.0.0.1:{port}" in parent.stderr
    log = wait_for(place / "log", f"127.0.0.1:{port}")
    assert "Traceback" not in log
    assert not (place / "pid").exists()


def test_nothing_is_opened_before_twistd_forks(installed: Path, place: Path) -> None:
    """Neither descriptor, nor loop, nor thread: what the command line names is imported, and that is all."""
    (place / "spying.py").write_text(
        "import asyncio, os, threading\n"
        "from twisted.application import app\n"
        "fork = os.fork\n"
        "def spying_fork():\n"
        "    from twisted.internet import reactor\n"
        "    import txasync\n"
        "    kinds = sorted(os.readlink(f'/proc/self/fd/{fd}').split(':')[0] for fd in os.listdir('/proc/self/fd')\n"
        "                   if os.path.exists(f'/proc/self/fd/{fd}'))\n"
        "    try:\n"
        "        loop = txasync.get_event_loop()\n"
        "    except RuntimeError:\n"
        "        loop = None\n"
        "    with open('before', 'a') as file:\n"
        "        print(kinds, loop, threading.active_count(), file=file)\n"
        "    return fork()\n"
        "os.fork = spying_fork\n"
    )
    (place / "reference.py").write_text(
        "import sys\nsys.path.insert(0, '.')\nimport spying\nfrom twisted.application import service\n"
        "from twisted.internet import reactor\nreactor.callWhenRunning(print, 'waiting')\n"
        "application = service.Application('reference')\n"
    )
    reference = ["--pidfile=pid", "--logfile=log", "--no_save", "-y", "reference.py"]
    (place / "program.py").write_text("import spying\n" + PROGRAM)
    ours = ["--pidfile=pid", "--logfile=log", *listen("program:Upper"), "--run", "program:forever"]
    seen = []
    for command in (reference, ours):
        assert run_to_end(installed, place, command, daemon=True).returncode == 0
        wait_for(place / "log", "waiting")
        end_daemon(int((place / "pid").read_text()))
        seen.append((place / "before").read_text())
        (place / "before").unlink()
        (place / "log").unlink()
    assert seen[0] == seen[1]
    assert re.fullmatch(r"(\[.*\] None 1\n){2}", seen[1])


def test_the_plug_in_is_light(installed: Path, place: Path) -> None:
    """Twisted imports it for every command: it brings neither the reactor nor the rest of the package."""
    program = (
        "import sys; from twisted.plugins import txasync_dropin; "
        "print([name for name in sys.modules if name.startswith(('txasync', 'twisted.internet.reactor'))])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=place,
        env=environment(installed),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert (ended.stdout, ended.stderr) == ("[]\n", "")
