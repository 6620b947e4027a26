"""
Three services of asyncio's in one tree: a relay for lines of text, whose next station may come and go.

    twistd --nodaemon --python examples/services.tac

It listens on port 8007 and connects to port 8008 of this host; RELAY_LISTEN and RELAY_NEXT name other endpoints, as
Twisted describes them. To see it work, in two more terminals (the second one may come before the first, and the first
may be ended and started again):

    nc -k -l 127.0.0.1 8008
    nc 127.0.0.1 8007
"""

from __future__ import annotations

import asyncio
import logging
import os
import random

from twisted.application.internet import backoffPolicy
from twisted.application.service import Application

from txasync.application import ClientService, ServerService, TaskService, log_to_twisted

log = logging.getLogger("relay")


class Relay:
    """What the three services share: the lines that have come and are not yet on their way."""

    def __init__(self, listen: str, following: str) -> None:
        self.lines: asyncio.Queue[bytes] = asyncio.Queue(1000)
        # Half a second at first; then longer and longer, up to a minute.
        retry_policy = backoffPolicy(initialDelay=0.5, jitter=lambda: random.uniform(0, 0.1))
        self.client = ClientService(following, NextStation, retry_policy=retry_policy)
        self.task = TaskService(self.pass_on)
        # When twistd is told to stop, who has connected by then has five seconds to end.
        self.server = ServerService.for_streams(listen, self.receive, graceful_s=5.0)

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the lines of one peer."""
        count = 0
        while line := await reader.readline():
            await self.lines.put(line)
            count += 1
        log.info("%s has sent %d lines", writer.get_extra_info("peername")[0], count)
        writer.close()

    async def pass_on(self) -> None:
        """Send each line to the next station that there is."""
        while True:
            line = await self.lines.get()
            station = await self.client.whenConnected()  # a Deferred, in a task of asyncio's
            station.transport.write(line)


class NextStation(asyncio.Protocol):
    """The connection to the next station."""

    transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        log.info("the next station is there")

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone, and the service will make another one."""
        log.info("the next station is gone")


log_to_twisted(logging.INFO)
relay = Relay(
    os.environ.get("RELAY_LISTEN", "tcp:8007:interface=127.0.0.1"),
    os.environ.get("RELAY_NEXT", "tcp:127.0.0.1:8008"),
)
application = Application("relay")
for service in relay.client, relay.task, relay.server:
    service.setServiceParent(application)
