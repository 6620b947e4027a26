"""What ``ssl=`` may be, row by row, and what is said of anything else."""

from __future__ import annotations

import itertools
import os
import pathlib
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.ssl import ClientContextFactory

import txasync
from txasync.tls import Engine, check_accepted, default_server_hostname, engine_maker
from txasync.tls._pyopenssl import PyOpenSSLEngine
from txasync.tls._stdlib import StdlibEngine

from .contexts import server_context
from .engine_pairs import usual_client
from .test_creators import ClientFactory, Creator, LegacyFactory, Switching, Undeclared

# Where the package is imported from, and this checkout, which has the contexts.
ROOT = pathlib.Path(txasync.__file__).parents[1]
CHECKOUT = pathlib.Path(__file__).parents[2]

Row = tuple[Callable[[], Any], "type[Engine] | None", "type[Engine] | None"]

# What is given; a client's engine, and a server's, or None where that is a TypeError.
ROWS: dict[str, Row] = {
    "True": (lambda: True, StdlibEngine, None),
    "ssl.SSLContext": (lambda: ssl.SSLContext(ssl.PROTOCOL_TLS), StdlibEngine, StdlibEngine),
    "CertificateOptions": (lambda: server_context("options"), PyOpenSSLEngine, PyOpenSSLEngine),
    "IOpenSSLContextFactory": (ClientFactory, PyOpenSSLEngine, PyOpenSSLEngine),
    "ContextFactory": (LegacyFactory, PyOpenSSLEngine, PyOpenSSLEngine),
    "ClientContextFactory": (ClientContextFactory, PyOpenSSLEngine, PyOpenSSLEngine),
    "getContext": (lambda: Undeclared(server_context("context")), PyOpenSSLEngine, PyOpenSSLEngine),
    "OpenSSL.SSL.Context": (lambda: server_context("context"), PyOpenSSLEngine, PyOpenSSLEngine),
    "optionsForClientTLS": (lambda: usual_client("creator"), PyOpenSSLEngine, None),
    "server creator": (lambda: Switching(None), None, PyOpenSSLEngine),
    "both creators": (lambda: Creator(server_context("context")), PyOpenSSLEngine, PyOpenSSLEngine),
}

each_row = pytest.mark.parametrize(("make", "client", "server"), ROWS.values(), ids=ROWS)


@each_row
@pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLS is deprecated:DeprecationWarning")
def test_the_table(make: Callable[[], Any], client: type[Engine] | None, server: type[Engine] | None) -> None:
    """Each row, on each side, gives the engine of its library, or a TypeError, at once and when it is used."""
    given = make()
    for server_side, expected in (False, client), (True, server):
        if expected is not None:
            check_accepted(given, server_side=server_side)
            maker = engine_maker(given, server_side=server_side, server_hostname=None if server_side else "localhost")
            engines = maker(None), maker(None)
            assert type(engines[0]) is type(engines[1]) is expected
            assert engines[0].ssl_object is not engines[1].ssl_object
            continue
        with pytest.raises(TypeError, match="must be"):
            check_accepted(given, server_side=server_side)
        with pytest.raises(TypeError, match="must be"):
            engine_maker(given, server_side=server_side, server_hostname=None if server_side else "localhost")


def test_anything_else_is_a_type_error_that_says_what_is_accepted() -> None:
    """On both sides, with what is accepted there, and what was got."""
    others = (
        "localhost",
        1,
        443,
        b"context",
        object(),
        ssl.PROTOCOL_TLS_CLIENT,
        ("cert", "key"),
        SSL.TLS_METHOD,
        LegacyFactory,
    )
    for given, server_side in itertools.product(others, (False, True)):
        for refuse in (
            lambda side: check_accepted(given, server_side=side),
            lambda side: engine_maker(given, server_side=side, server_hostname="localhost"),
        ):
            with pytest.raises(TypeError) as caught:
                refuse(server_side)
            assert str(caught.value) == REFUSALS[server_side].format(given)


REFUSALS = {
    False: (
        "ssl argument must be an SSLContext, got {!r}; a client's may also be True, an OpenSSL.SSL.Context, or what "
        "Twisted takes (CertificateOptions, optionsForClientTLS(), IOpenSSLClientConnectionCreator, "
        "IOpenSSLContextFactory)"
    ),
    True: (
        "ssl argument must be an SSLContext, got {!r}; a server's may also be an OpenSSL.SSL.Context, or what Twisted "
        "takes (CertificateOptions, IOpenSSLServerConnectionCreator, IOpenSSLContextFactory)"
    ),
}


