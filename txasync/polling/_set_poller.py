"""What both pollers do alike: callables by descriptor, and a kernel set that says which to call."""

from __future__ import annotations

from collections.abc import Callable

from ._kernel import READ, WRITE, KernelSet
from ._poller import Callback, Poller

__all__ = ["SetPoller"]


class SetPoller(Poller):
    """
    A poller that asks *kernel_set*, which it owns, what is ready. How the reactor sees it is left to a subclass.
    """

    def __init__(self, kernel_set: KernelSet) -> None:
        self._set = kernel_set
        self._ask = kernel_set.ready
        self._readers: dict[int, Callback] = {}
        self._writers: dict[int, Callback] = {}
        self._batch: list[tuple[int, int]] = []
        self._removed_in_batch: set[int] = set()

    def set_reader(self, fd: int, callback: Callback) -> None:
        other = WRITE if fd in self._writers else 0
        known = self._set.watch(fd, READ | other, READ | other if fd in self._readers else other)
        self._readers[fd] = callback
        if not known:
            self.remove_writer(fd)  # it was the closed file's

    def set_writer(self, fd: int, callback: Callback) -> None:
        other = READ if fd in self._readers else 0
        known = self._set.watch(fd, WRITE | other, WRITE | other if fd in self._writers else other)
        self._writers[fd] = callback
        if not known:
            self.remove_reader(fd)  # it was the closed file's

    def remove_reader(self, fd: int, callback: Callback | None = None) -> bool:
        if fd not in self._readers or not (callback is None or self._readers[fd] is callback):
            return False
        other = WRITE if fd in self._writers else 0
        self._narrow(fd, other, READ | other)
        return True

    def remove_writer(self, fd: int, callback: Callback | None = None) -> bool:
        if fd not in self._writers or not (callback is None or self._writers[fd] is callback):
            return False
        other = READ if fd in self._readers else 0
        self._narrow(fd, other, WRITE | other)
        return True

    def interest(self, fd: int) -> int:
        return (READ if fd in self._readers else 0) | (WRITE if fd in self._writers else 0)

    def _narrow(self, fd: int, interest: int, before: int) -> None:
        """Keep no more than *interest* in *fd*, of *before*, and nothing if its owner has closed it."""
        try:
            self._set.watch(fd, interest, before)
        except OSError:
            interest = 0
        if not interest & READ:
            self._readers.pop(fd, None)
        if not interest & WRITE:
            self._writers.pop(fd, None)
        if not interest:
            self._removed_in_batch.add(fd)

    def collect(self, timeout_s: float | None = 0.0) -> int:
        self._removed_in_batch.clear()
        self._batch = batch = self._ask(timeout_s)
        return len(batch)

    def dispatch(self, call: Callable[[Callback], object] | None = None) -> None:
        # A number that was removed since the batch was collected may belong to another file by now.
        removed = self._removed_in_batch
        readers = self._readers
        data = self._set.data if call is None else None
        for fd, event in self._batch:
            if removed and fd in removed:
                continue
            if event == data and fd in readers:  # most often
                readers[fd]()
            else:
                self._tell(fd, event, call)

    def _tell(self, fd: int, event: int, call: Callable[[Callback], object] | None) -> None:
        for concerned, callbacks in ((self._set.reads, self._readers), (self._set.writes, self._writers)):
            if event & concerned and fd not in self._removed_in_batch:
                callback = callbacks.get(fd)
                if callback is not None:
                    callback() if call is None else call(callback)

    def has_served_its_share(self, events: int) -> bool:
        return len(self._batch) < self._set.most_at_once or 3 * events >= len(self._readers)

    def close(self) -> None:
        self._readers.clear()
        self._writers.clear()
        self._set.close()
