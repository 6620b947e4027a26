"""Tables of bad TLS peers, and what a connection to one comes to."""

from __future__ import annotations

import functools
import itertools
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import trustme

from ..tls.contexts import authority, certificate
from .combinations import COMBINATIONS
from .tls_peer_certificates import expired, made_by_hand, premature, strange, strangers
from .tls_peer_contexts import Demands
from .tls_peer_meetings import LIMIT_S
from .tls_peer_scripts import (
    CLIENT,
    SERVER,
    Line,
    Script,
    answers,
    breaks_off,
    ends_in_a_record,
    says_hello_and_ends,
    sends,
    shakes_hands,
    speaks,
    spoils_a_record,
    waits,
)

UNUSUAL_CIPHERS = "ECDHE-ECDSA-ARIA128-GCM-SHA256:@SECLEVEL=1"
"""For TLS 1.2: what nobody has who does not ask for it."""


# The tables


class Row(NamedTuple):
    """
    A bad peer, and what it comes to.

    Attributes:
        name: What is bad.
        script: What it does.
        error: The class of our end's error, if there is any.
        says: What its text matches, whatever the case of the letters.
        demands: What our context asks for.
        calls: Our protocol's callbacks, if the badness shows only after the handshake.
        timeout_s: The time for the handshake.
    """

    name: str
    script: Script
    error: type[BaseException] | None
    says: str = ""
    demands: Demands = Demands()
    calls: tuple[str, ...] = ()
    timeout_s: float = LIMIT_S

    def __str__(self) -> str:
        return self.name.replace(", ", "-").replace(" ", "-")


TLS1_1, TLS1_2, TLS1_3 = ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

# The calls of what has its handshake, but no good end.
ENDED = "connection_made", "data_received b'hello'", "eof_received", "connection_lost None"
CUT_OFF = "connection_made", "eof_received", "connection_lost None"
BROKEN = "connection_made", "connection_lost SSLError"

# In the second form where service_identity refuses the certificate as a whole.
MISMATCH = "mismatch, certificate is not valid for '|certificate cannot be checked for '"
BAD_MAC = "bad record mac|record layer failure"

WITH_CERTIFICATE = Demands(leaf=certificate)
WANTS_CERTIFICATES = Demands(clients_of=authority)

HTTP_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HTTP_RESPONSE = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"

GARBAGE = {
    "garbage": bytes(range(255, -1, -1)),
    "zeros": bytes(300),
    "a record that is too long": b"\x16\x03\x03\xff\xff" + bytes(300),
    "a record of garbage": b"\x16\x03\x03\x00\x40" + bytes(range(255, 191, -1)),
    "data before the handshake": b"\x17\x03\x03\x00\x05hello",
}

# An alert: the handshake has failed.
ALERT = b"\x15\x03\x03\x00\x02\x02\x28"


def _refused(name: str, leaf: Callable[[], trustme.LeafCert], says: str, host: str = "localhost", **more: Any) -> Row:
    return Row(name, speaks(SERVER, leaf), ssl.SSLCertVerificationError, says, Demands(host, **more))


def _wildcard(pattern: str, host: str) -> Row:
    return _refused(f"wildcard {pattern} for {host}", functools.partial(made_by_hand, pattern), MISMATCH, host)


def _fails(name: str, script: Script, says: str = "", demands: Demands = Demands(), calls: tuple[str, ...] = ()) -> Row:
    return Row(name, script, ssl.SSLError, says, demands, calls)


def _hangs(name: str, script: Script) -> Row:
    # Long enough for our own part, and a tenth of a second is not waited for often.
    return Row(name, script, ConnectionAbortedError, "longer than 0.1 seconds", timeout_s=0.1)


def _ends(name: str, script: Script) -> Row:
    return Row(name, script, ConnectionResetError)


_self_signed = functools.partial(made_by_hand, "localhost", self_signed=True)
_weak = functools.partial(made_by_hand, "localhost", weak_key=True)

