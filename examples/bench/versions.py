"""What the measurements were made with."""

from __future__ import annotations

import os
import platform
import ssl
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version


def versions() -> dict[str, str | None]:
    """The versions of everything that the figures depend on; None for what is not installed."""
    return {
        "python": sys.version,
        # Without profile-guided optimization an interpreter is slower by a fifth to a half, which C extensions are not.
        "python configured with": sysconfig.get_config_var("CONFIG_ARGS"),
        **{name: _distribution(name) for name in ("txasync", "twisted", "uvloop", "zuvloop", "pyopenssl", "aiohttp")},
        "openssl": ssl.OPENSSL_VERSION,
        "openssl of pyopenssl": _openssl_of_cryptography(),
        "libc": " ".join(platform.libc_ver()),
        "kernel": platform.platform(),
        "processor": _processor(),
        "processors": str(os.cpu_count()),
    }


def _distribution(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _openssl_of_cryptography() -> str | None:
    """The OpenSSL that pyOpenSSL uses: mostly one that comes with the package ``cryptography``."""
    try:
        from cryptography.hazmat.backends.openssl.backend import backend
    except ImportError:
        return None
    return backend.openssl_version_text()


def _processor() -> str:
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            # Not all architectures name it.
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