def test_a_socket_is_not_taken_for_a_context() -> None:
    """What has sockets and datagrams has no TLS of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for server_side in False, True:
            with pytest.raises(TypeError, match=r"got <socket\.socket"):
                check_accepted(sock, server_side=server_side)


def test_what_is_false_is_no_tls_at_all() -> None:
    """It passes the check, as with asyncio; nobody asks for an engine of it, which there is not."""
    for given, server_side in itertools.product((None, False, 0, "", ()), (False, True)):
        check_accepted(given, server_side=server_side)
        assert default_server_hostname(given, None) is None
        with pytest.raises(TypeError, match="must be"):
            engine_maker(given, server_side=server_side, server_hostname="localhost")


def test_true_for_a_server_is_a_type_error() -> None:
    """A server needs a certificate, so there is no context to take by default."""
    with pytest.raises(TypeError, match=r"got True; a server's may"):
        check_accepted(True, server_side=True)


@pytest.mark.parametrize(("name", "is_checked"), [("localhost", True), ("", False), (None, False)])
def test_true_is_what_asyncio_makes_of_it(name: str | None, is_checked: bool) -> None:
    """The default context; the host is checked if it has a name."""
    engine = engine_maker(True, server_side=False, server_hostname=name)(None)
    assert engine.context.verify_mode is ssl.CERT_REQUIRED
    assert engine.context.check_hostname == is_checked
    assert engine.ssl_object.server_hostname == (name or None)


def test_an_empty_name_is_none_to_the_standard_library() -> None:
    """It would be refused; and a server never has one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    assert engine_maker(context, server_side=False, server_hostname="")(None).ssl_object.server_hostname is None
    context = server_context("stdlib")
    assert engine_maker(context, server_side=True, server_hostname="ignored")(None).ssl_object.server_hostname is None


def test_a_name_is_wanted_on_a_socket_where_it_is_in_memory() -> None:
    """The standard library's later releases refuse to check a name that is not given; earlier ones check none."""
    make = engine_maker(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), server_side=False, server_hostname="")
    outcomes: list[object] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in None, ours:
            try:
                outcomes.append(type(make(sock)))
            except ValueError as error:
                outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


def test_where_nobody_names_the_host() -> None:
    """What leaves that to ``server_hostname`` is a ValueError without one; a creator knows whom it wants."""
    for given in usual_client("options"), usual_client("context"), ClientFactory():
        with pytest.raises(ValueError, match="server_hostname is needed"):
            engine_maker(given, server_side=False, server_hostname=None)
        assert engine_maker(given, server_side=False, server_hostname="")(None)
    assert engine_maker(usual_client("creator"), server_side=False, server_hostname=None)(None)


@pytest.mark.parametrize(
    ("make", "default"),
    [
        (lambda: True, None),
        (lambda: usual_client("stdlib"), None),
        (lambda: usual_client("options"), None),
        (lambda: usual_client("context"), None),
        (ClientFactory, None),
        (lambda: usual_client("creator"), ""),
        (lambda: Creator(server_context("context")), ""),
    ],
    ids=["True", "stdlib", "options", "context", "factory", "optionsForClientTLS", "creator"],
)
def test_who_is_asked_for_the_name(make: Callable[[], Any], default: str | None) -> None:
    """Where *given* knows whom it wants to talk to, the host's name is not taken; what is given always is."""
    given = make()
    assert default_server_hostname(given, None) == default
    assert default_server_hostname(given, "localhost") == "localhost"
    assert default_server_hostname(given, "") == ""


def test_a_socket_is_used_by_the_standard_library_only() -> None:
    """PyOpenSSL's engines are in memory, with a socket in hand, too."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        for kind, is_in_memory in ("stdlib", False), ("memory", True), ("options", True), ("context", True):
            engine = engine_maker(usual_client(kind), server_side=False, server_hostname="localhost")(ours)
            assert (engine.wire is not None) == is_in_memory
            engine.disconnect()


def python(program: str) -> str:
    """What *program* prints, in a process of its own."""
    command, environment = [sys.executable, "-c", program], {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_imports_neither_library() -> None:
    """A program that has contexts of the standard library pays for no other; here it is without the rest of txasync."""
    program = """
import sys, types
package = types.ModuleType("txasync")
package.__path__ = ["txasync"]
sys.modules["txasync"] = package
import ssl, txasync.tls
context = ssl.create_default_context()
txasync.tls.check_accepted(context, server_side=False)
txasync.tls.engine_maker(context, server_side=False, server_hostname="localhost")(None)
txasync.tls.check_accepted(True, server_side=False)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"OpenSSL", "cryptography", "twisted", "zope"}))
"""
    assert python(program).split() == ["[]"]


def test_using_it_never_imports_the_reactor() -> None:
    """That would choose one for the whole program."""
    program = """
import sys
from tests.tls.contexts import client_context, server_context
from txasync.tls import engine_maker

for client, server in ("options", "context"), ("creator", "options"), ("context", "context"):
    ends = (
        engine_maker(client_context(client), server_side=False, server_hostname="localhost")(None),
        engine_maker(server_context(server), server_side=True, server_hostname=None)(None),
    )
    for engine, other in [ends, ends[::-1]] * 2:
        try:
            engine.do_handshake()
        except engine.want_read:
            pass
        other.wire.feed(engine.wire.take())
    ends[0].check_peer()
    assert ends[0].handshake_info() == ends[1].handshake_info()
print("twisted.internet.reactor" in sys.modules)
"""
    assert python(program).split() == ["False"]
