"""
Which of the installed Twisted's own tests are run, and what is known of their outcomes on our reactor.

They are all that Twisted makes for each of its reactors (the test cases of ``ReactorBuilder``), and those in which the
process's reactor waits, or does input and output: TCP, TLS, UDP, UNIX sockets, processes, standard input and output,
threads, timers, inotify. What runs no reactor is left out, which is most of Twisted's suite: parsers, protocols on
transports in memory, endpoints on fake reactors, the making of certificates. So are the tests of protocols, such as
those of mail, names, web, spread and FTP, which passed alike when this was made; Conch's, which mostly start ``ssh``
and make keys; and trial's own.
"""

from __future__ import annotations

import fnmatch
import functools
from pathlib import Path
from typing import NamedTuple

import twisted

__all__ = ["DIFFERENCES", "NOT_RUN", "Difference", "built_for_each_reactor", "is_chosen", "parts"]

# A process runs each. Processes and streams take three quarters of the time.
_PARTS = {
    "processes": ("twisted.test.test_process",),
    "streams": ("twisted.test.test_sslverify", "twisted.test.test_stdio"),
    "others": (
        *("twisted.internet.test.test_inotify", "twisted.internet.test.test_posixbase"),
        *("twisted.test.test_internet", "twisted.test.test_iutils", "twisted.test.test_ssl", "twisted.test.test_tcp"),
        *("twisted.test.test_tcp_internals", "twisted.test.test_threads", "twisted.test.test_udp"),
        "twisted.test.test_unix",
    ),
}

# Of a module in which most tests take long without a reactor, those that have one.
_ONLY = {"twisted.test.test_sslverify": ("*Connection", "*erification", "*DiffieHellman")}
# Fifty interpreters, one after another: a quarter of the whole time, for what the tests beside it show with one.
_TOO_LONG = ("*.test_manyProcesses",)


@functools.cache
def built_for_each_reactor() -> tuple[str, ...]:
    """The modules in which Twisted makes a test case for each reactor."""
    top = Path(twisted.__file__).parent
    modules = sorted(path for path in top.rglob("test_*.py") if "makeTestCaseClasses()" in path.read_text("utf-8"))
    return tuple(".".join(path.relative_to(top.parent).with_suffix("").parts) for path in modules)


def parts(*, built_only: bool) -> dict[str, tuple[str, ...]]:
    """
    The modules that one process each runs; the slowest are first.

    Args:
        built_only: Leave out the tests of the process's reactor.
    """
    built = {"built for each reactor": built_for_each_reactor()}
    return built if built_only else _PARTS | built


def is_chosen(test: str) -> bool:
    """Whether the test of that name is run."""
    module = ".".join(test.split(".")[:-2])
    only = _ONLY.get(module, ("*",))
    return _matches(test, only) and not _matches(test, _TOO_LONG)


def _matches(test: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(test, pattern) for pattern in patterns)


class Difference(NamedTuple):
    """
    A test of Twisted's whose outcome on our reactor differs from that on EPollReactor, and is to.

    Attributes:
        tests: A pattern of full names, as of `fnmatch`.
        on_epoll: How the outcome on EPollReactor begins.
        on_ours: How it begins on ours. ``"not run"``: it is not run there.
        reason: Why that is as it should be.
        configurations: Where.
    """

    tests: str
    on_epoll: str
    on_ours: str
    reason: str
    configurations: tuple[str, ...] = ("txasync", "txasync with asyncio")

    def explains(self, test: str, on_epoll: str, on_ours: str) -> bool:
        """Whether this is why the outcomes of *test* differ."""
        return (
            fnmatch.fnmatchcase(test, self.tests)
            and on_epoll.startswith(self.on_epoll)
            and on_ours.startswith(self.on_ours)
        )


NOT_RUN = "not run"

DIFFERENCES = (
    Difference(
        "twisted.internet.test.test_fdset.ReactorFDSetTestsBuilder_*.test_lostFileDescriptor",
        "skip ('EPollReactor' cannot detect lost file descriptors)",
        NOT_RUN,
        "it waits for what no epoll tells, and skips the reactors that have one by their names, of which ours is none",
    ),
)
