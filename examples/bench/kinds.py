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
        lacks: Services that its module has for others.
        by_default: Whether it is compared if no kinds are asked for.
    """

    name: str
    module: str
    needs: tuple[str, ...]
    about: str
    lacks: tuple[str, ...] = ()
    by_default: bool = True


# No service of a server, but that of a whole process; see `start_up`.
START_UP = "start-up"
_AWAIT_DEFERREDS = ("await-deferreds", "await-deferreds-at-once")

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "txasync",
            "asyncio_server",
            ("twisted", "txasync"),
            "txasync.install() and reactor.run() on a stock EPollReactor",
        ),
        Kind(
            "txasync-reactor",
            "asyncio_server",
            ("twisted", "txasync"),
            "txasync.install() and reactor.run() on txasync's own reactor, SharedEPollReactor",
        ),
        Kind("txasync-driven", "asyncio_server", ("twisted", "txasync"), "txasync.run(main()) on a stock EPollReactor"),
        Kind(
            "txasync-plain",
            "asyncio_server",
            ("twisted", "txasync"),
            "txasync with asyncio's own tasks, which cannot await Deferreds",
            lacks=(START_UP,),
            by_default=False,
        ),
        Kind("asyncio", "asyncio_server", (), "asyncio's own event loop", lacks=_AWAIT_DEFERREDS),
        Kind("uvloop", "asyncio_server", ("uvloop",), "uvloop's event loop", lacks=_AWAIT_DEFERREDS),
        Kind(
            "zuvloop",
            "asyncio_server",
            ("zuvloop",),
            "zuvloop's event loop, for CPython 3.14 and later",
            lacks=_AWAIT_DEFERREDS,
            by_default=False,
        ),
        Kind(
            "twisted",
            "twisted_server",
            ("twisted",),
            "Twisted's own protocols on EPollReactor",
            lacks=_AWAIT_DEFERREDS,
        ),
        Kind(
            "twisted-on-ours",
            "twisted_server",
            ("twisted", "txasync"),
            "Twisted's own protocols on txasync's own reactor, SharedEPollReactor",
            lacks=_AWAIT_DEFERREDS,
        ),
        Kind(
            "on-twisted",
            "adapted_server",
            ("twisted", "txasync"),
            "asyncio's protocols on Twisted's transports, on EPollReactor",
            by_default=False,
        ),
        Kind(
            "on-txasync",
            "adapted_server",
            ("twisted", "txasync"),
            "Twisted's protocols on txasync's transports, on EPollReactor",
            lacks=("buffered",),
            by_default=False,
        ),
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

# What is done with callbacks, timers and threads; then, what Twisted has no call of its own for.
_SCHEDULING = (
    *("chain", "fan-out", "wait-for", "flood", "round-trips", "executor"),
    *("timer-cancel", "timer-cancel-many", "timer-churn", "timer-fire", "timer-fire-many"),
)
_ASYNCIO_SCHEDULING = ("gather", "literal")

# The services of each server module. They are the same to the client; only stream servers can tell the size of a
# message from nothing else, and get it with their name: "exactly=1024".
SERVICES = {
    "asyncio_server": {
        *("protocol", "add-reader", "buffered", "exactly", "lines", "unix", "udp"),
        *("source", "sink", "sink-buffered", "spawn", "spawn-parallel"),
        *("tls", "tls-memory", "tls-pyopenssl"),
        *("step", "step-at-once", "make-tasks", "await-futures", "await-futures-at-once", *_AWAIT_DEFERREDS, "aiohttp"),
        *(*_SCHEDULING, *_ASYNCIO_SCHEDULING, START_UP),
    },
    "twisted_server": {
        *("protocol", "lines", "unix", "udp", "source", "sink", "spawn", "spawn-parallel"),
        *("tls", "tls-pyopenssl", *_AWAIT_DEFERREDS, *_SCHEDULING, START_UP),
    },
    "adapted_server": {"protocol", "buffered", "lines", "unix", "source", "sink"},
    "epoll_server": {
        *("protocol", "add-reader", "buffered", "unix", "udp"),
        *("source", "sink", "sink-buffered", "spawn", "spawn-parallel", START_UP),
    },
}


def has_service(kind: Kind, service: str) -> bool:
    """Whether *kind* has *service*, which may carry a size."""
    name = service.partition("=")[0]
    return name in SERVICES[kind.module] and name not in kind.lacks
