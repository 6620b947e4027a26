"""
Keep many connections of one server busy at once, and print how many messages each was served, as JSON.

    python -m tests.integration._programs.many_connections KIND ASYNCIO TWISTED MESSAGES

There are ASYNCIO connections to asyncio's transports, and TWISTED ones to Twisted's own, all of one server, which
many_connections_server.py is; it has the KINDs, and what it prints at its end is printed here, too. On each connection
the next message is sent when the echo of the last one has come, until there were MESSAGES echoes on all of them.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import subprocess
import sys
from typing import Any

SERVER = f"{__package__}.many_connections_server"
MESSAGE = bytes(64)
# So many wait to be accepted at once, and there is room for more.
CONNECTING = 200


def connect(port: int, count: int) -> list[socket.socket]:
    """Make *count* connections; all of them have been accepted when this returns."""
    connections: list[socket.socket] = []
    while len(connections) < count:
        few = min(CONNECTING, count - len(connections))
        new = [socket.create_connection(("127.0.0.1", port)) for _ in range(few)]
        for connection in new:
            assert len(connection.recv(2)) == 1, "this is not the greeting"
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
        connections += new
    return connections


def keep_busy(connections: list[socket.socket], messages: int) -> list[int]:
    """Send on all *connections*, and again where an echo comes, until *messages* have come; how many on each."""
    by_fd = {connection.fileno(): connection for connection in connections}
    echoes = dict.fromkeys(by_fd, 0)
    with select.epoll() as poller:
        for fd in by_fd:
            # By edges, each echo is told of once, and in the order in which they came: it is the server that is unfair.
            poller.register(fd, select.EPOLLIN | select.EPOLLET)
        for connection in connections:
            connection.send(MESSAGE)
        while messages > 0:
            for fd, _ in poller.poll():
                assert by_fd[fd].recv(1024) == MESSAGE
                by_fd[fd].send(MESSAGE)
                echoes[fd] += 1
                messages -= 1
    return [echoes[fd] for fd in by_fd]


def main(kind: str, asyncios: int, twisteds: int, messages: int) -> dict[str, Any]:
    """Start the server, load it, and see it end."""
    _, most_descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_descriptors, most_descriptors))
    with subprocess.Popen([sys.executable, "-W", "error", "-m", SERVER, kind], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        ports = json.loads(server.stdout.readline())
        # Twisted's are the first, so that the server has them under low numbers.
        by_transport = {"twisted": connect(ports["twisted"], twisteds)} if twisteds else {}
        by_transport["asyncio"] = connect(ports["asyncio"], asyncios)
        connections = [connection for several in by_transport.values() for connection in several]
        echoes = iter(keep_busy(connections, messages))
        for connection in connections:
            connection.close()
        lateness = json.loads(server.stdout.readline())
    assert server.returncode == 0
    return {
        "echoes": {name: [next(echoes) for _ in several] for name, several in by_transport.items()},
        "lateness": lateness,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:]))))
