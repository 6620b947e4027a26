"""The examples: each is run as its first lines say, and does what they say."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import txasync

from .line_process import LIMIT_S, LineProcess, state_of

IDLE_S = 2.0
# Where the package is imported from, which need not be this checkout.
ROOT = Path(txasync.__file__).parent.parent
EXAMPLES = Path(__file__).parents[1] / "examples"
PYTHON = [sys.executable, "-W", "error"]
LAUNCHER = [*PYTHON, "-m", "txasync"]
REACTORS = {"txasync": "SharedEPollReactor", "epoll": "EPollReactor", "select": "SelectReactor"}


class Example(LineProcess):
    """
    An example that runs.

    Args:
        command: The command line, but for the directory of the examples.
    """

    def __init__(self, command: list[str]) -> None:
        super().__init__(command, EXAMPLES, ROOT)

    def says(self, pattern: str) -> re.Match[str]:
        """Wait for the next line, which is as *pattern* has it."""
        line = self._lines.get(timeout=LIMIT_S)
        match = re.fullmatch(pattern, line.rstrip("\n"))
        assert match is not None, f"waited for {pattern!r}, got {line!r}"
        return match

    def interrupt(self) -> None:
        """
        What Ctrl-C does, at a moment when the program sleeps.

        Before Python 3.11 KeyboardInterrupt is raised inside of the callback that happens to run, which may be one
        that has printed the line that was waited for.
        """
        limit = time.monotonic() + LIMIT_S
        while state_of(self._process.pid) != "S":
            assert time.monotonic() < limit, "the program never sleeps"
        self._process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, list[str]]:
        """Wait for the end; the exit code, and the lines that have not been waited for."""
        lines = list(iter(lambda: self._lines.get(timeout=LIMIT_S).rstrip("\n"), ""))
        return self._process.wait(LIMIT_S), lines


@pytest.fixture(params=["stock", *REACTORS])
def asyncio_program(request: pytest.FixtureRequest) -> list[str]:
    """The beginning of a command line that runs a program of plain asyncio: without us, and on each reactor."""
    return PYTHON if request.param == "stock" else [*LAUNCHER, "--reactor", request.param]


def loop_of(command: list[str]) -> str:
    return "_UnixSelectorEventLoop" if command is PYTHON else "ReactorEventLoop"


def port_of(server: Example) -> int:
    return int(server.says(r"listening on 127\.0\.0\.1:(\d+), with \w+; Ctrl-C ends")[1])


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)


def test_the_echo_server_echoes_and_hangs_up_on_a_silent_client(asyncio_program: list[str]) -> None:
    """A client gets back what it sends, and two seconds after its last word the connection ends."""
    with Example([*asyncio_program, "echo_server.py"]) as server:
        line = server.says(r"listening on 127\.0\.0\.1:(\d+), with (\w+); Ctrl-C ends")
        assert line[2] == loop_of(asyncio_program)
        with connected(int(line[1])) as client:
            peer = f"127.0.0.1:{client.getsockname()[1]}"
            server.says(f"{peer} connected")
            before = time.monotonic()
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
            assert client.recv(100) == b""
            assert IDLE_S <= time.monotonic() - before < LIMIT_S
            server.says(f"{peer} was silent for 2 seconds")
            server.says(f"{peer} disconnected")
        server.interrupt()
        assert server.end() == (0, ["bye"])


def test_the_echo_server_ends_well_while_clients_are_connected(asyncio_program: list[str]) -> None:
    """Ctrl-C closes the connections, and the exit code is 0."""
    with Example([*asyncio_program, "echo_server.py", "--host", "127.0.0.1", "--port", "0"]) as server:
        with connected(port_of(server)) as client:
            server.says(r".* connected")
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
            server.interrupt()
            assert client.recv(100) == b""
            server.says(r".* disconnected")
            assert server.end() == (0, ["bye"])


def test_the_echo_client_prints_what_comes_back(asyncio_program: list[str]) -> None:
    """Each message is sent when the one before is back; with --stay, the server is the one who hangs up."""
    with Example([*PYTHON, "echo_server.py"]) as server:
        port = port_of(server)
        with Example([*asyncio_program, "echo_client.py", "--port", str(port), "--stay", "hello", "world"]) as client:
            client.says(rf"connected to 127\.0\.0\.1:{port}, with {loop_of(asyncio_program)}")
            client.says("sent b'hello', got b'hello'")
            client.says("sent b'world', got b'world'")
            client.says("silent until the server hangs up")
            client.says(r"the server hung up after [2-3]\.\d seconds")
            assert client.end() == (0, [])


def test_the_echo_client_ends_by_itself_or_at_ctrl_c() -> None:
    """Without --stay it closes the connection when all is back; Ctrl-C ends it at any time."""
    with Example([*PYTHON, "echo_server.py"]) as server:
        command = [*LAUNCHER, "echo_client.py", "--port", str(port_of(server))]
        with Example([*command, "hello"]) as client:
            client.says("connected .*")
            client.says("sent b'hello', got b'hello'")
            assert client.end() == (0, [])
        with Example([*command, "--stay", "hello"]) as client:
            client.says("connected .*")
            client.says("sent .*")
            client.says("silent .*")
            client.interrupt()
            assert client.end() == (0, ["bye"])


def test_the_echo_client_says_that_nobody_listens() -> None:
    """A refused connection is one line, not a traceback."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with Example([*LAUNCHER, "echo_client.py", "--port", str(port), "hello"]) as client:
            client.says(r"echo_client\.py: error: .*refused.*|echo_client\.py: error: .*Connect call failed.*")
            assert client.end() == (1, [])


