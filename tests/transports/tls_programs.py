"""Programs that speak TLS, and the certificates that they need."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme

from ..tls.contexts import authority, certificate

OPENSSL = shutil.which("openssl")
CURL = shutil.which("curl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="no openssl program is installed")
needs_curl = pytest.mark.skipif(CURL is None, reason="no curl program is installed")


class PEMFiles(NamedTuple):
    """Where programs find the certificates: of the authority, of the server, and of a client."""

    authority: str
    server: str
    client: str


def pem_files(directory: Path) -> PEMFiles:
    """Write the certificates that programs need into *directory*, each with its key."""
    files = PEMFiles(*(str(directory / f"{name}.pem") for name in PEMFiles._fields))
    authority().cert_pem.write_to_path(files.authority)
    certificate().private_key_and_cert_chain_pem.write_to_path(files.server)
    client_certificate().private_key_and_cert_chain_pem.write_to_path(files.client)
    return files


def client_certificate() -> trustme.LeafCert:
    """A client's certificate, of the authority's."""
    return certificate("client.test")


class Program:
    """
    A program that runs, to which lines are sent and that is waited for to print something.

    Attributes:
        printed: What it has printed so far, and was read, on either output.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.printed = ""

    def send(self, text: str) -> None:
        """Send *text* to its input."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())

    async def says(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Wait until it has printed what *pattern* describes, so many times in all; the last one."""
        while len(found := list(re.finditer(pattern, self.printed))) < times:
            assert await self._read(), f"waited for {pattern!r}, {times} times, got {self.printed!r}"
        return found[times - 1]

    async def ends(self) -> int:
        """Wait for its end; its exit code."""
        while await self._read():
            pass
        return await self._process.wait()

    async def _read(self) -> bool:
        assert self._process.stdout is not None
        data = await self._process.stdout.read(65536)
        self.printed += data.decode("latin-1")
        return bool(data)

    async def close(self) -> None:
        """End it, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.ends()
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(ConnectionError):
            await self._process.stdin.wait_closed()


@contextlib.asynccontextmanager
async def running(program: str | None, *arguments: str) -> AsyncIterator[Program]:
    """*program* with *arguments*, which is killed at the end if it still runs."""
    assert program is not None
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    # Nobody's configuration, proxies and caches.
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C"}
    process = Program(await asyncio.create_subprocess_exec(program, *arguments, env=environment, **pipes))
    try:
        yield process
    finally:
        await process.close()
