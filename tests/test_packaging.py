"""What is installed from a clone, an sdist and a wheel: a working package, with the Twisted drop-in."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build.__main__", reason="the test extra, which has it, is not installed")

ROOT = Path(__file__).parents[1]


def run(arguments: list[str], installed: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with what was *installed*."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_a_wheel_holds_the_package_and_the_drop_in_and_no_more(built: tuple[Path, Path]) -> None:
    """The drop-in lies in ``twisted/plugins``, and nothing else of Twisted's is touched."""
    with zipfile.ZipFile(built[1]) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "txasync").rglob("*.py")}
    assert set(names) == ours | {
        "txasync/py.typed",
        "twisted/plugins/txasync_dropin.py",
        "_txasync_pytest_plugin.py",
    }


def test_an_sdist_holds_what_the_tests_need(built: tuple[Path, Path]) -> None:
    """Tests, examples, documentation and settings; a distributor builds and tests from it."""
    with tarfile.open(built[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    expected = {"README.rst", "LICENSE", "setup.cfg", "tox.ini", "pyproject.toml", "docs/conf.py"}
    expected |= {"tests/conftest.py", "examples/two_worlds.py", "twisted/plugins/txasync_dropin.py"}
    assert expected <= names


def test_the_wheel_works_from_another_directory(installed: Path, tmp_path: Path) -> None:
    """It is imported from where it was installed, and twistd finds the drop-in."""
    program = (
        "import asyncio, txasync; print(txasync.__file__, txasync.run(asyncio.sleep(0, 'ran')));"
        "from twisted.application.service import IServiceMaker; from twisted.plugin import getPlugins;"
        "print([plugin.tapname for plugin in getPlugins(IServiceMaker) if plugin.tapname == 'txasync'])"
    )
    ended = run(["-c", program], installed, tmp_path)
    assert ended.stdout == f"{installed}/txasync/__init__.py ran\n['txasync']\n", ended.stderr


@pytest.mark.parametrize("launcher", [[], ["-m", "txasync"]], ids=["alone", "launched"])
def test_pytest_finds_the_plug_in_of_the_wheel(installed: Path, tmp_path: Path, launcher: list[str]) -> None:
    """It is there in every run, without a warning; under ``python -m txasync`` too, which has imported the package."""
    (tmp_path / "test_it.py").write_text(
        "import asyncio, txasync\n"
        "def test_it(txasync_no_leaks, txasync_loop):\n"
        f"    assert txasync.__file__ == {str(installed / 'txasync' / '__init__.py')!r}\n"
        "    assert txasync_loop.run_until_complete(asyncio.sleep(0.001, 'ran')) == 'ran'\n"
    )
    pytest_command = ["-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    ended = run([*launcher, *pytest_command], installed, tmp_path)
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr
    assert "txasync-" in ended.stdout.partition("plugins: ")[2].splitlines()[0]
