"""``getaddrinfo`` of what is an address already, which asks nobody and so needs no thread."""

from __future__ import annotations

import socket
from typing import Any

__all__ = ["addresses_of_literal"]

# With these, no service of the resolver's is asked, whatever it is given.
_ASK_NOBODY = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


def addresses_of_literal(host: Any, port: Any, family: int, type: int, proto: int, flags: int) -> list[Any] | None:
    """
    Return what ``socket.getaddrinfo`` returns if *host* is an IP address and *port* no name, else None.

    An address is in its usual form, with a scope or without; shorter forms (``127.1``), which are valid, too, are left
    to whoever takes names.

    Source:
        The ``socket`` module's ``getaddrinfo``.
    """
    if not _is_address(host):
        return None
    try:
        return socket.getaddrinfo(host, port, family, type, proto, flags | _ASK_NOBODY)
    except socket.gaierror:
        return None  # a port by name, perhaps; or it is wrong, and will be told so as ever


def _is_address(host: Any) -> bool:
    try:
        name = host.decode("ascii") if isinstance(host, bytes) else host
        if ":" in name:
            socket.inet_pton(socket.AF_INET6, name.partition("%")[0])
        else:
            socket.inet_pton(socket.AF_INET, name)
    except (OSError, TypeError, ValueError):
        return False
    return True
