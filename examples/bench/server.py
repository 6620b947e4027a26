"""
A server process of the benchmark: it offers the services that it is asked for, until it is killed.

    python server.py KIND CORE SERVICE...

It prints one line, a JSON object with the address of each service, and nothing else. Its processor time is read from
outside, by the clock that the kernel keeps for each process.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import sys

from kinds import KINDS

PR_SET_PDEATHSIG = 1


def settle(core: int) -> None:
    """Share *core* with the client, in batches; open as many descriptors as we may; end with our parent."""
    os.sched_setaffinity(0, {core})
    # Under the default policy the scheduler takes the core from whoever sends, each time that the other side wakes up.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def announce(addresses: dict[str, str]) -> None:
    """Tell the parent where the services are."""
    gc.collect()  # of what the imports left: else its memory would take in some of the connections, unseen
    print(json.dumps(addresses), flush=True)


def main() -> None:
    name, core, *services = sys.argv[1:]
    settle(int(core))
    importlib.import_module(KINDS[name].module).serve(name, services, announce)


if __name__ == "__main__":
    main()