def test_an_asyncio_program_uses_twisted() -> None:
    """The first program of "Getting started", asyncio first."""
    with Example([*PYTHON, "asyncio_first.py"]) as program:
        assert program.end() == (0, ["a timed call", "a thread", "a child process"])


def test_a_twisted_program_uses_asyncio() -> None:
    """The other one, with the reactor first."""
    with Example([*PYTHON, "reactor_first.py"]) as program:
        program.says(rf"{os.uname().sysname}, asked from <ReactorEventLoop on \w+ running=True .*>")
        assert program.end() == (0, [])


@pytest.fixture(params=[[], ["--reactor-first"]], ids=["asyncio first", "reactor first"])
def situation(request: pytest.FixtureRequest) -> list[str]:
    """Who is first in the demo."""
    options: list[str] = request.param
    return options


@pytest.fixture(params=REACTORS)
def reactor(request: pytest.FixtureRequest) -> str:
    """The name of a reactor."""
    name: str = request.param
    return name


def follow_the_demo(demo: Example, reactor_class: str) -> tuple[int, str]:
    """Read what the demo says while it checks itself; the echo port, and the page's address."""
    port = int(demo.says(r"asyncio's echo server listens on 127\.0\.0\.1:(\d+)")[1])
    url = demo.says(r"Twisted's web server listens on (http://127\.0\.0\.1:\d+/)")[1]
    for _ in range(3):
        demo.says(r"asyncio's client sent b'.*' and got it back")
    demo.says(rf"Twisted's client fetched the page: .*'reactor': '{reactor_class}', 'loop': 'ReactorEventLoop'.*")
    demo.says("the page is right")
    return port, url


def test_the_demo_checks_itself_once(situation: list[str], reactor: str) -> None:
    """With --once it ends when the page has said what was sent."""
    command = [*LAUNCHER, "--reactor", reactor, "two_worlds.py", "--once", *situation]
    with Example(command) as demo:
        follow_the_demo(demo, REACTORS[reactor])
        assert demo.end() == (0, ["closed both servers"])


def test_the_demo_serves_until_ctrl_c(situation: list[str]) -> None:
    """Run by python alone, it echoes, its page counts along, and Ctrl-C closes both servers."""
    with Example([*PYTHON, "two_worlds.py", *situation]) as demo:
        port, url = follow_the_demo(demo, r"\w+Reactor")
        demo.says(rf"serving: open {url} and talk to port {port}; Ctrl-C ends")
        with connected(port) as client:
            client.sendall(b"hello\n")
            assert client.recv(100) == b"hello\n"
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=LIMIT_S) as response:
                page = response.read().decode()
        assert "connections: 2\nmessages: 4\nbytes: 34\nuptime: " in page
        demo.interrupt()
        assert demo.end() == (0, ["closed both servers"])


