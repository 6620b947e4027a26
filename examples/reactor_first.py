"""A Twisted program, with a reactor of its own, that uses asyncio: here, to run a child and to keep to a time limit."""

from __future__ import annotations

import asyncio

from twisted.internet import reactor

import txasync


async def ask_the_system() -> str:
    """What ``uname`` says, unless it takes too long."""
    process = await asyncio.create_subprocess_exec("uname", "-s", stdout=asyncio.subprocess.PIPE)
    output, _ = await asyncio.wait_for(process.communicate(), timeout=10)
    return output.decode().strip()


def start() -> None:
    """A callback of the reactor, in which asyncio's own functions work."""
    task = asyncio.ensure_future(ask_the_system())
    task.add_done_callback(lambda task: print(f"{task.result()}, asked from {asyncio.get_running_loop()}"))
    task.add_done_callback(lambda task: reactor.stop())


txasync.install()
reactor.callWhenRunning(start)
reactor.run()
