"""``twistd txasync``: the command line, and the program that it asks for."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from twisted.application.service import IService
from twisted.internet.interfaces import IProtocolFactory
from twisted.python.usage import Options as UsageOptions

from ._named import CannotImport, import_named
from ._program import Program
from ._server_service import ServerService

__all__ = ["Options", "makeService"]

LEVELS = ("debug", "info", "warning", "error", "critical")


class _Listener:
    """What `--listen`, `--protocol` and `--stream` say of one protocol."""

    def __init__(self) -> None:
        self.endpoints: list[str] = []
        self.protocol: str | None = None
        self.is_stream = False

    def checked_protocol(self) -> Any:
        """The object that is named, if it can be what it is said to be."""
        assert self.protocol is not None
        found = _imported(self.protocol)
        if IProtocolFactory.providedBy(found):
            _refuse(f"{self.protocol!r} is a factory of Twisted's, not of asyncio's protocols")
        if not callable(found):
            _refuse(f"{self.protocol!r} is {found!r}, which cannot be called to make a protocol")
        if inspect.iscoroutinefunction(found) and not self.is_stream:
            _refuse(f"{self.protocol!r} is a coroutine function: for one that is given streams, add --stream")
        return found


class Options(UsageOptions):
    """The command line of ``twistd txasync``."""

    synopsis = "[options] [-- argument ...]"
    longdesc = (
        "Run asyncio programs and servers on the reactor that twistd runs. Names are those of Python objects, such as "
        "package.module:name; they are looked for in the current directory, too."
    )
    optParameters = [
        ["run", None, None, "An async def function, called without arguments. The process ends with it, and has its "
         "exit code. What follows -- is its sys.argv[1:]."],
        ["asgi", None, None, "An ASGI application, to be served by uvicorn on each --listen that has no --protocol."],
        ["graceful", None, "5", "How many seconds connections and tasks have to end by themselves when the process is "
         "told to stop. A second signal does not wait."],
        ["log-level", None, None, f"What the logging module passes on to twistd's log: {', '.join(LEVELS)}. Default: "
         "info, unless the program configures logging."],
    ]  # fmt: skip

    def __init__(self) -> None:
        self._listeners: list[_Listener] = []
        self.arguments: tuple[str, ...] = ()
        super().__init__()  # type: ignore[no-untyped-call]

    def opt_listen(self, endpoint: str) -> None:
        """
        Listen there, such as tcp:8080 or unix:/run/name, or any other description of an endpoint of Twisted's. May be
        given again.
        """
        if not self._listeners or self._listeners[-1].protocol is not None:
            self._listeners.append(_Listener())
        self._listeners[-1].endpoints.append(endpoint)

    def opt_protocol(self, name: str) -> None:
        """What makes protocols for the --listen options before it: an asyncio Protocol class, or a function."""
        if not self._listeners or self._listeners[-1].protocol is not None:
            _refuse(f"--protocol={name} belongs to a --listen before it, and there is none")
        self._listeners[-1].protocol = name

    def opt_stream(self) -> None:
        """The --protocol of this --listen is a client_connected_cb of asyncio's streams."""
        if not self._listeners:
            _refuse("--stream belongs to a --listen before it, and there is none")
        self._listeners[-1].is_stream = True

    def parseArgs(self, *arguments: str) -> None:
        """Take what follows the options."""
        self.arguments = arguments

    def postOptions(self) -> None:
        """
        Find what is to be run, before twistd forks.

        Raises:
            SystemExit: The options do not go together, or something that they name cannot be had; the message is one
                line. (twistd would print all of its options before a UsageError, and Twisted 24.7 exits with 0 then.)
        """
        self._check()
        self._graceful_s = self._checked_graceful_s()
        level = self["log-level"]
        self.program = Program(self._graceful_s, None if level is None else level.upper())
        asgi = self._asgi_application()
        for listener in self._listeners:
            self._add_servers(listener, asgi)
        if asgi is not None:
            self.program.run(asgi.run)
        if self["run"] is not None:
            self.program.run(_main(self["run"], self.arguments))

    def _check(self) -> None:
        if self["run"] is None and self["asgi"] is None and not self._listeners:
            _refuse("say what to run: --run=module:function, or --listen=ENDPOINT --protocol=module:Factory")
        if self["asgi"] is None:
            for listener in self._listeners:
                if listener.protocol is None:
                    _refuse(f"--listen={listener.endpoints[0]} needs a --protocol after it, or --asgi")
        elif all(listener.protocol is not None for listener in self._listeners):
            _refuse(f"--asgi={self['asgi']} needs a --listen without a --protocol")
        for listener in self._listeners:
            if listener.is_stream and listener.protocol is None:
                _refuse(f"--stream after --listen={listener.endpoints[0]} needs a --protocol")
        if self.arguments and self["run"] is None:
            _refuse(f"arguments are for --run, and there is none: {' '.join(self.arguments)}")
        if self["log-level"] not in (None, *LEVELS):
            _refuse(f"--log-level takes one of {', '.join(LEVELS)}, got {self['log-level']!r}")

    def _checked_graceful_s(self) -> float:
        try:
            graceful_s = float(self["graceful"])
        except ValueError:
            graceful_s = -1.0
        if not 0 <= graceful_s < math.inf:
            _refuse(f"--graceful takes a number of seconds that is not negative, got {self['graceful']!r}")
        return graceful_s

    def _asgi_application(self) -> Any:
        if self["asgi"] is None:
            return None
        from ._asgi import AsgiApplication

        app = _imported(self["asgi"])
        try:
            return AsgiApplication(app, self._graceful_s)
        except ImportError as error:
            _refuse(f"--asgi needs uvicorn, which cannot be imported here ({error}): install it")

    def _add_servers(self, listener: _Listener, asgi: Any) -> None:
        protocol = asgi.protocol if listener.protocol is None else listener.checked_protocol()
        make: Any = ServerService.for_streams if listener.is_stream else ServerService
        for endpoint in listener.endpoints:
            if endpoint.startswith("stdio:"):
                _refuse(f"--listen={endpoint}: that is a connection, which is there before asyncio is")
            try:
                server = make(endpoint, protocol, graceful_s=self._graceful_s)
            except (ValueError, OSError) as error:
                _refuse(f"--listen={endpoint}: {error}")
            if listener.protocol is None:
                asgi.serve_by(server)
            self.program.serve(server)


def _main(name: str, arguments: tuple[str, ...]) -> Callable[[], Awaitable[Any]]:
    function = _imported(name)
    if not callable(function):
        _refuse(f"{name!r} is {function!r}, which cannot be called")

    async def main() -> Any:
        sys.argv = [name, *arguments]
        running = function()
        if not inspect.isawaitable(running):
            raise TypeError(
                f"{name!r} is to be an async def function; it has returned {running!r}, which is not awaitable"
            )
        return await running

    return main


def _imported(name: str) -> Any:
    try:
        return import_named(name)
    except CannotImport as error:
        _refuse(str(error))


def _refuse(message: str) -> NoReturn:
    raise SystemExit(f"twistd txasync: {message}")


def makeService(options: Options) -> IService:
    """Return the program that *options* ask for, which logs to twistd's log."""
    program: IService = options.program
    return program