def test_the_demo_listens_where_it_is_told(situation: list[str]) -> None:
    """--port and --web-port name the ports."""
    with socket.socket() as first, socket.socket() as second:
        for free in (first, second):
            free.bind(("127.0.0.1", 0))
        port, web_port = (free.getsockname()[1] for free in (first, second))
    options = ["--once", "--port", str(port), "--web-port", str(web_port)]
    with Example([*PYTHON, "two_worlds.py", *options, *situation]) as demo:
        assert follow_the_demo(demo, r"\w+Reactor") == (port, f"http://127.0.0.1:{web_port}/")
        assert demo.end()[0] == 0


def test_one_coroutine_awaits_both_worlds(situation: list[str]) -> None:
    """In a task, by a page, and given up when it takes too long."""
    with Example([*PYTHON, "one_coroutine.py", *situation]) as example:
        example.says("in a task: b'slow and 42'")
        example.says("by the page: b'slow and 42'")
        example.says("by the page, of a computation that takes too long: b'nothing'")
        assert example.end() == (0, [])


def test_one_reactor_serves_both_worlds() -> None:
    """It tells what a message costs on either's transports."""
    with Example([*PYTHON, "one_reactor_for_both.py"]) as example:
        example.says("on SharedEPollReactor")
        code, lines = example.end()
    assert code == 0
    assert [line.split(",")[0] for line in lines] == [
        "Twisted's protocol: 5000 messages",
        "asyncio's protocol: 5000 messages",
    ]


def test_each_kind_of_tls_context_talks_to_each() -> None:
    """By the right name; a wrong one is refused, whichever library checks it."""
    # Twisted passes pyOpenSSL's own objects to pyOpenSSL, which warns of it.
    with Example([sys.executable, "tls_echo.py"]) as example:
        code, lines = example.end()
    assert code == 0
    talks = [line for line in lines if " to " in line and ": " in line]
    assert len(talks) == 3 * 4 * 2
    assert sum("TLSv1." in line and "to localhost" in line for line in talks) == 3 * 4
    assert sum("refused" in line and "example.org" in line for line in talks) == 3 * 4


def test_tls_goes_from_either_world_to_the_other() -> None:
    """One reactor, one CertificateOptions, both kinds of server."""
    with Example([sys.executable, "tls_both_worlds.py"]) as example:
        code, lines = example.end()
    assert code == 0
    assert "Twisted has heard: Guten Tag" in lines
    assert "asyncio has heard: Bonjour" in lines


def test_a_line_protocol_of_twisted_talks_on_uvloop() -> None:
    """Or on asyncio's own loop, where uvloop is not installed; without a reactor in either case."""
    with Example([*PYTHON, "line_protocol_on_uvloop.py"]) as example:
        code, lines = example.end()
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    introduction = (
        ["on a loop of uvloop"]
        if has_uvloop
        else [
            "uvloop is not installed (pip install uvloop), so this is asyncio's own loop",
            "on a loop of asyncio.unix_events",
        ]
    )
    assert lines == [
        *introduction,
        "server: Which words?",
        "client: Twisted",
        "server: T-w-i-s-t-e-d",
        "client: uvloop",
        "server: u-v-l-o-o-p",
        "client: (an empty line)",
        "server: Good bye.",
        "a reactor was imported: False",
    ]
    assert code == 0


# Twisted keeps a descriptor in reserve, and so does not close it at the end.
LISTENING_BY_TWISTED = [*PYTHON, "-W", "ignore:unclosed file <_io.TextIOWrapper name='/dev/null':ResourceWarning"]
# Conch uses ciphers and modules that cryptography and Python have deprecated.
IMPORTING_CONCH = [sys.executable, "-W", "ignore"]


