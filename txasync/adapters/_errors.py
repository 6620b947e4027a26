"""
The errors of either world, in the terms of the other. No I/O, no reactor, no loop.

What was translated is the ``__cause__`` of its translation. An exception that neither table knows, one of a protocol's
own say, is the same on both sides.

How a connection ends:

==============================  ====================================================================
Twisted, ``connectionLost()``   asyncio, ``connection_lost()``
==============================  ====================================================================
``ConnectionDone``              None
``ConnectionAborted``           None: it was our side that aborted
``ConnectionLost``, others of   ``ConnectionResetError`` (from Twisted); any ``OSError``, and
``ConnectionClosed``            ``ssl.SSLEOFError`` (to Twisted)
``OpenSSL.SSL.Error``           ``ssl.SSLError``
==============================  ====================================================================

Why there is none, or no port:

==============================  ====================================================================
Twisted                         asyncio
==============================  ====================================================================
``ConnectionRefusedError``      ``ConnectionRefusedError``
``TCPTimedOutError``            ``TimeoutError``, ``ETIMEDOUT``
``TimeoutError``                ``TimeoutError``; to Twisted, one without a number
``UserError``,                  ``ConnectionAbortedError``
``ConnectionAborted``
``ConnectionClosed``            ``ConnectionResetError``; from Twisted
``NoRouteError``                ``OSError``, ``ENETUNREACH``
``DNSLookupError``              ``socket.gaierror``
``UnknownHostError``            likewise; from Twisted
``ServiceNameUnknownError``     ``socket.gaierror``, ``EAI_SERVICE``
``ConnectBindError``,           ``OSError`` of the number that it has
``ConnectError``
``CannotListenError``           its ``socketError``; from Twisted, for a port's twin makes it itself
``OpenSSL.SSL.Error``           ``ssl.SSLError``
``VerificationError``           ``ssl.SSLCertVerificationError``, for a name or an address
==============================  ====================================================================
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl
import sys
from typing import Any

from twisted.internet import defer, error

__all__ = ["as_asyncio_error", "as_loss", "as_loss_reason", "as_twisted_error"]

# From Twisted; the first row that matches counts. An error that has a number of its own keeps it.
_CONNECT_ERRORS: tuple[tuple[type[Exception], int], ...] = (
    (error.ConnectionRefusedError, errno.ECONNREFUSED),
    (error.TCPTimedOutError, errno.ETIMEDOUT),
    (error.TimeoutError, errno.ETIMEDOUT),
    (defer.TimeoutError, errno.ETIMEDOUT),
    (error.UserError, errno.ECONNABORTED),
    (error.NoRouteError, errno.ENETUNREACH),
    (error.ConnectBindError, errno.EADDRNOTAVAIL),
    (error.BadFileError, errno.ENOENT),
    (error.MessageLengthError, errno.EMSGSIZE),
    (error.UnsupportedAddressFamily, errno.EAFNOSUPPORT),
    (error.UnsupportedSocketType, errno.ESOCKTNOSUPPORT),
    (error.AlreadyListened, errno.EBADF),  # the descriptor was closed when it was listened on
    (error.ConnectionAborted, errno.ECONNABORTED),
    (error.ConnectionClosed, errno.ECONNRESET),
)
_NAME_ERRORS: tuple[tuple[type[Exception], int], ...] = (
    (error.ServiceNameUnknownError, socket.EAI_SERVICE),
    (error.UnknownHostError, socket.EAI_NONAME),
    (error.DNSLookupError, socket.EAI_NONAME),
)

# Of OpenSSL's X509_V_ERR_*.
_UNSPECIFIED = 1
_HOSTNAME_MISMATCH = 62
_IP_ADDRESS_MISMATCH = 64

# With these words, which are the only sign, every loop says that an error has to do with ``local_addr=``.
_BIND_FAILED = "error while attempting to bind on address"


def as_loss(reason: BaseException) -> BaseException | None:
    """What ``connection_lost()`` gets where Twisted's ``connectionLost()`` gets *reason*."""
    if isinstance(reason, error.ConnectionDone | error.ConnectionAborted):
        return None
    if isinstance(reason, error.ConnectionClosed):
        return _caused(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)), reason)
    return as_asyncio_error(reason)


