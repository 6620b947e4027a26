"""Engines of what Twisted and pyOpenSSL have, and of what others make of it: contexts, factories, and creators."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import pytest
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLContextFactory,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.ssl import CertificateOptions, ContextFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from txasync.tls import Engine, TLSError, TLSVerificationError, engine_maker
from txasync.tls._creators import connection_maker, is_accepted, names_its_host
from txasync.tls._pyopenssl import PyOpenSSLEngine

from .contexts import CLIENT_KINDS, certificate, client_context, server_context
from .engine_pairs import (
    Pair,
    explained,
    names_seen_by,
    pair,
    usual_client,
)

# Contexts that change during the handshake


@pytest.mark.parametrize("server", ["stdlib", "bare", "options"])
def test_a_server_may_change_its_context_by_the_name(server: str) -> None:
    """The client gets the certificate of the other context; ``sslcontext`` stays what was given."""
    given = SWITCHING[server](certificate("other.example"))
    for client_kind in CLIENT_KINDS:
        for name in "other.example", "localhost":
            both = pair(usual_client(client_kind, name), given, name)
            before = both.server.context
            both.shake_hands()
            assert both.server.context is before
            seen = both.client.peer_certificate()
            assert seen is not None and seen["subjectAltName"][0] == ("DNS", name)
            assert both.send(both.server, b"bytes") == b"bytes"


def switching_stdlib(other: Any) -> ssl.SSLContext:
    """A context of the standard library with *other*'s certificate in reserve."""
    context, reserve = server_context("stdlib"), server_context("stdlib", other)

    def switch(ssl_object: Any, name: str, _context: ssl.SSLContext) -> None:
        if name == "other.example":
            ssl_object.context = reserve

    context.sni_callback = switch
    assert isinstance(context, ssl.SSLContext)
    return context


def switching_bare(other: Any) -> SSL.Context:
    """A context of pyOpenSSL with *other*'s certificate in reserve."""
    context, reserve = server_context("context"), server_context("context", other)

    def switch(connection: SSL.Connection) -> None:
        if connection.get_servername() == b"other.example":
            connection.set_context(reserve)

    context.set_tlsext_servername_callback(switch)
    assert isinstance(context, SSL.Context)
    return context


@implementer(IOpenSSLServerConnectionCreator)
class Switching:
    """A context of Twisted's options with *other*'s certificate in reserve, as it is done in every version."""

    def __init__(self, other: Any) -> None:
        self._options = server_context("options")
        reserve = server_context("options", other).getContext()

        def switch(connection: SSL.Connection) -> None:
            if connection.get_servername() == b"other.example":
                connection.set_context(reserve)

        self._options.getContext().set_tlsext_servername_callback(switch)

    def serverConnectionForTLS(self, _protocol: Any) -> SSL.Connection:
        return SSL.Connection(self._options.getContext(), None)


SWITCHING: dict[str, Callable[[Any], Any]] = {
    "stdlib": switching_stdlib,
    "bare": switching_bare,
    "options": Switching,
}


def has_context_for_server_name() -> bool:
    """Whether this version of Twisted has that parameter."""
    try:
        CertificateOptions(contextForServerName=None)
    except TypeError:
        return False
    return True


needs_context_for_server_name = pytest.mark.skipif(
    not has_context_for_server_name(), reason="this Twisted's CertificateOptions have no contextForServerName"
)


def options_with(choose: Callable[[bytes | None], SSL.Context | None]) -> CertificateOptions:
    """A server's options that choose the context by the name."""
    own = server_context("options")
    return CertificateOptions(privateKey=own.privateKey, certificate=own.certificate, contextForServerName=choose)


@needs_context_for_server_name
def test_context_for_server_name() -> None:
    """Twisted's own way to choose the context works, as far as its choice."""
    reserve = server_context("options", certificate("other.example")).getContext()
    options = options_with(lambda name: reserve if name == b"other.example" else None)
    for name in "other.example", "localhost":
        both = pair(usual_client("stdlib"), options, name).shake_hands()
        seen = both.client.peer_certificate()
        assert seen is not None and ("DNS", name) in seen["subjectAltName"]


@needs_context_for_server_name
def test_a_choice_of_context_that_fails_ends_the_connection(reports: Any) -> None:
    """Twisted logs the error and calls abortConnection(): the handshake fails, though OpenSSL would go on."""

    def choose(_name: bytes | None) -> SSL.Context | None:
        raise LookupError("no such name")

    _, error = pair(usual_client("stdlib"), options_with(choose)).outcomes()
    assert isinstance(error, ConnectionAbortedError)
    assert [report.type for report in reports.twisted] == [LookupError]
    reports.clear()


# Creators of somebody else's


