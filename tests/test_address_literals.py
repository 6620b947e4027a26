"""``getaddrinfo`` of addresses: what the socket module's own says, from nobody who could be asked."""

from __future__ import annotations

import itertools
import socket
from typing import Any

import pytest

from txasync._address_literals import addresses_of_literal

ADDRESSES = ["127.0.0.1", "10.1.2.3", "::1", "fe80::1", "fe80::1%lo", "::ffff:10.0.0.1", b"127.0.0.1", b"::1"]
NAMES = [
    *("localhost", "", None, "127.1", "0x7f000001", "::1%", "fe80::1%nosuch", "1.2.3.256", "a:b"),
    *(b"\xff", bytearray(b"::1"), "\N{FULLWIDTH DIGIT ONE}.2.3.4"),
]
PORTS = [None, 0, 80, 65535, "80", b"80", "", b""]
FAMILIES = [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6]
TYPES = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW]
PROTOS = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP]
FLAGS = [
    0,
    socket.AI_CANONNAME,
    socket.AI_PASSIVE,
    socket.AI_ADDRCONFIG,
    socket.AI_NUMERICHOST,
    socket.AI_NUMERICSERV,
    socket.AI_V4MAPPED | socket.AI_ALL,
]


@pytest.mark.parametrize("host", ADDRESSES)
def test_an_address_is_what_the_socket_module_says(host: Any) -> None:
    """With each kind of port, family, type, protocol and flags; or it is left to who asks it with its own errors."""
    found = 0
    for port, *hints in itertools.product(PORTS, FAMILIES, TYPES, PROTOS, FLAGS):
        ours = addresses_of_literal(host, port, *hints)
        try:
            theirs = socket.getaddrinfo(host, port, *hints)
        except socket.gaierror:
            assert ours is None
        else:
            assert ours == theirs
            found += 1
    assert found > 100


@pytest.mark.parametrize("host", NAMES)
def test_a_name_is_left_to_the_resolver(host: Any) -> None:
    """So are the rarer forms of addresses, and what is none."""
    assert addresses_of_literal(host, 80, 0, 0, 0, 0) is None


def test_a_service_by_name_is_left_to_the_resolver() -> None:
    """It is looked up in a file, or anywhere."""
    assert addresses_of_literal("127.0.0.1", "http", 0, socket.SOCK_STREAM, 0, 0) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_nobody_is_asked(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system's resolver gets forbids it to look anything up."""
    seen: list[int] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, family: int, type: int, proto: int, flags: int) -> Any:
        seen.append(flags)
        return real(host, port, family, type, proto, flags)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    addresses_of_literal(host, "http", 0, 0, 0, socket.AI_CANONNAME)
    assert seen == [socket.AI_CANONNAME | socket.AI_NUMERICHOST | socket.AI_NUMERICSERV]


@pytest.mark.parametrize("port", [-1, 65536, 2**70, 1.5, "eighty", [80], "\N{SNOWMAN}"])
def test_what_is_no_port_is_told_as_ever(port: Any) -> None:
    """By the error of the socket module, here or where it is asked next."""
    ours: Any = None
    theirs: Any = None
    try:
        ours = addresses_of_literal("127.0.0.1", port, 0, 0, 0, 0)
    except Exception as error:
        ours = type(error), str(error)
    try:
        theirs = socket.getaddrinfo("127.0.0.1", port)
    except Exception as error:
        theirs = type(error), str(error)
    assert ours in (None, theirs)