def as_loss_reason(loss: BaseException | None, *, aborted: bool = False) -> BaseException:
    """
    What Twisted's ``connectionLost()`` gets, as a ``Failure``, where ``connection_lost()`` gets *loss*.

    Args:
        loss: None, or what went wrong.
        aborted: Whether our side has aborted the connection.
    """
    if aborted:
        return error.ConnectionAborted() if loss is None else _caused(error.ConnectionAborted(), loss)
    if loss is None:
        return error.ConnectionDone()
    if isinstance(loss, ssl.SSLZeroReturnError):
        return _caused(error.ConnectionDone(), loss)
    if isinstance(loss, ssl.SSLError) and not isinstance(loss, ssl.SSLEOFError):
        return as_twisted_error(loss)
    if isinstance(loss, OSError | asyncio.TimeoutError):
        return _caused(error.ConnectionLost(str(loss)), loss)
    return loss


def as_asyncio_error(reason: BaseException) -> BaseException:
    """What asyncio raises where Twisted fails with *reason* to connect, to listen or to send."""
    for kind, code in _CONNECT_ERRORS:
        if isinstance(reason, kind):
            return _caused(_os_error(_number_in(reason) or code, reason), reason)
    for kind, code in _NAME_ERRORS:
        if isinstance(reason, kind):
            return _caused(socket.gaierror(_number_in(reason) or code, str(reason)), reason)
    if isinstance(reason, error.CannotListenError):
        return _caused(_listening_error(reason), reason)
    if isinstance(reason, error.SSLError):
        return _caused(ssl.SSLError(ssl.SSLErrorNumber.SSL_ERROR_SSL, str(reason)), reason)
    if isinstance(reason, error.ConnectError):
        number = _number_in(reason)
        return _caused(_os_error(number, reason) if number else OSError(str(reason)), reason)
    translated = _as_ssl_error(reason)
    return reason if translated is None else _caused(translated, reason)


def as_twisted_error(failure: BaseException) -> BaseException:
    """What Twisted fails with where asyncio raises *failure* when it is to connect."""
    attempts: Any = getattr(failure, "exceptions", None)
    if isinstance(attempts, tuple) and attempts:  # all_errors=True: an ExceptionGroup, which Python 3.10 has not
        return _caused(as_twisted_error(attempts[-1]), failure)
    if isinstance(failure, ssl.SSLError):
        return _as_openssl_error(failure)
    if isinstance(failure, socket.gaierror):
        if failure.errno == socket.EAI_SERVICE:
            return _caused(_new(error.ServiceNameUnknownError, None, str(failure)), failure)
        return _caused(error.DNSLookupError(str(failure)), failure)
    if isinstance(failure, TimeoutError | asyncio.TimeoutError) and getattr(failure, "errno", None) is None:
        return _caused(_new(error.TimeoutError, None, str(failure)), failure)
    if isinstance(failure, OSError):
        return _caused(_connect_error(failure), failure)
    return failure


def _caused(translated: BaseException, original: BaseException) -> BaseException:
    translated.__cause__ = original
    return translated


# From Twisted


def _number_in(reason: BaseException) -> int:
    """The error's number, where Twisted has kept it."""
    number = getattr(reason, "osError", None)
    if isinstance(number, OSError):
        number = number.errno
    return number if isinstance(number, int) else 0


def _os_error(number: int, reason: BaseException) -> OSError:
    return OSError(number, f"{os.strerror(number)} ({reason})")


def _listening_error(reason: error.CannotListenError) -> OSError:
    cause = reason.socketError
    if isinstance(cause, socket.gaierror):
        return socket.gaierror(cause.errno, str(reason))
    number = cause.errno if isinstance(cause, OSError) else None
    # Without a number it is a path that another process of Twisted's has locked.
    return _os_error(number or errno.EADDRINUSE, reason)


def _as_ssl_error(reason: BaseException) -> BaseException | None:
    # Only who has imported these can have raised them.
    openssl: Any = sys.modules.get("OpenSSL.SSL")
    identity: Any = sys.modules.get("service_identity")
    if identity is not None and isinstance(reason, identity.VerificationError | identity.CertificateError):
        from ..tls._verification import refusal

        return refusal(reason)
    if isinstance(reason, error.VerifyError | error.CertificateError):
        from ..tls import TLSVerificationError

        return TLSVerificationError(_UNSPECIFIED, str(reason))
    if openssl is None or not isinstance(reason, openssl.Error):
        return None
    if isinstance(reason, openssl.ZeroReturnError):
        return ssl.SSLZeroReturnError(ssl.SSLErrorNumber.SSL_ERROR_ZERO_RETURN, "the peer has closed TLS")
    if isinstance(reason, openssl.WantReadError):
        return ssl.SSLWantReadError(ssl.SSLErrorNumber.SSL_ERROR_WANT_READ, "the operation did not complete (read)")
    if isinstance(reason, openssl.WantWriteError):
        return ssl.SSLWantWriteError(ssl.SSLErrorNumber.SSL_ERROR_WANT_WRITE, "the operation did not complete (write)")
    if isinstance(reason, openssl.SysCallError):
        return _broken_tls(*reason.args)
    return _failed_tls(reason)


