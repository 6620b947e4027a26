"""The table of errors is total, keeps what was translated as the cause, and is the same in both directions."""

from __future__ import annotations

import asyncio
import builtins
import errno
import inspect
import os
import socket
import ssl
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.exceptions import DNSMismatch, IPAddressMismatch
from service_identity.hazmat import DNS_ID, IPAddress_ID
from twisted.internet import defer, error

from txasync.adapters._errors import as_asyncio_error, as_loss, as_loss_reason, as_twisted_error
from txasync.tls import TLSError, TLSVerificationError

NOBODY = "[Errno 111] Connect call failed ('127.0.0.1', 1)"

NO_CONNECTION: list[tuple[Exception, type[BaseException], int | None]] = [
    (error.ConnectionRefusedError(111, "Connection refused"), ConnectionRefusedError, errno.ECONNREFUSED),
    (error.ConnectionRefusedError(), ConnectionRefusedError, errno.ECONNREFUSED),
    (error.TCPTimedOutError(110, "Operation timed out"), TimeoutError, errno.ETIMEDOUT),
    (error.TimeoutError(), TimeoutError, errno.ETIMEDOUT),
    (defer.TimeoutError("30 s"), TimeoutError, errno.ETIMEDOUT),
    (error.UserError(), ConnectionAbortedError, errno.ECONNABORTED),
    (error.NoRouteError(101, "Network is unreachable"), OSError, errno.ENETUNREACH),
    (error.ConnectBindError(errno.EADDRINUSE, "Address already in use"), OSError, errno.EADDRINUSE),
    (error.ConnectBindError(errno.EACCES, "Permission denied"), PermissionError, errno.EACCES),
    (error.ConnectBindError(), OSError, errno.EADDRNOTAVAIL),
    (error.BadFileError(b"/run/it"), FileNotFoundError, errno.ENOENT),
    (error.MessageLengthError("Message too long"), OSError, errno.EMSGSIZE),
    (error.ConnectError(errno.ENOENT, "No such file or directory"), FileNotFoundError, errno.ENOENT),
    (error.ConnectError(OSError(errno.EHOSTUNREACH, "No route to host")), OSError, errno.EHOSTUNREACH),
    (error.ConnectError(string="who knows"), OSError, None),
    (error.UnknownHostError(), socket.gaierror, socket.EAI_NONAME),
    (error.UnknownHostError(socket.EAI_AGAIN, "later"), socket.gaierror, socket.EAI_AGAIN),
    (error.DNSLookupError("no results for hostname lookup: x"), socket.gaierror, socket.EAI_NONAME),
    (error.ServiceNameUnknownError(string="no such port"), socket.gaierror, socket.EAI_SERVICE),
    (error.UnsupportedAddressFamily(), OSError, errno.EAFNOSUPPORT),
    (error.UnsupportedSocketType(), OSError, errno.ESOCKTNOSUPPORT),
    (error.AlreadyListened(), OSError, errno.EBADF),
    (error.CannotListenError("", 80, PermissionError(errno.EACCES, "no")), PermissionError, errno.EACCES),
    (error.CannotListenError("", 80, socket.gaierror(socket.EAI_NONAME, "no")), socket.gaierror, socket.EAI_NONAME),
    (error.CannotListenError(None, b"/run/it", "Cannot acquire lock"), OSError, errno.EADDRINUSE),
    (error.ConnectionDone(), ConnectionResetError, errno.ECONNRESET),
    (error.ConnectionLost(), ConnectionResetError, errno.ECONNRESET),
    (error.ConnectionAborted(), ConnectionAbortedError, errno.ECONNABORTED),
    (error.ConnectionFdescWentAway(), ConnectionResetError, errno.ECONNRESET),
    (error.FileDescriptorOverrun(), ConnectionResetError, errno.ECONNRESET),
    (error.ProcessTerminated(1), ConnectionResetError, errno.ECONNRESET),
    (error.ProcessDone(0), ConnectionResetError, errno.ECONNRESET),
    (error.SSLError(string="no"), ssl.SSLError, ssl.SSLErrorNumber.SSL_ERROR_SSL),
    (error.VerifyError("no"), TLSVerificationError, ssl.SSLErrorNumber.SSL_ERROR_SSL),
    (error.PeerVerifyError("no"), TLSVerificationError, ssl.SSLErrorNumber.SSL_ERROR_SSL),
    (error.CertificateError("no"), TLSVerificationError, ssl.SSLErrorNumber.SSL_ERROR_SSL),
]

