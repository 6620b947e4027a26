"""TLS connections to bad peers, of both sorts of context: none hangs, none is let in, each ends with a clear error."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import re
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import pytest
import trustme

from txasync.tls import TLSError, TLSVerificationError

from ..conftest import Runner
from ..tls.contexts import CLIENT_KINDS, SERVER_KINDS, authority, certificate
from .combinations import COMBINATIONS
from .tls_peer_certificates import expired, made_by_hand, strange
from .tls_peer_contexts import Demands, our_client, our_server, peer_context
from .tls_peer_meetings import Outcome, Served, class_of, meet_server, overheard, shape_of
from .tls_peer_scripts import Line, Script, Speaker
from .tls_peers import BAD_CLIENTS, BAD_SERVERS, CUT_OFF, TLS1_2, TLS1_3, Row, each_in_its_combination, spread

T = TypeVar("T")

AT_ONCE = 32
"""How many peers there are at a time, where there are many."""

STDLIB_KINDS = "stdlib", "memory"


def check(error: BaseException | None, row: Row, kind: str) -> None:
    """Check that *error* is what *row* says, for a context of *kind*."""
    if row.error is None:
        assert error is None
        return
    assert isinstance(error, row.error)
    assert re.search(row.says, str(error), re.IGNORECASE)
    if row.error is ssl.SSLCertVerificationError:
        assert kind in STDLIB_KINDS or isinstance(error, TLSVerificationError)
    elif row.error is ssl.SSLError:
        assert type(error) is (ssl.SSLError if kind in STDLIB_KINDS else TLSError)
    assert kind in STDLIB_KINDS or not isinstance(error, ssl.SSLError) or error.__cause__ is not None


def on_asyncio(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What *main* returns on asyncio's own loop."""
    with contextlib.closing(asyncio.SelectorEventLoop()) as loop:
        return loop.run_until_complete(main())


# Bad servers


@spread(BAD_SERVERS, CLIENT_KINDS)
def test_a_client_refuses(row: Row, kind: str, run: Runner) -> None:
    """The connection is never made, create_connection() says why, as asyncio does, and nobody else is told."""

    async def main() -> Outcome:
        return await meet_server(row.script, our_client(kind, row.demands), row.demands, row.timeout_s)

    with overheard(run.loop) as contexts:
        outcome = run(main)
    assert contexts == []
    assert outcome.calls == list(row.calls)
    check(outcome.error, row, kind)
    if kind == "stdlib":
        assert outcome.shape == on_asyncio(main).shape


@pytest.mark.parametrize("combination", COMBINATIONS[:1], ids="-".join, indirect=True)
@pytest.mark.parametrize("kind", STDLIB_KINDS)
def test_a_common_name_counts_if_the_context_lets_it(kind: str, run: Runner) -> None:
    """``SSLContext.hostname_checks_common_name`` is kept, whose default is what pyOpenSSL's contexts cannot have."""

    async def main() -> Outcome:
        return await meet_server(named_by_common_name, our_client(kind))

    async def named_by_common_name(line: Line) -> None:
        assert await Speaker(line, peer_context(made_by_hand(), server_side=True)).shake_hands()
        line.end()
        await line.see_end()

    outcome = run(main)
    assert outcome == (None, list(CUT_OFF))
    assert outcome == on_asyncio(main)


@pytest.mark.parametrize("at_most", [TLS1_2, TLS1_3], ids=["TLS-1.2", "TLS-1.3"])
@each_in_its_combination(CLIENT_KINDS)
def test_a_client_is_sent_the_beginning_of_a_first_flight(kind: str, at_most: ssl.TLSVersion, run: Runner) -> None:
    """Wherever the server ends it, that is a ConnectionResetError."""
    flights = CutFlights(160, server_side=True, at_most=at_most)

    async def main() -> None:
        given = our_client(kind)
        async for scripts in flights.batches():
            for outcome in await asyncio.gather(*[meet_server(script, given) for script in scripts]):
                assert type(outcome.error) is ConnectionResetError
                assert outcome.calls == []

    with overheard(run.loop) as contexts:
        run(main)
    assert contexts == []
    assert flights.size > 500


@spread(BAD_SERVERS, ("stdlib", "options"))
def test_start_tls_fails_as_create_connection_does(row: Row, kind: str, run: Runner) -> None:
    """
    An upgrade has the same errors, on asyncio's own loop, too, and it ends the connection.

    The protocol is always told of that; in asyncio, it is not told if the handshake hangs, or is reset.
    """

    async def main() -> Outcome:
        given = our_client(kind, row.demands)
        return await meet_server(row.script, given, row.demands, row.timeout_s, late=True)

    with overheard(run.loop) as contexts:
        outcome = run(main)
    assert contexts == []
    check(outcome.error, row, kind)
    assert outcome.calls == list(row.calls or ("connection_made", f"connection_lost {class_of(outcome.error)}"))
    if kind == "stdlib":
        assert outcome.shape[:-1] == on_asyncio(main).shape[:-1]


@each_in_its_combination(CLIENT_KINDS)
@pytest.mark.parametrize("at_most", [TLS1_2, TLS1_3], ids=["TLS-1.2", "TLS-1.3"])
def test_a_bad_server_is_told(at_most: ssl.TLSVersion, kind: str, run: Runner) -> None:
    """A certificate that is refused ends the server's handshake; an alert says why, where the handshake finds out."""
    told: list[str] = []

    def with_certificate(leaf: trustme.LeafCert) -> Script:
        async def script(line: Line) -> None:
            speaker = Speaker(line, peer_context(leaf, server_side=True, at_most=at_most))
            await speaker.shake_hands() and await speaker.listen()
            told.append(speaker.told)
            await line.see_end()

        return script

    async def main() -> None:
        for leaf in expired(), strange(), certificate("example.org"):
            await meet_server(with_certificate(leaf), our_client(kind))

    run(main)
    assert re.search("certificate expired", told[0])
    assert re.search("unknown ca", told[1])
    assert told[2]