@pytest.mark.parametrize("reactor", ["txasync", "poll", "select"])
def test_one_protocol_is_served_two_ways(reactor: str, tmp_path: Path) -> None:
    """Each kind of client talks to each kind of server, over TCP, and over a UNIX socket on Twisted's side."""
    command = [*LISTENING_BY_TWISTED, "-m", "txasync", "--reactor", reactor, "one_protocol_two_ways.py"]
    talks = [
        ("Twisted's server, by Twisted", "hello"),
        ("Twisted's server, by the loop", "guten Tag"),
        ("the loop's server, by Twisted", "bonjour"),
        ("the loop's server, by the loop", "hola"),
    ]
    path = str(tmp_path / "socket")
    for options, name in ([], r"\('127\.0\.0\.1', \d+\)"), (["--endpoint", f"unix:{path}"], repr(path)):
        with Example([*command, *options]) as example:
            for who, word in talks:
                where = name if who.startswith("Twisted") else r"\('127\.0\.0\.1', \d+\)"
                got = rf"\[b'{word.upper()}', b'BYE'\]"
                example.says(rf"{who} at {where}: sent \(b'{word}', b'bye'\), got {got}")
            assert example.end() == (0, [])


def test_h11_sees_the_clients_behind_the_proxy() -> None:
    """The PROXY header's address is the one that the application tells, in each version."""
    with Example([*LISTENING_BY_TWISTED, "h11_behind_haproxy.py"]) as example:
        example.says(r"listening on 127\.0\.0\.1:\d+, for proxies")
        ipv4, ipv6 = r"203\.0\.113\.7 port 51234", "2001:db8:0:0:0:0:0:7 port 51235"
        for version, client in ("version 1", ipv4), ("version 2", ipv4), ("version 2, IPv6", ipv6):
            example.says(f"PROXY header, {version}:")
            for request in "GET /page", "POST /form":
                example.says("    HTTP/1.1 200 ")
                example.says(f"    {client} asks to {request}")
            example.says("    hello")
        assert example.end() == (0, [])


def test_h11_serves_until_ctrl_c() -> None:
    """With --serve, it answers whoever sends a PROXY header first."""
    with Example([*LISTENING_BY_TWISTED, "h11_behind_haproxy.py", "--serve"]) as example:
        port = int(example.says(r"listening on 127\.0\.0\.1:(\d+), for proxies")[1])
        with connected(port) as client:
            client.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 2222\r\n")
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(1000), b""))
        assert answer.endswith(b"192.0.2.1 port 1111 asks to GET /\n")
        example.interrupt()
        assert example.end()[0] == 0


def test_asyncio_protocols_run_over_ssh() -> None:
    """Streams and a protocol are commands of Conch's server, and Conch's client talks to them by streams."""
    with Example([*IMPORTING_CONCH, "asyncio_over_ssh.py"]) as example:
        example.says(r"upper: connected to 127\.0\.0\.1, sends b'guten Tag\\nbye\\n'")
        example.says(r"upper: got b'hello, 127\.0\.0\.1\\n'")
        example.says(r"upper: got b'GUTEN TAG\\n'")
        example.says(r"upper: got b'BYE\\n'")
        example.says("upper: the command has ended")
        example.says("sum: connected to .*")
        example.says(r"sum: got b'321\\n'")
        example.says("sum: the command has ended")
        assert example.end() == (0, [])


@pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh program is installed")
def test_ssh_talks_to_asyncio_protocols() -> None:
    """With --serve, it prints the command that reaches it, and that has the exit status 0."""
    with Example([*IMPORTING_CONCH, "asyncio_over_ssh.py", "--serve"]) as example:
        command = example.says("ssh .* user@127.0.0.1 upper")[0].split()
        answer = subprocess.run(
            [*command[:1], "-F", "none", *command[1:]],
            input=b"hallo\n",
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert (answer.returncode, answer.stdout) == (0, b"hello, 127.0.0.1\nHALLO\n")
        example.interrupt()
        assert example.end()[0] == 0
