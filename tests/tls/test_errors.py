"""The errors of pyOpenSSL's contexts: what they are, say and tell."""

from __future__ import annotations

import ssl

import pytest

from txasync.tls import TLSError, TLSVerificationError


def test_an_error_is_what_the_standard_library_raises() -> None:
    """One ``except`` clause serves both kinds of context, and one for OSError serves the network, too."""
    error = TLSError("no shared cipher")
    assert isinstance(error, ssl.SSLError) and isinstance(error, OSError)
    assert not isinstance(error, ssl.SSLCertVerificationError | ssl.SSLEOFError | ssl.SSLZeroReturnError)
    assert error.errno == ssl.SSL_ERROR_SSL


def test_an_error_reads_as_a_sentence() -> None:
    """It is not a tuple of what OpenSSL calls its parts."""
    assert str(TLSError("no shared cipher")) == "no shared cipher"
    assert "no shared cipher" in repr(TLSError("no shared cipher"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no shared cipher", "NO_SHARED_CIPHER"),
        ("wrong version number; something else", "WRONG_VERSION_NUMBER"),
        ("http request", "HTTP_REQUEST"),
        ("certificate verify failed: certificate has expired", "CERTIFICATE_VERIFY_FAILED"),
    ],
)
def test_an_error_has_the_attributes_of_the_standard_librarys(text: str, reason: str) -> None:
    """Programs tell errors apart by them."""
    error = TLSError(text)
    assert (error.library, error.reason) == ("SSL", reason)


def test_a_verification_error_is_the_standard_librarys_and_ours() -> None:
    """It is refused for the same reasons, with the same numbers."""
    error = TLSVerificationError(10, "certificate has expired")
    assert isinstance(error, TLSError) and isinstance(error, ssl.SSLCertVerificationError)
    assert isinstance(error, ValueError), "which is what that one is, too"
    assert (error.verify_code, error.verify_message) == (10, "certificate has expired")
    assert str(error) == "certificate verify failed: certificate has expired"
    assert error.errno == ssl.SSL_ERROR_SSL
    assert (error.library, error.reason) == ("SSL", "CERTIFICATE_VERIFY_FAILED")


def test_the_reason_is_the_standard_librarys_for_the_same_failure() -> None:
    """As far as there is one."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    ssl_object = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with pytest.raises(ssl.SSLError) as caught:
        ssl_object.do_handshake()
    assert (caught.value.library, caught.value.reason) == (
        TLSError("http request").library,
        TLSError("http request").reason,
    )
