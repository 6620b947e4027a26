"""
TLS: what ``ssl=`` takes, and how its errors look.

``create_connection``, ``create_server`` and their kin, and ``start_tls``, take contexts of the standard library and of
pyOpenSSL, and what Twisted makes of these. Importing this imports neither Twisted nor pyOpenSSL.
"""

from __future__ import annotations

from ._accepted import EngineMaker, check_accepted, default_server_hostname, engine_maker
from ._engine import Engine, HandshakeInfo, Wire
from ._errors import TLSError, TLSVerificationError

__all__ = [
    "Engine",
    "EngineMaker",
    "HandshakeInfo",
    "TLSError",
    "TLSVerificationError",
    "Wire",
    "check_accepted",
    "default_server_hostname",
    "engine_maker",
]
