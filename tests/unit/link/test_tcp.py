"""Stream links: who counts as one source."""

from __future__ import annotations

import pytest

from fastun.link import tcp


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%lo", "fe80::2%lo", True),
    ],
)
def test_a_source_is_an_ipv4_address_or_an_ipv6_slash_64(
    one: str, other: str, is_same: bool
) -> None:
    assert (tcp.source_of(one) == tcp.source_of(other)) is is_same
