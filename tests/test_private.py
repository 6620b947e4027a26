"""The private names of others: each one exists, and each one in use is listed."""

from __future__ import annotations

import ast
import importlib
import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import txasync
from txasync._private import CHECKED_CPYTHON, PRIVATE_NAMES, PrivateName

# Underscored, but documented, so that they do not clash with fields.
NAMED_TUPLES = {"_replace", "_asdict", "_make", "_fields"}

if TYPE_CHECKING:
    from typing import TypeGuard

PACKAGE = pathlib.Path(txasync.__file__).parent


def find(path: str) -> Any:
    """The object that *path* names: a module, or something in one."""
    module, _, attribute = path.rpartition(".")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        return getattr(importlib.import_module(module), attribute)


HERE = [name for name in PRIVATE_NAMES if name.since <= sys.version_info[:2] <= name.until]


@pytest.mark.parametrize("name", HERE, ids=lambda name: f"{name.owner}.{name.name}")
def test_this_version_has_the_private_name(name: PrivateName) -> None:
    """A new version of CPython or Twisted that lacks a name we lean on is told here, plainly."""
    owner = find(name.owner)
    if isinstance(owner, type) and not hasattr(owner, name.name):
        owner = instance_of(name.owner)
    try:
        assert hasattr(owner, name.name), f"{name.owner} has no {name.name} any more, which txasync needs: {name.why}"
    finally:
        close = getattr(owner, "close", None)
        if close is not None and not isinstance(owner, type):
            close()


def instance_of(path: str) -> Any:
    """An object of the class, for what only objects have."""
    if path in ("asyncio.SelectorEventLoop", "asyncio.DefaultEventLoopPolicy", "unittest.IsolatedAsyncioTestCase"):
        return find(path)()
    if path == "twisted.internet.defer.DeferredList":
        return find(path)([])
    if path == "concurrent.futures.Future":
        return find(path)()
    if path == "asyncio.TimerHandle":
        import asyncio

        return asyncio.TimerHandle(0.0, print, (), _Debugging())  # type: ignore[arg-type]
    if path == "twisted.internet.epollreactor.EPollReactor":
        return _disposable_reactor()
    if path == "twisted.internet.asyncioreactor.AsyncioSelectorReactor":
        return _disposable_asyncio_reactor()
    if path == "ssl.SSLObject":
        import ssl

        return ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    if path == "OpenSSL.SSL.Connection":
        from OpenSSL import SSL

        return SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    if path == "twisted.internet._sslverify.ClientTLSOptions":
        from twisted.internet.ssl import optionsForClientTLS

        return optionsForClientTLS("localhost")
    if path == "asyncio.StreamReader":
        return _on_a_loop(lambda asyncio: asyncio.StreamReader())
    if path == "asyncio.StreamReaderProtocol":
        return _on_a_loop(lambda asyncio: asyncio.StreamReaderProtocol(asyncio.StreamReader()))
    raise LookupError(path)


def _on_a_loop(make: Callable[[Any], Any]) -> Any:
    """What *make* returns, in a running loop."""
    import asyncio

    async def main() -> Any:
        return make(asyncio)

    return asyncio.run(main())


class _Debugging:
    def get_debug(self) -> bool:
        return False


def _disposable_reactor() -> Any:
    from txasync import _reactors

    reactor = _reactors.new_private_reactor()
    reactor.close = lambda: _reactors.dispose_private_reactor(reactor)
    return reactor


def _disposable_asyncio_reactor() -> Any:
    import asyncio

    from twisted.internet.asyncioreactor import AsyncioSelectorReactor

    loop = asyncio.SelectorEventLoop()
    reactor: Any = AsyncioSelectorReactor(loop)

    def close() -> None:
        for reader in list(reactor._internalReaders):
            reactor._removeInternalReader(reader)
            reader.connectionLost(None)
        asyncio.set_event_loop(None)
        loop.close()

    reactor.close = close
    return reactor


def test_this_python_was_checked() -> None:
    """The list says for which versions it holds; an unknown one wants a look at what moved."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert version in CHECKED_CPYTHON, f"nobody has checked txasync/_private.py on Python {version} yet"


def private_names_in_use() -> dict[str, set[str]]:
    """Every underscored attribute that the package uses and does not define itself, and where."""
    trees = {path: ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
    ours = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                ours.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                ours.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                ours.add(node.id)
    ours |= {path.stem for path in PACKAGE.rglob("*.py")}
    used: dict[str, set[str]] = {}
    listed = {name.name for name in PRIVATE_NAMES}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            name = None
            if isinstance(node, ast.Attribute):
                name = node.attr
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                name = node.value if path.name != "_private.py" else None
            if isinstance(node, ast.ImportFrom) and not node.level:
                for part in *(node.module or "").split("."), *(alias.name for alias in node.names):
                    if part.startswith("_") and not part.startswith("__"):
                        used.setdefault(part, set()).add(path.name)
            if name and name.startswith("_") and not name.startswith("__") and (name not in ours or name in listed):
                used.setdefault(name, set()).add(path.name)
    return used


def is_function(node: ast.AST) -> TypeGuard[ast.FunctionDef | ast.AsyncFunctionDef]:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def test_every_private_name_in_use_is_listed() -> None:
    """What the package takes from others and is underscored has its line, with its reason."""
    listed = {name.name for name in PRIVATE_NAMES}
    missing = {name: where for name, where in private_names_in_use().items() if name not in listed | NAMED_TUPLES}
    assert not missing, f"add these to txasync/_private.py, with the reason: {missing}"


def test_every_listed_name_is_in_use() -> None:
    """A line whose use has gone goes, too."""
    overriding = {
        node.name
        for subclasses in (
            "_callbacks.py",
            "_threadsafe.py",
            "_transport_loop.py",
            "bridge/_task.py",
            "testing/_unittest.py",
        )
        for node in ast.walk(ast.parse((PACKAGE / subclasses).read_text()))
        if is_function(node)
    }
    unused = {name.name for name in PRIVATE_NAMES} - set(private_names_in_use()) - overriding
    assert not unused, f"remove these from txasync/_private.py: {unused}"
