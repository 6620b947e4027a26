"""Programs that run nothing, for each kind: what it costs to start and to end."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from processes import Failed, environment

_COROUTINE = "async def main(): pass\n"
_REACTOR = "from twisted.internet import reactor\n"
_RUN_REACTOR = "reactor.callWhenRunning(reactor.stop)\nreactor.run()\n"
_ASYNCIO_REACTOR = "from twisted.internet import asyncioreactor\nasyncioreactor.install()\n"
_OUR_REACTOR = "import txasync.reactor\ntxasync.reactor.install()\n"

# None of them installs a reactor that it would get anyhow. They are not the servers, which import more than a loop.
PROGRAMS = {
    "txasync": f"{_REACTOR}import txasync\ntxasync.install()\n{_RUN_REACTOR}",
    "txasync-reactor": f"{_OUR_REACTOR}{_REACTOR}txasync.install()\n{_RUN_REACTOR}",
    "txasync-driven": f"import txasync\n{_COROUTINE}txasync.run(main())\n",
    "asyncio": f"import asyncio\n{_COROUTINE}asyncio.run(main())\n",
    "uvloop": f"import uvloop\n{_COROUTINE}uvloop.run(main())\n",
    "zuvloop": f"import zuvloop\n{_COROUTINE}zuvloop.run(main())\n",
    "twisted": f"{_REACTOR}{_RUN_REACTOR}",
    "twisted-on-ours": f"{_OUR_REACTOR}{_REACTOR}{_RUN_REACTOR}",
    "asyncioreactor": f"{_ASYNCIO_REACTOR}{_REACTOR}{_RUN_REACTOR}",
    "epoll": "import select\nselect.epoll().close()\n",
}


def cpu_ns(kind: str, core: int) -> int:
    """
    Run the program of *kind* to its end.

    Returns:
        The processor time, user and system, that its process has taken in all.

    Raises:
        Failed: It ended with an error. What it had to say is on our standard error.
    """
    # Modules are compiled by the first run, which does not count.
    settings = {name: value for name, value in environment().items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", PROGRAMS[kind]]
    with _as_servers_run(core):
        pid = os.posix_spawn(command[0], command, settings)
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        raise Failed(f"the program of {kind} that runs nothing ended with {os.waitstatus_to_exitcode(status)}")
    return round((usage.ru_utime + usage.ru_stime) * 1e9)


@contextlib.contextmanager
def _as_servers_run(core: int) -> Iterator[None]:
    """Have processes that are started now run like servers: on *core*, in batches."""
    # They inherit it from us. To set it between fork and exec would have a copy of this process in their figures.
    cores, policy = os.sched_getaffinity(0), os.sched_getscheduler(0)
    os.sched_setaffinity(0, {core})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, os.sched_param(0))
        os.sched_setaffinity(0, cores)