# What no connection and no port ends with, or fails with.
NOT_OF_CONNECTIONS = {
    "AlreadyCalled",
    "AlreadyCancelled",
    "BindError",
    "ConnectInProgressError",
    "ConnectingCancelledError",  # a cancellation, which the bridge translates
    "ConnectionClosed",  # only its subclasses are raised
    "InvalidAddressError",
    "MulticastJoinError",
    "NoProtocol",
    "NotConnectingError",
    "NotListeningError",
    "PotentialZombieWarning",  # of Twisted 24.7
    "ProcessExitedAlready",
    "ReactorAlreadyInstalledError",
    "ReactorAlreadyRunning",
    "ReactorNotRestartable",
    "ReactorNotRunning",
}

NO_TLS: list[tuple[BaseException, type[BaseException]]] = [
    (SSL.Error([("SSL routines", "", "wrong version number")]), TLSError),
    (SSL.Error([("SSL routines", "", "certificate verify failed")]), TLSVerificationError),
    (SSL.Error([]), TLSError),
    (SSL.Error(), TLSError),
    (SSL.Error("in words"), TLSError),
    (SSL.Error([()]), TLSError),
    (SSL.SysCallError(-1, "Unexpected EOF"), ssl.SSLEOFError),
    (SSL.SysCallError(), ssl.SSLEOFError),
    (SSL.SysCallError(errno.ECONNRESET, "ECONNRESET"), ConnectionResetError),
    (SSL.ZeroReturnError(), ssl.SSLZeroReturnError),
    (SSL.WantReadError(), ssl.SSLWantReadError),
    (SSL.WantWriteError(), ssl.SSLWantWriteError),
    (SSL.WantX509LookupError(), TLSError),
    (VerificationError(errors=[DNSMismatch(mismatched_id=DNS_ID("a.test"))]), TLSVerificationError),
    (VerificationError(errors=[IPAddressMismatch(mismatched_id=IPAddress_ID("::1"))]), TLSVerificationError),
    (CertificateError("no names"), TLSVerificationError),
]


def described(row: tuple[Any, ...]) -> str:
    """The name of a row, in test reports."""
    return type(row[0]).__name__


@pytest.mark.parametrize("row", NO_CONNECTION, ids=described)
def test_what_twisted_fails_with_has_a_type_and_a_number_of_asyncios(
    row: tuple[Exception, type[BaseException], int | None],
) -> None:
    """Each failure of an endpoint is what ``create_connection()`` or ``create_server()`` would raise."""
    reason, kind, number = row
    translated = as_asyncio_error(reason)
    assert isinstance(translated, OSError)
    assert type(translated) is kind
    assert translated.errno == number
    assert translated.__cause__ is reason
    assert str(reason) in str(translated)


@pytest.mark.parametrize("row", NO_TLS, ids=described)
def test_what_twisteds_tls_fails_with_is_an_error_of_the_standard_librarys(
    row: tuple[BaseException, type[BaseException]],
) -> None:
    """All forms that pyOpenSSL's errors have, and service_identity's."""
    reason, kind = row
    for translated in as_asyncio_error(reason), as_loss(reason):
        assert type(translated) is kind
        assert translated.__cause__ is reason
        assert str(translated)


def test_each_error_of_twisteds_that_there_is_has_a_row() -> None:
    """A class that Twisted adds is to be looked at."""
    classes = {name for name, thing in vars(error).items() if inspect.isclass(thing) and issubclass(thing, Exception)}
    rows = {type(row[0]).__name__ for row in NO_CONNECTION}
    assert classes <= rows | NOT_OF_CONNECTIONS


@pytest.mark.parametrize("translate", [as_asyncio_error, as_twisted_error, as_loss, as_loss_reason])
@pytest.mark.parametrize("stranger", [ValueError("ours"), asyncio.CancelledError(), SystemExit(3), error.NoProtocol()])
def test_an_error_that_the_table_does_not_know_is_the_same_on_both_sides(
    translate: Any, stranger: BaseException
) -> None:
    """It keeps its cause, too."""
    cause = stranger.__cause__
    assert translate(stranger) is stranger
    assert stranger.__cause__ is cause


