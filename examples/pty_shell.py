"""
A shell, or another program, on a pseudo-terminal of its own, inside of the terminal that this runs in.

    python pty_shell.py                                  your shell; leave it to come back
    python pty_shell.py python3 -q                       another program
    echo "tty; exit 3" | python pty_shell.py /bin/sh     what to type comes from elsewhere
    python -m txasync --reactor poll pty_shell.py        on a reactor

What is typed goes to the program, Ctrl-C included, and what it prints comes back. When the window changes its size, the
program is told. Ends with the program's exit code.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator

from txasync import spawn_pty

END_OF_INPUT = b"\x04"  # Ctrl-D


class Screen(asyncio.SubprocessProtocol):
    """Prints what the program prints."""

    def __init__(self) -> None:
        self.ended = asyncio.get_running_loop().create_future()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)


async def main(command: list[str]) -> int:
    """Run *command* to its end; return its exit code."""
    if sys.stdin.isatty():
        with raw(sys.stdin.fileno()):
            transport = await in_terminal(command)
    else:
        transport = await with_input(command)
    transport.close()
    returncode = transport.get_returncode()
    assert returncode is not None
    return returncode


async def in_terminal(command: list[str]) -> asyncio.SubprocessTransport:
    """Pass on keys and the size of the window until *command* ends."""
    loop = asyncio.get_running_loop()
    transport, screen = await spawn_pty(Screen, *command)
    keyboard = transport.get_pipe_transport(0)

    def resized() -> None:
        columns, rows = os.get_terminal_size(sys.stdin.fileno())
        transport.set_window_size(rows, columns)

    loop.add_signal_handler(signal.SIGWINCH, resized)
    resized()
    loop.add_reader(sys.stdin, lambda: keyboard.write(os.read(sys.stdin.fileno(), 1024)))
    await screen.ended
    loop.remove_reader(sys.stdin)
    loop.remove_signal_handler(signal.SIGWINCH)
    return transport


async def with_input(command: list[str]) -> asyncio.SubprocessTransport:
    """Type all that there is to read, and wait until *command* ends."""
    loop = asyncio.get_running_loop()
    transport, screen = await spawn_pty(Screen, *command)
    typed = await loop.run_in_executor(None, sys.stdin.buffer.read)
    transport.get_pipe_transport(0).write(typed + END_OF_INPUT)
    await screen.ended
    return transport


@contextlib.contextmanager
def raw(terminal: int) -> Iterator[None]:
    """Let *terminal* pass on every key as it is: the inner terminal gives Ctrl-C and its like their meaning."""
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:] or [os.environ.get("SHELL", "/bin/sh")])))
