"""asyncpg, against a real PostgreSQL server."""

from __future__ import annotations

import asyncio
import datetime
import io
import ssl
from typing import Any

import asyncpg

DATABASE = {"user": "tests", "database": "postgres"}


async def queries(directory: str, port: int) -> dict[str, Any]:
    """Types, a prepared statement, transactions, a cursor, COPY in both directions."""
    connection = await asyncpg.connect(host=directory, port=port, **DATABASE)
    try:
        row = await connection.fetchrow(
            "SELECT $1::int AS number, $2::text[] AS texts, $3::date AS date, $4::bytea AS bytes",
            42,
            ["a", "ü", None],
            datetime.date(2000, 2, 29),
            b"\0\xff",
        )
        statement = await connection.prepare("SELECT $1::int * 2")
        doubled = [await statement.fetchval(number) for number in range(5)]

        await connection.execute("CREATE TEMPORARY TABLE numbers (number int UNIQUE)")
        await connection.executemany("INSERT INTO numbers VALUES ($1)", [(number,) for number in range(100)])
        rejected = False
        try:
            async with connection.transaction():
                await connection.execute("INSERT INTO numbers VALUES (100)")
                await connection.execute("INSERT INTO numbers VALUES (100)")
        except asyncpg.UniqueViolationError:
            rejected = True
        async with connection.transaction():
            cursor = connection.cursor("SELECT number FROM numbers ORDER BY number", prefetch=10)
            in_order = [record["number"] async for record in cursor] == list(range(100))

        copied = io.BytesIO()
        await connection.copy_from_table("numbers", output=copied)
        await connection.execute("CREATE TEMPORARY TABLE copies (number int)")
        copied.seek(0)
        status = await connection.copy_to_table("copies", source=copied)
    finally:
        await connection.close()
    return {
        "row": [row["number"], row["texts"], row["date"].isoformat(), row["bytes"].hex()],
        "doubled": doubled,
        "rejected": rejected,
        "in_order": in_order,
        "copied": status,
    }


async def pool(directory: str, port: int, size: int, queries: int) -> dict[str, Any]:
    """More queries at once than connections."""
    async with asyncpg.create_pool(host=directory, port=port, min_size=1, max_size=size, **DATABASE) as pool:
        rows = await asyncio.gather(
            *(pool.fetchrow("SELECT $1::int AS number, pg_backend_pid() AS pid", number) for number in range(queries))
        )
    in_order = [row["number"] for row in rows] == list(range(queries))
    return {"in_order": in_order, "few_connections": len({row["pid"] for row in rows}) <= size}


async def cancellation(directory: str, port: int) -> dict[str, Any]:
    """A query that times out, one whose task is cancelled, and one of a connection that is terminated."""
    connection = await asyncpg.connect(host=directory, port=port, **DATABASE)
    other = await asyncpg.connect(host=directory, port=port, **DATABASE)
    try:
        timed_out = False
        try:
            await connection.execute("SELECT pg_sleep(600)", timeout=0.05)
        except asyncio.TimeoutError:
            timed_out = True

        # The query waits for a lock; that it does is seen from the other connection.
        await other.execute("SELECT pg_advisory_lock(1)")
        query = asyncio.ensure_future(connection.execute("SELECT pg_advisory_lock(1)"))
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND pid = $1"
        while not await other.fetchval(waiting, connection.get_server_pid()):
            pass
        query.cancel()
        await asyncio.wait([query])
        still_usable = await connection.fetchval("SELECT 'yes'")

        terminated = asyncio.Event()
        connection.add_termination_listener(lambda connection: terminated.set())
        await other.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
        await terminated.wait()
    finally:
        await connection.close()
        await other.close()
    return {
        "timed_out": timed_out,
        "cancelled": query.cancelled(),
        "still_usable": still_usable,
        "closed_by_server": connection.is_closed(),
    }


async def notifications(directory: str, port: int) -> dict[str, Any]:
    """Notifications that come while nobody asks."""
    listener = await asyncpg.connect(host=directory, port=port, **DATABASE)
    notifier = await asyncpg.connect(host=directory, port=port, **DATABASE)
    heard: asyncio.Queue[str] = asyncio.Queue()
    try:
        await listener.add_listener("news", lambda connection, pid, channel, payload: heard.put_nowait(payload))
        for number in range(10):
            await notifier.execute("SELECT pg_notify('news', $1)", str(number))
        payloads = [await heard.get() for _ in range(10)]
        await listener.remove_listener("news", lambda *arguments: None)
    finally:
        await listener.close()
        await notifier.close()
    return {"payloads": payloads}


async def tls(directory: str, port: int, ca: str) -> dict[str, Any]:
    """TCP that is upgraded to TLS, with a verified certificate, and a result of many megabytes over it."""
    context = ssl.create_default_context(cafile=ca)
    connection = await asyncpg.connect(host="localhost", port=port, ssl=context, **DATABASE)
    try:
        encrypted = await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        length = len(await connection.fetchval("SELECT repeat('x', 10000000)"))
    finally:
        await connection.close()
    return {"encrypted": encrypted, "length": length}
