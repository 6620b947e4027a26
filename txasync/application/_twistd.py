"""``twistd txasync``: options and the service that they ask for."""

from __future__ import annotations

from twisted.application.service import IService
from twisted.python.failure import Failure
from twisted.python.reflect import namedAny
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from ._services import TaskService

__all__ = ["Options", "makeService"]


class Options(UsageOptions):
    """The command line of ``twistd txasync``."""

    synopsis = "[--run=module:function]"
    longdesc = "Run asyncio code on the reactor that twistd runs."
    optParameters = [
        ["run", None, None, "The async def function to run, as module:function; its end stops the process."],
    ]

    def postOptions(self) -> None:
        """
        Find what is to be run.

        Raises:
            UsageError: There is nothing to run, or it cannot be imported.
        """
        name = self["run"]
        if name is None:
            raise UsageError("say what to run: --run=module:function")
        module, _, function = name.partition(":")
        if not module or not function:
            raise UsageError(f"--run takes module:function, such as package.module:main; got {name!r}")
        try:
            self.main = namedAny(f"{module}.{function}")
        except Exception as error:
            raise UsageError(f"cannot import {name!r}: {type(error).__name__}: {error}") from error


def makeService(options: Options) -> IService:
    """Make the service that *options* ask for: it runs the function, and stops the reactor at its end."""

    def ended(failure: Failure | None) -> None:
        from twisted.internet import reactor

        reactor.stop()

    service: IService = TaskService(options.main, ended)
    return service