@implementer(IOpenSSLContextFactory)
class ClientFactory:
    """The oldest interface, on both sides."""

    def getContext(self) -> SSL.Context:
        context = client_context("context")
        assert isinstance(context, SSL.Context)
        return context


class LegacyFactory(ContextFactory):
    """As it was written before there was the interface."""

    def getContext(self) -> SSL.Context:
        context = server_context("context")
        assert isinstance(context, SSL.Context)
        return context


class Undeclared:
    """It has the method, and that is all."""

    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def getContext(self) -> SSL.Context:
        return self.context


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class Creator:
    """
    Makes connections of a context, and does something more to each.

    Attributes:
        stand_ins: What it was called with.
    """

    def __init__(self, context: SSL.Context, more: Callable[[SSL.Connection, Any], object] | None = None) -> None:
        self._context = context
        self._more = more
        self.stand_ins: list[Any] = []

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        self.stand_ins.append(protocol)
        if self._more is not None:
            self._more(connection, protocol)
        return connection

    serverConnectionForTLS = clientConnectionForTLS


def test_context_factories_of_every_age() -> None:
    """Those with the interface, those with the base class, and those with the method alone."""
    for client, server in (
        (ClientFactory(), LegacyFactory()),
        (Undeclared(client_context("context")), Undeclared(server_context("context"))),
    ):
        both = pair(client, server).shake_hands()
        assert both.send(both.client, b"bytes") == b"bytes"


def test_a_client_of_a_context_factory_checks_the_host() -> None:
    """Though the factory knows nothing of it."""
    error, _ = pair(ClientFactory(), LegacyFactory(), "example.org").outcomes()
    assert isinstance(error, TLSVerificationError)


def test_a_creator_is_asked_for_each_connection() -> None:
    """With a stand-in of its own, which is the connection's app data, too, if that is not the creator's."""
    client, server = Creator(client_context("context")), Creator(server_context("context"))
    makers = (
        engine_maker(client, server_side=False, server_hostname="localhost"),
        engine_maker(server, server_side=True, server_hostname=None),
    )
    for count in 1, 2:
        both = Pair(makers[0](None), makers[1](None)).shake_hands()
        assert len(client.stand_ins) == len(server.stand_ins) == count
        assert both.client.ssl_object.get_app_data() is client.stand_ins[-1]
        assert both.server.ssl_object.get_app_data() is server.stand_ins[-1]
    assert client.stand_ins[0] is not client.stand_ins[1]


def test_a_creator_that_raises() -> None:
    """Its error is the caller's, from where the engine is made."""

    def refuse(_connection: SSL.Connection, _protocol: Any) -> None:
        raise LookupError("no settings for this connection")

    maker = engine_maker(Creator(client_context("context"), refuse), server_side=False, server_hostname=None)
    with pytest.raises(LookupError, match="no settings"):
        maker(None)


def test_a_creator_that_has_set_a_name_is_left_alone() -> None:
    """The name that is given is checked, but not sent."""
    creator = Creator(
        client_context("context"), lambda connection, _: connection.set_tlsext_host_name(b"front.example")
    )
    both = pair(creator, server_context("stdlib"))
    seen = names_seen_by(both.server)
    both.shake_hands()
    assert seen() == "front.example"
    error, _ = pair(creator, server_context("stdlib"), "front.example").outcomes()
    assert isinstance(error, TLSVerificationError)


def test_a_creator_that_sets_no_name_sends_the_one_that_is_given() -> None:
    """If there is one."""
    for name, expected in ("localhost", "localhost"), ("", None), (None, None):
        both = pair(Creator(client_context("context")), server_context("stdlib"), name)
        seen = names_seen_by(both.server)
        both.shake_hands()
        assert seen() == expected


def failing_at(what: str) -> Creator:
    """A creator that refuses its peer: in OpenSSL's verification, or when the handshake is done."""

    def more(connection: SSL.Connection, protocol: Any) -> None:
        def fail() -> None:
            try:
                raise LookupError("not on the list")
            except LookupError:
                protocol.failVerification(Failure())

        def verify(_connection: SSL.Connection, _x509: Any, _error: int, depth: int, ok: int) -> bool:
            if depth == 0 and what == "verification":
                fail()
                return False
            return bool(ok)

        connection.set_verify(SSL.VERIFY_PEER, verify)
        if what == "afterwards":
            done.append(fail)

    done: list[Callable[[], None]] = []
    context = client_context("context")
    context.set_info_callback(
        lambda _connection, where, _code: done and where & SSL.SSL_CB_HANDSHAKE_DONE and done.pop()()
    )
    return Creator(context, more)


