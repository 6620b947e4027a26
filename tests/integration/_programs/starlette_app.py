"""An application for ``python -m uvicorn``, which prints on what loop it ran and that it was ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from starlette.applications import Starlette


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """From the application's start to its end."""
    loop = type(asyncio.get_running_loop()).__name__
    yield
    print(json.dumps({"loop": loop, "ended": True}))


app = Starlette(lifespan=lifespan)
