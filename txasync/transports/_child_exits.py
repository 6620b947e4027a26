"""
How a loop hears of the end of its children, each by its own number, and never by SIGCHLD.

Linux has a descriptor for a process, which the poller watches as any other. Elsewhere, and where there is no descriptor
to be had, a thread waits. Either way the child is reaped in the loop's thread: until `ChildExits` has told of an exit,
the number is the child's, and a signal that is sent to it there reaches nobody else.
"""

from __future__ import annotations

import functools
import os
import select
import sys
import threading
from collections.abc import Callable

from ._services import LoopServices

__all__ = ["ChildExits"]


class ChildExits:
    """
    Tells when children of this process have ended, and reaps them.

    Args:
        services: The loop.
    """

    def __init__(self, services: LoopServices) -> None:
        self._services = services

    def watch(self, pid: int, exited: Callable[[int | None], object]) -> None:
        """
        Call *exited* once, in the loop, when child *pid* has ended and was reaped.

        Args:
            pid: A child of this process, which nobody else is to wait for.
            exited: Called with the return code as ``subprocess.Popen`` has it, or with None if somebody else has
                reaped the child. An exception out of it goes to the loop's exception handler.

        Context:
            The loop's thread.
        """
        if not self._watch_descriptor(pid, exited):
            self._watch_in_thread(pid, exited)

    def _watch_descriptor(self, pid: int, exited: Callable[[int | None], object]) -> bool:
        if not hasattr(os, "pidfd_open"):
            return False
        try:
            descriptor = _ProcessDescriptor(pid)
            ready = functools.partial(self._descriptor_ready, descriptor, pid, exited)
            self._services.poller.set_reader(descriptor.fd, ready)
        except OSError:
            return False  # an old or a guarded kernel (ENOSYS, EPERM), or no descriptor is left (EMFILE)
        return True

    def _descriptor_ready(
        self, descriptor: _ProcessDescriptor, pid: int, exited: Callable[[int | None], object]
    ) -> None:
        ended, returncode = reap(pid)
        if ended:
            self._services.poller.remove_reader(descriptor.fd)
            descriptor.close()
            try:
                exited(returncode)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._services.call_exception_handler({"message": f"exit of child {pid}", "exception": error})

    def _watch_in_thread(self, pid: int, exited: Callable[[int | None], object]) -> None:
        threading.Thread(target=self._wait, args=(pid, exited), name=f"txasync-wait-{pid}", daemon=True).start()

    def _wait(self, pid: int, exited: Callable[[int | None], object]) -> None:
        await_exit(pid)
        try:
            self._services.call_soon_threadsafe(self._reap_and_tell, pid, exited)
        except RuntimeError:
            reap(pid)  # the loop is closed: nobody is to be told, but a zombie would stay

    def _reap_and_tell(self, pid: int, exited: Callable[[int | None], object]) -> None:
        exited(reap(pid)[1])


class _ProcessDescriptor:
    """What the kernel calls a pidfd; closed with the object at the latest, since a loop may end before a child."""

    __slots__ = ("fd",)

    def __init__(self, pid: int) -> None:
        self.fd = -1
        self.fd = os.pidfd_open(pid)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    __del__ = close


def reap(pid: int) -> tuple[bool, int | None]:
    """Whether child *pid* has ended, and its return code; None if somebody else has taken that. Does not wait."""
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True, None
    # A debugger that is attached to the child sees its end before we may.
    return (True, os.waitstatus_to_exitcode(status)) if reaped else (False, None)


if sys.platform == "linux" or hasattr(os, "waitid"):

    def _has_ended(status: os.waitid_result | None) -> bool:
        """macOS tells of a stop as well, until that is taken; asyncio sees to it from 3.15 on."""
        return status is None or status.si_code != os.CLD_STOPPED

    def await_exit(pid: int) -> None:
        """Wait until child *pid* has ended, and leave it to be reaped."""
        try:
            while not _has_ended(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)):  # pragma: no cover  # macOS
                os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:
            pass  # somebody else has reaped it

else:  # pragma: no cover  # no machine of ours is without waitid

    def await_exit(pid: int) -> None:
        """Wait until child *pid* has ended, and leave it to be reaped. Written by kqueue's documentation, untested."""
        queue = select.kqueue()
        try:
            queue.control([select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)], 1)
        except ProcessLookupError:
            pass  # it has ended before
        finally:
            queue.close()
