"""Who a peer must be, with pyOpenSSL: what OpenSSL has found, and what is left to service_identity."""

from __future__ import annotations

import ipaddress

from OpenSSL import SSL
from OpenSSL.SSL import _ffi, _lib  # type: ignore[attr-defined]
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address

from ._errors import TLSVerificationError

__all__ = ["Host", "chain_refusal", "refusal"]

# Of OpenSSL's X509_V_ERR_*: for those, pyOpenSSL has no names.
HOSTNAME_MISMATCH = 62
IP_ADDRESS_MISMATCH = 64
APPLICATION_VERIFICATION = 50


class Host:
    """
    A server's name or address, to be sent by SNI and to be found in its certificate.

    Args:
        name: As users write it: a DNS name, perhaps an international one, or an IP address.

    Attributes:
        name: As given.

    Raises:
        ValueError: It is neither.

    Source:
        RFC 6125 and 9525, as service_identity has them; RFC 6066 section 3 for SNI, which takes no addresses.
    """

    def __init__(self, name: str) -> None:
        try:
            address: str | None = str(ipaddress.ip_address(name.partition("%")[0]))
        except ValueError:
            address = None
        self.name = name
        self._address = address
        # As asyncio and the standard library spell it when they look it up, whether the idna package is there or not.
        self._ascii = name if address is not None else name.encode("idna").decode("ascii")

    def name_for_sni(self) -> bytes | None:
        """The name in the form of SNI; None for an address."""
        return None if self._address is not None else self._ascii.encode("ascii")

    def check(self, connection: SSL.Connection) -> None:
        """
        Check that the peer's certificate is for this host.

        Raises:
            TLSVerificationError: It is not, or there is none.
        """
        certificate = connection.get_peer_certificate()
        if certificate is None:
            raise TLSVerificationError(APPLICATION_VERIFICATION, f"the peer has no certificate for {self.name!r}")
        try:
            if self._address is None:
                verify_certificate_hostname(certificate.to_cryptography(), self._ascii)
            else:
                verify_certificate_ip_address(certificate.to_cryptography(), self._address)
        except Exception as error:  # also what a certificate that is out of order makes of its reader
            raise refusal(error, self.name) from error


def refusal(error: BaseException, name: str | None = None) -> TLSVerificationError:
    """
    What a user is told of *error*, with which service_identity, or a check of somebody else's, has refused a peer.

    Args:
        error: The error, which is to be the cause.
        name: For whom the certificate should be, if that is known.
    """
    whom = "this host" if name is None else repr(name)
    if isinstance(error, VerificationError):
        kinds = {type(mismatch).__name__ for mismatch in error.errors}
        if "IPAddressMismatch" in kinds:
            return TLSVerificationError(
                IP_ADDRESS_MISMATCH, f"IP address mismatch, certificate is not valid for {whom}"
            )
        return TLSVerificationError(HOSTNAME_MISMATCH, f"hostname mismatch, certificate is not valid for {whom}")
    if isinstance(error, CertificateError):
        return TLSVerificationError(APPLICATION_VERIFICATION, f"certificate cannot be checked for {whom}: {error}")
    return TLSVerificationError(APPLICATION_VERIFICATION, f"{type(error).__name__}: {error}")


def chain_refusal(connection: SSL.Connection) -> TLSVerificationError:
    """Why OpenSSL has refused the certificates of *connection*'s peer."""
    code = _lib.SSL_get_verify_result(connection._ssl)
    return TLSVerificationError(code, _ffi.string(_lib.X509_verify_cert_error_string(code)).decode("ascii"))
