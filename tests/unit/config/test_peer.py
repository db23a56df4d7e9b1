"""What a peer's fields may be, at their bounds."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from fastun.config.networks import parse_networks
from fastun.config.peer import parse_keepalive, parse_name
from fastun.config.ranges import KEEPALIVE_MAX_S
from fastun.errors import ConfigError


@pytest.mark.parametrize("name", ["a", "7", "_", "a" * 64, "ant@example.net", "Ant-1_b.c"])
def test_a_name_is_a_file_name_that_needs_no_quotes(name: str) -> None:
    assert parse_name(name, "name") == name


@pytest.mark.parametrize(
    "name", ["", "a" * 65, "-a", "--force", ".", "..", ".a", "a/b", "a b", "a\n", "ä", "a'"]
)
def test_what_could_be_an_option_a_path_or_two_words_is_not_a_name(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid peer name"):
        parse_name(name, "name")


def test_an_address_without_a_length_is_that_one_host() -> None:
    networks = parse_networks(["10.9.0.2", "fd00::2", "10.8.0.0/16"], "allowed_ips")
    assert networks == tuple(map(ip_network, ("10.9.0.2/32", "fd00::2/128", "10.8.0.0/16")))


@pytest.mark.parametrize(
    "text",
    [
        "10.9.0.0/255.255.255.0",
        "10.9.0.0/0.0.0.255",
        "fe80::1%eth0",
        "fe80::1%1/128",
        "10.9.0.0/33",
    ],
)
def test_a_netmask_or_a_zone_is_not_a_prefix(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a prefix"):
        parse_networks([text], "allowed_ips")


def test_bits_beyond_the_length_and_a_prefix_twice_are_refused() -> None:
    with pytest.raises(ConfigError, match="bits set beyond its prefix length"):
        parse_networks(["10.9.0.2/24"], "allowed_ips")
    with pytest.raises(ConfigError, match="is listed twice"):
        parse_networks(["10.9.0.2", "10.9.0.2/32"], "allowed_ips")


@pytest.mark.parametrize("seconds", [0, 1, KEEPALIVE_MAX_S])
def test_a_keepalive_is_a_number_of_16_bits(seconds: int) -> None:
    assert parse_keepalive(seconds, "keepalive") == seconds
    for outside in (-1, KEEPALIVE_MAX_S + 1):
        with pytest.raises(ConfigError):
            parse_keepalive(outside, "keepalive")
