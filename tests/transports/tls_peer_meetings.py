"""Our end of a connection to a bad peer, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import trustme

from ..conftest import open_descriptors
from ..tls.contexts import authority
from .tls_peer_contexts import Demands, peer_context
from .tls_peer_scripts import Line, Script, Speaker

LIMIT_S = 10.0
"""Whatever takes longer hangs."""

ATTEMPTS = 20


class Witness(asyncio.Protocol):
    """
    Our protocol.

    Attributes:
        calls: The callbacks so far, with their arguments.
        lost: Done when the connection is lost.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.error: Exception | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("connection_made")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.calls.append(f"data_received {data!r}")
        self.transport.write(data)

    def eof_received(self) -> None:
        self.calls.append("eof_received")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append(f"connection_lost {class_of(exc)}")
        self.error = exc
        self.lost.set_result(None)

    def forget(self) -> None:
        """End the connection, if there is one still; in asyncio of 3.10, that is not too late when it is lost."""
        if self.transport is not None:
            self.transport.abort()
            self.transport = None


def class_of(error: BaseException | None) -> str:
    """The name of *error*'s class, as the standard library would have it."""
    if error is None:
        return "None"
    return next(base.__name__ for base in type(error).__mro__ if not base.__module__.startswith("txasync"))


def shape_of(error: BaseException | None) -> tuple[str, Any]:
    """*error*'s class and, if it is of OpenSSL, its reason."""
    return class_of(error), getattr(error, "verify_message", None) or getattr(error, "reason", None)


class Outcome(NamedTuple):
    """What our end has seen of a bad peer: the error that there was, and the callbacks."""

    error: BaseException | None
    calls: list[str]

    @property
    def shape(self) -> tuple[Any, ...]:
        """What is to be the same in stock asyncio."""
        return *shape_of(self.error), self.calls


@contextlib.contextmanager
def overheard(loop: asyncio.AbstractEventLoop) -> Iterator[list[dict[str, Any]]]:
    """What *loop*'s exception handler is called with."""
    contexts: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: contexts.append(context))
    yield contexts
    loop.set_exception_handler(None)


async def meet_server(
    script: Script, given: Any, demands: Demands = Demands(), timeout_s: float = LIMIT_S, *, late: bool = False
) -> Outcome:
    """
    Connect our client, whose ``ssl=`` is *given*, to a server that does what *script* says.

    Args:
        script: What the server does.
        given: Our context.
        demands: What *given* asks for.
        timeout_s: The time for the handshake.
        late: Whether TLS begins by `start_tls()`.

    Returns:
        The error with which that failed, or that the connection, once made, was lost with.
    """
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        peer = loop.create_task(_play_server(listening, script))
        witness = Witness()
        error: BaseException | None = None
        try:
            address = listening.getsockname()
            tls: Any = {"server_hostname": demands.host, "ssl_handshake_timeout": timeout_s}
            if late:
                plain, _ = await loop.create_connection(lambda: witness, *address)
                witness.transport = await asyncio.wait_for(loop.start_tls(plain, witness, given, **tls), LIMIT_S)
            else:
                await asyncio.wait_for(loop.create_connection(lambda: witness, *address, ssl=given, **tls), LIMIT_S)
            await asyncio.wait_for(witness.lost, LIMIT_S)
            error = witness.error
        except OSError as failure:
            error = without_frames(failure)
        finally:
            witness.forget()
        await asyncio.wait_for(peer, LIMIT_S)
    return Outcome(error, witness.calls)


def without_frames(error: BaseException) -> BaseException:
    """*error*, and what caused it, without the frames that they came from, and all that is in these."""
    reason: BaseException | None = error
    while reason is not None:
        reason.__traceback__ = None
        reason = reason.__cause__ or reason.__context__
    return error


async def _play_server(listening: socket.socket, script: Script) -> None:
    sock, _ = await asyncio.get_running_loop().sock_accept(listening)
    with sock:
        await script(Line(sock))


class Served:
    """
    Our server, whose ``ssl=`` is *given*, to be met by bad clients and by good ones.

    Attributes:
        witnesses: The protocols so far.
    """

    def __init__(self, given: Any, timeout_s: float = LIMIT_S) -> None:
        self._given = given
        self._timeout_s = timeout_s
        self.witnesses: list[Witness] = []

    async def __aenter__(self) -> Served:
        self._server = await asyncio.get_running_loop().create_server(
            self._witness, "127.0.0.1", 0, ssl=self._given, ssl_handshake_timeout=self._timeout_s
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.wait_for(self._server.wait_closed(), LIMIT_S)
        # The server, and so this, may wait for the garbage collector; connections may not.
        while self.witnesses:
            self.witnesses.pop().forget()

    def _witness(self) -> Witness:
        self.witnesses.append(Witness())
        return self.witnesses[-1]

    async def meet_client(self, script: Script) -> None:
        """Have a client that does what *script* says connect, and see that our end of it is closed afterwards."""
        await self.meet_clients([script])

    async def meet_clients(self, scripts: list[Script]) -> None:
        """The same with several clients at once."""
        before = len(open_descriptors())
        await asyncio.wait_for(asyncio.gather(*map(self._play_client, scripts)), LIMIT_S)
        await until(lambda: len(open_descriptors()) <= before)

    async def _play_client(self, script: Script) -> None:
        with socket.socket() as sock:
            line = Line(sock)
            await asyncio.get_running_loop().sock_connect(sock, self._server.sockets[0].getsockname())
            await script(line)

    async def serves(self, leaf: trustme.LeafCert | None = None) -> bool:
        """
        Whether a good client, with the certificate *leaf*, is served.

        On a busy machine it may take longer than the time limit that is meant for a bad one; then it tries again.
        """
        heard: list[bytes] = []

        async def ask(line: Line) -> None:
            speaker = Speaker(line, peer_context(leaf, server_side=False, wants=authority))
            if await speaker.shake_hands():
                await speaker.say(b"hello")
                heard.append(await speaker.listen())

        for _ in range(ATTEMPTS):
            await self.meet_client(ask)
            if heard:
                break
        return heard == [b"hello"]


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until *condition* is true."""

    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0)

    await asyncio.wait_for(wait(), LIMIT_S)