# Bad clients


@pytest.mark.parametrize("debug", [False, True])
@each_in_its_combination(SERVER_KINDS)
def test_a_server_is_sent_the_beginning_of_a_client_hello(kind: str, debug: bool, run: Runner) -> None:
    """Wherever the client ends it, the server closes the connection; in debug mode that is a ConnectionResetError."""
    flights = CutFlights(0 if debug else 600, server_side=False)

    async def main() -> None:
        async with Served(our_server(kind)) as served:
            async for scripts in flights.batches():
                await served.meet_clients(scripts)
            assert not any(witness.calls for witness in served.witnesses)
            assert await served.serves()

    with overheard(run.loop) as contexts:
        if debug:
            begin_debug_mode(run.loop)
        run(main)
    assert {type(context["exception"]) for context in contexts} <= {ConnectionResetError}
    assert len(contexts) == (flights.played if debug else 0)
    assert flights.size > 200


class CutFlights:
    """
    Peers that send the beginning of their first flight, and end: each of them some bytes more than the one before.

    Args:
        dense: Up to so many bytes, one byte more each.
        settings: Those of `peer_context`.

    Attributes:
        size: The number of bytes of the longest flight that was begun.
        played: The number of peers.
    """

    def __init__(self, dense: int, **settings: Any) -> None:
        self._context = functools.partial(peer_context, **settings)
        self._dense = dense
        self.size = 1
        self.played = 0

    async def batches(self) -> AsyncIterator[list[Script]]:
        """The peers, some of them at a time; the last of them send all but one byte."""
        sizes = itertools.chain(range(self._dense), itertools.count(self._dense, 11))
        while (batch := list(itertools.islice(sizes, AT_ONCE)))[0] < self.size:
            self.played += AT_ONCE
            yield [functools.partial(self._play, size) for size in batch]

    async def _play(self, size: int, line: Line) -> None:
        context = self._context()
        speaker = Speaker(line, context)
        if context.protocol == ssl.PROTOCOL_TLS_SERVER:
            await speaker.hear()
        flight = speaker.flight()
        self.size = max(self.size, len(flight))
        await line.send(flight[: min(size, len(flight) - 1)])
        line.end()
        await line.see_end()


@spread(BAD_CLIENTS, SERVER_KINDS)
def test_a_server_refuses(row: Row, kind: str, run: Runner) -> None:
    """The connection is never made, it is closed, nobody is told, and the next client is served."""
    with overheard(run.loop) as contexts:
        calls = run(lambda: serve(row, kind))
    assert contexts == []
    assert calls == list(row.calls)


async def serve(row: Row, kind: str) -> list[str]:
    """What the protocol of our server, of *kind*, is called with in the case of *row*."""
    async with Served(our_server(kind, row.demands), row.timeout_s) as served:
        await served.meet_client(row.script)
        if row.demands.only is None:
            assert await served.serves(certificate() if row.demands.clients_of else None)
        return served.witnesses[0].calls


@each_in_its_combination(SERVER_KINDS)
@pytest.mark.parametrize("at_most", [TLS1_2, TLS1_3], ids=["TLS-1.2", "TLS-1.3"])
def test_a_bad_client_is_told(at_most: ssl.TLSVersion, kind: str, run: Runner) -> None:
    """A client whose certificate is refused, or missed, gets an alert that says so."""
    told: list[str] = []

    def with_certificate(leaf: trustme.LeafCert | None) -> Script:
        async def script(line: Line) -> None:
            speaker = Speaker(line, peer_context(leaf, server_side=False, at_most=at_most))
            await speaker.shake_hands() and await speaker.listen()
            told.append(speaker.told)

        return script

    async def main() -> None:
        async with Served(our_server(kind, Demands(clients_of=authority))) as served:
            for leaf in expired(), strange(), None:
                await served.meet_client(with_certificate(leaf))

    run(main)
    assert re.search("certificate expired", told[0])
    assert re.search("unknown ca", told[1])
    assert re.search("certificate required" if at_most is TLS1_3 else "handshake failure", told[2])


@spread(BAD_CLIENTS, ("stdlib", "options"))
def test_a_server_in_debug_mode_tells_why(row: Row, kind: str, run: Runner) -> None:
    """Then, and only then, the loop's exception handler gets the error of a handshake: the one that asyncio's gets."""

    async def main() -> list[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        begin_debug_mode(loop)
        with overheard(loop) as contexts:
            assert await serve(row, kind) == list(row.calls)
        return contexts

    contexts = run(main)
    if row.calls:
        assert contexts == []
    else:
        assert [context["message"] for context in contexts] == ["Error on transport creation for incoming connection"]
        check(contexts[0]["exception"], row, kind)
    if kind == "stdlib":
        # The first that asyncio tells of: clients of other tests may come to a port that was theirs.
        assert [shape_of(context["exception"]) for context in contexts] == [
            shape_of(context["exception"]) for context in on_asyncio(main)[:1]
        ]


def begin_debug_mode(loop: asyncio.AbstractEventLoop) -> None:
    """Set *loop*'s debug mode, in which a busy machine is nothing to complain of."""
    loop.set_debug(True)
    loop.slow_callback_duration = 60.0
