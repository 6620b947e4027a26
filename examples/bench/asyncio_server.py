"""The servers of all kinds that are an asyncio event loop: txasync, stock asyncio and uvloop run the same code."""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import socket
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import scheduling
import tasks
from certificate import certificate_path

CHUNK = bytes(64 * 1024)
TRUE = shutil.which("true") or "/bin/true"
PARALLEL = 20
# Loops do not keep their tasks.
SENDING: set[asyncio.Task[None]] = set()


# Echo


class Echo(asyncio.Protocol):
    """The echo of TCP, TLS and UNIX connections."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    """The same, into a buffer of its own."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = memoryview(bytearray(64 * 1024))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        # A copy: a transport that cannot send at once may keep what it was given, and the next message comes here.
        self.transport.write(bytes(self.buffer[:nbytes]))


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


async def echo_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


def echo_exactly(size: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(await reader.readexactly(size))
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    return echo


def echo_on_socket(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    """The same without a transport: what is called when *connection* can be read."""
    data = connection.recv(len(CHUNK))
    if not data:
        loop.remove_reader(connection)
        connection.close()
        return
    try:
        sent = connection.send(data)
    except BlockingIOError:
        sent = 0
    if sent < len(data):
        # The client sends no more before it has all, so nothing is read in the meantime.
        sending = loop.create_task(loop.sock_sendall(connection, data[sent:]))
        SENDING.add(sending)
        sending.add_done_callback(SENDING.discard)


# Requests: a number, of bytes or of things to do


class Source(asyncio.Protocol):
    """Sends as many bytes as the client asks for, and heeds the transport's water marks."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.left = 0
        self.paused = False

    def data_received(self, data: bytes) -> None:
        self.left = int.from_bytes(data, "big")
        self.send()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.send()

    def send(self) -> None:
        while self.left and not self.paused:
            chunk = CHUNK[: self.left]
            self.left -= len(chunk)
            self.transport.write(chunk)


class Sink(asyncio.Protocol):
    """Takes as many bytes as the client announces, and says when it has them."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.left = 0

    def data_received(self, data: bytes) -> None:
        if not self.left:
            self.left = int.from_bytes(data[:8], "big") + 8
        self.left -= len(data)
        if not self.left:
            self.transport.write(b".")


class BufferedSink(asyncio.BufferedProtocol):
    """The same, into a buffer of its own."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = memoryview(bytearray(256 * 1024))
        self.left = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self.left:
            self.left = int.from_bytes(self.buffer[:8], "big") + 8
        self.left -= nbytes
        if not self.left:
            self.transport.write(b".")


def spawner(concurrency: int) -> tasks.Work:
    async def spawn_one_after_another(count: int) -> None:
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(TRUE)
            await process.wait()

    async def spawn(count: int) -> None:
        await asyncio.gather(*(spawn_one_after_another(count // concurrency) for _ in range(concurrency)))

    return spawn


async def await_deferreds(count: int) -> None:
    """As a program of txasync does: by the bridge, or without it, as Futures."""
    import txasync  # the kinds that have this service have done so already

    has_bridge = asyncio.get_running_loop().get_task_factory() is not None
    work = tasks.await_deferreds if has_bridge else tasks.await_deferreds_by(txasync.as_future)
    await work(count)


# TLS


class InMemory(ssl.SSLObject):
    """Nothing but a class of one's own: a context that has one does not let txasync use TLS on the socket itself."""


def stdlib_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate_path())
    return context


def memory_context() -> ssl.SSLContext:
    """The same, in memory, as it always is with asyncio and uvloop."""
    context = stdlib_context()
    context.sslobject_class = InMemory
    return context


def pyopenssl_options() -> Any:
    """Twisted's options, which are pyOpenSSL's; for asyncio and uvloop, which take none, a stdlib context."""
    if "txasync" not in sys.modules:
        return stdlib_context()
    # As for Twisted itself: only the kinds that have it already import it.
    from twisted.internet.ssl import PrivateCertificate

    with open(certificate_path(), "rb") as file:
        return PrivateCertificate.loadPEM(file.read()).options()


# Serving

# Starts a service for messages of some size, and returns what must be kept for it to go on, and its address.
Starter = Callable[[asyncio.AbstractEventLoop, int], Awaitable[tuple[object, str]]]


def on_tcp(protocol: Callable[[], asyncio.BaseProtocol]) -> Starter:
    async def start(loop: asyncio.AbstractEventLoop, size: int) -> tuple[object, str]:
        server = await loop.create_server(protocol, "127.0.0.1", 0)
        return server, f"tcp:{server.sockets[0].getsockname()[1]}"

    return start


async def start_on_sockets(loop: asyncio.AbstractEventLoop, size: int) -> tuple[object, str]:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)

    def accept() -> None:
        connection, _ = listener.accept()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.add_reader(connection, echo_on_socket, loop, connection)

    loop.add_reader(listener, accept)
    return listener, f"tcp:{listener.getsockname()[1]}"


