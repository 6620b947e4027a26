"""Two engines that talk to each other in memory, each of every kind that ``ssl=`` can make."""

from __future__ import annotations

import functools
import itertools
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from OpenSSL import SSL

from txasync.tls import Engine, engine_maker
from txasync.tls._pyopenssl import PyOpenSSLEngine

from .contexts import CLIENT_KINDS, SERVER_KINDS, client_context, server_context

PAIRS = list(itertools.product(CLIENT_KINDS, SERVER_KINDS))
# Each kind on each side, with one of the other library's.
FOREIGNERS = [
    ("stdlib", "options"),
    ("memory", "context"),
    ("options", "stdlib"),
    ("creator", "memory"),
    ("context", "stdlib"),
]
# Of each library one: what there is to see is the same with the others of it.
LIBRARIES = list(itertools.product(("stdlib", "context"), repeat=2))

each_pair = pytest.mark.parametrize(("client_kind", "server_kind"), PAIRS)
each_kind = pytest.mark.parametrize(("client_kind", "server_kind"), FOREIGNERS)
each_way = pytest.mark.parametrize(("client_kind", "server_kind"), [("stdlib", "context"), ("context", "stdlib")])
each_library = pytest.mark.parametrize(("client_kind", "server_kind"), LIBRARIES)

_client_made_once = functools.cache(client_context)
usual_server = functools.cache(server_context)
"""What `server_context` gives, made once, for tests that leave it as it is."""


def usual_client(kind: str, host: str = "localhost", **options: Any) -> Any:
    """What `client_context` gives, made once: to load what a system trusts takes longer than many handshakes."""
    return _client_made_once(kind, host if kind == "creator" else "localhost", **options)


class Pair:
    """
    Two engines, connected in memory, or each on its own end of a connection.

    They are driven as a transport drives them: what is to be sent is sent after each step, whether that failed or not;
    but not when the peer is refused by ``check_peer()``.
    """

    def __init__(self, client: Engine, server: Engine) -> None:
        self.client = client
        self.server = server

    def carry(self, *, at_most: int | None = None) -> bool:
        """Bring what is encrypted to the other side, in pieces of *at_most* bytes; whether there was anything."""
        carried = False
        for sender, receiver in (self.client, self.server), (self.server, self.client):
            if sender.wire is None or receiver.wire is None:
                continue
            data = sender.wire.take()
            carried = carried or bool(data)
            for start in range(0, len(data), at_most or len(data) or 1):
                receiver.wire.feed(data[start : start + (at_most or len(data))])
        return carried

    def outcomes(self, *, at_most: int | None = None) -> tuple[Exception | None, Exception | None]:
        """How the handshake ended, for the client and the server: who waits though the other failed, has a timeout."""
        ended: dict[Engine, Exception | None] = {}
        for _ in range(20):
            for engine in self.client, self.server:
                if engine not in ended and (end := shake_on(engine)) is not engine:
                    assert not isinstance(end, Engine)
                    ended[engine] = end
            self.carry(at_most=at_most)
        assert len(ended) == 2 or any(ended.values()), f"the handshake does not end; so far: {ended}"
        return ended.get(self.client, TimeoutError()), ended.get(self.server, TimeoutError())

    def shake_hands(self, *, at_most: int | None = None) -> Pair:
        """Do the whole handshake; what a side finds wrong is raised, the client's first."""
        for error in self.outcomes(at_most=at_most):
            if error is not None:
                raise error
        return self

    def send(self, sender: Engine, data: bytes, *, at_most: int | None = None) -> bytes:
        """Send *data* to the other side, and return what can be read there."""
        self.write(sender, data, at_most=at_most)
        return read_all(self.server if sender is self.client else self.client)

    def write(self, sender: Engine, data: bytes, *, at_most: int | None = None) -> None:
        """Write all of *data*, and carry it."""
        while data:
            data = data[sender.write(data) :]
            self.carry(at_most=at_most)


def shake_on(engine: Engine) -> Engine | Exception | None:
    """Go on with the handshake: the engine itself if it waits, None if it is done, else what went wrong."""
    try:
        engine.do_handshake()
    except engine.want_read:
        return engine
    except Exception as error:
        return engine.explained(error)
    try:
        engine.check_peer()
    except Exception as error:
        if engine.wire is not None:
            engine.wire.take()
        return error
    return None


def read_all(engine: Engine) -> bytes:
    """What can be read now; the end is not told from nothing."""
    received = bytearray()
    while True:
        try:
            data = engine.read(16384)
        except engine.want_read:
            return bytes(received)
        if not data:
            return bytes(received)
        received += data


def explained(engine: Engine, operation: Callable[[], object]) -> Exception:
    """What *operation* of *engine* raises, as its users see it."""
    try:
        operation()
    except Exception as error:
        return engine.explained(error)
    raise AssertionError("nothing was raised")


def pair(client: Any, server: Any, server_hostname: str | None = "localhost") -> Pair:
    """Engines in memory, of what ``ssl=`` is on each side."""
    return Pair(
        engine_maker(client, server_side=False, server_hostname=server_hostname)(None),
        engine_maker(server, server_side=True, server_hostname=None)(None),
    )


def pair_of(client_kind: str, server_kind: str) -> Pair:
    """Engines of these kinds, after the handshake."""
    return pair(usual_client(client_kind), usual_server(server_kind)).shake_hands()


def at_most_1_2(context: Any) -> None:
    """*context* is not to speak TLS 1.3."""
    if isinstance(context, ssl.SSLContext):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    else:
        context.set_max_proto_version(SSL.TLS1_2_VERSION)


def names_seen_by(server: Engine) -> Callable[[], str | None]:
    """What tells, after the handshake, which name the client has sent."""
    if isinstance(server, PyOpenSSLEngine):
        connection = server.ssl_object
        return lambda: (connection.get_servername() or b"").decode("ascii") or None
    seen: list[str | None] = []
    server.context.sni_callback = lambda _ssl_object, name, _context: seen.append(name)
    return lambda: seen[-1]
