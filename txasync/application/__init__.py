"""asyncio under twistd: what an application is made of."""

from __future__ import annotations

from ._client_service import ClientService
from ._log_forwarding import LogForwarding
from ._log_to_stdlib import log_to_stdlib
from ._log_to_twisted import TwistedHandler, log_to_twisted
from ._server_service import ServerService
from ._services import TaskService
from ._whole import import_on_demand_parts

__all__ = [
    "ClientService",
    "LogForwarding",
    "ServerService",
    "TaskService",
    "TwistedHandler",
    "log_to_stdlib",
    "log_to_twisted",
]

import_on_demand_parts()
