"""What is installed from a clone, an sdist and a wheel: a working package, with the Twisted drop-in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("build", reason="the test extra, which has it, is not installed")

ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "_build")


def run(*command: str, cwd: Path, **environment: str) -> str:
    """Run a command that must succeed, and return what it printed."""
    ended = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An sdist of the clone, and a wheel that was made of the sdist."""
    place = tmp_path_factory.mktemp("packaging")
    shutil.copytree(ROOT, place / "clone", ignore=LEFT_OUT)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(place), cwd=place / "clone", PYTHONPATH="")
    (sdist,) = place.glob("*.tar.gz")
    (wheel,) = place.glob("*.whl")
    return sdist, wheel


def test_a_wheel_holds_the_package_and_the_drop_in_and_no_more(built: tuple[Path, Path]) -> None:
    """The drop-in lies in ``twisted/plugins``, and nothing else of Twisted's is touched."""
    with zipfile.ZipFile(built[1]) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "txasync").rglob("*.py")}
    assert set(names) == ours | {"txasync/py.typed", "twisted/plugins/txasync_dropin.py"}


def test_an_sdist_holds_what_the_tests_need(built: tuple[Path, Path]) -> None:
    """Tests, examples, documentation and settings; a distributor builds and tests from it."""
    with tarfile.open(built[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    expected = {"README.rst", "LICENSE", "setup.cfg", "tox.ini", "pyproject.toml", "docs/conf.py"}
    expected |= {"tests/conftest.py", "examples/two_worlds.py", "twisted/plugins/txasync_dropin.py"}
    assert expected <= names


def test_the_wheel_works_from_another_directory(built: tuple[Path, Path], tmp_path: Path) -> None:
    """It is imported from where it was installed, and twistd finds the drop-in."""
    installed, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    run(*pip, "--target", str(installed), str(built[1]), cwd=elsewhere)
    program = (
        "import asyncio, txasync; print(txasync.__file__, txasync.run(asyncio.sleep(0, 'ran')));"
        "from twisted.application.service import IServiceMaker; from twisted.plugin import getPlugins;"
        "print([plugin.tapname for plugin in getPlugins(IServiceMaker) if plugin.tapname == 'txasync'])"
    )
    printed = run(sys.executable, "-c", program, cwd=elsewhere, PYTHONPATH=str(installed))
    assert printed == f"{installed}/txasync/__init__.py ran\n['txasync']\n"
