"""``python -m txasync``: run an asyncio program, as it is, on a Twisted reactor; without one, a REPL."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys
from typing import NamedTuple

import twisted

from ._default_loop import release_threads, replace_default_loop
from ._launching import run_module, run_path
from ._reactor_choice import ReactorUnavailable, install_reactor

__all__: list[str] = []


class _Request(NamedTuple):
    """What the command line asks for: a module's name, a path, or neither; and what belongs to the program."""

    reactor: str | None
    module: str | None
    path: str | None
    arguments: list[str]


def _version() -> str:
    try:
        own = importlib.metadata.version("txasync")
    except importlib.metadata.PackageNotFoundError:
        own = "(not installed)"
    return f"txasync {own}, Twisted {twisted.__version__}, {platform.python_implementation()} {sys.version.split()[0]}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m txasync",
        usage="%(prog)s [--reactor NAME] [script.py | directory | archive.zip | -m module] [argument ...]",
        description="Run an asyncio program, as it is, on a Twisted reactor: asyncio.run(), asyncio.Runner() and "
        "asyncio.new_event_loop() in it give a loop of txasync. Without a program, asyncio's REPL runs on one: await "
        "takes Deferreds, too.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=_version())
    parser.add_argument(
        "--reactor",
        metavar="NAME",
        help="the reactor, by the name that twistd gives it: epoll, poll, select... Default: Twisted's own choice",
    )
    parser.add_argument(
        "-m",
        dest="module",
        nargs=argparse.REMAINDER,
        metavar="module",
        help="run a library module; everything after its name belongs to it",
    )
    parser.add_argument(
        "program",
        nargs=argparse.REMAINDER,
        metavar="script.py",
        help="run a file, directory or zip file; everything after its name belongs to it",
    )
    return parser


def _parse(parser: argparse.ArgumentParser, arguments: list[str]) -> _Request:
    options = parser.parse_args(arguments)
    program: list[str] = options.program
    if options.module is not None:
        # "-mname argument" leaves the arguments to the other option.
        program = options.module + program
    elif program[:1] == ["--"]:
        program = program[1:]
    if not program:
        if options.module is not None:
            parser.error("name a module after -m")
        return _Request(options.reactor, None, None, [])
    name, *rest = program
    if options.module is not None:
        return _Request(options.reactor, name, None, rest)
    return _Request(options.reactor, None, name, rest)


def main() -> None:
    """Do what the command line asks for; end the process as the program does."""
    parser = _parser()
    request = _parse(parser, sys.argv[1:])
    if request.reactor is not None:
        try:
            install_reactor(request.reactor)
        except ReactorUnavailable as error:
            parser.exit(2, f"{parser.prog}: error: {error}\n")
    replace_default_loop()
    try:
        _run(request)
    finally:
        release_threads()


def _run(request: _Request) -> None:
    if request.module is not None:
        run_module(request.module, request.arguments)
    elif request.path is not None:
        run_path(request.path, request.arguments)
    else:
        print(f"{_version()}: await takes Deferreds, too", file=sys.stderr)
        run_module("asyncio", [])


if __name__ == "__main__":
    main()
