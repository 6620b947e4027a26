"""How children end, and signals: the tables, against the operating system's own numbers and Twisted's own errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost, ProcessDone, ProcessTerminated

from txasync.adapters._exits import (
    UNKNOWN_RETURNCODE,
    as_exit_reason,
    as_returncode,
    as_signal_id,
    as_signal_number,
    as_status,
)

RETURNCODES = [0, 1, 3, 127, 255, -1, -2, -9, -15, -int(signal.SIGRTMIN)]


@pytest.mark.parametrize("returncode", RETURNCODES)
def test_a_return_code_survives_the_way_there_and_back(returncode: int) -> None:
    """The two tables are inverse to each other."""
    assert as_returncode(as_exit_reason(returncode)) == returncode


@pytest.mark.parametrize("returncode", RETURNCODES)
def test_a_status_is_the_systems(returncode: int) -> None:
    """``os`` reads it as Twisted's users do."""
    status = as_status(returncode)
    assert os.waitstatus_to_exitcode(status) == returncode
    assert os.WIFEXITED(status) == (returncode >= 0)
    assert os.WIFSIGNALED(status) == (returncode < 0)


def test_a_status_is_what_wait_gives() -> None:
    """Of a real child that exits, and of one that is killed."""
    for script, returncode in ("import os; os._exit(7)", 7), ("import os; os.kill(os.getpid(), 9)", -9):
        with subprocess.Popen([sys.executable, "-S", "-c", script]) as child:
            assert os.waitpid(child.pid, 0) == (child.pid, as_status(returncode))
            child.returncode = returncode


def test_the_reason_of_a_success() -> None:
    """It is a clean end, with all that Twisted's has."""
    reason = as_exit_reason(0)
    assert type(reason) is ProcessDone
    assert isinstance(reason, ConnectionDone)
    assert (reason.exitCode, reason.signal, reason.status) == (0, None, 0)
    assert str(reason) == str(ProcessDone(0))


@pytest.mark.parametrize(
    ("returncode", "exit_code", "signum", "status"),
    [(1, 1, None, 0x100), (255, 255, None, 0xFF00), (-9, None, 9, 9)],
)
def test_the_reason_of_a_failure(returncode: int, exit_code: int | None, signum: int | None, status: int) -> None:
    """It is an error, with all that Twisted's has."""
    reason = as_exit_reason(returncode)
    assert type(reason) is ProcessTerminated
    assert isinstance(reason, ConnectionLost)
    assert (reason.exitCode, reason.signal, reason.status) == (exit_code, signum, status)
    assert str(reason) == str(ProcessTerminated(exit_code, signum, status))


@pytest.mark.parametrize(
    ("reason", "returncode"),
    [
        (ProcessTerminated(exitCode=3), 3),
        (ProcessTerminated(signal=15), -15),
        (ProcessTerminated(signal=11, status=11 | 128), -11),
        (ProcessTerminated(status=0x0200), 2),
        (ProcessTerminated(status=9), -9),
        (ProcessTerminated(), UNKNOWN_RETURNCODE),
        (ConnectionLost(), UNKNOWN_RETURNCODE),
    ],
)
def test_the_return_code_of_other_reasons(reason: BaseException, returncode: int) -> None:
    """What transports of others may give is understood as far as it can be."""
    assert as_returncode(reason) == returncode


@pytest.mark.parametrize("name", ["HUP", "STOP", "INT", "KILL", "TERM"])
def test_the_names_of_signals(name: str) -> None:
    """Twisted's five have their numbers, and these their names."""
    number = getattr(signal, f"SIG{name}")
    assert as_signal_number(name) == number
    assert type(as_signal_number(name)) is int
    assert as_signal_id(number) == name


def test_other_signals_are_numbers() -> None:
    """What is no name of Twisted's stays what it is."""
    assert as_signal_number(signal.SIGUSR1) == signal.SIGUSR1
    assert as_signal_id(signal.SIGUSR1) == signal.SIGUSR1
    assert as_signal_number("USR1") == "USR1"  # type: ignore[comparison-overlap]  # which the system refuses
