"""The standard library's IsolatedAsyncioTestCase, on loops of ours."""

from __future__ import annotations

import asyncio
import sys
import unittest
from typing import Any

from .._default_loop import new_default_loop

__all__ = ["IsolatedAsyncioTestCase"]


class IsolatedAsyncioTestCase(unittest.IsolatedAsyncioTestCase):
    """
    `unittest.IsolatedAsyncioTestCase`, each test of which has a new loop on a reactor.

    That is the process's reactor, Twisted's default one if none is installed: a test may use whatever imports
    ``twisted.internet.reactor``, and await Deferreds. If that reactor runs, has a loop or was stopped, the test's loop
    has a reactor of its own.

    Context:
        Where the standard library's works: under ``python -m unittest``, pytest and trial.

    Source:
        unittest, ``IsolatedAsyncioTestCase``.
    """

    # Python has this attribute from 3.13 on; before, it is read below.
    loop_factory: Any = staticmethod(new_default_loop)

    if sys.version_info < (3, 11):

        def _setupAsyncioLoop(self) -> None:
            loop = self.loop_factory()
            asyncio.set_event_loop(loop)
            loop.set_debug(True)
            self._asyncioTestLoop = loop
            running = loop.create_future()
            runner: Any = super()
            self._asyncioCallsTask = loop.create_task(runner._asyncioLoopRunner(running))
            loop.run_until_complete(running)

    elif sys.version_info < (3, 13):

        def _setupAsyncioRunner(self) -> None:
            self._asyncioRunner = asyncio.Runner(debug=True, loop_factory=self.loop_factory)
