"""Tells Twisted of what txasync adds to it. Imports next to nothing: Twisted imports this for every command."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

__all__ = ["txasync_reactor", "txasync_service"]

txasync_service = ServiceMaker(
    "txasync", "txasync.application._twistd", "Run asyncio code on the reactor that twistd runs.", "txasync"
)

txasync_reactor = Reactor(
    "txasync", "txasync.reactor", "An epoll reactor whose epoll set is that of txasync's asyncio loop, too."
)