@pytest.mark.parametrize("what", ["verification", "afterwards"])
def test_a_creator_that_calls_fail_verification(what: str) -> None:
    """The connection fails with a TLSVerificationError, whose cause is the creator's."""
    error, _ = pair(failing_at(what), server_context("stdlib")).outcomes()
    assert isinstance(error, TLSVerificationError)
    assert isinstance(error.__cause__, LookupError)
    assert "LookupError: not on the list" in str(error)


def test_a_creator_that_calls_abort_connection() -> None:
    """The handshake fails, and what OpenSSL makes of it is not waited for."""
    creator = Creator(client_context("context"), lambda _connection, protocol: protocol.abortConnection())
    both = pair(creator, server_context("stdlib"))
    with pytest.raises(ConnectionAbortedError, match="callback"):
        both.client.do_handshake()


def test_a_creator_may_make_a_server_that_fails() -> None:
    """It is the same on that side."""
    creator = Creator(server_context("context"), lambda _connection, protocol: protocol.abortConnection())
    _, error = pair(usual_client("stdlib"), creator).outcomes()
    assert isinstance(error, ConnectionAbortedError)


@pytest.mark.parametrize("server_kind", ["stdlib", "context"])
@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_a_creator_may_resume_a_session(version: int, server_kind: str) -> None:
    """The second connection is a resumed one, and its certificate is seen and checked as before."""
    context = client_context("context")
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    sessions: list[SSL.Session] = []
    creator = Creator(context, lambda connection, _: sessions and connection.set_session(sessions[-1]))
    server = server_context(server_kind)
    resumed = []
    for _ in range(2):
        both = pair(creator, server).shake_hands()
        # A ticket of TLS 1.3 comes after the handshake.
        both.send(both.server, b"x")
        sessions.append(both.client.ssl_object.get_session())
        resumed.append(_is_resumed(both.server))
        seen = both.client.peer_certificate()
        assert seen is not None and seen["subjectAltName"][0] == ("DNS", "localhost")
    assert resumed == [False, True]
    error, _ = pair(creator, server, "example.org").outcomes()
    assert isinstance(error, TLSVerificationError)


def _is_resumed(server: Engine) -> bool:
    if isinstance(server, PyOpenSSLEngine):
        return bool(SSL._lib.SSL_session_reused(server.ssl_object._ssl))  # type: ignore[attr-defined]
    return bool(server.ssl_object.session_reused)


# What there is of it


def test_what_is_accepted_on_each_side() -> None:
    """Creators on their own side only; contexts, and what has or makes one, on both."""
    both_sides = (
        server_context("options"),
        server_context("context"),
        ClientFactory(),
        LegacyFactory(),
        Creator(server_context("context")),
    )
    for given_ in both_sides:
        assert is_accepted(given_, True) and is_accepted(given_, False)
    assert is_accepted(client_context("creator"), False) and not is_accepted(client_context("creator"), True)
    assert is_accepted(Switching(certificate()), True) and not is_accepted(Switching(certificate()), False)
    for given_ in None, True, 1, "tls", object(), ssl.create_default_context():
        assert not is_accepted(given_, True) and not is_accepted(given_, False)
        assert connection_maker(given_, False, "localhost") is connection_maker(given_, True, None) is None


def test_who_names_its_host() -> None:
    """Creators do; CertificateOptions, which have become creators, do not, nor what makes contexts."""
    assert names_its_host(client_context("creator"))
    assert names_its_host(Creator(client_context("context")))
    for given_ in client_context("options"), client_context("context"), ClientFactory(), None, "localhost":
        assert not names_its_host(given_)


def test_a_client_that_names_no_host_needs_a_name() -> None:
    """Without one nothing would be checked: the error says how to ask for that."""
    for given_ in usual_client("options"), usual_client("context"), ClientFactory():
        with pytest.raises(ValueError, match="server_hostname is needed .* or '' for no such check"):
            connection_maker(given_, False, None)
        assert connection_maker(given_, True, None) is not None


def test_what_is_no_name_is_refused_before_anything_is_connected() -> None:
    """A name that IDNA cannot spell is an error of the call."""
    with pytest.raises(UnicodeError):
        connection_maker(usual_client("options"), False, "two..dots")


def test_errors_of_openssl_are_explained_once() -> None:
    """The cause of a TLSError is pyOpenSSL's; an error that is none of its kind stays what it is."""
    both = pair(client_context("context"), server_context("context"))
    assert both.server.wire is not None
    both.server.wire.feed(b"GET / HTTP/1.1\r\n\r\n" * 10)
    error = explained(both.server, both.server.do_handshake)
    assert type(error) is TLSError
    assert isinstance(error.__cause__, SSL.Error)
    assert "http request" in str(error)
    own = LookupError("none of OpenSSL's")
    assert both.server.explained(own) is own
