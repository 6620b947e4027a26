"""What users run under ``twistd txasync``: the programs ``_programs/*_service.py``, and the options that run them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .conftest import PROGRAMS, TLSFiles

__all__ = ["AIOHTTP", "AIOHTTP_ALONE", "ASGI", "STREAMS", "TCP", "needs", "place", "tls_endpoint"]

TCP = "tcp:0:interface=127.0.0.1"
STREAMS = ["--listen", TCP, "--protocol", "streams_service:serve", "--stream"]
AIOHTTP = ["--listen", TCP, "--protocol", "aiohttp_service:protocol"]
AIOHTTP_ALONE = ["--run", "aiohttp_service:main"]
ASGI = ["--listen", TCP, "--asgi", "starlette_service:app"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The directory of a user's programs."""
    for program in PROGRAMS.glob("*_service.py"):
        shutil.copy(program, tmp_path)
    return tmp_path


def needs(*options: str) -> None:
    """Skip the test if what *options* need is not installed."""
    for name, libraries in ("starlette", ("starlette", "uvicorn")), ("aiohttp", ("aiohttp",)):
        if any(name in option for option in options):
            for library in libraries:
                pytest.importorskip(library, reason=f"{library} is not installed: the test extra has it")


def tls_endpoint(files: TLSFiles) -> str:
    """The description of an endpoint with TLS, on a port that the kernel chooses."""
    return f"ssl:0:interface=127.0.0.1:privateKey={files['key']}:certKey={files['certificate']}"
