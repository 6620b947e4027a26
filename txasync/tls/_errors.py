"""The errors of TLS by pyOpenSSL. They are ``ssl.SSLError``, so one ``except`` clause serves both kinds of context."""

from __future__ import annotations

import ssl
from typing import Any

__all__ = ["TLSError", "TLSVerificationError"]


class TLSError(ssl.SSLError):
    """
    TLS failed on a connection whose context is pyOpenSSL's.

    Its ``__cause__`` is the error of pyOpenSSL. With a context of the standard library, the same failures are plain
    ``ssl.SSLError``, which is an ``OSError``, as this is.

    Attributes:
        library: "SSL".
        reason: As of ``ssl.SSLError``: OpenSSL's name for it, such as ``"NO_SHARED_CIPHER"``.
    """

    def __init__(self, text: str) -> None:
        super().__init__(ssl.SSLErrorNumber.SSL_ERROR_SSL, text)
        self.library = "SSL"
        self.reason = text.partition(";")[0].partition(":")[0].upper().replace(" ", "_")
        self._arguments: tuple[object, ...] = (text,)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments


class TLSVerificationError(TLSError, ssl.SSLCertVerificationError):
    """
    A peer's certificate was refused: its chain, or the name or address that it is for.

    Its ``__cause__`` is the error of service_identity, or of pyOpenSSL. With a context of the standard library, it is
    ``ssl.SSLCertVerificationError``, which this is, too.

    Attributes:
        verify_code: OpenSSL's number for the reason, as in ``X509_V_ERR_CERT_HAS_EXPIRED``.
        verify_message: The reason in words.
    """

    def __init__(self, verify_code: int, verify_message: str) -> None:
        super().__init__(f"certificate verify failed: {verify_message}")
        self.verify_code = verify_code
        self.verify_message = verify_message
        self._arguments = (verify_code, verify_message)
