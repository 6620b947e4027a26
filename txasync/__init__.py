"""
asyncio's event loop, transports and protocols over Twisted reactors. Importing this changes nothing.

PYTEST_DONT_REWRITE: ``python -m txasync -m pytest`` has imported this before pytest could, and pytest would warn of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy_names import lazy_names

# Whoever imports a light module of the package does not pay for Twisted, 140 ms, nor a program without adapters for
# those, 7 ms.
if TYPE_CHECKING:
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
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            ".adapters": (
                "LoopClientEndpoint",
                "LoopServerEndpoint",
                "connect",
                "open_connection",
                "serve",
                "start_server",
            ),
            ".bridge": (
                "AsyncConsumer",
                "as_deferred",
                "as_future",
                "deferred_coroutine",
                "eager_task_factory",
                "produce",
                "run_in_reactor_thread",
                "task_factory",
                "with_context",
            ),
            ".loop": ("ReactorEventLoop",),
            ".running": ("get_event_loop", "install", "new_event_loop", "run"),
            ".transports": ("PtyTransport", "spawn_pty"),
        },
        modules=("adapters", "bridge", "loop", "polling", "running", "tls", "transports"),
    )

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
