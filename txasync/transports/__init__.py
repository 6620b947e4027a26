"""
asyncio transports on a poller: sockets, pipes, processes.

They stand on the public classes of ``asyncio.transports``, and know their loop by the callables of `LoopServices`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy_names import lazy_names
from ._bytes import BytesLike, as_bytes_like
from ._child_exits import ChildExits
from ._datagram import DatagramTransport
from ._flow import WRITES_DROPPED_IN_SILENCE, WriteFlow
from ._listener import Listener, set_nodelay
from ._reports import call_protocol, report
from ._services import LoopServices
from ._socket import UNKNOWN, SocketTransport, logger
from ._stream import StreamTransport
from ._time_limits import TimeLimits

# The others, TLS above all, take 3 ms to import, and not every program has a use for them.
if TYPE_CHECKING:
    from ._copying import CopyTarget, copy_file
    from ._pipe import ReadPipeTransport, WritePipeTransport
    from ._process import ProcessTransport, start_process
    from ._pty import PtyTransport, spawn_pty
    from ._tls import SSLTransport
    from ._tls_layer import LayeredSSLTransport
    from ._tls_socket import SocketSSLTransport
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "._copying": ("CopyTarget", "copy_file"),
            "._pipe": ("ReadPipeTransport", "WritePipeTransport"),
            "._process": ("ProcessTransport", "start_process"),
            "._pty": ("PtyTransport", "spawn_pty"),
            "._tls": ("SSLTransport",),
            "._tls_layer": ("LayeredSSLTransport",),
            "._tls_socket": ("SocketSSLTransport",),
        },
    )

__all__ = [
    "UNKNOWN",
    "WRITES_DROPPED_IN_SILENCE",
    "BytesLike",
    "ChildExits",
    "CopyTarget",
    "DatagramTransport",
    "LayeredSSLTransport",
    "Listener",
    "LoopServices",
    "ProcessTransport",
    "PtyTransport",
    "ReadPipeTransport",
    "SocketSSLTransport",
    "SocketTransport",
    "StreamTransport",
    "SSLTransport",
    "TimeLimits",
    "WriteFlow",
    "WritePipeTransport",
    "as_bytes_like",
    "call_protocol",
    "copy_file",
    "logger",
    "report",
    "set_nodelay",
    "spawn_pty",
    "start_process",
]
