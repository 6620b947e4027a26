"""AnyIO on its asyncio backend."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread

import txasync


async def tasks() -> dict[str, Any]:
    """Task groups and cancel scopes."""
    seen: dict[str, Any] = {"order": []}
    send, receive = anyio.create_memory_object_stream[int](0)

    async def produce(*, task_status: anyio.abc.TaskStatus[str]) -> None:
        task_status.started("producing")
        async with send:
            for number in range(5):
                await send.send(number)

    async with anyio.create_task_group() as group:
        seen["started"] = await group.start(produce)
        async with receive:
            seen["received"] = [number async for number in receive]

    with anyio.move_on_after(0.01) as scope:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
                seen["order"].append("shielded")
    seen["moved_on"] = scope.cancelled_caught
    try:
        with anyio.fail_after(0.01):
            await anyio.sleep_forever()
    except TimeoutError:
        seen["failed"] = True

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            seen["order"].append("cancelled")

    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise ValueError("on purpose")

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            group.start_soon(fail)
    except BaseException as error:  # an ExceptionGroup, which Python 3.10 does not know
        seen["errors"] = [repr(each) for each in error.exceptions]  # type: ignore[attr-defined]
    return seen


async def threads() -> dict[str, Any]:
    """To a thread and back, many threads at once, and a loop in another thread."""
    here = threading.get_ident()

    def from_a_thread() -> tuple[bool, bool]:
        return threading.get_ident() != here, anyio.from_thread.run(back) == here

    async def back() -> int:
        await anyio.lowlevel.checkpoint()
        return threading.get_ident()

    there, back_here = await anyio.to_thread.run_sync(from_a_thread)

    barrier = threading.Barrier(8, timeout=30)

    async def wait_for_the_others() -> None:
        await anyio.to_thread.run_sync(barrier.wait)

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(wait_for_the_others)

    def through_a_portal() -> tuple[int, str]:
        options = {"loop_factory": txasync.new_event_loop}
        with anyio.from_thread.start_blocking_portal("asyncio", options) as portal:
            return portal.call(portal_loop)

    async def portal_loop() -> tuple[int, str]:
        await anyio.sleep(0.001)
        return threading.get_ident(), type(txasync.get_event_loop()).__name__

    portal_thread, portal_loop_name = await anyio.to_thread.run_sync(through_a_portal)
    return {
        "there": there,
        "back_here": back_here,
        "portal_elsewhere": portal_thread != here,
        "portal_loop": portal_loop_name,
    }


async def processes() -> dict[str, Any]:
    """A process that runs to its end, one that is talked to, and one that is killed."""
    upper = "import sys; [print(line.strip().upper(), flush=True) for line in sys.stdin]"
    completed = await anyio.run_process([sys.executable, "-c", upper], input=b"one\ntwo\n")

    async with await anyio.open_process([sys.executable, "-c", upper]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send(b"three\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += await process.stdout.receive()
        await process.stdin.aclose()
        exit_code = await process.wait()

    async with await anyio.open_process([sys.executable, "-c", upper]) as process:
        process.kill()
        killed = await process.wait()
    return {
        "printed": completed.stdout.decode(),
        "answer": answer.decode(),
        "exit_code": exit_code,
        "killed": killed == -signal.SIGKILL,
    }


async def sockets(path: str) -> dict[str, Any]:
    """TCP, UNIX streams with a half-close, and UDP."""

    async def echo(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            async for chunk in stream:
                await stream.send(chunk)
            await stream.send(b"!")

    async def exchange(stream: anyio.abc.SocketStream, message: bytes) -> bytes:
        async with stream:
            await stream.send(message)
            await stream.send_eof()
            return b"".join([chunk async for chunk in stream])

    seen: dict[str, Any] = {}
    message = bytes(range(256)) * 400
    tcp = await anyio.create_tcp_listener(local_host="127.0.0.1")
    unix = await anyio.create_unix_listener(path)
    async with tcp, unix, anyio.create_task_group() as group:
        group.start_soon(tcp.serve, echo)
        group.start_soon(unix.serve, echo)
        port = tcp.extra(anyio.abc.SocketAttribute.local_port)
        seen["tcp"] = await exchange(await anyio.connect_tcp("127.0.0.1", port), message) == message + b"!"
        seen["unix"] = await exchange(await anyio.connect_unix(path), message) == message + b"!"
        group.cancel_scope.cancel()

    async with await anyio.create_udp_socket(local_host="127.0.0.1") as server:
        address = "127.0.0.1", server.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.create_connected_udp_socket(*address) as client:
            await client.send(b"ping")
            packet, sender = await server.receive()
            await server.sendto(packet + b" pong", *sender)
            seen["udp"] = (await client.receive()).decode()
    # Nobody listens there, nor does anybody else come to do so.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        try:
            await anyio.connect_tcp("127.0.0.1", taken.getsockname()[1])
        except OSError:
            seen["refused"] = True
    return seen


async def signals() -> dict[str, Any]:
    """Signals as an asynchronous iterator."""
    with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as received:
        os.kill(os.getpid(), signal.SIGUSR1)
        first = await received.__anext__()
        os.kill(os.getpid(), signal.SIGUSR2)
        second = await received.__anext__()
    restored = signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    return {"received": [first.name, second.name], "restored": restored}
