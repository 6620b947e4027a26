"""
How a child has ended, and signals, in the terms of either world. No I/O, no reactor, no loop.

==============================  =====================  ===================================
Twisted, the reason             asyncio, return code   ``status``, as ``os.wait()`` has it
==============================  =====================  ===================================
``ProcessDone``                 0                      0
``ProcessTerminated``, with     the exit code          the exit code times 256
an ``exitCode``
``ProcessTerminated``, with     minus the signal       the signal; asyncio does not tell
a ``signal``                                           whether memory was dumped (128 more)
==============================  =====================  ===================================

Signals are numbers on both sides. Five have names in Twisted, too, and three of these mean something on Windows as
well, where numbers mean nothing.
"""

from __future__ import annotations

import os
import signal

from twisted.internet.error import ProcessDone, ProcessTerminated

__all__ = ["UNKNOWN_RETURNCODE", "as_exit_reason", "as_returncode", "as_signal_id", "as_signal_number", "as_status"]

UNKNOWN_RETURNCODE = 255
"""What asyncio reports of a child whose return code somebody else has taken."""

_NUMBERS = {name: int(getattr(signal, f"SIG{name}")) for name in ("HUP", "STOP", "INT", "KILL", "TERM")}
_NAMES = {number: name for name, number in _NUMBERS.items()}


def as_returncode(reason: BaseException) -> int:
    """The return code of the child whose ``processExited()`` gets *reason*."""
    if isinstance(reason, ProcessDone):
        return 0
    if not isinstance(reason, ProcessTerminated):
        return UNKNOWN_RETURNCODE
    if reason.exitCode is not None:
        return int(reason.exitCode)
    if reason.signal is not None:
        return -int(reason.signal)
    return UNKNOWN_RETURNCODE if reason.status is None else os.waitstatus_to_exitcode(reason.status)


def as_exit_reason(returncode: int) -> ProcessDone | ProcessTerminated:
    """What ``processExited()`` gets, as a ``Failure``, of a child with *returncode*."""
    status = as_status(returncode)
    if returncode == 0:
        return ProcessDone(status)
    if returncode < 0:
        return ProcessTerminated(signal=-returncode, status=status)
    return ProcessTerminated(exitCode=returncode, status=status)


def as_status(returncode: int) -> int:
    """The ``status`` of a child with *returncode*."""
    return -returncode if returncode < 0 else returncode << 8


def as_signal_number(signal_id: str | int) -> int:
    """
    What asyncio's ``send_signal()`` takes where Twisted's ``signalProcess()`` takes *signal_id*.

    Anything but one of Twisted's names is the same on both sides, and so is what is said of it if it is no signal.
    """
    return _NUMBERS.get(signal_id, signal_id)  # type: ignore[arg-type]


def as_signal_id(number: int) -> str | int:
    """What Twisted's ``signalProcess()`` takes where asyncio's ``send_signal()`` has *number*: a name if it has one."""
    return _NAMES.get(number, number)
