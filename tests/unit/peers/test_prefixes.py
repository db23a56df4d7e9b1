"""Prefixes are read as the standard library's `ipaddress` reads them, which is the model here."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun.peers import prefixes

ADDRESSES = st.one_of(
    st.ip_addresses().map(str),
    st.ip_addresses(v=6).map(lambda address: address.exploded),
    st.ip_addresses(v=4).map("::ffff:{}".format),
    st.sampled_from(
        ["", "::", "1", "1.2.3", "010.0.0.1", "1.2.3.4.5", "::1::", "\u0661.2.3.4", "a"]
    ),
    st.text("0123456789abcdef.:%/ \0-", max_size=20),
)
LENGTHS = st.one_of(
    st.integers(-1, 129).map("/{}".format),
    st.sampled_from(["", "/", "/ 8", "/08", "/+8", "/8/8", "/255.0.0.0", "/0.0.0.255", "/999999"]),
)


@given(ADDRESSES, LENGTHS)
def test_a_prefix_is_what_ipaddress_says_it_is(address: str, length: str) -> None:
    text = address + length
    try:
        ours = prefixes.parse(text)
    except ValueError:
        ours = None
    # What it takes besides: a zone, a netmask, a length of zeros without end.
    is_odd = "%" in text or "." in length or len(length) > len("/128")
    try:
        expected = None if is_odd else ip_interface(text)
    except ValueError:
        expected = None
    assert (ours is None) == (expected is None)
    if ours is not None and expected is not None:
        assert ours.network() == expected.network
        assert (ours != ours.without_host()) == (expected.ip != expected.network.network_address)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.9.0.2", IPv4Network("10.9.0.2/32")),
        ("0.0.0.0/0", IPv4Network("0.0.0.0/0")),
        ("255.255.255.255/32", IPv4Network("255.255.255.255/32")),
        ("::/0", IPv6Network("::/0")),
        ("fd00:9::7/64", IPv6Network("fd00:9::/64")),
    ],
)
def test_a_prefix_has_the_network_it_is_in(text: str, network: IPv4Network | IPv6Network) -> None:
    assert prefixes.parse(text).network() == network
