"""What is measured: the rows of the table."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

KIB = 1024
SIZES = {"64B": 64, "1KiB": KIB, "10KiB": 10 * KIB, "64KiB": 64 * KIB}
CONNECTIONS = (1, 50, 500)
IDLE_CONNECTIONS = 5000


@dataclass(frozen=True)
class Unit:
    """
    What a figure is of.

    Attributes:
        name: For tables.
        ns: How many nanoseconds of processor time for one thing are one unit. (The memory row has KiB, not time.)
    """

    name: str
    ns: float


US_PER_MESSAGE = Unit("µs/message", 1e3)
US_PER_CONNECTION = Unit("µs/connection", 1e3)
US_PER_CHILD = Unit("µs/child", 1e3)
US_PER_STEP = Unit("µs/step", 1e3)
US_PER_TASK = Unit("µs/task", 1e3)
US_PER_AWAIT = Unit("µs/await", 1e3)
US_PER_CALL = Unit("µs/call", 1e3)
US_PER_TIMER = Unit("µs/timer", 1e3)
US_PER_REQUEST = Unit("µs/request", 1e3)
# A thing is a byte here: 1 ns per byte is one second per GB.
MS_PER_GB = Unit("ms/GB", 1e-3)
KIB_PER_CONNECTION = Unit("KiB/connection", 1)
MS_PER_PROCESS = Unit("ms/process", 1e6)


@dataclass(frozen=True)
class Row:
    """
    One thing to measure, for every kind that has the service.

    Attributes:
        name: As given on the command line.
        service: What the servers offer; see `kinds.SERVICES`.
        load: The mode of the load generator.
        unit: The unit of its figures.
        size: Bytes of a message, if that does not come with the load.
        active: Connections that exchange messages.
        idle: Connections that are open beside them.
        step: A measurement is of a multiple of this many things.
        warm_up: How many things come before anything is measured, at least.
    """

    name: str
    service: str
    load: str = "echo"
    unit: Unit = US_PER_MESSAGE
    size: int = KIB
    active: int = 1
    idle: int = 0
    step: int = 1
    warm_up: int = 3000

    @property
    def is_tls(self) -> bool:
        """Whether clients connect by TLS."""
        return self.service.startswith("tls")

    @property
    def needs(self) -> str | None:
        """A module that must be installed, whatever the kind."""
        return {"tls": "cryptography", "aiohttp": "aiohttp"}.get(self.service.partition("-")[0])

    def rounded(self, count: float) -> int:
        """A number of things near *count* that can be measured."""
        return max(round(count / self.step), 1) * self.step


# The rows of a run in which none are asked for: one of each sort, and the extremes of the plainest sort.
_DEFAULT = {
    *("tcp-64B-x1", "tcp-1KiB-x50", "tcp-64KiB-x50", "buffered-1KiB-x50", "readexactly-1KiB-x50", "readline-1KiB-x50"),
    *("unix-1KiB-x50", "udp-1KiB-x50", "bulk-send", "bulk-receive", "churn-x20", "spawn-x1", "idle-memory"),
    *("tls-1KiB-x50", "tls-handshake-x20", "aiohttp-get-x50", "task-step-x100", "task-make"),
    *("call-soon-chain", "timer-churn", "threadsafe-flood", "run-in-executor", "start-up"),
}


def _echo_rows() -> list[Row]:
    rows = []
    for name, service in (("tcp", "protocol"), ("buffered", "buffered"), ("readexactly", "exactly")):
        for size_name, size in SIZES.items():
            for active in CONNECTIONS:
                offered = f"exactly={size}" if service == "exactly" else service
                rows.append(Row(f"{name}-{size_name}-x{active}", offered, size=size, active=active))
    rows += [Row(f"add-reader-1KiB-x{active}", "add-reader", active=active) for active in CONNECTIONS]
    rows += [Row(f"readline-1KiB-x{active}", "lines", active=active) for active in CONNECTIONS]
    rows += [Row(f"unix-1KiB-x{active}", "unix", active=active) for active in CONNECTIONS]
    rows += [Row(f"udp-1KiB-x{active}", "udp", active=active) for active in (1, 50)]
    return rows


def _tls_rows() -> list[Row]:
    rows = []
    for size_name in ("64B", "1KiB", "64KiB"):
        for active in (1, 50):
            rows.append(Row(f"tls-{size_name}-x{active}", "tls", size=SIZES[size_name], active=active))
    for service in ("tls-memory", "tls-pyopenssl"):
        for size_name in ("1KiB", "64KiB"):
            rows.append(Row(f"{service}-{size_name}-x50", service, size=SIZES[size_name], active=50))
    rows.append(Row("tls-handshake-x20", "tls", load="churn", unit=US_PER_CONNECTION, size=64, active=20, warm_up=200))
    return rows


def _task_rows() -> list[Row]:
    return [
        Row("task-step-x1", "step", load="request", unit=US_PER_STEP),
        Row("task-step-x100", "step-at-once", load="request", unit=US_PER_STEP, step=100),
        Row("task-make", "make-tasks", load="request", unit=US_PER_TASK, step=20),
        Row("await-future-x1", "await-futures", load="request", unit=US_PER_AWAIT),
        Row("await-future-x100", "await-futures-at-once", load="request", unit=US_PER_AWAIT, step=100),
        Row("await-deferred-x1", "await-deferreds", load="request", unit=US_PER_AWAIT),
        Row("await-deferred-x100", "await-deferreds-at-once", load="request", unit=US_PER_AWAIT, step=100),
    ]


def _scheduling_rows() -> list[Row]:
    return [
        Row("call-soon-chain", "chain", load="request", unit=US_PER_CALL),
        Row("call-soon-fan-out", "fan-out", load="request", unit=US_PER_CALL, step=100),
        Row("gather", "gather", load="request", unit=US_PER_TASK, step=10_000, warm_up=10_000),
        Row("wait-for", "wait-for", load="request", unit=US_PER_AWAIT),
        Row("timer-cancel", "timer-cancel", load="request", unit=US_PER_TIMER, step=1000),
        Row("timer-cancel-100k", "timer-cancel-many", load="request", unit=US_PER_TIMER, step=100_000, warm_up=100_000),
        Row("timer-churn", "timer-churn", load="request", unit=US_PER_TIMER, step=100, warm_up=20_000),
        Row("timer-fire", "timer-fire", load="request", unit=US_PER_TIMER, step=1000),
        Row("timer-fire-100k", "timer-fire-many", load="request", unit=US_PER_TIMER, step=100_000, warm_up=100_000),
        Row("threadsafe-flood", "flood", load="request", unit=US_PER_CALL),
        Row("threadsafe-round-trip", "round-trips", load="request", unit=US_PER_CALL),
        Row("run-in-executor", "executor", load="request", unit=US_PER_CALL),
        Row("getaddrinfo-literal", "literal", load="request", unit=US_PER_CALL),
    ]


def _all_rows() -> list[Row]:
    return [
        *_echo_rows(),
        Row("bulk-send", "source", load="receive", unit=MS_PER_GB, step=10_000_000, warm_up=100_000_000),
        Row("bulk-receive", "sink", load="send", unit=MS_PER_GB, step=10_000_000, warm_up=100_000_000),
        Row(
            "bulk-receive-buffered", "sink-buffered", load="send", unit=MS_PER_GB, step=10_000_000, warm_up=100_000_000
        ),
        Row("churn-x20", "protocol", load="churn", unit=US_PER_CONNECTION, size=64, active=20, warm_up=500),
        *_tls_rows(),
        *(
            Row(f"aiohttp-get-x{active}", "aiohttp", load="http", unit=US_PER_REQUEST, active=active, warm_up=1000)
            for active in (1, 50)
        ),
        *_task_rows(),
        *_scheduling_rows(),
        Row("spawn-x1", "spawn", load="request", unit=US_PER_CHILD, warm_up=40),
        Row("spawn-x20", "spawn-parallel", load="request", unit=US_PER_CHILD, step=20, warm_up=40),
        # Its things are processes, which need no server and no load generator.
        Row("start-up", "start-up", unit=MS_PER_PROCESS, active=0),
        Row("idle-memory", "protocol", unit=KIB_PER_CONNECTION, active=0, idle=IDLE_CONNECTIONS),
        Row("idle-active-x50", "protocol", active=50, idle=IDLE_CONNECTIONS),
    ]


ROWS = _all_rows()


def default() -> list[Row]:
    """The rows of a run in which none are asked for."""
    return [row for row in ROWS if row.name in _DEFAULT]


def matching(patterns: str) -> list[Row]:
    """The rows whose name matches one of *patterns*, which are like those of a shell, with commas between them."""
    return [row for row in ROWS if any(fnmatchcase(row.name, pattern) for pattern in patterns.split(","))]
