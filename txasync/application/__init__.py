"""asyncio under twistd: what an application is made of."""

from __future__ import annotations

from ._services import TaskService

__all__ = ["TaskService"]
