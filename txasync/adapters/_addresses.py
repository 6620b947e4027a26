"""
Addresses: what sockets call themselves, and Twisted's ``IAddress``. No I/O, no reactor, no loop.

=========================================== ============================================================
Twisted                                     asyncio, ``get_extra_info("peername")`` and ``"sockname"``
=========================================== ============================================================
``IPv4Address``                             ``(host, port)``
``IPv6Address``                             ``(host, port, flowinfo, scope_id)``
``UNIXAddress``                             a path; ``bytes`` for a name in Linux's abstract space; ``""``
``HostnameAddress``                         ``(host, port)``
one that has another as its ``address``     that one's: Conch's are so
any other                                   None
=========================================== ============================================================
"""

from __future__ import annotations

import os
import socket
from typing import Any

from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from zope.interface import implementer

__all__ = ["NoAddress", "as_iaddress", "as_sockaddr"]


@implementer(IAddress)
class NoAddress:
    """The address of what has none, a pipe say."""

    def __repr__(self) -> str:
        return "<no address>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoAddress)

    def __hash__(self) -> int:
        return hash(NoAddress)


def as_sockaddr(address: Any) -> Any:
    """What a socket whose name is *address*, an ``IAddress``, would call itself."""
    if isinstance(address, IPv4Address):
        return address.host, address.port
    if isinstance(address, IPv6Address):
        return address.host, address.port, address.flowInfo, _scope_number(address.scopeID)
    if isinstance(address, UNIXAddress):
        name = address.name or b""
        return name if name.startswith(b"\0") else os.fsdecode(name)
    if isinstance(address, HostnameAddress):
        return address.hostname.decode("ascii", "replace"), address.port
    inner = getattr(address, "address", None)
    return as_sockaddr(inner) if IAddress.providedBy(inner) else None


def as_iaddress(name: Any, kind: str = "TCP") -> Any:
    """
    The ``IAddress`` of a socket that calls itself *name*.

    Args:
        name: What ``getsockname()`` says; None if there is no socket.
        kind: ``"TCP"`` or ``"UDP"``.
    """
    if isinstance(name, str | bytes):
        return UNIXAddress(name or None)
    if isinstance(name, tuple) and name and isinstance(name[0], str):
        if len(name) == 2:
            return IPv4Address(kind, *name)  # type: ignore[arg-type]
        if len(name) == 4:
            return IPv6Address(kind, *name)  # type: ignore[arg-type]
    return NoAddress()


def _scope_number(scope: str | int) -> int:
    """Twisted may have the name of the interface."""
    if isinstance(scope, int):
        return scope
    try:
        return int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
    except OSError:
        return 0
