"""
TLS: what ``ssl=`` takes, and how its errors look.

``create_connection``, ``create_server`` and their kin, and ``start_tls``, take contexts of the standard library and of
pyOpenSSL, and what Twisted makes of these. Importing this imports neither Twisted nor pyOpenSSL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy_names import lazy_names
from ._accepted import EngineMaker, check_accepted, default_server_hostname, engine_maker

# With the engine of the standard library, which `engine_maker` imports, 1 ms for those who use no TLS.
if TYPE_CHECKING:
    from ._engine import Engine, HandshakeInfo, Wire
    from ._errors import TLSError, TLSVerificationError
else:
    __getattr__, __dir__ = lazy_names(
        __name__, {"._engine": ("Engine", "HandshakeInfo", "Wire"), "._errors": ("TLSError", "TLSVerificationError")}
    )

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
