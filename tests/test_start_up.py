"""What is imported when: no more at the start than is needed, and nothing when it is too late."""

from __future__ import annotations

import ast
import importlib
import pathlib
import subprocess
import sys
import textwrap

import pytest

import txasync

PACKAGE = pathlib.Path(txasync.__file__).parent
LAZY_PACKAGES = ["txasync", *(f"txasync.{part}" for part in ("adapters", "bridge", "testing", "tls", "transports"))]

# What a loop needs none of until it is used.
NOT_AT_THE_START = [
    "txasync._asyncio_reactor",
    "txasync._hosted_reactor",
    "txasync.adapters",
    "txasync.application",
    "txasync.bridge._deferreds",
    "txasync.bridge._futures",
    "txasync.bridge._iteration",
    "txasync.bridge._threads",
    "txasync.testing",
    "txasync.tls._creators",
    "txasync.tls._engine",
    "txasync.tls._errors",
    "txasync.tls._pyopenssl",
    "txasync.tls._stdlib",
    "txasync.transports._copying",
    "txasync.transports._pipe",
    "txasync.transports._process",
    "txasync.transports._pty",
    "txasync.transports._tls",
    "txasync.transports._tls_layer",
    "txasync.transports._tls_socket",
]


def run(program: str) -> list[str]:
    """Run *program* in a Python of its own, with every warning an error, and return the words that it printed."""
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert child.returncode == 0, child.stderr
    assert child.stderr == ""
    return child.stdout.split()


def path_of(package: str) -> pathlib.Path:
    """The file of *package*."""
    return PACKAGE.joinpath(*package.split(".")[1:], "__init__.py")


