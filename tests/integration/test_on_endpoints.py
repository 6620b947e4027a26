"""asyncio code on the endpoints that Twisted's descriptions have: those with TLS need the process's own reactor."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import RunScenario, TLSFiles

pytest.importorskip("aiohttp", reason="aiohttp is not installed: the test extra has it")

TCP = "tcp:0:interface=127.0.0.1"


def ssl_server(files: TLSFiles) -> str:
    """The description of a server's endpoint by TLS."""
    return f"ssl:0:interface=127.0.0.1:privateKey={files['key']}:certKey={files['certificate']}"


def trusted(files: TLSFiles, directory: Path) -> Path:
    """A directory with the authority's certificate alone, as clients' descriptions have it."""
    (directory / "authority.pem").write_bytes(Path(files["ca"]).read_bytes())
    return directory


def test_streams_by_tcp(run_scenario_everywhere: RunScenario) -> None:
    """``tcp:`` at both ends."""
    seen = run_scenario_everywhere("on_endpoints:streams", dev=False, server=TCP, client="tcp:127.0.0.1:{port}")
    assert seen == {"line": "line\n", "much_came_back": True, "tls": None}


def test_streams_by_unix_sockets(run_scenario_everywhere: RunScenario, tmp_path: Path) -> None:
    """``unix:`` at both ends."""
    description = f"unix:{tmp_path}/socket"
    seen = run_scenario_everywhere("on_endpoints:streams", dev=False, server=description, client=description)
    assert seen == {"line": "line\n", "much_came_back": True, "tls": None}


def test_streams_by_tls(run_scenario_everywhere: RunScenario, tls_files: TLSFiles, tmp_path: Path) -> None:
    """``ssl:`` and ``tls:``, which trusts the authorities that a directory has."""
    seen = run_scenario_everywhere(
        "on_endpoints:streams",
        dev=False,
        server=ssl_server(tls_files),
        client=f"tls:127.0.0.1:{{port}}:trustRoots={trusted(tls_files, tmp_path)}",
    )
    assert seen == {"line": "line\n", "much_came_back": True, "tls": "TLSv1.3"}


@pytest.mark.parametrize("kind", ["tcp", "unix", "ssl"])
def test_aiohttps_server(run_scenario: RunScenario, tls_files: TLSFiles, tmp_path: Path, kind: str) -> None:
    """Megabytes are posted to it, twice on one connection."""
    arguments = {
        "tcp": {"server": TCP},
        "unix": {"server": f"unix:{tmp_path}/socket", "path": f"{tmp_path}/socket"},
        "ssl": {"server": ssl_server(tls_files), "ca": tls_files["ca"]},
    }[kind]
    seen = run_scenario("on_endpoints:site", dev=False, **arguments)
    assert seen == {"right": [True, True], "secure": kind == "ssl"}
