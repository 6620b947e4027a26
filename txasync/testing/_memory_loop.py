"""The loop of a memory network: its connections are those of its reactor, and nothing of it waits for real."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
)

from ..adapters import connect, serve
from ..loop import ReactorEventLoop

__all__ = ["MemoryEventLoop"]

# asyncio has none for connections that are being made.
NO_TIME_LIMIT: Any = None


class MemoryEventLoop(ReactorEventLoop):
    """
    A loop whose TCP and UNIX connections are those of its reactor, a `MemoryNetworkReactor`.

    Source:
        asyncio, "Event Loop".
    """

    async def create_connection(self, protocol_factory: Any, *args: Any, ssl: Any = None, **kwargs: Any) -> Any:
        _refuse(ssl, **kwargs)
        host, port = _host_and_port(*args, **kwargs)
        endpoint = TCP4ClientEndpoint(self.reactor, host, port, NO_TIME_LIMIT, kwargs.get("local_addr"))
        return await connect(endpoint, protocol_factory)

    async def create_unix_connection(self, protocol_factory: Any, *args: Any, ssl: Any = None, **kwargs: Any) -> Any:
        _refuse(ssl, **kwargs)
        endpoint = UNIXClientEndpoint(self.reactor, _path(*args, **kwargs), NO_TIME_LIMIT)
        return await connect(endpoint, protocol_factory)

    async def create_server(self, protocol_factory: Any, *args: Any, ssl: Any = None, **kwargs: Any) -> Any:
        _refuse(ssl, **kwargs)
        host, port = _host_and_port(*args, **kwargs)
        endpoint = TCP4ServerEndpoint(self.reactor, port, kwargs.get("backlog", 100), host)
        return await serve(endpoint, protocol_factory)

    async def create_unix_server(self, protocol_factory: Any, *args: Any, ssl: Any = None, **kwargs: Any) -> Any:
        _refuse(ssl, **kwargs)
        return await serve(UNIXServerEndpoint(self.reactor, _path(*args, **kwargs)), protocol_factory)

    async def create_datagram_endpoint(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("there are no datagrams in memory: test this with sockets, on another loop")

    async def connect_accepted_socket(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("there are no sockets in memory: let the memory network make the connection")

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("no child process runs by the clock of a test: test this on another loop")

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
        return await self.subprocess_exec(*args, **kwargs)

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        address = self.reactor.address_of(_text(host or ""))
        is_6 = ":" in address
        found = socket.AF_INET6 if is_6 else socket.AF_INET
        sockaddr: Any = (address, int(port or 0), 0, 0) if is_6 else (address, int(port or 0))
        if family not in (0, found):
            raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is {address!r} in memory")
        return [(found, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", sockaddr)]

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:
        return sockaddr[0], str(sockaddr[1])

    def run_in_executor(  # type: ignore[override]  # whose types are of generics that Python 3.10 lacks
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """
        Call *func* here and now: a thread would take its own time.

        Source:
            asyncio, "Event Loop", "Executing code in thread or process pools".
        """
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def _refuse(ssl: Any, *, sock: Any = None, **kwargs: Any) -> None:
    if ssl:
        raise NotImplementedError(
            f"connections in memory are made without TLS, got ssl={ssl!r}: test that with sockets"
        )
    if sock is not None:
        raise NotImplementedError(f"there are no sockets in memory, got sock={sock!r}: give host and port, or a path")


def _host_and_port(host: Any = None, port: Any = None, **kwargs: Any) -> tuple[str, int]:
    hosts = [host] if host is None or isinstance(host, str | bytes) else list(host)
    if len(hosts) != 1:
        raise NotImplementedError(f"a server in memory listens on one host, or on all, got {host!r}")
    return _text(hosts[0] or ""), int(port or 0)


def _path(path: Any = None, **kwargs: Any) -> str:
    return os.fsdecode(path)


def _text(host: str | bytes) -> str:
    return host.decode("idna") if isinstance(host, bytes) else host
