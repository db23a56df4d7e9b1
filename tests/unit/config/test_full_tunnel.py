"""Everything through the tunnel: who asks for it, through which peer, and what of the LAN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun.config.settings import ConnectSettings, Options, load
from fastun.errors import ConfigError
from fastun.session import keys

if TYPE_CHECKING:
    from pathlib import Path

KEY = keys.format_key(keys.generate_private())


def peer(name: str, *allowed: str) -> str:
    public = keys.format_key(keys.public_of(keys.generate_private()))
    return (
        f"[[peer]]\nname = '{name}'\npublic_key = '{public}'\nallowed_ips = {list(allowed)}\n"
        "endpoint = 'udp://192.0.2.1'\n"
    )


def loaded(
    directory: Path, lines: str, *peers: str, all_traffic: bool = False, allow_lan: bool = False
) -> ConnectSettings:
    path = directory / "a.toml"
    path.touch(0o600)
    path.write_text(f"[interface]\nprivate_key = '{KEY}'\n{lines}\n{''.join(peers)}")
    settings = load("connect", str(path), Options(all_traffic=all_traffic, allow_lan=allow_lan))
    assert isinstance(settings, ConnectSettings)
    return settings


@pytest.mark.parametrize("lines", ["table = 'all'", "table = 'off'", "table = 4242", ""])
def test_the_only_peer_is_sent_everything_and_its_dns_is_used(tmp_path: Path, lines: str) -> None:
    found = loaded(tmp_path, lines, peer("a", "10.9.0.0/24"), all_traffic="all" not in lines)
    assert found.table == "all"
    assert list(map(str, found.peers[0].allowed_ips)) == ["10.9.0.0/24", "0.0.0.0/0", "::/0"]
    assert "dns" in found.accept
    assert not found.allow_lan


def test_a_file_that_lists_what_it_accepts_is_believed(tmp_path: Path) -> None:
    found = loaded(tmp_path, "accept = ['routes']", peer("a", "10.9.0.0/24"), all_traffic=True)
    assert found.accept == ("routes",)


def test_a_pushed_default_route_is_accepted_by_a_word(tmp_path: Path) -> None:
    found = loaded(tmp_path, "accept = ['default', 'dns']", peer("a", "10.9.0.0/24"))
    assert found.table == "off"
    assert list(map(str, found.peers[0].allowed_ips)) == ["10.9.0.0/24", "0.0.0.0/0", "::/0"]
    found = loaded(tmp_path, "", peer("a", "10.9.0.0/24"))
    assert "default" not in found.accept
    assert list(map(str, found.peers[0].allowed_ips)) == ["10.9.0.0/24"]


@pytest.mark.parametrize(
    ("one", "other", "widened"),
    [
        (["0.0.0.0/0"], ["10.9.0.0/24"], ["0.0.0.0/0", "::/0"]),
        (["::/0"], ["10.9.0.0/24"], ["::/0", "0.0.0.0/0"]),
        (["0.0.0.0/0"], ["::/0"], ["0.0.0.0/0"]),
        (["0.0.0.0/0", "::/0"], ["10.9.0.0/24"], ["0.0.0.0/0", "::/0"]),
    ],
)
def test_of_several_peers_the_one_with_a_default_route_is_meant(
    tmp_path: Path, one: list[str], other: list[str], widened: list[str]
) -> None:
    found = loaded(tmp_path, "table = 'all'", peer("b", *other), peer("a", *one))
    assert list(map(str, found.peers[1].allowed_ips)) == widened
    assert list(map(str, found.peers[0].allowed_ips)) == other


@pytest.mark.parametrize(
    ("lines", "all_traffic", "where"),
    [
        ("table = 'all'", False, "interface.table: "),
        ("", True, "--all: "),
        ("accept = ['default']", False, "interface.accept: "),
    ],
)
def test_of_several_others_none_is_guessed(
    tmp_path: Path, lines: str, all_traffic: bool, where: str
) -> None:
    peers = peer("a", "10.9.0.0/24"), peer("b", "10.8.0.0/24")
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, lines, *peers, all_traffic=all_traffic)
    assert str(refused.value).endswith(
        f"{where}there are 2 peers, and none is the default route; add 0.0.0.0/0 and ::/0 to the"
        " allowed IPs of the one that is to be"
    )


def test_the_lan_is_allowed_by_a_word_where_it_would_not_be(tmp_path: Path) -> None:
    one = peer("a", "10.9.0.0/24")
    assert loaded(tmp_path, "allow_lan = true", one, all_traffic=True).allow_lan
    assert loaded(tmp_path, "accept = ['default']", one, allow_lan=True).allow_lan
    for lines, option, where in (
        ("allow_lan = true", False, "interface.allow_lan: "),
        ("table = 'auto'", True, "--allow-lan: "),
    ):
        with pytest.raises(ConfigError, match=f"{where}the LAN is out of reach only where every"):
            loaded(tmp_path, lines, one, allow_lan=option)


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("table = 'all'", "interface.table: 'all' applies only to connect; use auto or off"),
        ("allow_lan = true", "interface.allow_lan: 'allow_lan' applies only to connect; remove it"),
    ],
)
def test_a_server_has_none_of_it(tmp_path: Path, lines: str, named: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f"[interface]\n{lines}\n")
    with pytest.raises(ConfigError, match=named):
        load("serve", None, Options(config=path))


def test_where_there_are_no_addresses_or_no_keys_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--all: routes on a TAP device need gateways"):
        loaded(tmp_path, "mode = 'tap'", peer("a", "10.9.0.0/24"), all_traffic=True)
    plain = Options(wire="plain", insecure=True, all_traffic=True)
    with pytest.raises(ConfigError, match="--all: has no effect on the plain wire"):
        load("connect", "tcp://192.0.2.1", plain)
