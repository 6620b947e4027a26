"""
The lower bound: the same servers written by hand round ``select.epoll``, with nothing that an event loop is for.

A connection is its socket and nothing else. What is not sent at once is kept in `Loop.unsent`; while there is some, the
connection is not read.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import tempfile
from collections.abc import Callable

TRUE = shutil.which("true") or "/bin/true"
PARALLEL = 20
# The largest message in one piece.
RECEIVE_SIZE = 64 * 1024
BULK_SIZE = 256 * 1024


class Loop:
    """
    Calls a function for each descriptor that is ready.

    Attributes:
        readers: What to call with the descriptor, by descriptor.
        connections: The open sockets, by descriptor.
        unsent: What could not be sent yet, by descriptor.
    """

    def __init__(self) -> None:
        self.poller = select.epoll()
        self.readers: dict[int, Callable[[int], None]] = {}
        self.connections: dict[int, socket.socket] = {}
        self.unsent: dict[int, memoryview] = {}

    def run(self) -> None:
        poll, readers, unsent = self.poller.poll, self.readers, self.unsent
        while True:
            for descriptor, _ in poll():
                if descriptor in unsent:
                    self.send(descriptor, unsent.pop(descriptor))
                else:
                    readers[descriptor](descriptor)

    def add(self, descriptor: int, reader: Callable[[int], None]) -> None:
        self.readers[descriptor] = reader
        self.poller.register(descriptor, select.EPOLLIN)

    def send(self, descriptor: int, data: memoryview) -> None:
        """Send what goes, and wait with the rest for room; *data* was not sent as a whole before."""
        try:
            sent = self.connections[descriptor].send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self.unsent[descriptor] = data[sent:]
            self.poller.modify(descriptor, select.EPOLLOUT)
        else:
            self.poller.modify(descriptor, select.EPOLLIN)

    def close(self, descriptor: int) -> None:
        # Closing takes it out of the epoll set as well.
        self.connections.pop(descriptor).close()
        del self.readers[descriptor]

    def listen(self, listener: socket.socket, reader: Callable[[int], None]) -> None:
        is_tcp = listener.family == socket.AF_INET
        connections, add = self.connections, self.add

        def accept(_: int) -> None:
            connection, _ = listener.accept()
            connection.setblocking(False)
            if is_tcp:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            descriptor = connection.fileno()
            connections[descriptor] = connection
            add(descriptor, reader)

        listener.setblocking(False)
        listener.listen(100)
        self.add(listener.fileno(), accept)


# Echo


def echo(loop: Loop) -> Callable[[int], None]:
    connections = loop.connections

    def read(descriptor: int) -> None:
        connection = connections[descriptor]
        data = connection.recv(RECEIVE_SIZE)
        if not data:
            loop.close(descriptor)
            return
        try:
            sent = connection.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            loop.send(descriptor, memoryview(data)[sent:])

    return read


def buffered_echo(loop: Loop) -> Callable[[int], None]:
    connections = loop.connections
    buffer = memoryview(bytearray(RECEIVE_SIZE))

    def read(descriptor: int) -> None:
        connection = connections[descriptor]
        size = connection.recv_into(buffer)
        if not size:
            loop.close(descriptor)
            return
        try:
            sent = connection.send(buffer[:size])
        except BlockingIOError:
            sent = 0
        if sent < size:
            loop.send(descriptor, memoryview(bytes(buffer[sent:size])))

    return read


# Requests: a number, of bytes or of things to do


def source(loop: Loop) -> Callable[[int], None]:
    chunk = memoryview(bytes(BULK_SIZE))

    def read(descriptor: int) -> None:
        request = loop.connections[descriptor].recv(8)
        if not request:
            loop.close(descriptor)
            return
        left = int.from_bytes(request, "big")
        connection = loop.connections[descriptor]
        waiting = select.poll()
        waiting.register(descriptor, select.POLLOUT)
        # There is one client, which reads and does nothing else, so that waiting for it here keeps nobody waiting.
        while left:
            try:
                left -= connection.send(chunk[:left])
            except BlockingIOError:
                waiting.poll()

    return read


def sink(loop: Loop) -> Callable[[int], None]:
    left = 0

    def read(descriptor: int) -> None:
        nonlocal left
        connection = loop.connections[descriptor]
        data = connection.recv(BULK_SIZE)
        if not data:
            loop.close(descriptor)
            return
        if not left:
            left = int.from_bytes(data[:8], "big") + 8
        left -= len(data)
        if not left:
            connection.send(b".")

    return read


def buffered_sink(loop: Loop) -> Callable[[int], None]:
    left = 0
    buffer = memoryview(bytearray(BULK_SIZE))

    def read(descriptor: int) -> None:
        nonlocal left
        connection = loop.connections[descriptor]
        size = connection.recv_into(buffer)
        if not size:
            loop.close(descriptor)
            return
        if not left:
            left = int.from_bytes(buffer[:8], "big") + 8
        left -= size
        if not left:
            connection.send(b".")

    return read


def spawner(loop: Loop, concurrency: int) -> Callable[[int], None]:
    """Children by ``posix_spawn``, each waited for by a descriptor of its own."""

    def read(descriptor: int) -> None:
        request = loop.connections[descriptor].recv(8)
        if not request:
            loop.close(descriptor)
            return
        unstarted = running = int.from_bytes(request, "big")

        def spawn() -> None:
            nonlocal unstarted
            unstarted -= 1
            pid = os.posix_spawn(TRUE, [TRUE], os.environ)
            loop.add(os.pidfd_open(pid), lambda pidfd: ended(pidfd, pid))

        def ended(pidfd: int, pid: int) -> None:
            nonlocal running
            os.waitpid(pid, 0)
            os.close(pidfd)
            del loop.readers[pidfd]
            running -= 1
            if unstarted:
                spawn()
            elif not running:
                loop.connections[descriptor].send(b".")

        for _ in range(concurrency):
            spawn()

    return read


# Serving


def start_tcp(loop: Loop, reader: Callable[[int], None]) -> str:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    loop.listen(listener, reader)
    return f"tcp:{listener.getsockname()[1]}"


def start_unix(loop: Loop, reader: Callable[[int], None]) -> str:
    listener = socket.socket(socket.AF_UNIX)
    path = os.path.join(tempfile.mkdtemp(), "socket")
    listener.bind(path)
    loop.listen(listener, reader)
    return f"unix:{path}"


def start_udp(loop: Loop) -> str:
    datagrams = socket.socket(type=socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    datagrams.setblocking(False)

    buffer = memoryview(bytearray(RECEIVE_SIZE))

    def read(_: int) -> None:
        size, peer = datagrams.recvfrom_into(buffer)
        datagrams.sendto(buffer[:size], peer)

    loop.add(datagrams.fileno(), read)
    return f"udp:{datagrams.getsockname()[1]}"


STARTERS: dict[str, Callable[[Loop], str]] = {
    "protocol": lambda loop: start_tcp(loop, echo(loop)),
    "add-reader": lambda loop: start_tcp(loop, echo(loop)),  # there are no transports here that it could do without
    "buffered": lambda loop: start_tcp(loop, buffered_echo(loop)),
    "unix": lambda loop: start_unix(loop, echo(loop)),
    "udp": start_udp,
    "source": lambda loop: start_tcp(loop, source(loop)),
    "sink": lambda loop: start_tcp(loop, sink(loop)),
    "sink-buffered": lambda loop: start_tcp(loop, buffered_sink(loop)),
    "spawn": lambda loop: start_tcp(loop, spawner(loop, 1)),
    "spawn-parallel": lambda loop: start_tcp(loop, spawner(loop, PARALLEL)),
}


def serve(kind: str, services: list[str], announce: Callable[[dict[str, str]], None]) -> None:
    """Serve by hand."""
    loop = Loop()
    announce({service: STARTERS[service.partition("=")[0]](loop) for service in services})
    loop.run()
