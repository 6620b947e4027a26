"""httpx, unmodified, on the loop. More of it is in the tests of uvicorn, where it is the client."""

from __future__ import annotations

import hashlib

import pytest

from .conftest import RunScenario, TLSFiles

for library in ("httpx", "aiohttp"):
    pytest.importorskip(library, reason=f"{library} is not installed")

CHUNK = bytes(range(256)) * 1024


def test_a_large_body_is_echoed_whole(run_scenario: RunScenario) -> None:
    """A body that is sent in chunks while the server sends it back arrives whole."""
    seen = run_scenario("with_httpx:large_bodies", chunks=8)
    assert seen == {"echoed": hashlib.sha256(CHUNK * 8).hexdigest()}


def test_tls_verifies_the_server(run_scenario: RunScenario, tls_files: TLSFiles) -> None:
    """An HTTPS request succeeds if the client trusts the server's authority, and is rejected if it does not."""
    # In debug mode asyncio itself logs the handshake that fails.
    seen = run_scenario("with_httpx:tls", dev=False, **tls_files)
    assert seen == {"secure": True, "rejected": "CERTIFICATE_VERIFY_FAILED"}


def test_a_client_survives_a_timeout_and_a_cancellation(run_scenario: RunScenario) -> None:
    """A read that times out and a request that is cancelled end at once, and the client can go on."""
    seen = run_scenario("with_httpx:timeout_and_cancellation")
    assert seen == {"timed_out": True, "cancelled": True, "answer": "here"}
