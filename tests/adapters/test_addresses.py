"""A socket's name and Twisted's address of it say the same, both ways."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.conch.ssh.address import SSHTransportAddress
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.stdio import PipeAddress
from zope.interface.verify import verifyObject

from txasync.adapters._addresses import NoAddress, as_iaddress, as_sockaddr

PORTS = st.integers(0, 65535)
PATHS = st.binary(min_size=1, max_size=107).filter(lambda path: b"\0" not in path)


@given(st.ip_addresses(v=4).map(str), PORTS, st.sampled_from(["TCP", "UDP"]))
def test_ipv4(host: str, port: int, kind: Any) -> None:
    """Host and port."""
    name = host, port
    address = as_iaddress(name, kind)
    assert address == IPv4Address(kind, host, port)
    assert as_sockaddr(address) == name


@given(st.ip_addresses(v=6).map(str), PORTS, st.integers(0, 2**20 - 1), st.integers(0, 2**32 - 1))
def test_ipv6(host: str, port: int, flow: int, scope: int) -> None:
    """All four parts: neither the flow nor the scope is lost."""
    name = host, port, flow, scope
    address = as_iaddress(name)
    assert address == IPv6Address("TCP", host, port, flow, scope)
    assert as_sockaddr(address) == name


@given(PATHS.map(os.fsdecode))
def test_paths(path: str) -> None:
    """Any path, also one that is not UTF-8."""
    address = as_iaddress(path)
    assert type(address) is UNIXAddress
    assert address.name == os.fsencode(path)
    assert as_sockaddr(address) == path


@given(PATHS.map(lambda name: b"\0" + name))
def test_abstract_names(name: bytes) -> None:
    """Names in Linux's abstract space are bytes, as ``getsockname()`` has them."""
    address = as_iaddress(name)
    assert address.name == name
    assert as_sockaddr(address) == name


def test_no_name() -> None:
    """A UNIX socket that is bound to nothing has an empty name; Twisted's address has None."""
    assert as_iaddress("").name is None
    assert as_sockaddr(UNIXAddress(None)) == as_sockaddr(UNIXAddress("")) == ""


def real_sockets(tmp_path: Path) -> dict[str, tuple[socket.socket, Any]]:
    """Sockets of each family, bound, and what Twisted calls them."""
    made: dict[str, tuple[socket.socket, Any]] = {}
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        sock = socket.socket(family)
        sock.bind((host, 0))
        kind = IPv4Address if family == socket.AF_INET else IPv6Address
        made[family.name] = sock, kind("TCP", *sock.getsockname())
    names = {"path": str(tmp_path / "s"), "abstract": b"\0" + os.urandom(8).hex().encode(), "unbound": None}
    for name, bound in names.items():
        sock = socket.socket(socket.AF_UNIX)
        if bound is not None:
            sock.bind(bound)
        made[name] = sock, UNIXAddress(bound)
    return made


def test_what_real_sockets_call_themselves(tmp_path: Path) -> None:
    """``getsockname()`` of each family, to Twisted's address and back."""
    for sock, address in real_sockets(tmp_path).values():
        with sock:
            name = sock.getsockname()
            assert as_iaddress(name) == address
            assert as_sockaddr(address) == name
            assert verifyObject(IAddress, as_iaddress(name))


@pytest.mark.parametrize("name", [None, (), (1, 2), ("eth0", 3, 0, 1, b""), ("can0",), 7, (1, 2, 3, 4)], ids=repr)
def test_names_that_twisted_has_no_address_for(name: Any) -> None:
    """Pipes have none; sockets of other families have others."""
    address = as_iaddress(name)
    assert verifyObject(IAddress, address)
    assert address == NoAddress()
    assert address != IPv4Address("TCP", "127.0.0.1", 1)
    assert len({address, NoAddress()}) == 1
    assert repr(address) == "<no address>"
    assert as_sockaddr(address) is None


def test_addresses_that_no_socket_has() -> None:
    """A name for a host stands for an address; one address may be another's wrapping; what is left is None."""
    assert as_sockaddr(HostnameAddress(b"example.com", 443)) == ("example.com", 443)
    assert as_sockaddr(SSHTransportAddress(IPv4Address("TCP", "192.0.2.1", 22))) == ("192.0.2.1", 22)
    assert as_sockaddr(PipeAddress()) is None
    assert as_sockaddr("192.0.2.1") is None


@pytest.mark.parametrize(("scope", "number"), [(7, 7), ("7", 7), ("", 0), ("no-such-interface", 0)])
def test_twisteds_scope_may_be_a_name(scope: Any, number: int) -> None:
    """An interface has a number, and so has the socket's name; 0 if there is no such interface."""
    assert as_sockaddr(IPv6Address("TCP", "fe80::1", 1, 0, scope)) == ("fe80::1", 1, 0, number)


def test_the_scope_may_be_the_name_of_an_interface() -> None:
    """It is looked up."""
    number, name = socket.if_nameindex()[0]
    assert as_sockaddr(IPv6Address("TCP", "fe80::1", 1, 0, name)) == ("fe80::1", 1, 0, number)