BAD_SERVERS = (
    # Certificates
    _refused("expired", expired, "certificate has expired"),
    _refused("not yet valid", premature, "certificate is not yet valid"),
    _refused("self-signed", _self_signed, "self-signed certificate"),
    _refused("unknown authority", strange, "unable to get local issuer certificate"),
    _refused("wrong host", lambda: certificate("example.org"), "hostname mismatch.*'localhost'"),
    _refused("wrong address", lambda: certificate("127.0.0.2"), "IP address mismatch.*'127.0.0.1'", "127.0.0.1"),
    _refused("address as a name", lambda: made_by_hand("127.0.0.1"), MISMATCH, "127.0.0.1"),
    _wildcard("*", "localhost"),
    _wildcard("*.com", "example.com"),
    _wildcard("*.example.com", "a.b.example.com"),
    _wildcard("*.*.example.com", "a.b.example.com"),
    _refused("no subjectAltName", made_by_hand, MISMATCH, common_name_counts=False),
    _refused("no name at all", functools.partial(made_by_hand, common_name="nobody"), MISMATCH),
    _refused("weak key", _weak, "key too weak"),
    # Our certificate
    _fails("missing certificate, TLS 1.2", speaks(SERVER, wants=strangers, at_most=TLS1_2), "handshake failure"),
    _fails("missing certificate", speaks(SERVER, wants=strangers), "certificate required", calls=BROKEN),
    _fails("refusal, TLS 1.2", speaks(SERVER, wants=strangers, at_most=TLS1_2), "unknown ca", WITH_CERTIFICATE),
    _fails("refusal", speaks(SERVER, wants=strangers), "unknown ca", WITH_CERTIFICATE, BROKEN),
    # What cannot be agreed upon
    _fails("TLS 1.1", speaks(SERVER, at_most=TLS1_1), "protocol version|unsupported protocol"),
    _fails("TLS 1.2 for 1.3", speaks(SERVER, at_most=TLS1_2), "protocol version", Demands(only=TLS1_3)),
    _fails("TLS 1.3 for 1.2", speaks(SERVER, at_least=TLS1_3), "protocol version", Demands(only=TLS1_2)),
    _fails("no common cipher", speaks(SERVER, at_most=TLS1_2, ciphers=UNUSUAL_CIPHERS), "handshake failure"),
    _fails("an alert", answers(ALERT), "handshake failure"),
    # What is no TLS
    _fails("HTTP", answers(HTTP_RESPONSE), "wrong version number|packet length|http"),
    *[_fails(name, answers(data)) for name, data in GARBAGE.items()],
    # Those that do not go on
    _hangs("silence", sends(b"")),
    _hangs("silence in the handshake", breaks_off(SERVER, waits, -10)),
    _ends("the end at once", breaks_off(SERVER, Line.end, 0)),
    _ends("the end in the handshake", breaks_off(SERVER, Line.end, -10)),
    _ends("a reset at once", breaks_off(SERVER, Line.reset, 0)),
    _ends("a reset in the handshake", breaks_off(SERVER, Line.reset, -10)),
    # Those that go wrong afterwards
    Row("the end without close_notify", shakes_hands(SERVER, says_hello_and_ends), None, calls=ENDED),
    Row("the end in a record", shakes_hands(SERVER, ends_in_a_record), None, calls=CUT_OFF),
    _fails("a spoilt record", shakes_hands(SERVER, spoils_a_record), BAD_MAC, calls=BROKEN),
)


def _refused_clients(name: str, leaf: Callable[[], trustme.LeafCert], says: str) -> list[Row]:
    versions = {"TLS 1.2": TLS1_2, "TLS 1.3": TLS1_3}
    scripts = {f"{name}, {version}": speaks(CLIENT, leaf, at_most=at_most) for version, at_most in versions.items()}
    refusal = ssl.SSLCertVerificationError
    return [Row(name, script, refusal, says, WANTS_CERTIFICATES) for name, script in scripts.items()]


