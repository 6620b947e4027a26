"""A server of asyncio's streams for ``twistd txasync --listen ENDPOINT --protocol serve --stream``."""

from __future__ import annotations

import asyncio
import random


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each line with itself, in capitals; this takes a while, and for "hang", for ever."""
    async for line in reader:
        text = line.decode().strip()
        print(f"begun {text}", flush=True)
        if text == "hang":
            await asyncio.Event().wait()
        await asyncio.sleep(random.uniform(0.05, 0.3))
        print(f"served {text}", flush=True)
        writer.write(line.upper())
        await writer.drain()
    writer.close()
