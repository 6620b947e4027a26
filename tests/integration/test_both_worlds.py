"""Twisted's own libraries and asyncio's, in one process, on one reactor."""

from __future__ import annotations

import hashlib

import pytest

from .conftest import RunScenario, TLSFiles

for library in ("aiohttp", "httpx"):
    pytest.importorskip(library, reason=f"{library} is not installed")

CHUNK = bytes(range(256)) * 1024


def test_asyncio_clients_fetch_from_a_twisted_server(run_scenario_everywhere: RunScenario) -> None:
    """aiohttp and httpx get what a twisted.web server in the same process answers, and send it what is large."""
    digest = hashlib.sha256(CHUNK * 4).hexdigest()
    assert run_scenario_everywhere("both_worlds:twisted_server", chunks=4) == {
        "in_order": True,
        "fetched_by_httpx": "from Twisted: /httpx",
        "posted": [digest, digest],
    }


def test_a_twisted_client_fetches_from_an_asyncio_server(run_scenario: RunScenario) -> None:
    """Twisted's Agent gets what an aiohttp server in the same process answers, and sends it what is large."""
    digest = hashlib.sha256(CHUNK * 4).hexdigest()
    seen = run_scenario("both_worlds:twisted_client", chunks=4)
    assert seen == {"in_order": True, "uploaded": digest, "downloaded": digest}


def test_tls_connects_the_two(run_scenario: RunScenario, tls_files: TLSFiles) -> None:
    """Twisted's TLS client trusts asyncio's TLS server, and the other way round."""
    seen = run_scenario("both_worlds:tls", **tls_files)
    assert seen == {"by_agent": "from aiohttp", "by_aiohttp": "from Twisted: /"}
