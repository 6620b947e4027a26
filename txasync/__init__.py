"""asyncio's event loop, transports and protocols over Twisted reactors. Importing this changes nothing."""

from __future__ import annotations

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
    "PtyTransport",
    "ReactorEventLoop",
    "as_deferred",
    "as_future",
    "deferred_coroutine",
    "eager_task_factory",
    "get_event_loop",
    "install",
    "new_event_loop",
    "produce",
    "run",
    "run_in_reactor_thread",
    "spawn_pty",
    "task_factory",
    "with_context",
]
