"""
asyncio's event loop, transports and protocols over Twisted reactors. Importing this changes nothing.

PYTEST_DONT_REWRITE: ``python -m txasync -m pytest`` has imported this before pytest could, and pytest would warn of it.
"""

from __future__ import annotations

from .adapters import LoopClientEndpoint, LoopServerEndpoint, connect, open_connection, serve, start_server
from .bridge import (
    AsyncConsumer,
    as_deferred,
    as_future,
    deferred_coroutine,
    eager_task_factory,
    produce,
    run_in_reactor_thread,
    task_factory,
    with_context,
)
from .loop import ReactorEventLoop
from .running import get_event_loop, install, new_event_loop, run
from .transports import PtyTransport, spawn_pty

__all__ = [
    "AsyncConsumer",
    "LoopClientEndpoint",
    "LoopServerEndpoint",
    "PtyTransport",
    "ReactorEventLoop",
    "as_deferred",
    "as_future",
    "connect",
    "deferred_coroutine",
    "eager_task_factory",
    "get_event_loop",
    "install",
    "new_event_loop",
    "open_connection",
    "produce",
    "run",
    "run_in_reactor_thread",
    "serve",
    "spawn_pty",
    "start_server",
    "task_factory",
    "with_context",
]
