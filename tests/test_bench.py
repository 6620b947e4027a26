"""The benchmark works: every kind of server answers, and the results are written."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import txasync

ROOT = pathlib.Path(txasync.__file__).parents[1]
BENCH = pathlib.Path(__file__).parents[1] / "examples" / "bench"
KINDS = ["txasync", "txasync-driven", "asyncio", "twisted", "asyncioreactor", "epoll"]
if importlib.util.find_spec("uvloop"):
    KINDS.append("uvloop")

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the load generator is written for Linux"),
    pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="there is no C compiler"),
]


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark's command."""
    return subprocess.run(
        [sys.executable, "-W", "error", str(BENCH), *options],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_each_kind_of_server_answers(tmp_path: pathlib.Path) -> None:
    """A row of each sort is measured on every kind that has it, and its figures are written."""
    rows = "tcp-1KiB-x1,readexactly-1KiB-x50,udp-1KiB-x1,bulk-receive,churn-x20,spawn-x1"
    done = bench("--quick", "--rows", rows, "--kinds", ",".join(KINDS), "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert "txasync" in str(results["versions"])
    for row in rows.split(","):
        assert row in done.stdout


def test_an_unknown_row_is_refused() -> None:
    """The message says what there is."""
    done = bench("--rows", "no-such-row")
    assert done.returncode != 0
    assert "no-such-row" in done.stderr
    assert "tcp-1KiB-x50" in done.stderr or "--list" in done.stderr
    assert "Traceback" not in done.stderr
