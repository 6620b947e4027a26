"""
What of test.test_asyncio is left out on our loop, and why.

The tests in `LEFT_OUT` are run all the same, if they do not hang: one that passes has lost its reason, and an entry
that matches no test of the versions that it names is stale. Both fail the suite.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

__all__ = ["LEFT_OUT", "SAME_TESTS", "LeftOut", "SameTests", "applying"]


class LeftOut(NamedTuple):
    """
    Tests that our loop does not have to pass.

    Args:
        module: The test module.
        tests: A pattern of ``TestClass.test_name``, as of `fnmatch`.
        reason: What the tests ask for that is not asked of us.
        since: The first Python version that has the tests.
        until: The last one.
        may_pass: Whether a race decides, so that passing does not make the entry stale.
        hangs: Whether a thread of the test's own waits for half a minute when it fails, so that it is not run.
    """

    module: str
    tests: str
    reason: str
    since: tuple[int, int] = (3, 10)
    until: tuple[int, int] = (3, 99)
    may_pass: bool = False
    hangs: bool = False


class SameTests(NamedTuple):
    """A class of tests that differs from another one only in the selector, which our loop does not take."""

    module: str
    test_class: str
    kept: str


def applying(module: str) -> list[LeftOut]:
    """The entries of `LEFT_OUT` for *module* on this version of Python."""
    return [
        entry for entry in LEFT_OUT if entry.module == module and entry.since <= sys.version_info[:2] <= entry.until
    ]


SAME_TESTS = tuple(
    SameTests(module, test_class, "EPollEventLoopTests")
    for module in ("test_events", "test_sendfile", "test_sock_lowlevel")
    for test_class in ("PollEventLoopTests", "SelectEventLoopTests")
)

_MOCKED_SIGNAL = (
    "replaces the signal module inside asyncio.unix_events by a mock and looks at what is called there; "
    "our handlers are installed elsewhere, and without set_wakeup_fd, which belongs to the reactor"
)

_MOCKED_PIPES = "replaces loop.connect_*_pipe, which asyncio's process transport calls: ours makes its pipes itself"

_TASKS_IN_PYTHON = (
    "replaces what asyncio has in C, tasks among it, by the same in Python; our tasks are of a subclass of those in C"
)

LEFT_OUT = (
    *(
        LeftOut("test_unix_events", f"SelectorEventLoopSignalTests.{test}", _MOCKED_SIGNAL)
        for test in (
            "test_add_signal_handler_install_error",
            "test_add_signal_handler_install_error[23]",
            "test_add_signal_handler_setup_error",
            "test_remove_signal_handler",
            "test_remove_signal_handler_2",
            "test_remove_signal_handler_error",
            "test_remove_signal_handler_error2",
        )
    ),
    *(
        LeftOut(
            "test_unix_events",
            f"SelectorEventLoopSignalTests.{test}",
            "looks into the private _signal_handlers, which asyncio's own way of handling signals fills",
        )
        for test in ("test_add_signal_handler", "test_close", "test_close_on_finalizing")
    ),
    LeftOut(
        "test_events",
        "*.test_internal_fds",
        "looks into the private _csock and _ssock, the socket pair by which asyncio's loop is woken",
    ),
    LeftOut(
        "test_subprocess",
        "*.test_pause_reading",
        _MOCKED_PIPES,
    ),
    *(
        LeftOut("test_subprocess", f"*.test_subprocess_{pipes}_pipe_cancelled", _MOCKED_PIPES, since=(3, 14))
        for pipes in ("read", "write", "read_write")
    ),
    LeftOut(
        "test_subprocess",
        "SubprocessThreadedWatcherTests.test_pid_not_reaped_before_exit_published",
        "looks into the private _watcher of asyncio's loop",
        since=(3, 14),
    ),
    LeftOut(
        "test_unix_events",
        "*.test_pidfd_closed_when_waitpid_raises",
        "calls the private _process_exited of asyncio's process transport",
        since=(3, 14),
    ),
    *(
        LeftOut("test_ssl", f"TestSSL.{test}", "looks into the private SSLProtocol of asyncio", since=since, hangs=True)
        for test, since in (
            ("test_flush_before_shutdown", (3, 11)),
            ("test_remote_shutdown_receives_trailing_data", (3, 11)),
            ("test_remote_shutdown_receives_trailing_data_on_slow_socket", (3, 14)),
        )
    ),
    LeftOut(
        "test_server_context",
        "AsyncioEventLoopSSLTests.test_gh140947",
        "looks into the private SSLProtocol of asyncio",
        since=(3, 15),
        hangs=True,
    ),
    LeftOut(
        "test_sslproto",
        "SelectorStartTLSTests.test_create_connection_ssl_failed_certificate_no_cycles",
        "replaces a method of the private SSLProtocol of asyncio, to get at its transport",
        since=(3, 14),
    ),
    LeftOut(
        "test_ssl",
        "TestSSL.test_shutdown_timeout_handler_not_set",
        "its peer ends TCP without close_notify, and wants to read nothing more: we say close_notify, as RFC 8446 asks",
        since=(3, 11),
        may_pass=True,
    ),
    LeftOut("test_graph", "TestCallStackPy.*", _TASKS_IN_PYTHON, since=(3, 14)),
    *(
        LeftOut("test_events", f"TestPyGetEventLoop.{test}", _TASKS_IN_PYTHON, since=(3, 14), hangs=True)
        for test in (
            "test_get_event_loop_new_process",
            "test_get_event_loop_returns_running_loop",
            "test_get_event_loop_returns_running_loop2",
            "test_get_running_loop_already_running",
        )
    ),
)
