"""
asyncio transports on a poller: sockets, pipes, processes.

They stand on the public classes of ``asyncio.transports``, and know their loop by the callables of `LoopServices`.
"""

from __future__ import annotations

from ._child_exits import ChildExits
from ._copying import copy_file
from ._datagram import DatagramTransport
from ._flow import WriteFlow
from ._listener import Listener, set_nodelay
from ._pipe import ReadPipeTransport, WritePipeTransport
from ._process import ProcessTransport, start_process
from ._pty import PtyTransport, spawn_pty
from ._services import LoopServices
from ._socket import UNKNOWN, SocketTransport
from ._stream import StreamTransport
from ._time_limits import TimeLimits
from ._tls import SSLTransport
from ._tls_layer import LayeredSSLTransport
from ._tls_socket import SocketSSLTransport

__all__ = [
    "UNKNOWN",
    "ChildExits",
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
    "copy_file",
    "set_nodelay",
    "spawn_pty",
    "start_process",
]