@pytest.mark.parametrize(
    ("reason", "loss"),
    [
        (error.ConnectionDone(), None),
        (error.ProcessDone(0), None),
        (error.ConnectionAborted(), None),
        (error.ConnectionLost(), ConnectionResetError),
        (error.ProcessTerminated(1), ConnectionResetError),
        (error.ConnectionFdescWentAway(), ConnectionResetError),
    ],
)
def test_how_a_connection_has_ended_is_told_in_asyncios_terms(
    reason: BaseException, loss: type[BaseException] | None
) -> None:
    """A clean end, and one of our own making, are None."""
    found = as_loss(reason)
    assert (found and type(found)) == loss
    if isinstance(found, OSError):
        assert found.errno == errno.ECONNRESET
        assert found.__cause__ is reason


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (None, error.ConnectionDone),
        (ConnectionResetError(errno.ECONNRESET, "reset"), error.ConnectionLost),
        (BrokenPipeError(errno.EPIPE, "broken"), error.ConnectionLost),
        (TimeoutError("SSL shutdown timed out"), error.ConnectionLost),
        (asyncio.TimeoutError(), error.ConnectionLost),
        (OSError("anything"), error.ConnectionLost),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), error.ConnectionLost),
        (ssl.SSLZeroReturnError(6, "closed"), error.ConnectionDone),
        (ssl.SSLError(1, "[SSL: BAD] bad"), SSL.Error),
        (TLSError("wrong version number"), SSL.Error),
    ],
)
def test_how_a_connection_has_ended_is_told_in_twisteds_terms(
    loss: BaseException | None, reason: type[BaseException]
) -> None:
    """An end without a close_notify is a lost connection, as Twisted's TLS has it."""
    found = as_loss_reason(loss)
    assert type(found) is reason
    assert found.__cause__ is loss


@pytest.mark.parametrize("loss", [None, ConnectionResetError(), ssl.SSLError(1, "bad")])
def test_whoever_aborts_is_told_so(loss: BaseException | None) -> None:
    """On Twisted's transports, too, whatever asyncio's may say is left of it."""
    found = as_loss_reason(loss, aborted=True)
    assert type(found) is error.ConnectionAborted
    assert found.__cause__ is loss


@pytest.mark.parametrize(
    ("failure", "kind", "number"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), error.ConnectionRefusedError, errno.ECONNREFUSED),
        (OSError(errno.ENETUNREACH, "unreachable"), error.NoRouteError, errno.ENETUNREACH),
        (OSError(errno.EHOSTUNREACH, "unreachable"), error.ConnectError, errno.EHOSTUNREACH),
        (TimeoutError(errno.ETIMEDOUT, "timed out"), error.TCPTimedOutError, errno.ETIMEDOUT),
        (TimeoutError(), error.TimeoutError, None),
        (asyncio.TimeoutError(), error.TimeoutError, None),
        (FileNotFoundError(errno.ENOENT, "none"), error.ConnectError, errno.ENOENT),
        (ConnectionAbortedError("SSL handshake is taking longer than 60.0 seconds"), error.UserError, None),
        (ConnectionAbortedError(errno.ECONNABORTED, "aborted"), error.UserError, errno.ECONNABORTED),
        (ConnectionResetError(), error.ConnectError, None),
        (OSError("no number"), error.ConnectError, None),
        (OSError(f"Multiple exceptions: {NOBODY}, {NOBODY}"), error.ConnectionRefusedError, errno.ECONNREFUSED),
        (OSError(f"Multiple exceptions: {NOBODY}, [Errno 101] no"), error.NoRouteError, errno.ENETUNREACH),
        (
            OSError(errno.EADDRINUSE, "error while attempting to bind on address ('127.0.0.1', 1): in use"),
            error.ConnectBindError,
            errno.EADDRINUSE,
        ),
        (socket.gaierror(socket.EAI_SERVICE, "no such port"), error.ServiceNameUnknownError, None),
    ],
)
def test_what_asyncio_raises_has_a_type_and_a_number_of_twisteds(
    failure: BaseException, kind: type[error.ConnectError], number: int | None
) -> None:
    """Each error of ``create_connection()`` is what an endpoint of Twisted's would fail with."""
    translated = as_twisted_error(failure)
    assert type(translated) is kind
    assert translated.osError == number
    assert translated.__cause__ is failure
    assert str(translated)


