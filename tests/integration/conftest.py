"""Fixtures: run a library's scenario in a process of its own, in every mode; and the servers that scenarios talk to."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

import pytest
import trustme

import txasync

RunScenario = Callable[..., Any]

PROGRAMS = Path(__file__).with_name("_programs")
PROGRAMS_PACKAGE = "tests.integration._programs"
PROGRAM_TIMEOUT_S = 60.0
SERVER_START_TIMEOUT_S = 30.0

MODES_AND_REACTORS = [("asyncio-first", "epoll"), ("reactor-first", "epoll")]
ALL_MODES_AND_REACTORS = [
    *((mode, reactor) for reactor in ("txasync", "epoll") for mode in ("asyncio-first", "reactor-first")),
    ("asyncio-first", "poll"),
    ("reactor-first", "select"),
    ("installed-first", "epoll"),
]


class TLSFiles(TypedDict):
    """Where the certificates are: an authority's, and one that it issued for localhost and 127.0.0.1."""

    ca: str
    certificate: str
    key: str


def python_command(*arguments: str, dev: bool) -> list[str]:
    """Python, with every warning an error; *dev* is its development mode, and with it asyncio's debug mode."""
    return [sys.executable, *(["-X", "dev"] if dev else []), "-W", "error", *arguments]


def environment() -> dict[str, str]:
    """The environment for a program that is to import the txasync that is tested here."""
    # The installed txasync first, if it is an installed one that is tested; then the tree, for the programs.
    path = [str(Path(txasync.__file__).parents[1]), str(PROGRAMS.parents[2]), os.environ.get("PYTHONPATH")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONFAULTHANDLER": "1"}


def run_python(
    *arguments: str, dev: bool = True, signal_at: tuple[str, int] | None = None
) -> subprocess.CompletedProcess[str]:
    """
    Run a program, as `python_command`.

    Args:
        arguments: Of the command line.
        dev: Whether Python's development mode is on.
        signal_at: A text, and the signal that the process gets once it has written that text to stderr.
    """
    process = subprocess.Popen(
        python_command(*arguments, dev=dev),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stderr is not None
    with process:
        try:
            seen = ""
            if signal_at is not None:
                text, signum = signal_at
                for line in process.stderr:
                    seen += line
                    if text in line:
                        process.send_signal(signum)
                        break
            stdout, stderr = process.communicate(timeout=PROGRAM_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # faulthandler prints where it hangs
            stdout, stderr = process.communicate()
            pytest.fail(f"no end after {PROGRAM_TIMEOUT_S} s:\n{stdout}\n{seen}{stderr}")
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, seen + stderr)


def run_program(name: str, *arguments: str, dev: bool = True) -> subprocess.CompletedProcess[str]:
    """Run one of the programs beside this module."""
    return run_python("-m", f"{PROGRAMS_PACKAGE}.{name}", *arguments, dev=dev)


def result_of(completed: subprocess.CompletedProcess[str]) -> Any:
    """What a program printed as JSON; it must have ended well, without a word of complaint."""
    assert completed.returncode == 0, f"exit code {completed.returncode}:\n{completed.stderr}"
    assert completed.stderr == ""
    return json.loads(completed.stdout)


class ScenarioServer:
    """Runs scenarios, each in a process of its own; see _programs/scenario_server.py."""

    def __init__(self, directory: Path, *, dev: bool) -> None:
        self._outputs = {name: directory / f"{name}-{'dev' if dev else 'plain'}" for name in ("stdout", "stderr")}
        self._process = subprocess.Popen(
            python_command("-m", f"{PROGRAMS_PACKAGE}.scenario_server", dev=dev),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a scenario with the arguments of _programs/run_scenario.py."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        files = {name: str(path) for name, path in self._outputs.items()}
        print(json.dumps({"arguments": arguments, **files}), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the server of scenarios has died; its own stderr tells why"
        outputs = {name: path.read_text() for name, path in self._outputs.items()}
        return subprocess.CompletedProcess(arguments, int(answer), **outputs)

    def close(self) -> None:
        """End the server."""
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


@pytest.fixture(scope="session")
def scenario_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, ScenarioServer]]:
    """The servers of scenarios: with Python's development mode, and without."""
    directory = tmp_path_factory.mktemp("outputs")
    servers = {dev: ScenarioServer(directory, dev=dev) for dev in (True, False)}
    yield servers
    for server in servers.values():
        server.close()


def scenario_runner(servers: dict[bool, ScenarioServer], mode: str, reactor: str) -> RunScenario:
    """A function that runs a scenario, given as ``module:coroutine`` and keyword arguments, and returns its result."""

    def run(scenario: str, *, dev: bool = True, **arguments: Any) -> Any:
        return result_of(servers[dev].run(mode, reactor, scenario, json.dumps(arguments)))

    return run


@pytest.fixture(params=MODES_AND_REACTORS, ids="-".join)
def run_scenario(request: pytest.FixtureRequest, scenario_servers: dict[bool, ScenarioServer]) -> RunScenario:
    """Run a scenario in each mode."""
    return scenario_runner(scenario_servers, *request.param)


@pytest.fixture(params=ALL_MODES_AND_REACTORS, ids="-".join)
def run_scenario_everywhere(
    request: pytest.FixtureRequest, scenario_servers: dict[bool, ScenarioServer]
) -> RunScenario:
    """Run a scenario in each mode on each kind of reactor."""
    return scenario_runner(scenario_servers, *request.param)


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TLSFiles:
    """A certificate authority, and a certificate for localhost and 127.0.0.1."""
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    files = {name: str(directory / f"{name}.pem") for name in ("ca", "certificate", "key")}
    authority.cert_pem.write_to_path(files["ca"])
    issued.private_key_pem.write_to_path(files["key"])
    for blob in issued.cert_chain_pems:
        blob.write_to_path(files["certificate"], append=True)
    return TLSFiles(ca=files["ca"], certificate=files["certificate"], key=files["key"])


@pytest.fixture(scope="session")
def redis_path() -> Iterator[str]:
    """The path of the UNIX socket of a Redis server that was started for the tests."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("no redis-server is installed")
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/redis.sock"
        command = [server, "--port", "0", "--unixsocket", path, "--save", "", "--dir", directory]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            try:
                printed = ""
                while "ready to accept connections" not in printed.lower():
                    line = process.stdout.readline()
                    assert line, f"redis-server did not start:\n{printed}"
                    printed += line
                yield path
            finally:
                process.terminate()
                process.communicate()


class PostgresAddress(TypedDict):
    """Where a PostgreSQL server listens: on TCP with TLS, and on a UNIX socket in a directory."""

    directory: str
    port: int


@pytest.fixture(scope="session")
def postgres(tls_files: TLSFiles) -> Iterator[PostgresAddress]:
    """A PostgreSQL server that was started for the tests."""
    with contextlib.ExitStack() as stack:
        yield _start_postgres(stack, _postgres_binaries(), tls_files)


def _postgres_binaries() -> Path:
    """The directory of initdb, postgres and pg_ctl; the test is skipped without one."""
    candidates = []
    if (pg_config := shutil.which("pg_config")) is not None:
        answer = subprocess.run([pg_config, "--bindir"], check=True, capture_output=True, text=True)
        candidates.append(Path(answer.stdout.strip()))
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if (on_path := shutil.which("initdb")) is not None:
        candidates.append(Path(on_path).resolve().parent)
    for directory in candidates:
        if all((directory / name).exists() for name in ("initdb", "postgres", "pg_ctl")):
            return directory
    pytest.skip("no PostgreSQL server is installed")


def _start_postgres(stack: contextlib.ExitStack, binaries: Path, tls_files: TLSFiles) -> PostgresAddress:
    # Not in pytest's own temporary directory: that is root's alone when root runs the tests, and the server's user,
    # for it refuses to be root, has to get in. A UNIX socket's path must be short, too.
    directory = stack.enter_context(tempfile.TemporaryDirectory())
    account: dict[str, Any] = {}
    data = f"{directory}/data"
    for name, path in (("server.crt", tls_files["certificate"]), ("server.key", tls_files["key"])):
        shutil.copy(path, f"{directory}/{name}")
        os.chmod(f"{directory}/{name}", 0o600)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        for path in (directory, f"{directory}/server.crt", f"{directory}/server.key"):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)

    def call(program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [str(binaries / program), "-D", data, *arguments]
        with open(f"{directory}/{program}.out", "ab") as output:
            return subprocess.run(command, stdout=output, stderr=output, cwd=directory, **account)

    call("initdb", "--auth=trust", "--username=tests", "--encoding=UTF8", "--no-locale", "--no-sync").check_returncode()
    for _ in range(5):
        port = _unused_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": directory,
            "fsync": "off",
            "ssl": "on",
            "ssl_cert_file": f"{directory}/server.crt",
            "ssl_key_file": f"{directory}/server.key",
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        # It returns when the server accepts connections.
        started = call("pg_ctl", "start", "-w", "-t", str(int(SERVER_START_TIMEOUT_S)), "-o", options)
        if started.returncode == 0:
            stack.callback(call, "pg_ctl", "stop", "-w", "-m", "immediate")
            return PostgresAddress(directory=directory, port=port)
    # Another process may have taken the port in between once, but hardly each time.
    raise RuntimeError(f"PostgreSQL did not start:\n{Path(directory, 'pg_ctl.out').read_text()}")


def _unused_port() -> int:
    """A port that was free a moment ago: PostgreSQL cannot let the kernel choose."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
