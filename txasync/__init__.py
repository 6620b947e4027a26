"""asyncio's event loop, transports and protocols over Twisted reactors. Importing this changes nothing."""

from __future__ import annotations

from .loop import ReactorEventLoop
from .running import get_event_loop, install, new_event_loop, run
from .transports import PtyTransport, spawn_pty

__all__ = ["PtyTransport", "ReactorEventLoop", "get_event_loop", "install", "new_event_loop", "run", "spawn_pty"]