def on_tls(settings: Callable[[], Any]) -> Starter:
    async def start(loop: asyncio.AbstractEventLoop, size: int) -> tuple[object, str]:
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=settings())
        return server, f"tls:{server.sockets[0].getsockname()[1]}"

    return start


def on_unix(protocol: Callable[[], asyncio.BaseProtocol]) -> Starter:
    async def start(loop: asyncio.AbstractEventLoop, size: int) -> tuple[object, str]:
        path = os.path.join(tempfile.mkdtemp(), "socket")
        return await loop.create_unix_server(protocol, path), f"unix:{path}"

    return start


def on_udp(protocol: Callable[[], asyncio.DatagramProtocol]) -> Starter:
    async def start(loop: asyncio.AbstractEventLoop, size: int) -> tuple[object, str]:
        transport, _ = await loop.create_datagram_endpoint(protocol, ("127.0.0.1", 0))
        return transport, f"udp:{transport.get_extra_info('sockname')[1]}"

    return start


def on_streams(connected: Callable[[int], Callable[..., Coroutine[Any, Any, None]]]) -> Starter:
    async def start(loop: asyncio.AbstractEventLoop, size: int) -> tuple[object, str]:
        server = await asyncio.start_server(connected(size), "127.0.0.1", 0)
        return server, f"tcp:{server.sockets[0].getsockname()[1]}"

    return start


def on_request(work: tasks.Work) -> Starter:
    async def serve_requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.read(8):
            await work(int.from_bytes(request, "big"))
            writer.write(b".")
        writer.close()

    return on_streams(lambda size: serve_requests)


async def start_aiohttp(loop: asyncio.AbstractEventLoop, size: int) -> tuple[object, str]:
    from aiohttp import web

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="Hello, world\n")

    application = web.Application()
    application.router.add_get("/", hello)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"tcp:{runner.addresses[0][1]}"


STARTERS = {
    "protocol": on_tcp(Echo),
    "add-reader": start_on_sockets,
    "buffered": on_tcp(BufferedEcho),
    "exactly": on_streams(echo_exactly),
    "lines": on_streams(lambda size: echo_lines),
    "unix": on_unix(Echo),
    "udp": on_udp(DatagramEcho),
    "source": on_tcp(Source),
    "sink": on_tcp(Sink),
    "sink-buffered": on_tcp(BufferedSink),
    "spawn": on_request(spawner(1)),
    "spawn-parallel": on_request(spawner(PARALLEL)),
    "step": on_request(tasks.step),
    "step-at-once": on_request(tasks.at_once(tasks.step)),
    "make-tasks": on_request(tasks.make_tasks),
    "await-futures": on_request(tasks.await_futures),
    "await-futures-at-once": on_request(tasks.at_once(tasks.await_futures)),
    "await-deferreds": on_request(await_deferreds),
    "await-deferreds-at-once": on_request(tasks.at_once(await_deferreds)),
    **{name: on_request(work) for name, work in scheduling.WORK.items()},
    "aiohttp": start_aiohttp,
    "tls": on_tls(stdlib_context),
    "tls-memory": on_tls(memory_context),
    "tls-pyopenssl": on_tls(pyopenssl_options),
}


async def start_services(services: list[str], announce: Callable[[dict[str, str]], None]) -> None:
    """Start *services*, announce their addresses, and wait until the process is killed."""
    loop = asyncio.get_running_loop()
    kept = []  # uvloop closes a server that nobody refers to
    addresses = {}
    for service in services:
        name, _, size = service.partition("=")
        server, addresses[service] = await STARTERS[name](loop, int(size or 0))
        kept.append(server)
    announce(addresses)
    await asyncio.Event().wait()


def serve(kind: str, services: list[str], announce: Callable[[dict[str, str]], None]) -> None:
    """Run the loop that *kind* stands for, as programs are told to run it."""
    main = start_services(services, announce)
    if kind == "asyncio":
        asyncio.run(main)
    elif kind in ("uvloop", "zuvloop"):
        importlib.import_module(kind).run(main)
    else:
        # Twisted must not be imported by the other kinds: it changes what their memory allocation costs.
        serve_on_reactor(kind, main)


def serve_on_reactor(kind: str, main: Coroutine[Any, Any, None]) -> None:
    """Run *main* on our loop, and the reactor of *kind*."""
    if kind == "txasync-reactor":
        import txasync.reactor

        txasync.reactor.install()
    else:
        from twisted.internet import epollreactor

        epollreactor.install()
        import txasync

        if kind == "txasync-driven":
            txasync.run(main)
            return
    from twisted.internet import reactor as installed

    reactor: Any = installed
    loop = txasync.install()
    if kind == "txasync-plain":
        # Not by the loop's own method: that also has each step looked at, to explain errors.
        asyncio.BaseEventLoop.set_task_factory(loop, None)  # type: ignore[arg-type]  # it is one
    task = loop.create_task(main)
    reactor.run()
    task.result()
