"""
The process transport: a child, the pipes to it, and its end.

A protocol hears of a child in this order, whatever the order in which things come to pass: ``connection_made()``; then
what comes through the pipes, the end of each pipe, and ``process_exited()``, as they come; last, after all pipes have
ended and the child has exited, ``connection_lost()``.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import signal
import subprocess
import warnings
from asyncio.base_subprocess import BaseSubprocessTransport
from collections.abc import Mapping
from typing import Any

from ._child_exits import ChildExits
from ._pipe import ReadPipeTransport, WritePipeTransport
from ._reports import call_protocol
from ._services import LoopServices

__all__ = ["ProcessTransport", "start_process"]

_logger = logging.getLogger("asyncio")

STDIN, STDOUT, STDERR = range(3)

# Whether waiting for a child ends at its exit, though somebody may still hold a pipe of it, or when the pipes have
# ended as well (python/cpython#119710): as in this version of asyncio, whose patch levels differ.
WAIT_ENDS_AT_EXIT = "_exit_waiters" in BaseSubprocessTransport._process_exited.__code__.co_names

# What asyncio reports when somebody else has reaped the child.
UNKNOWN_RETURNCODE = 255


class ProcessTransport(asyncio.SubprocessTransport):
    """
    A child of this process.

    The child is started by ``subprocess.Popen``, before this returns. Its pipes are transports of their own, but what
    comes through them goes to the one protocol at once.

    Args:
        services: The loop.
        protocol: The protocol.
        args: As for ``subprocess.Popen``.
        shell: As for ``subprocess.Popen``.
        stdin: As for ``subprocess.Popen``; ``subprocess.PIPE`` makes a transport.
        stdout: As *stdin*.
        stderr: As *stdin*.
        bufsize: As for ``subprocess.Popen``: 0.
        waiter: Given a result when ``connection_made()`` has been called.
        extra: What ``get_extra_info()`` is to know besides ``"subprocess"``.
        exits: Tells of the child's end.
        popen_kwargs: Everything else that ``subprocess.Popen`` takes.

    Raises:
        OSError, ValueError, TypeError, subprocess.SubprocessError: The child could not be started: those of
            ``subprocess.Popen``.

    Context:
        The loop's thread.

    Source:
        asyncio, "Transports and Protocols", "Subprocess Transports". When the coroutine behind
        ``asyncio.subprocess.Process.wait()`` returns depends on the version of Python, as in asyncio: at exit, or (3.11
        to some 3.13.x) at ``connection_lost()``.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_context",
        "_disconnected",
        "_exit_waiters",
        "_exits",
        "_pipes",
        "_popen",
        "_protocol",
        "_returncode",
        "_services",
    )

    _protocol: Any

    def __init__(
        self,
        services: LoopServices,
        protocol: asyncio.BaseProtocol,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        waiter: asyncio.Future[None] | None = None,
        extra: Mapping[str, Any] | None = None,
        *,
        exits: ChildExits,
        **popen_kwargs: Any,
    ) -> None:
        info = dict(extra or {})
        super().__init__(info)
        self._closed = True  # there is nothing to close yet
        self._services = services
        self._exits = exits
        self._protocol = protocol
        self._returncode: int | None = None
        self._exit_waiters: list[asyncio.Future[int]] = []
        self._pipes: dict[int, ReadPipeTransport | WritePipeTransport] = {}
        self._disconnected = 0
        self._popen: subprocess.Popen[bytes] | None = None
        popen = subprocess.Popen(
            args, shell=shell, stdin=stdin, stdout=stdout, stderr=stderr, bufsize=bufsize, **popen_kwargs
        )
        self._popen = popen
        self._closed = False
        info["subprocess"] = popen
        if services.get_debug():
            program = args if isinstance(args, bytes | str) else args[0]
            _logger.debug("process %r created: pid %s", program, popen.pid)
        try:
            if popen.stdin is not None:
                self._pipes[STDIN] = WritePipeTransport(services, popen.stdin, _PipeProtocol(self, STDIN))
            if popen.stdout is not None:
                self._pipes[STDOUT] = ReadPipeTransport(services, popen.stdout, _OutputProtocol(self, STDOUT))
            if popen.stderr is not None:
                self._pipes[STDERR] = ReadPipeTransport(services, popen.stderr, _OutputProtocol(self, STDERR))
            # What the exit brings is run in the creator's context, as asyncio does it.
            self._context = contextvars.copy_context()
            # After the pipes have begun, in the same round: they deliver nothing before the protocol knows of us.
            services.call_soon(self._begin, waiter)
        except BaseException:
            self._undo(popen)
            raise

    def _undo(self, popen: subprocess.Popen[bytes]) -> None:
        """Leave no child behind, and no descriptor."""
        self._closed = True
        for file in popen.stdin, popen.stdout, popen.stderr:
            if file is not None:
                file.close()
        popen.kill()
        popen.wait()

    def _begin(self, waiter: asyncio.Future[None] | None) -> None:
        assert self._popen is not None
        try:
            self._tell("connection_made", self)
        finally:
            self._exits.watch(self._popen.pid, lambda returncode: self._context.run(self._exited, returncode))
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    # What asyncio.SubprocessTransport promises

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._closed

    def get_pid(self) -> int:
        popen: subprocess.Popen[bytes] = self.get_extra_info("subprocess")
        return popen.pid

    def get_returncode(self) -> int | None:
        return self._returncode

    def get_pipe_transport(self, fd: int) -> ReadPipeTransport | WritePipeTransport | None:
        return self._pipes.get(fd)

    def send_signal(self, signal: int) -> None:
        if self._popen is None:
            raise ProcessLookupError
        # A child that was reaped has no number any more; it may be a stranger's. Popen.send_signal() would reap.
        if self._is_running():
            try:
                os.kill(self._popen.pid, signal)
            except ProcessLookupError:
                pass  # SIGCHLD is ignored, so that the system has reaped it

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _is_running(self) -> bool:
        """Whether the child has its number still; it may be a zombie."""
        return self._popen is not None and self._popen.returncode is None and self._returncode is None

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if not self._services.is_closed():
            for pipe in self._pipes.values():
                pipe.close()
        if self._is_running():
            if self._services.get_debug():
                _logger.warning("Close running child process: kill %r", self)
            self._kill()

    def _kill(self) -> None:
        assert self._popen is not None
        try:
            self._popen.kill()
        except (ProcessLookupError, PermissionError):
            pass  # it has ended, or runs as somebody else

    def __repr__(self) -> str:
        info = [type(self).__name__]
        if self._closed:
            info.append("closed")
        info.append(f"pid={self.get_pid()}")
        info.append("running" if self._returncode is None else f"returncode={self._returncode}")
        for fd, name in (STDIN, "stdin"), (STDOUT, "stdout"), (STDERR, "stderr"):
            if fd in self._pipes:
                info.append(f"{name}={self._pipes[fd]}")
        return f"<{' '.join(info)}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        # The loop is left alone (python/cpython#114177); the pipes, which nobody else has, warn for themselves.
        if not self._closed:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self._closed = True
            if self._is_running():
                self._kill()

    async def _wait(self) -> int:
        """The return code, when there is one: what ``asyncio.subprocess.Process.wait()`` calls."""
        if self._returncode is not None:
            return self._returncode
        waiter: asyncio.Future[int] = self._services.create_future()
        self._exit_waiters.append(waiter)
        try:
            return await waiter
        finally:
            if waiter in self._exit_waiters:
                self._exit_waiters.remove(waiter)

    # What the child and its pipes do

    def _exited(self, returncode: int | None) -> None:
        popen = self._popen
        assert popen is not None
        if returncode is None:
            # Somebody has waited for it, by way of our Popen object if we are lucky.
            returncode = popen.returncode
            if returncode is None:
                returncode = UNKNOWN_RETURNCODE
                _logger.warning(
                    "child process pid %d exit status already read:  will report returncode %d", popen.pid, returncode
                )
        if self._services.get_debug():
            _logger.info("%r exited with return code %r", self, returncode)
        self._returncode = returncode
        popen.returncode = returncode
        self._services.call_soon(self._tell, "process_exited")
        if WAIT_ENDS_AT_EXIT:
            self._end_waits()
        self._finish_if_all_ended()

    def _end_waits(self) -> None:
        assert self._returncode is not None
        for waiter in self._exit_waiters:
            if not waiter.done():
                waiter.set_result(self._returncode)
        self._exit_waiters.clear()

    def _pipe_lost(self, fd: int, error: BaseException | None) -> None:
        self._disconnected += 1
        self._services.call_soon(self._tell, "pipe_connection_lost", fd, error)
        self._finish_if_all_ended()

    def _finish_if_all_ended(self) -> None:
        if self._returncode is not None and self._disconnected == len(self._pipes):
            self._services.call_soon(self._finish)

    def _finish(self) -> None:
        try:
            self._tell("connection_lost", None)
        finally:
            self._end_waits()
            self._popen = None
            self._protocol = None

    def _tell(self, callback: str, *args: object) -> None:
        call_protocol(self._services.call_exception_handler, self, callback, *args)


