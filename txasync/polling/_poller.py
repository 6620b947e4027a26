"""What every poller provides: callables per descriptor, told when it is ready."""

from __future__ import annotations

import abc
from collections.abc import Callable

__all__ = ["Callback", "Poller"]

Callback = Callable[[], object]


class Poller(abc.ABC):
    """
    File descriptors on one side, plain callables on the other, a reactor that waits behind.

    The reactor calls ``on_ready`` when at least one descriptor is ready; whoever gave ``on_ready`` then calls
    `collect`, and `dispatch` when it is the turn of the descriptors. Readiness is level-triggered: a callable is called
    again in the next batch as long as its descriptor stays ready.

    Context:
        Every method belongs to the reactor's thread. A callable may add and remove any descriptor, its own included,
        and close it: what was removed is not called any more, even if it was ready in the same batch, and a new
        descriptor that got the number of a closed one is not called for the old one's readiness.
    """

    @abc.abstractmethod
    def set_reader(self, fd: int, callback: Callback) -> None:
        """
        Call *callback* whenever *fd* is readable, at its end, or broken; in place of an earlier callable of *fd*.

        A descriptor must be removed before it is closed. If its owner forgot that, setting a reader on the number's
        next owner forgets the old one.

        Raises:
            OSError: The kernel cannot watch *fd*; nothing has changed then.
        """

    @abc.abstractmethod
    def set_writer(self, fd: int, callback: Callback) -> None:
        """Call *callback* whenever *fd* is writable or broken; otherwise as `set_reader`."""

    @abc.abstractmethod
    def remove_reader(self, fd: int, callback: Callback | None = None) -> bool:
        """
        Forget the reading callable of *fd* at once; true if there was one. Never fails, even if *fd* is closed.

        Args:
            callback: Forget no other than this one: for those who cannot be sure that the number is still theirs.
        """

    @abc.abstractmethod
    def remove_writer(self, fd: int, callback: Callback | None = None) -> bool:
        """Forget the writing callable of *fd* at once; otherwise as `remove_reader`."""

    @abc.abstractmethod
    def interest(self, fd: int) -> int:
        """READ, WRITE, both or neither, as there are callables for *fd*."""

    @abc.abstractmethod
    def collect(self, timeout_s: float | None = 0.0) -> int:
        """Look which descriptors are ready, waiting *timeout_s* seconds at most (None: for ever); how many are."""

    @abc.abstractmethod
    def dispatch(self, call: Callable[[Callback], object] | None = None) -> None:
        """
        Call the callables of every descriptor that the last `collect` found, each once.

        Args:
            call: Called with each callable instead, to do it in its own way.
        """

    @abc.abstractmethod
    def has_served_its_share(self, events: int) -> bool:
        """
        Whether the reactor's own descriptors should have their turn, after *events* in this one.

        That is when all that was ready has been served; or, where more was ready than the kernel tells of at once, a
        third of all descriptors. A transport of Twisted's takes three turns for a message and its answer: it reads the
        one, sends the other in the next, and in the third it can read what its peer has sent upon that.
        """

    @abc.abstractmethod
    def suspend(self) -> None:
        """Show nothing to the reactor until `resume`, so that an unserved descriptor does not make it spin."""

    @abc.abstractmethod
    def resume(self) -> None:
        """Show everything to the reactor again."""

    @abc.abstractmethod
    def close(self) -> None:
        """Leave the reactor and give back what the poller owns. The descriptors themselves stay open. Twice is fine."""
