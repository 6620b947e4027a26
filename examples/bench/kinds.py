"""What is compared: the kinds of server, and which services each of them has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """
    A way to write and run a server.

    Attributes:
        name: As given on the command line.
        module: The module that has its servers.
        needs: What must be installed.
        about: One line for readers of the results.
    """

    name: str
    module: str
    needs: tuple[str, ...]
    about: str


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "txasync",
            "asyncio_server",
            ("twisted", "txasync"),
            "txasync.install() and reactor.run() on a stock EPollReactor",
        ),
        Kind("txasync-driven", "asyncio_server", ("twisted", "txasync"), "txasync.run(main()) on a stock EPollReactor"),
        Kind("asyncio", "asyncio_server", (), "asyncio's own event loop"),
        Kind("uvloop", "asyncio_server", ("uvloop",), "uvloop's event loop"),
        Kind("twisted", "twisted_server", ("twisted",), "Twisted's own protocols on EPollReactor"),
        Kind("asyncioreactor", "twisted_server", ("twisted",), "Twisted's own protocols on AsyncioSelectorReactor"),
        Kind(
            "epoll",
            "epoll_server",
            (),
            "a few lines of Python round select.epoll: what the kernel and Python cost alone",
        ),
    )
}

# All ratios are to this kind.
REFERENCE = "uvloop"

# The services of each server module. They are the same to the client; only stream servers can tell the size of a
# message from nothing else, and get it with their name: "exactly=1024".
SERVICES = {
    "asyncio_server": {
        *("protocol", "buffered", "exactly", "lines", "unix", "udp"),
        *("source", "sink", "sink-buffered", "spawn", "spawn-parallel"),
        *("tls", "tls-memory", "tls-pyopenssl"),
    },
    "twisted_server": {
        *("protocol", "lines", "unix", "udp", "source", "sink", "spawn", "spawn-parallel"),
        *("tls", "tls-pyopenssl"),
    },
    "epoll_server": {
        *("protocol", "buffered", "unix", "udp"),
        *("source", "sink", "sink-buffered", "spawn", "spawn-parallel"),
    },
}


def has_service(kind: Kind, service: str) -> bool:
    """Whether *kind* has *service*, which may carry a size."""
    return service.partition("=")[0] in SERVICES[kind.module]