class _PipeProtocol(asyncio.BaseProtocol):
    """The protocol of a pipe, which tells the one of the process."""

    __slots__ = ("_fd", "_process")

    def __init__(self, process: ProcessTransport, fd: int) -> None:
        self._process = process
        self._fd = fd

    def __repr__(self) -> str:
        return f"<{type(self).__name__} fd={self._fd} of {self._process!r}>"

    def connection_lost(self, exc: BaseException | None) -> None:
        self._process._pipe_lost(self._fd, exc)

    def pause_writing(self) -> None:
        self._process._tell("pause_writing")

    def resume_writing(self) -> None:
        self._process._tell("resume_writing")


class _OutputProtocol(_PipeProtocol, asyncio.Protocol):
    """The protocol of a pipe from the child."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        self._process._tell("pipe_data_received", self._fd, data)


async def start_process(
    services: LoopServices,
    protocol: asyncio.BaseProtocol,
    args: Any,
    shell: bool,
    stdin: Any,
    stdout: Any,
    stderr: Any,
    bufsize: int,
    *,
    exits: ChildExits,
    extra: Mapping[str, Any] | None = None,
    **popen_kwargs: Any,
) -> ProcessTransport:
    """
    Start a child, and return when its protocol knows of it. Arguments and errors are those of `ProcessTransport`.

    Cancellation:
        The child is killed, its pipes are closed, and the call ends when it is reaped. Cancelled once more, it ends at
        once; the child is reaped in the loop all the same.
    """
    waiter: asyncio.Future[None] = services.create_future()
    transport = ProcessTransport(
        services, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter, extra, exits=exits, **popen_kwargs
    )
    try:
        await waiter
    except asyncio.CancelledError:
        transport.close()
        await transport._wait()
        raise
    return transport
