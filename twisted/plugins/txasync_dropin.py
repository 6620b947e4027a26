"""Tells Twisted of what txasync adds to it. Imports next to nothing: Twisted imports this for every command."""

from twisted.application.service import ServiceMaker

__all__ = ["txasync_service"]

txasync_service = ServiceMaker(
    "txasync", "txasync.application._twistd", "Run asyncio code on the reactor that twistd runs.", "txasync"
)