BAD_CLIENTS = (
    # Certificates
    *_refused_clients("expired", expired, "certificate has expired"),
    *_refused_clients("not yet valid", premature, "certificate is not yet valid"),
    *_refused_clients("self-signed", _self_signed, "self-signed certificate"),
    *_refused_clients("unknown authority", strange, "unable to get local issuer certificate"),
    *_refused_clients("weak key", _weak, "key too weak"),
    _fails("none, TLS 1.2", speaks(CLIENT, at_most=TLS1_2), "did not return a certificate", WANTS_CERTIFICATES),
    _fails("none, TLS 1.3", speaks(CLIENT), "did not return a certificate", WANTS_CERTIFICATES),
    # Our certificate
    _fails("refusal, TLS 1.2", speaks(CLIENT, wants=strangers, at_most=TLS1_2), "unknown ca"),
    _fails("refusal, TLS 1.3", speaks(CLIENT, wants=strangers), "unknown ca"),
    # What cannot be agreed upon
    _fails("TLS 1.1", speaks(CLIENT, at_most=TLS1_1), "unsupported protocol|version too low"),
    _fails("TLS 1.2 for 1.3", speaks(CLIENT, at_most=TLS1_2), "unsupported protocol", Demands(only=TLS1_3)),
    _fails("TLS 1.3 for 1.2", speaks(CLIENT, at_least=TLS1_3), "unsupported protocol", Demands(only=TLS1_2)),
    _fails("no common cipher", speaks(CLIENT, at_most=TLS1_2, ciphers=UNUSUAL_CIPHERS), "no shared cipher"),
    _fails("an alert", sends(ALERT)),
    # What is no TLS
    _fails("HTTP", sends(HTTP_REQUEST), "http request"),
    *[_fails(name, sends(data)) for name, data in GARBAGE.items()],
    # Those that do not go on
    _hangs("silence", sends(b"")),
    _hangs("silence in its first flight", breaks_off(CLIENT, waits, -10)),
    _hangs("silence after our first flight", breaks_off(CLIENT, waits, hears=True)),
    _ends("the end at once", breaks_off(CLIENT, Line.end, 0)),
    _ends("the end in its first flight", breaks_off(CLIENT, Line.end, -10)),
    _ends("the end after our first flight", breaks_off(CLIENT, Line.end, hears=True)),
    _ends("a reset at once", breaks_off(CLIENT, Line.reset, 0)),
    _ends("a reset in its first flight", breaks_off(CLIENT, Line.reset, -10)),
    _ends("a reset after our first flight", breaks_off(CLIENT, Line.reset, hears=True)),
    # Those that go wrong afterwards
    Row("the end without close_notify", shakes_hands(CLIENT, says_hello_and_ends), None, calls=ENDED),
    Row("the end in a record", shakes_hands(CLIENT, ends_in_a_record), None, calls=CUT_OFF),
    _fails("a spoilt record", shakes_hands(CLIENT, spoils_a_record), BAD_MAC, calls=BROKEN),
)


# Which loops


def spread(rows: tuple[Row, ...], kinds: tuple[str, ...]) -> pytest.MarkDecorator:
    """Each row for each kind, in one of the combinations, by turns."""
    cases = [
        (row, kind, COMBINATIONS[(i + j) % len(COMBINATIONS)])
        for (i, row), (j, kind) in itertools.product(enumerate(rows), enumerate(kinds))
    ]
    ids = ["-".join((str(row), kind, *combination)) for row, kind, combination in cases]
    return pytest.mark.parametrize(("row", "kind", "combination"), cases, ids=ids, indirect=["combination"])


def each_in_its_combination(kinds: tuple[str, ...]) -> pytest.MarkDecorator:
    """Each kind, in one of the combinations."""
    cases = list(zip(kinds, itertools.cycle(COMBINATIONS)))
    ids = ["-".join((kind, *combination)) for kind, combination in cases]
    return pytest.mark.parametrize(("kind", "combination"), cases, ids=ids, indirect=["combination"])
