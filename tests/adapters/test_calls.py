"""How asyncio's protocols are called from wherever Twisted calls."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from twisted.internet.testing import StringTransport

from txasync import ReactorEventLoop
from txasync.adapters import as_twisted_protocol


@pytest.mark.parametrize("callback", ["connection_made", "data_received", "eof_received"])
def test_system_exit_leaves_the_loop(loop: ReactorEventLoop, callback: str) -> None:
    """Twisted's reactors would log it and go on."""

    def leave(*args: Any) -> None:
        raise SystemExit(callback)

    protocol = type("Leaving", (asyncio.Protocol,), {callback: leave})()

    async def main() -> None:
        carrier: Any = as_twisted_protocol(protocol)
        carrier.makeConnection(StringTransport())
        carrier.dataReceived(b"data")
        carrier.readConnectionLost()
        await asyncio.Event().wait()

    task = loop.create_task(main())
    with pytest.raises(SystemExit, match=callback):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
