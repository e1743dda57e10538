"""Addresses read as they are written, and nothing else reads as one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.address import BadAddress, Endpoint, PeerAddress, is_loopback, is_unspecified, network_group

ID = "ab" * 32

hosts = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?){0,3}", fullmatch=True),
)


@given(st.binary(min_size=32, max_size=32), hosts, st.integers(1, 65_535))
def test_an_address_reads_back(node_id: bytes, host: str, port: int) -> None:
    address = PeerAddress(node_id, host, port)
    assert PeerAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host:1",
        f"{ID}@host",
        f"{ID}@host:0",
        f"{ID}@host:65536",
        f"{ID}@host:-1",
        f"{ID}@host:1x",
        f"{ID}@:1",
        f"{ID}@[::1:1",
        f"{ID}@[nonsense]:1",
        f"{ID}@::1:1",
        f"{ID}@ho st:1",
        f"{ID}@host:٣",
        f"{ID.upper()}@host:1",
        f"{ID[2:]}@host:1",
        f"{ID}@{'h' * 64}.example:1",
        f"{ID}@{'h.' * 127}h:1",
        f"{ID}@a..b:1",
        f"{ID}@-a:1",
        f"{ID}@a-:1",
    ],
)
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(BadAddress):
        PeerAddress.parse(text)


@given(st.text(max_size=100))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    with suppress(BadAddress):
        endpoint = Endpoint.parse(text)
        assert Endpoint.parse(str(endpoint)) == endpoint


def test_port_zero_can_be_bound_but_not_dialled() -> None:
    assert Endpoint.parse("127.0.0.1:0") == Endpoint("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("host", "group"),
    [("10.1.2.3", "10.1.0.0/16"), ("2001:db8:1::1", "2001:db8::/32"), ("node.example", "node.example")],
)
def test_groups_of_networks(host: str, group: str) -> None:
    assert network_group(host) == group


def test_loopback_and_unspecified_hosts_are_known() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "localhost"]))
    assert not any(map(is_loopback, ["10.0.0.1", "host", "::"]))
    assert all(map(is_unspecified, ["0.0.0.0", "::"]))
    assert not is_unspecified("host")