def imported_for_type_checkers(package: str) -> dict[str, list[str]]:
    """What *package* imports from its modules if ``TYPE_CHECKING`` is true."""
    found = {}
    for node in ast.parse(path_of(package).read_text()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                assert isinstance(statement, ast.ImportFrom)
                found[f".{statement.module}"] = [alias.name for alias in statement.names]
    return found


def imported_on_demand(package: str) -> dict[str, list[str]]:
    """What *package* says to `lazy_names`."""
    for node in ast.walk(ast.parse(path_of(package).read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_names":
            homes: dict[str, tuple[str, ...]] = ast.literal_eval(node.args[1])
            return {home: list(names) for home, names in homes.items()}
    raise AssertionError(package)


# At the start


def test_importing_the_package_alone_imports_neither_twisted_nor_asyncio() -> None:
    """Who imports a light module of the package pays for that alone."""
    imported = run("import txasync, sys; print(*sys.modules)")
    assert {name for name in imported if name.startswith("txasync")} == {"txasync", "txasync._lazy_names"}
    assert not {"asyncio", "twisted", "twisted.internet.reactor", "zope.interface", "OpenSSL"} & set(imported)


def test_running_nothing_imports_only_what_every_loop_needs() -> None:
    """A program that awaits nothing pays neither for TLS nor for adapters, nor for what no reactor needs."""
    bare = run("""
        import asyncio, sys
        async def main(): ...
        asyncio.run(main())
        from twisted.internet import reactor
        reactor.callWhenRunning(reactor.stop)
        reactor.run()
        print(*sys.modules)
    """)
    ours = run("""
        import sys, txasync
        async def main(): ...
        txasync.run(main())
        print(*sys.modules)
    """)
    assert "txasync.loop" in ours
    assert not set(NOT_AT_THE_START) & set(ours)
    assert {name for name in ours if not name.startswith("txasync")} - set(bare) <= {"numbers"}


def test_there_is_such_a_module() -> None:
    """The list above is of modules that exist."""
    for name in NOT_AT_THE_START:
        importlib.import_module(name)


# Names


@pytest.mark.parametrize("package", LAZY_PACKAGES)
def test_type_checkers_are_told_the_names_that_are_imported_on_demand(package: str) -> None:
    """What a checker takes a name for is what a program gets, and what is public is one or the other."""
    on_demand = imported_on_demand(package)
    assert on_demand == imported_for_type_checkers(package)
    module = importlib.import_module(package)
    for home, names in on_demand.items():
        for name in names:
            assert getattr(module, name) is getattr(importlib.import_module(home, package), name)


def test_each_public_name_is_found_when_it_is_asked_for() -> None:
    """It is an attribute like any other from then on; and ``import *`` asks for all of them."""
    lazy = {
        package: sorted(name for names in imported_on_demand(package).values() for name in names)
        for package in LAZY_PACKAGES
    }
    found = run(f"""
        import importlib
        lazy = {lazy}
        modules = [importlib.import_module(package) for package in lazy]
        for module in modules:
            assert not vars(module).keys() & set(lazy[module.__name__]), module
            assert set(module.__all__) <= set(dir(module)), module
        from txasync import *
        for name in modules[0].__all__:
            assert globals()[name] is vars(modules[0])[name], name
        modules.pop({LAZY_PACKAGES.index("txasync.testing")})  # for each test runner, one of its names
        for module in modules:
            for name in module.__all__:
                assert getattr(module, name) is vars(module)[name], (module, name)
        print("found")
    """)
    assert found == ["found"]


@pytest.mark.parametrize("part", ["adapters", "bridge", "loop", "polling", "running", "tls", "transports"])
def test_the_public_modules_are_attributes_of_the_package(part: str) -> None:
    """``import txasync`` is enough for ``txasync.adapters.as_twisted_factory``."""
    namespace = vars(txasync)
    namespace.pop(part, None)
    assert txasync.__getattr__(part) is sys.modules[f"txasync.{part}"]
    namespace[part] = sys.modules[f"txasync.{part}"]


def test_a_name_that_is_not_there_is_refused_as_by_any_module() -> None:
    """The error says what ordinary modules' says, and knows what to propose instead."""
    with pytest.raises(AttributeError, match=r"^module 'txasync' has no attribute 'serv'$") as caught:
        txasync.serv  # type: ignore[attr-defined]
    assert (caught.value.name, caught.value.obj) == ("serv", txasync)
    with pytest.raises(ImportError, match="cannot import name 'serv' from 'txasync'"):
        from txasync import serv  # type: ignore[attr-defined]  # noqa: F401


# Too late

REFUSE_OURS = """
    import importlib.abc, sys

    class Refuse(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            assert not name.startswith("txasync"), f"{name} is imported too late"
"""


def test_no_connection_over_tls_waits_for_an_import() -> None:
    """What ``ssl=`` needs is there when the server is: later there may be no descriptor to read a module with."""
    assert run(f"""
    {REFUSE_OURS}
    import asyncio, ssl, trustme, txasync

    async def main():
        authority = trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(context)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)

        async def accepted(reader, writer):
            writer.write(await reader.readline())
            writer.close()

        server = await asyncio.start_server(accepted, "localhost", 0, ssl=context)
        sys.meta_path.insert(0, Refuse())
        address = server.sockets[0].getsockname()[:2]
        reader, writer = await asyncio.open_connection(*address, ssl=trusting, server_hostname="localhost")
        writer.write(b"served\\n")
        print((await reader.read()).decode())
        writer.close()
        await writer.wait_closed()
        server.close()

    txasync.run(main())
    """) == ["served"]


def test_nothing_is_imported_at_the_end() -> None:
    """A loop that is closed with all kinds of things open needs no modules for it: they might not be found any more."""
    assert run(f"""
    {REFUSE_OURS}
    import asyncio, gc, os, warnings, txasync
    warnings.simplefilter("ignore", ResourceWarning)

    async def main():
        async def items():
            yield 1
            await asyncio.sleep(3600)

        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "localhost", 0)
        connection = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        datagrams, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
        child = await asyncio.create_subprocess_exec("sleep", "3600", stdout=asyncio.subprocess.PIPE)
        ends = [open(fd, "rb", 0) for fd in os.pipe()]
        await loop.connect_read_pipe(asyncio.Protocol, ends[0])
        await loop.run_in_executor(None, print, "all", "open")
        async for _ in items():
            break
        child.kill()
        sys.meta_path.insert(0, Refuse())
        loop.create_task(asyncio.sleep(3600))

    txasync.run(main())
    gc.collect()
    print("closed")
    """) == ["all", "open", "closed"]


def test_a_service_needs_no_files_when_it_starts() -> None:
    """``twistd --chroot`` changes the root before it starts the services, so these are imported whole."""
    imported = run("import txasync.application, sys; print(*sys.modules)")
    parts = [PACKAGE / part for part in ("adapters", "bridge", "polling", "tls", "transports")]
    wanted = {
        ".".join(("txasync", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for part in parts
        for path in part.rglob("*.py")
    }
    assert not wanted - {*imported}
    assert "txasync._asyncio_reactor" in imported
