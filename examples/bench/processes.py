"""The processes of a measurement: the load generator, which is compiled from ``load.c``, and the servers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import certificate
from kinds import Kind

HERE = Path(__file__).parent
CPUCLOCK_SCHED = 2
PATIENCE_S = 30

# They slow down some kinds of server and not others.
_UNWANTED = {"PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "PYTHONMALLOC", "PYTHONTRACEMALLOC", "PYTHONPROFILEIMPORTTIME"}


class Failed(Exception):
    """A load generator or a server could not be had, or gave up. The message is for the user."""


def environment() -> dict[str, str]:
    """Ours, without what makes figures mean something else."""
    return {name: value for name, value in os.environ.items() if name not in _UNWANTED}


def compile_load(directory: Path, with_tls: bool) -> Path:
    """
    Compile the load generator.

    Args:
        directory: Where the program goes.
        with_tls: Whether it is to know TLS, for which OpenSSL's headers are needed.

    Returns:
        Its path.

    Raises:
        Failed: There is no C compiler, or it failed, or there is no OpenSSL to compile with.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Failed("no C compiler found: the load generator needs cc or gcc (Debian, Ubuntu: apt install gcc)")
    program = directory / "load"
    command = [compiler, "-O2", "-o", str(program), str(HERE / "load.c")]
    if with_tls:
        command += ["-DWITH_TLS", "-lssl", "-lcrypto"]
    compiled = subprocess.run(command, capture_output=True, text=True)
    if compiled.returncode != 0:
        problem = f"{' '.join(command)} failed:\n{compiled.stderr}"
        if with_tls:
            problem += (
                "For the tls rows, the load generator needs OpenSSL and its headers (Debian, Ubuntu: apt install "
                "libssl-dev). To do without, ask for other rows with --rows."
            )
        raise Failed(problem)
    return program


def make_certificate(directory: Path) -> None:
    """Make the certificate of all servers that get the same *directory*."""
    certificate.write_certificate(_certificate_in(directory))


def _certificate_in(directory: Path) -> Path:
    return directory / "certificate.pem"


class Load:
    """
    A load generator that is connected to a server.

    Args:
        name: Whose, for error messages.
        program: What `compile_load` made.
        core: The processor to run on.
        mode, address, size, active, idle: See ``load.c``.

    Raises:
        Failed: It gave up. Its reason is in the message.
    """

    def __init__(
        self, name: str, program: Path, core: int, mode: str, address: str, size: int, active: int, idle: int
    ) -> None:
        command = [str(program), str(core), mode, address, str(size), str(active), str(idle)]
        self._name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # it is open for as long as the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for us, and we end our processes
        )
        try:
            self._read_line()
        except Failed:
            self.close()
            raise

    def run(self, count: int) -> int:
        """
        Exchange *count* messages, or whatever the mode has.

        Returns:
            The processor time that the load generator itself took, in nanoseconds. The server has done its work.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        return int(self._read_line())

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            reason = self._errors.read().strip() or f"it ended with {self._process.returncode}"
            raise Failed(f"the load generator of {self._name} gave up: {reason}")
        return line

    def close(self) -> None:
        """Close its connections, by ending it."""
        self._process.communicate()
        self._errors.close()

    def __enter__(self) -> Load:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Server:
    """
    A server process.

    Args:
        kind: What it runs.
        services: What it offers.
        core: The processor that it runs on.
        directory: For its sockets; `make_certificate` was called with it, if there is TLS in the services.
        program: What it runs, beside this module.

    Raises:
        Failed: It ended at once. What it had to say is on our standard error.
    """

    def __init__(self, kind: Kind, services: list[str], core: int, directory: Path, program: str = "server.py") -> None:
        self.kind = kind
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / program), kind.name, str(core), *services],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**environment(), "TMPDIR": str(directory), certificate.VARIABLE: str(_certificate_in(directory))},
            text=True,
            start_new_session=True,  # Ctrl-C is for us, and we end our processes
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self.close()
            raise Failed(f"the server of {kind.name} ended with {status} before it served")
        self.addresses: dict[str, str] = json.loads(line)
        # The clock of another process, as clock_getcpuclockid(3) makes it. It has all of its threads, none of its
        # children, and counts nanoseconds.
        self._clock = (~self._process.pid << 3) | CPUCLOCK_SCHED

    def cpu_ns(self) -> int:
        """The processor time, user and system, that the process has taken so far."""
        return time.clock_gettime_ns(self._clock)

    def cpu_ticks(self) -> tuple[int, int]:
        """The same as user and as system time, by what the kernel found the process at when its timer ticked."""
        # The name of the program may have spaces in it. See proc_pid_stat(5).
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]), int(fields[12])

    def ask(self) -> Any:
        """The answer to an empty line, of a program that has one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def let_one_connection_end(self, service: str) -> None:
        """
        Connect and hang up.

        asyncio's own transports receive into 256 KiB, for which glibc maps and unmaps memory at every message, until
        such a block is freed whole for the first time, as it is at the end of a connection. No server of connections
        stays in that state for long, so it is not what we measure. UDP has no end of a connection: a server that has
        nothing but UDP does stay in it.

        Raises:
            Failed: The server did not let us.
        """
        family, _, place = self.addresses[service].partition(":")
        if family == "udp":
            return
        try:
            with socket.socket(socket.AF_UNIX if family == "unix" else socket.AF_INET) as connection:
                connection.settimeout(PATIENCE_S)
                connection.connect(place if family == "unix" else ("127.0.0.1", int(place)))
                if family == "tls":
                    with _unverified().wrap_socket(connection) as secured:
                        _hang_up(secured)
                else:
                    _hang_up(connection)
        except OSError as error:
            raise Failed(f"{self.kind.name}, {service}: a connection without data failed: {error}") from error

    def memory_kib(self) -> int:
        """The memory of the process, in which shared pages count in proportion (PSS)."""
        lines = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _hang_up(connection: socket.socket) -> None:
    """End our side of *connection*, and wait for the end of the other."""
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(1):
        pass
