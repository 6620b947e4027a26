"""
What wakes the loop from other threads and from signal handlers.

It is a descriptor that the loop's poller watches. So a wake-up is kept if the reactor does not run yet, and reaches a
reactor in whose own poller ours is nested. To write to it costs as much as the rest of a call from a thread, so of all
those who wake the loop before it looks, only the first one writes.

Nothing here takes a lock, since a signal handler runs in the middle of whatever its thread does. It is the order that
counts instead:

========================================== =============================================
who wakes the loop                         the loop
========================================== =============================================
1. adds something to the queue             1. finds that the descriptor is readable
2. is done if `Wakeup.pending` is set      2. reads from it
3. sets it                                 3. clears `Wakeup.pending`
4. writes to the descriptor                4. looks at the queue before it sleeps again
========================================== =============================================

Whenever `Wakeup.pending` is set, the descriptor is readable, or somebody is about to do his step 4, or the loop is
between its steps 2 and 3. In each of these cases the loop will look at the queue, later than whoever finds it set now
has added something. Were the loop to clear it first and to read then, it could read what was written in between:
nothing would be readable, `Wakeup.pending` would be set, and nobody would write ever again. Two who come at once may
both write, which costs the loop a look at an empty queue.
"""

from __future__ import annotations

import os
import sys

from .polling import Poller

__all__ = ["Wakeup"]

# What is added to the counter of an eventfd; a pipe takes it as well.
ONE = (1).to_bytes(8, sys.byteorder)


class Wakeup:
    """
    Wakes a loop.

    Args:
        poller: The loop's poller.

    Raises:
        OSError: There is no descriptor to be had.

    Attributes:
        pending: Whether the loop is awake, or will be, and is yet to look at its queue; `wake` would do nothing.
    """

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._reading, self._writing = _open_both_ends()
        self._closed = False
        self.pending = False
        try:
            poller.set_reader(self._reading, self.clear)
        except BaseException:
            self.close()
            raise

    def wake(self) -> None:
        """
        Wake the loop, or let it not fall asleep; nothing once it is closed.

        Context:
            Any thread, and any signal handler. What the loop is to find is in its queue by now.
        """
        if self.pending:
            return
        try:
            self.pending = True
            os.write(self._writing, ONE)
        except BaseException as error:
            # A signal handler may have raised it, before anything was written.
            self.pending = self._closed
            if not (self._closed and isinstance(error, OSError)):
                raise

    def clear(self) -> None:
        """
        Have no wake-up pending, and let the next one be told again. The poller calls this, too.

        Context:
            The loop's thread, which is to look at its queue later than this and before it sleeps.
        """
        try:
            os.read(self._reading, len(ONE))
        except BlockingIOError:
            pass  # a round that was interrupted has left its events, which are told again
        finally:
            self.pending = False

    def close(self) -> None:
        """
        Give back the descriptor. Twice is fine.

        Context:
            The loop's thread. Others may `wake` at the same time.
        """
        if self._closed:
            return
        # From now on nobody writes, to whatever has the descriptor's number then.
        self._closed = self.pending = True
        self._poller.remove_reader(self._reading)
        for fd in {self._reading, self._writing}:
            os.close(fd)


def _open_both_ends() -> tuple[int, int]:
    """A descriptor to read from, and one to write to, which is the same where the system has eventfd(2)."""
    if sys.platform == "linux" and hasattr(os, "eventfd"):
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return fd, fd
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    return reading, writing
