"""The benchmark works: every kind of server answers, and the results are written."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import re
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
NATIVE = {"twisted", "asyncioreactor"}

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the load generator is written for Linux"),
    pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="there is no C compiler"),
]


def bench(
    *options: str,
    path: str = os.environ.get("PATH", ""),
    modules: pathlib.Path = ROOT,
    program: pathlib.Path = BENCH,
) -> subprocess.CompletedProcess[str]:
    """Run the benchmark's command, which finds its compiler in *path*, and *modules* before all others."""
    return subprocess.run(
        [sys.executable, "-W", "error", str(program), *options],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": f"{modules}{os.pathsep}{ROOT}", "PATH": path},
    )


def kinds_by_row(directory: pathlib.Path) -> dict[str, set[str]]:
    """The kinds of which *directory* has results, by row."""
    return {row["row"]: set(row["kinds"]) for row in json.loads((directory / "results.json").read_text())["rows"]}


def can_compile_with_openssl() -> bool:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return False
    command = [compiler, "-E", "-x", "c", "-"]
    program = "#include <openssl/ssl.h>\n"
    return subprocess.run(command, input=program, capture_output=True, text=True).returncode == 0


def test_each_kind_of_server_answers(tmp_path: pathlib.Path) -> None:
    """A row of each sort is measured on every kind that has it, and its figures are written."""
    rows = "tcp-1KiB-x1,readexactly-1KiB-x50,udp-1KiB-x1,bulk-receive,churn-x20,spawn-x1,task-make"
    rows += ",await-deferred-x1,await-deferred-x100,add-reader-1KiB-x50"
    if importlib.util.find_spec("aiohttp"):
        rows += ",aiohttp-get-x50"
    kinds = [*KINDS, "txasync-plain"]
    done = bench("--quick", "--rows", rows, "--kinds", ",".join(kinds), "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert "txasync" in str(results["versions"])
    measured = kinds_by_row(tmp_path)
    assert set(measured) == set(rows.split(","))
    assert measured["tcp-1KiB-x1"] == set(kinds)
    assert measured["task-make"] == set(kinds) - NATIVE - {"epoll"}
    assert measured["add-reader-1KiB-x50"] == set(kinds) - NATIVE
    assert (
        measured["await-deferred-x1"]
        == measured["await-deferred-x100"]
        == {"txasync", "txasync-driven", "txasync-plain", "asyncioreactor"}
    )


def test_what_a_loop_itself_costs_is_measured(tmp_path: pathlib.Path) -> None:
    """Callbacks, timers and threads are asyncio's on kinds that have a loop, and Twisted's on those that have none."""
    loops = {"txasync-reactor", "txasync-driven", "asyncio", *({"uvloop"} & set(KINDS))}
    of_asyncio = {"gather", "getaddrinfo-literal"}
    of_both = {"call-soon-chain", "call-soon-fan-out", "wait-for", "timer-cancel", "timer-churn", "timer-fire"}
    of_both |= {"threadsafe-flood", "threadsafe-round-trip", "run-in-executor", "start-up", "tcp-1KiB-x50"}
    rows = ",".join(sorted(of_asyncio | of_both))
    done = bench("--quick", "--rows", rows, "--kinds", ",".join([*loops, "twisted-on-ours"]), "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    with_native = {row: loops | {"twisted-on-ours"} for row in of_both}
    assert kinds_by_row(tmp_path) == {**dict.fromkeys(of_asyncio, loops), **with_native}


def test_the_calls_of_each_layer_are_counted() -> None:
    """What is called once for each message is found once for each message, in its layer."""
    options = "--row", "tcp-1KiB-x1", "--kinds", "asyncio", "--rounds", "1", "--seconds", "0.1"
    done = bench(*options, program=BENCH / "layers.py")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    # Python 3.10 has the name of a method without its class.
    assert any(re.match(r"protocol asyncio_server:(Echo\.)?data_received 1\.00 -", line) for line in lines), lines
    assert any(re.match(r"poll selectors:(EpollSelector\.)?select 1\.00 .*poll 1\.00", line) for line in lines), lines


def test_the_kinds_that_are_adapted_answer(tmp_path: pathlib.Path) -> None:
    """The protocols of either world serve on the transports of the other."""
    rows = "tcp-1KiB-x1,buffered-1KiB-x1,readline-1KiB-x1,unix-1KiB-x1,bulk-send,bulk-receive"
    kinds = {"twisted", "on-twisted", "on-txasync"}
    done = bench("--quick", "--rows", rows, "--kinds", ",".join(sorted(kinds)), "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    measured = kinds_by_row(tmp_path)
    assert measured.pop("buffered-1KiB-x1") == {"on-twisted"}
    assert set(measured) == set(rows.split(",")) - {"buffered-1KiB-x1"}
    assert all(found == kinds for found in measured.values())


@pytest.mark.skipif(not can_compile_with_openssl(), reason="there are no headers of OpenSSL: apt install libssl-dev")
def test_each_kind_of_server_answers_by_tls(tmp_path: pathlib.Path) -> None:
    """Messages of one record and of several are echoed, however a kind does TLS, and connections end as they should."""
    rows = "tls-1KiB-x1,tls-64KiB-x50,tls-memory-64KiB-x50,tls-pyopenssl-1KiB-x50,tls-handshake-x20"
    done = bench("--quick", "--rows", rows, "--kinds", ",".join(KINDS), "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    by_tls = set(KINDS) - {"epoll"}
    assert kinds_by_row(tmp_path) == {row: by_tls - NATIVE if "memory" in row else by_tls for row in rows.split(",")}


@pytest.fixture
def path_without_openssl(tmp_path: pathlib.Path) -> str:
    """A ``PATH`` with a compiler that has no headers of OpenSSL."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "cc").write_text(
        "#!/bin/sh\n"
        'case "$*" in *WITH_TLS*) echo "fatal error: openssl/err.h: No such file or directory" >&2; exit 1;; esac\n'
        f'exec {compiler} "$@"\n'
    )
    (directory / "cc").chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


def test_rows_without_tls_need_no_openssl(path_without_openssl: str, tmp_path: pathlib.Path) -> None:
    """The load generator is compiled with TLS only if a row asks for it."""
    options = "--quick", "--rows", "tcp-64B-x1", "--kinds", "asyncio", "--output", str(tmp_path / "results")
    done = bench(*options, path=path_without_openssl)
    assert done.returncode == 0, done.stdout + done.stderr


def test_missing_headers_of_openssl_are_asked_for(path_without_openssl: str) -> None:
    """The message says what to install, and how to do without."""
    done = bench("--quick", "--rows", "tls-1KiB-x1", "--kinds", "asyncio", path=path_without_openssl)
    assert done.returncode != 0
    assert "libssl-dev" in done.stderr
    assert "--rows" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_row_is_refused_if_its_library_is_missing(tmp_path: pathlib.Path) -> None:
    """The message says what to install."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['aiohttp'] = None\n")
    done = bench("--rows", "aiohttp-get-x50", "--kinds", "asyncio", modules=tmp_path)
    assert done.returncode != 0
    assert "pip install aiohttp" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_row_is_refused() -> None:
    """The message says what there is."""
    done = bench("--rows", "no-such-row")
    assert done.returncode != 0
    assert "no-such-row" in done.stderr
    assert "tcp-1KiB-x50" in done.stderr or "--list" in done.stderr
    assert "Traceback" not in done.stderr
