"""The package's shape: imports go down the floors, and each public name has one home."""

from __future__ import annotations

import ast
import importlib
import inspect
import pathlib
import types

import txasync

PACKAGE = pathlib.Path(txasync.__file__).parent
DOCS = pathlib.Path(__file__).parents[1] / "docs"

# From the top. A module may import its own floor and those below it.
FLOORS = [
    {"__main__"},
    {"_launching", "_default_loop", "_reactor_choice", "application", "testing"},
    {"__init__"},
    {"running", "adapters"},
    {"_asyncio_reactor"},
    {"_hosted_reactor"},
    {"_private_loop"},
    {"loop"},
    {"_transport_loop"},
    {"_threadsafe"},
    {"_callbacks", "_own_run", "_shutdown", "_lifecycle", "_sockets", "_child_watchers", "_child_reaping", "_host_end"},
    {"_tls_streams"},
    {"bridge"},
    {"_drive", "_connections"},
    {"transports"},
    {
        "_signals",
        "_ticker",
        "_alarm",
        "_loops",
        "_reactors",
        "_rounds",
        "_timers",
        "_timerfd",
        "_handles",
        "_task_callbacks",
        "_error_log",
        "_wakeup",
        "_executor_futures",
        "_address_literals",
    },
    {"_burst", "reactor"},
    {"polling", "tls"},
    {"_private", "_lazy_names"},
]


def floor_of(module: str) -> int:
    """The number of the floor that *module* is on, from the top."""
    for number, modules in enumerate(FLOORS):
        if module in modules:
            return number
    raise AssertionError(f"txasync.{module} is on no floor: add it to FLOORS in {__file__}")


def modules() -> dict[str, pathlib.Path]:
    """The modules of the package, the parts of a subpackage under its name."""
    return {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(path: pathlib.Path) -> set[str]:
    """The modules of ours that the one at *path* imports when it runs, as top-level names."""
    tree = ast.parse(path.read_text())
    depth = len(path.relative_to(PACKAGE).parts)
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            found |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("txasync."):
            found.add((node.module or "").split(".")[1])
    return found


def test_imports_go_down_the_floors_only() -> None:
    """Nothing on a lower floor knows a higher one."""
    wrong = []
    for name, path in modules().items():
        own = pathlib.Path(name).parts[0].removesuffix(".py")
        for imported in imports_of(path):
            if floor_of(imported) < floor_of(own):
                wrong.append(f"{name} imports {imported}")
    assert not wrong


def public_modules() -> list[types.ModuleType]:
    """The modules whose names have no underscore."""
    names = ["txasync"]
    for name in modules():
        parts = [part.removesuffix(".py") for part in pathlib.Path(name).parts]
        if parts[-1] == "__init__":
            parts.pop()
        if parts and not any(part.startswith("_") for part in parts):
            names.append(".".join(["txasync", *parts]))
    return [importlib.import_module(name) for name in names]


def test_each_public_name_has_one_home_and_a_docstring() -> None:
    """A public module says what it exports; the package exports again what users need, and nothing else does."""
    homes: dict[str, list[str]] = {}
    for module in public_modules():
        assert module.__doc__, module.__name__
        for name in module.__all__:
            thing = getattr(module, name)
            if (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__.startswith("txasync"):
                assert inspect.getdoc(thing), f"{module.__name__}.{name}"
            # Twisted installs a reactor by its module's install().
            if module is not txasync and (module.__name__, name) != ("txasync.reactor", "install"):
                homes.setdefault(name, []).append(module.__name__)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}
    assert set(txasync.__all__) <= set(homes)


def test_each_public_name_is_in_the_reference() -> None:
    """``docs/reference`` names everything that the package exports."""
    reference = "\n".join(path.read_text() for path in sorted((DOCS / "reference").glob("*.rst")))
    missing = [name for name in txasync.__all__ if name not in reference]
    assert not missing


def test_no_module_is_too_long() -> None:
    """Past 500 lines there is a second idea in it."""
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: length for name, length in lengths.items() if length > 500} == {}
