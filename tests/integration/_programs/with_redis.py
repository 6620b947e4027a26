"""redis-py's asyncio client, against a real Redis server."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import redis.asyncio


async def commands(path: str) -> dict[str, Any]:
    """Values, a pipeline, a transaction that somebody interferes with, a scan, a large value."""
    prefix = uuid.uuid4().hex
    async with redis.asyncio.Redis(unix_socket_path=path, decode_responses=True) as client:
        await client.set(f"{prefix}:a", "ü")
        value = await client.get(f"{prefix}:a")
        async with client.pipeline() as pipeline:
            for _ in range(100):
                pipeline.incr(f"{prefix}:counter")
            counted = await pipeline.execute()
        interfered = False
        async with client.pipeline() as pipeline:
            await pipeline.watch(f"{prefix}:counter")
            await client.incr(f"{prefix}:counter")
            pipeline.multi()  # type: ignore[no-untyped-call]  # redis-py is typed, but for this
            pipeline.set(f"{prefix}:counter", 0)
            try:
                await pipeline.execute()
            except redis.WatchError:
                interfered = True
        found = sorted([key async for key in client.scan_iter(f"{prefix}:*")])
        large = "x" * 5_000_000
        await client.set(f"{prefix}:large", large)
        large_came_back = await client.get(f"{prefix}:large") == large
        await client.delete(*found, f"{prefix}:large")
    return {
        "value": value,
        "counted": counted == list(range(1, 101)),
        "interfered": interfered,
        "found": [key.partition(":")[2] for key in found],
        "large_came_back": large_came_back,
    }


async def waiting(path: str) -> dict[str, Any]:
    """A blocked pop that is woken, one that is cancelled, and messages to a subscriber."""
    queue, channel = uuid.uuid4().hex, uuid.uuid4().hex
    async with redis.asyncio.Redis(unix_socket_path=path, decode_responses=True) as client:

        async def until_blocked(clients: int) -> None:
            while (await client.info("clients"))["blocked_clients"] < clients:
                pass

        async with redis.asyncio.Redis(unix_socket_path=path, decode_responses=True) as blocked:
            pop = asyncio.ensure_future(blocked.blpop([queue], timeout=0))
            await until_blocked(1)
            await client.rpush(queue, "pushed")
            _, popped = await pop

            pop = asyncio.ensure_future(blocked.blpop([queue], timeout=0))
            await until_blocked(1)
            pop.cancel()
            await asyncio.wait([pop])
            still_usable = await blocked.echo("yes")

        async with client.pubsub() as pubsub:
            await pubsub.subscribe(channel)
            heard = []
            async for message in pubsub.listen():
                if message["type"] == "subscribe":
                    for number in range(10):
                        await client.publish(channel, number)
                else:
                    heard.append(message["data"])
                if len(heard) == 10:
                    break
    return {"popped": popped, "cancelled": pop.cancelled(), "still_usable": still_usable, "heard": heard}


async def load(path: str, commands: int) -> dict[str, Any]:
    """Many commands at once through a pool that makes them wait for a connection."""
    pool = redis.asyncio.BlockingConnectionPool(
        connection_class=redis.asyncio.UnixDomainSocketConnection, path=path, max_connections=10, timeout=None
    )
    async with redis.asyncio.Redis.from_pool(pool) as client:
        answers = await asyncio.gather(*(client.echo(str(number)) for number in range(commands)))
    return {"in_order": answers == [str(number).encode() for number in range(commands)]}
