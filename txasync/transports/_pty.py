"""A child on a pseudo-terminal, made of what asyncio's loops have: two pipe transports and a process transport."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import functools
import os
import struct
import termios
from collections.abc import Callable
from io import FileIO
from typing import Any, Literal, TypeAlias, TypeVar, overload

from ._reports import call_protocol

__all__ = ["PtyTransport", "spawn_pty"]

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.SubprocessProtocol)
_Argument: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"

STDIN, STDOUT = range(2)

WINDOW_SIZE = struct.Struct("HHHH")
LARGEST_WINDOW = 0xFFFF

# What the terminal decides, so that the caller cannot.
DECIDED = ("stdin", "stdout", "stderr", "start_new_session", "process_group")


async def spawn_pty(
    protocol_factory: Callable[[], _ProtocolT],
    program: _Argument,
    *args: _Argument,
    rows: int = 24,
    columns: int = 80,
    **popen_kwargs: Any,
) -> tuple[PtyTransport, _ProtocolT]:
    r"""
    Start *program* on a pseudo-terminal of its own.

    The child leads a new session; the terminal is its controlling terminal and its standard input, output and error.
    Job control works: ``b"\x03"`` is Ctrl-C and ``b"\x04"`` the end of input. The terminal echoes what is written to
    it, unless the child turns that off.

    The protocol hears of the child as of any other. What is printed comes as ``pipe_data_received(1, data)``, and after
    all of it ``pipe_connection_lost(1, None)``, when the child has ended or closed the terminal. At the child's exit
    come ``process_exited()`` and ``pipe_connection_lost(0, None)``; last of all comes ``connection_lost(None)``.

    Args:
        protocol_factory: Makes the protocol.
        program: The program, looked for as ``subprocess.Popen`` does it.
        args: Its arguments.
        rows: The height of the window, in characters.
        columns: Its width, in characters.
        popen_kwargs: What ``loop.subprocess_exec()`` takes besides, but for the standard streams and the session.

    Returns:
        The transport and the protocol, after ``connection_made()``.

    Raises:
        TypeError: *popen_kwargs* has what the terminal decides.
        ValueError: *rows* or *columns* is not in 0 to 65535.
        OSError: There is no pseudo-terminal to be had, or *program* cannot be started.

    Context:
        In a coroutine on our loop or on asyncio's own; not on uvloop, whose children have no session yet when their
        ``preexec_fn`` is called.

    Cancellation:
        The child is killed, and the terminal is closed.

    Source:
        asyncio, "Event Loop", "Running Subprocesses"; ``IReactorProcess.spawnProcess`` with ``usePTY``, whose child
        prints to descriptor 1 as well.
    """
    decided = [name for name in DECIDED if name in popen_kwargs]
    if decided:
        raise TypeError(f"a child on a pseudo-terminal has its own streams and session: leave out {', '.join(decided)}")
    size = _packed(rows, columns)
    prepare = popen_kwargs.pop("preexec_fn", None)
    protocol = protocol_factory()
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as closing, contextlib.ExitStack() as closing_on_failure:
        master, slave = os.openpty()
        closing.callback(os.close, slave)
        # A descriptor for each direction, so that each can have a transport, which closes it; and one for us.
        output = closing_on_failure.enter_context(FileIO(master, "r"))
        input_ = closing_on_failure.enter_context(FileIO(os.dup(master), "w"))
        terminal = closing_on_failure.enter_context(FileIO(os.dup(master), "r"))
        fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
        transport = PtyTransport(loop, protocol, output, input_, terminal)
        try:
            await transport._connect()
            await loop.subprocess_exec(
                lambda: _ChildProtocol(transport),
                program,
                *args,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                start_new_session=True,
                preexec_fn=_taking_the_terminal(slave, prepare),
                **popen_kwargs,
            )
        except BaseException:
            await transport._give_up()
            raise
        closing_on_failure.pop_all()
    return transport, protocol


def _packed(rows: int, columns: int) -> bytes:
    for name, size in ("rows", rows), ("columns", columns):
        if not 0 <= size <= LARGEST_WINDOW:
            raise ValueError(f"{name} must be in 0 to {LARGEST_WINDOW} (characters); got {size!r}")
    return WINDOW_SIZE.pack(rows, columns, 0, 0)


def _taking_the_terminal(slave: int, prepare: Callable[[], object] | None) -> Callable[[], object]:
    """What makes *slave* the controlling terminal of the child that calls it, and then does what the caller wants."""
    # Only the child can do it, after it has become the session's leader and before exec. In a process with threads no
    # Python code should run there, since it might wait for a lock that another thread held; one call of C takes none. A
    # shell or a Python in between would be worse: it changes the environment, argv[0] and what a failed exec raises.
    take = functools.partial(fcntl.ioctl, slave, termios.TIOCSCTTY, 0)
    if prepare is None:
        return take

    def take_and_prepare() -> None:  # pragma: no cover  # runs in the child
        take()
        prepare()

    return take_and_prepare


class PtyTransport(asyncio.SubprocessTransport):
    """
    A child on a pseudo-terminal; made by `spawn_pty`.

    ``get_pipe_transport(0)`` writes to the terminal and ``get_pipe_transport(1)`` reads from it, with everything that
    such transports can do; 2 gives None, since a terminal does not tell output from errors. When both are closed, the
    child is sent SIGHUP. To close only the one that writes tells the child nothing: write ``b"\\x04"`` for that.

    ``close()`` kills the child, as that of other processes does. ``get_extra_info("subprocess")`` is the
    ``subprocess.Popen`` of the child.

    Source:
        asyncio, "Transports and Protocols", "Subprocess Transports".
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_ends",
        "_exit_waiters",
        "_files",
        "_given_up",
        "_loop",
        "_output_ended",
        "_open_ends",
        "_process",
        "_process_lost",
        "_protocol",
    )

    _protocol: Any

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.SubprocessProtocol,
        output: FileIO,
        input_: FileIO,
        terminal: FileIO,
    ) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._files = output, input_, terminal
        self._output_ended = False
        self._ends: dict[int, Any] = {}
        self._open_ends: set[int] = set()
        self._process: asyncio.SubprocessTransport | None = None
        self._process_lost = self._closed = False
        self._exit_waiters: list[asyncio.Future[int | None]] = []
        self._given_up: asyncio.Future[None] | None = None

    # The way from a terminal without a child to a child, or to nothing

    async def _connect(self) -> None:
        output, input_, _ = self._files
        reader, _ = await self._loop.connect_read_pipe(lambda: _EndProtocol(self, STDOUT), output)
        # Until the protocol has heard of us.
        reader.pause_reading()
        await self._loop.connect_write_pipe(lambda: _EndProtocol(self, STDIN), input_)

    async def _give_up(self) -> None:
        """Close what is connected, and wait until it is closed."""
        self._closed = True
        if self._open_ends:
            self._given_up = self._loop.create_future()
            for end in self._ends.values():
                end.close()
            await self._given_up

    def _end_connected(self, fd: int, end: asyncio.BaseTransport) -> None:
        self._ends[fd] = end
        self._open_ends.add(fd)

    def _begin(self, process: asyncio.SubprocessTransport) -> None:
        self._process = process
        self._ends[STDOUT].resume_reading()
        self._tell("connection_made", self)

    # What asyncio.SubprocessTransport promises

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._child().get_extra_info(name, default)

    def get_pid(self) -> int:
        return self._child().get_pid()

    def get_returncode(self) -> int | None:
        return self._child().get_returncode()

    @overload
    def get_pipe_transport(self, fd: Literal[0]) -> asyncio.WriteTransport: ...
    @overload
    def get_pipe_transport(self, fd: Literal[1]) -> asyncio.ReadTransport: ...
    @overload
    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport | None: ...
    def get_pipe_transport(self, fd: int) -> asyncio.BaseTransport | None:
        end: asyncio.BaseTransport | None = self._ends.get(fd)
        return end

    def send_signal(self, signal: int) -> None:
        self._child().send_signal(signal)

    def terminate(self) -> None:
        self._child().terminate()

    def kill(self) -> None:
        self._child().kill()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if not self._loop.is_closed():
                self._ends[STDOUT].close()
                self._abort_input()
            self._child().close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}{' closed' if self._closed else ''} {self._process!r}>"

    def _child(self) -> asyncio.SubprocessTransport:
        assert self._process is not None  # nobody has got us before
        return self._process

    async def _wait(self) -> int | None:
        """The return code, when there is one: what ``asyncio.subprocess.Process.wait()`` calls."""
        if self.get_returncode() is None:
            waiter: asyncio.Future[int | None] = self._loop.create_future()
            self._exit_waiters.append(waiter)
            await waiter
        return self.get_returncode()

    # The window

    def get_window_size(self) -> tuple[int, int]:
        """
        The size of the terminal's window, which the child may have changed.

        Returns:
            Its rows and columns, in characters.

        Raises:
            OSError: The terminal is closed.
        """
        packed = fcntl.ioctl(self._terminal(), termios.TIOCGWINSZ, bytes(WINDOW_SIZE.size))
        rows, columns, _, _ = WINDOW_SIZE.unpack(packed)
        return rows, columns

    def set_window_size(self, rows: int, columns: int) -> None:
        """
        Set the size of the terminal's window. If it changes, the foreground processes are sent SIGWINCH.

        Args:
            rows: The height, in characters.
            columns: The width, in characters.

        Raises:
            ValueError: *rows* or *columns* is not in 0 to 65535.
            OSError: The terminal is closed.
        """
        fcntl.ioctl(self._terminal(), termios.TIOCSWINSZ, _packed(rows, columns))

    def _terminal(self) -> FileIO:
        for file in self._files:
            if not file.closed:
                return file
        raise OSError(errno.EBADF, "the pseudo-terminal is closed")

    # What the terminal and the child do

    def _abort_input(self) -> None:
        input_ = self._ends[STDIN]
        # A second end of one that is ending already would be one too many for asyncio's own.
        if not input_.is_closing() or input_.get_write_buffer_size():
            input_.abort()

    def _end_of_output(self) -> None:
        # A child may close the terminal a moment before it exits. If nobody had the other side open then, it would be
        # sent SIGHUP in that moment; so ours stays open until the exit.
        self._output_ended = True

    def _end_lost(self, fd: int, error: BaseException | None) -> None:
        if fd == STDOUT and isinstance(error, OSError) and error.errno == errno.EIO:
            error = None  # Linux's way to tell the end of output; others have an ordinary end of file
            self._end_of_output()
        self._open_ends.discard(fd)
        if not self._open_ends and not self._output_ended:
            self._files[-1].close()  # both were closed on our side: the terminal is hung up
        if self._given_up is not None and not self._given_up.done() and not self._open_ends:
            self._given_up.set_result(None)
        if self._process is not None:
            try:
                self._tell("pipe_connection_lost", fd, error)
            finally:
                self._finish_if_all_ended()

    def _exited(self) -> None:
        try:
            self._tell("process_exited")
        finally:
            for waiter in self._exit_waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._exit_waiters.clear()
            self._files[-1].close()
            self._abort_input()

    def _child_lost(self) -> None:
        self._child().close()
        self._process_lost = True
        self._finish_if_all_ended()

    def _finish_if_all_ended(self) -> None:
        if self._process_lost and not self._open_ends:
            self._closed = True
            self._tell("connection_lost", None)
            self._protocol = None

    def _tell(self, callback: str, *args: object) -> None:
        call_protocol(self._loop.call_exception_handler, self, callback, *args)


class _EndProtocol(asyncio.Protocol):
    """The protocol of one direction."""

    def __init__(self, pty: PtyTransport, fd: int) -> None:
        self._pty = pty
        self._fd = fd

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pty._end_connected(self._fd, transport)

    def data_received(self, data: bytes) -> None:
        self._pty._tell("pipe_data_received", self._fd, data)

    def eof_received(self) -> None:
        self._pty._end_of_output()

    def pause_writing(self) -> None:
        self._pty._tell("pause_writing")

    def resume_writing(self) -> None:
        self._pty._tell("resume_writing")

    def connection_lost(self, exc: BaseException | None) -> None:
        self._pty._end_lost(self._fd, exc)


class _ChildProtocol(asyncio.SubprocessProtocol):
    """The protocol of the child, which knows nothing of the terminal."""

    def __init__(self, pty: PtyTransport) -> None:
        self._pty = pty

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._pty._begin(transport)

    def process_exited(self) -> None:
        self._pty._exited()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._pty._child_lost()