def _broken_tls(number: int = -1, text: str = "") -> OSError:
    """What OpenSSL's ``SysCallError`` says: -1 stands for an end without a close_notify."""
    if number > 0:
        return OSError(number, text or os.strerror(number))
    return ssl.SSLEOFError(ssl.SSLErrorNumber.SSL_ERROR_EOF, text or "EOF occurred in violation of protocol")


def _failed_tls(reason: BaseException) -> BaseException:
    from ..tls import TLSError, TLSVerificationError

    queue = reason.args[0] if reason.args else []
    texts = [str(entry[-1]) for entry in queue if entry] if isinstance(queue, list | tuple) else [str(queue)]
    if "certificate verify failed" in texts:
        # Which it was, the connection knew.
        return TLSVerificationError(_UNSPECIFIED, "; ".join(texts))
    return TLSError("; ".join(texts) or "TLS failed, and OpenSSL does not say why")


# To Twisted


def _connect_error(failure: OSError) -> BaseException:
    if failure.errno is None:
        # Several addresses have failed, in different ways or for different addresses; Twisted tells of the last one.
        numbers = re.findall(r"\[Errno (\d+)\]", str(failure))
        if not numbers:
            kind = error.UserError if isinstance(failure, ConnectionAbortedError) else error.ConnectError
            return _new(kind, None, str(failure))
        return _of_number(int(numbers[-1]), str(failure))
    text = failure.strerror or str(failure)
    if text.startswith(_BIND_FAILED):
        return _new(error.ConnectBindError, failure.errno, text)
    if failure.errno == errno.ECONNABORTED:
        return _new(error.UserError, failure.errno, text)
    return _of_number(failure.errno, text)


def _new(kind: Any, number: int | None, text: str) -> BaseException:
    translated: BaseException = kind(number, text)
    return translated


def _of_number(number: int, text: str) -> BaseException:
    """What Twisted makes of an ``errno``."""
    get_connect_error: Any = error.getConnectError
    translated: BaseException = get_connect_error((number, text))
    return translated


def _as_openssl_error(failure: ssl.SSLError) -> BaseException:
    from OpenSSL import SSL
    from service_identity import CertificateError, VerificationError

    if isinstance(failure.__cause__, SSL.Error | VerificationError | CertificateError):
        return failure.__cause__
    if getattr(failure, "verify_code", None) in (_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH):
        return _caused(VerificationError(errors=_mismatches(failure)), failure)
    for kind, same in (
        (ssl.SSLZeroReturnError, SSL.ZeroReturnError()),
        (ssl.SSLWantReadError, SSL.WantReadError()),
        (ssl.SSLWantWriteError, SSL.WantWriteError()),
        (ssl.SSLEOFError, SSL.SysCallError(-1, "Unexpected EOF")),
    ):
        if isinstance(failure, kind):
            return _caused(same, failure)
    text = (getattr(failure, "reason", None) or str(failure)).lower().replace("_", " ")
    return _caused(SSL.Error([("SSL routines", "", text)]), failure)


def _mismatches(failure: Any) -> list[Any]:
    """What service_identity says where the standard library says that a certificate is for somebody else."""
    from service_identity.exceptions import DNSMismatch, IPAddressMismatch
    from service_identity.hazmat import DNS_ID, IPAddress_ID

    quoted = re.search("'(.+?)'", failure.verify_message)
    try:
        if quoted is None:
            return []
        if failure.verify_code == _IP_ADDRESS_MISMATCH:
            return [IPAddressMismatch(mismatched_id=IPAddress_ID(quoted[1]))]
        return [DNSMismatch(mismatched_id=DNS_ID(quoted[1]))]
    except ValueError:
        return []  # a name that service_identity does not take
