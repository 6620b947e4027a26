"""
Run scenarios, each in a fork of this process: libraries take longer to import than most scenarios to run.

Reads requests from stdin, one a line, as JSON: the arguments of `run_scenario`, and the files that take its stdout and
its stderr. Writes the exit code of each to stdout, one a line. A fork is like a program of its own in all but its
imports: it has its own reactor, and ends as the interpreter ends.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from typing import Any

from . import run_scenario


def next_request() -> Any:
    """The request that this process, a fork, is to run; None in the server, at its end."""
    for module in run_scenario.REACTOR_MODULES.values():
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        run_scenario.import_module_of(request["arguments"][2])
        gc.freeze()  # so that a fork does not look through what it has imported whenever it collects garbage
        pid = os.fork()
        if pid == 0:
            return request
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return None


def main() -> None:
    """Serve until stdin ends."""
    request = next_request()
    if request is None:
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for fd, path in enumerate([os.devnull, request["stdout"], request["stderr"]]):
        opened = os.open(path, flags if fd else os.O_RDONLY)
        os.dup2(opened, fd)
        os.close(opened)
    run_scenario.main(*request["arguments"])


if __name__ == "__main__":
    main()