def test_a_name_without_an_address_is_twisteds_failed_lookup() -> None:
    """Whatever the resolver has to say of it."""
    for code in socket.EAI_NONAME, socket.EAI_AGAIN:
        translated = as_twisted_error(failure := socket.gaierror(code, "none"))
        assert type(translated) is error.DNSLookupError
        assert translated.__cause__ is failure


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new in Python 3.11")
def test_of_a_group_of_errors_the_last_one_counts() -> None:
    """So does Twisted tell of the last address only; the group is the cause."""
    last = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    group = vars(builtins)["BaseExceptionGroup"](
        "create_connection failed", [OSError(errno.ENETUNREACH, "unreachable"), last]
    )
    translated = as_twisted_error(group)
    assert type(translated) is error.ConnectionRefusedError
    assert translated.__cause__ is group


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), SSL.Error),
        (ssl.SSLZeroReturnError(), SSL.ZeroReturnError),
        (ssl.SSLWantReadError(), SSL.WantReadError),
        (ssl.SSLWantWriteError(), SSL.WantWriteError),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), SSL.SysCallError),
        (ssl.SSLSyscallError(5, "Some I/O error occurred"), SSL.Error),
        (TLSError("no shared cipher"), SSL.Error),
        (TLSVerificationError(20, "unable to get local issuer certificate"), SSL.Error),
        (TLSVerificationError(62, "hostname mismatch, certificate is not valid for 'a.test'"), VerificationError),
        (TLSVerificationError(64, "IP address mismatch, certificate is not valid for '::1'"), VerificationError),
        (TLSVerificationError(62, "hostname mismatch"), VerificationError),
        (TLSVerificationError(64, "IP address mismatch, certificate is not valid for 'x'"), VerificationError),
    ],
)
def test_what_the_standard_librarys_tls_raises_is_what_twisteds_fails_with(
    failure: ssl.SSLError, kind: type[BaseException]
) -> None:
    """pyOpenSSL's errors, or service_identity's."""
    translated = as_twisted_error(failure)
    assert type(translated) is kind
    assert translated.__cause__ is failure


def test_the_standard_librarys_own_errors_of_names_name_the_name() -> None:
    """The error is one of the ``ssl`` module's, not one that was made by hand."""
    mismatch = ssl.SSLCertVerificationError(1, "")
    mismatch.verify_code = 62  # as the module sets them
    mismatch.verify_message = "Hostname mismatch, certificate is not valid for 'b.test'."
    translated = as_twisted_error(mismatch)
    assert isinstance(translated, VerificationError)
    assert translated.errors == [DNSMismatch(mismatched_id=DNS_ID("b.test"))]


def test_the_errors_text_for_openssl_is_openssls() -> None:
    """The reason of the standard library, spelt as pyOpenSSL does."""
    failure = TLSError("wrong version number")
    translated = as_twisted_error(failure)
    assert translated.args == ([("SSL routines", "", "wrong version number")],)


@pytest.mark.parametrize("row", NO_TLS, ids=described)
def test_the_errors_of_tls_come_back_as_they_were(row: tuple[BaseException, type[BaseException]]) -> None:
    """What was translated from pyOpenSSL is not translated once more on its way back."""
    reason, kind = row
    if issubclass(kind, ssl.SSLError):
        assert as_twisted_error(as_asyncio_error(reason)) is reason


@given(st.sampled_from(sorted(errno.errorcode)))
def test_a_number_survives_both_ways(number: int) -> None:
    """Every ``errno``: to Twisted and back again, it is the same class of OSError with the same number."""
    failure = OSError(number, os.strerror(number))
    back = as_asyncio_error(as_twisted_error(failure))
    assert isinstance(back, OSError)
    assert (type(back), back.errno) == (type(failure), number)


@given(st.sampled_from([row[0] for row in NO_CONNECTION if isinstance(row[0], error.ConnectError)]))
def test_an_error_of_connecting_survives_both_ways(reason: error.ConnectError) -> None:
    """To asyncio and back again, an error of Twisted's that has a number keeps its type, or its number."""
    back = as_twisted_error(as_asyncio_error(reason))
    if isinstance(reason, error.ConnectBindError | error.UnknownHostError | error.SSLError | error.BadFileError):
        return  # to asyncio, these are no different from others
    expected = error.TCPTimedOutError if isinstance(reason, error.TimeoutError) else type(reason)
    assert type(back) is expected
