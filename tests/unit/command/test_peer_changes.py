"""`fastun peer set`, `rekey`, `expire` and the like: what is changed, and that nothing else is."""

from __future__ import annotations

import time
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING

import click
import pytest

from fastun.command import new_client, server_state
from fastun.command.cli import cli
from fastun.config.served import server_of
from fastun.config.settings import Options, load
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError, FastunError
from fastun.native.library import lib
from fastun.peers.store import PeerStore
from fastun.peers.terms import TO_MAX, Quota, RateLimit, Usage, month_of
from fastun.session import keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fastun.peers.peer import Peer

SERVER_KEY = keys.public_of(keys.generate_private())


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state directory of a server that has served, with a client named laptop."""
    options = Options(
        state=tmp_path / "state",
        run_dir=tmp_path / "run",
        address=("10.9.0.1/24",),
        listen=("udp://[::]:51820", "tcp://[::]:443"),
    )
    settings = load("serve", None, options)
    with PeerStore(options.state) as store:
        store.remember_server(server_of(settings, SERVER_KEY))
    return options.state


@pytest.fixture
def run(state: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `fastun peer ...`; returns stdout."""

    def running(*arguments: str) -> str:
        capsys.readouterr()
        cli.main(["peer", *arguments, "--state", str(state)], standalone_mode=False)
        return capsys.readouterr().out

    running("add", "laptop", "--endpoint", "udp://vpn.example.net")
    return running


def get(state: Path, name: str = "laptop") -> Peer:
    with PeerStore(state) as store:
        return store.get(name)


def loaded(text: str, tmp_path: Path, more: str = "") -> object:
    path = tmp_path / "client.toml"
    path.touch(0o600)
    path.write_text(text.replace("[interface]\n", f"[interface]\n{more}"))
    return load("connect", str(path), Options())


# -- peers with keys of their own ---------------------------------------------------------------


def test_a_site_keeps_its_key_and_is_given_what_it_needs(
    state: Path, run: Callable[..., str], tmp_path: Path
) -> None:
    private = keys.generate_private()
    public = keys.format_key(keys.public_of(private))
    networks = "172.16.0.0/16,fd00:7::/64"
    site = ("site", "--public-key", public, "--peer-endpoint", "udp://site.example.net")
    text = run("add", *site, "--allowed-ips", networks)
    peer = get(state, "site")
    assert peer.allowed_ips == (ip_network("172.16.0.0/16"), ip_network("fd00:7::/64"))
    assert peer.endpoints == (Endpoint("udp", "site.example.net", 51820),)
    assert "private_key =" not in text
    its = loaded(text, tmp_path, f'private_key = "{keys.format_key(private)}"\n')
    (server,) = its.peers  # type: ignore[attr-defined]
    assert server.public_key == SERVER_KEY
    assert server.preshared_key == peer.preshared_key
    assert server.allowed_ips == (ip_network("10.9.0.0/24"),)


@pytest.mark.parametrize("command", ["add site", "rekey laptop"])
def test_the_key_of_the_server_is_not_a_peers(
    state: Path, run: Callable[..., str], command: str
) -> None:
    before = get(state)
    with pytest.raises(ConfigError, match="--public-key: this is the server's own key"):
        run(*command.split(), "--public-key", keys.format_key(SERVER_KEY))
    assert get(state) == before
    with PeerStore(state) as store:
        assert [peer.name for peer in store.peers()] == ["laptop"]


def test_a_peer_with_its_own_key_gets_an_address_where_no_network_is_given(
    state: Path, run: Callable[..., str]
) -> None:
    public, other = (keys.format_key(keys.public_of(keys.generate_private())) for _ in range(2))
    text = run("add", "phone", "--public-key", public, "--no-psk", "--format", "wg-quick")
    assert "Address = 10.9.0.3/24" in text
    assert "PresharedKey" not in text
    assert get(state, "phone").preshared_key is None
    with pytest.raises(ConfigError, match=r"--format qr: .*private key"):
        run("add", "tablet", "--public-key", other, "--format", "qr")


def test_networks_behind_a_client_are_beside_its_address(
    state: Path, run: Callable[..., str]
) -> None:
    run("add", "router", "--allowed-ips", "172.16.0.0/16")
    networks = get(state, "router").allowed_ips
    assert networks == (ip_network("10.9.0.3/32"), ip_network("172.16.0.0/16"))


# -- changes ----------------------------------------------------------------------------------


def test_set_changes_what_is_given_and_nothing_else(state: Path, run: Callable[..., str]) -> None:
    before = get(state)
    run("set", "laptop", "--keepalive", "25", "--note", 'Ada\'s "second"')
    after = get(state)
    assert (after.keepalive_s, after.terms.note) == (25, 'Ada\'s "second"')
    assert (after.public_key, after.allowed_ips) == (before.public_key, before.allowed_ips)
    assert after.preshared_key == before.preshared_key
    run("set", "laptop", "--allowed-ips", "none", "--no-psk", "--note", "")
    assert (get(state).allowed_ips, get(state).preshared_key) == ((), None)


def test_a_network_without_its_length_is_remarked_on(
    state: Path, run: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str) -> str:
        cli.main(["peer", *arguments, "--state", str(state)], standalone_mode=False)
        return capsys.readouterr().err

    run("add", "site")
    assert "warning: --allowed-ips: 10.7.0.0 is one host, 10.7.0.0/32; for a network" in said(
        "set", "site", "--allowed-ips", "10.7.0.0,10.8.0.0/16"
    )
    assert get(state, "site").allowed_ips == (ip_network("10.7.0.0/32"), ip_network("10.8.0.0/16"))
    assert "warning: to: 172.16.9.0 is one host" in said("to", "site", "172.16.9.0")
    assert "warning" not in said("to", "site", "172.16.9.1")


def test_disabled_enabled_and_renamed(state: Path, run: Callable[..., str]) -> None:
    run("disable", "laptop")
    assert not get(state).terms.enabled
    run("rename", "laptop", "ada")
    run("enable", "ada")
    assert get(state, "ada").terms.enabled
    with pytest.raises(ConfigError, match="no peer is named 'laptop'"):
        get(state)


def test_rekey_makes_a_new_file_with_the_old_addresses(
    state: Path, run: Callable[..., str], tmp_path: Path
) -> None:
    before = get(state)
    its = loaded(run("rekey", "laptop"), tmp_path)
    after = get(state)
    assert after.public_key == keys.public_of(its.private_key)  # type: ignore[attr-defined]
    assert after.public_key != before.public_key
    assert after.preshared_key != before.preshared_key
    assert after.allowed_ips == before.allowed_ips
    assert its.addresses == (ip_interface("10.9.0.2/24"),)  # type: ignore[attr-defined]
    assert its.endpoints[0].host == "vpn.example.net"  # type: ignore[attr-defined]
    text = run("rekey", "laptop", "--psk")
    assert get(state).public_key == after.public_key
    assert keys.format_key(get(state).preshared_key or b"") in text


def test_expire_has_an_end_and_can_be_taken_back(state: Path, run: Callable[..., str]) -> None:
    run("expire", "laptop", "30d")
    assert get(state).terms.expires is not None
    run("expire", "laptop", "never")
    assert get(state).terms.expires is None


def test_a_limit_is_of_both_directions_or_of_one(state: Path, run: Callable[..., str]) -> None:
    run("limit", "laptop", "10Mbit")
    assert get(state).terms.limit == RateLimit(outbound=1_250_000, inbound=1_250_000)
    run("limit", "laptop", "--inbound", "2Mbit", "--burst", "64kB")
    limit = RateLimit(outbound=1_250_000, inbound=250_000, burst_bytes=64_000)
    assert get(state).terms.limit == limit
    run("limit", "laptop", "--outbound", "none")
    assert get(state).terms.limit.outbound is None
    run("limit", "laptop", "none")
    assert get(state).terms.limit == RateLimit()


def test_a_quota_may_slow_a_peer_and_be_removed(state: Path, run: Callable[..., str]) -> None:
    run("quota", "laptop", "50GB", "--then", "1Mbit")
    assert get(state).terms.quota == Quota(month_bytes=50 * 10**9, then_rate=125_000)
    run("quota", "laptop", "--then", "none")
    assert get(state).terms.quota == Quota(month_bytes=50 * 10**9)
    run("quota", "laptop", "none")
    assert get(state).terms.quota is None


def test_a_quota_that_is_used_up_already_is_refused(state: Path, run: Callable[..., str]) -> None:
    now = month_of(time.time())
    with PeerStore(state) as store:
        store.remember_usage({"laptop": Usage(now, 10**9)})
    with pytest.raises(ConfigError, match=r"^quota: laptop has used 1 GB this month already"):
        run("quota", "laptop", "500MB")
    assert get(state).terms.quota is None
    run("quota", "laptop", "2GB")


def test_a_peer_reaches_what_it_is_given_and_its_file_says_so(
    state: Path, run: Callable[..., str], tmp_path: Path
) -> None:
    its = loaded(run("add", "guest", "--to", "172.16.9.0/24,10.9.0.1"), tmp_path)
    networks = (ip_network("172.16.9.0/24"), ip_network("10.9.0.1/32"))
    assert get(state, "guest").terms.to == networks
    assert its.peers[0].allowed_ips == networks  # type: ignore[attr-defined]
    run("to", "guest", "all")
    assert get(state, "guest").terms.to == ()


def test_as_many_networks_as_the_data_path_takes() -> None:
    assert lib.REACH_MAX == TO_MAX


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("limit", "laptop", "10"), "^limit: '10' is not a rate"),
        (("limit", "laptop", "10Mb"), "^limit: '10Mb' is not a rate"),
        (("limit", "laptop", "1bit"), "^limit: 1bit is out of range"),
        (("limit", "laptop"), "^nothing to change"),
        (("quota", "laptop"), "^nothing to change"),
        (("limit", "laptop", "--inbound", "fast"), "^--inbound: 'fast' is not a rate"),
        (("limit", "laptop", "--burst", "64kB"), "^--burst: the peer has no limit"),
        (("limit", "laptop", "1Mbit", "--burst", "1TB"), "^--burst: 1TB is out of range"),
        (("quota", "laptop", "50Gbit"), "^quota: '50Gbit' is not a size"),
        (("quota", "laptop", "-1GB"), "No such option"),  # last_line.py says it in other words
        (("quota", "laptop", "--then", "1Mbit"), "^--then: the peer has no quota"),
        (("to", "laptop", "10.9.0.1/24"), "^to: .* bits set beyond"),
        (("to", "laptop", *(f"10.1.{n}.0/24" for n in range(65))), "^to: 65 networks; at most 64"),
        (("add", "new", "--quota", "much"), "^quota: 'much' is not a size"),
        (("expire", "laptop", "2020-01-01"), "^expire: 2020-01-01 is in the past; give a later"),
        (("expire", "laptop", "30parsec"), "^expire: '30parsec' is not a date or a duration"),
        (("rename", "laptop", 'a"b'), "^NEW_NAME: 'a\"b' is not a valid peer name"),
        (("rename", "laptop", "other"), "^NEW_NAME: a peer is named 'other' already"),
        (("note", "laptop", "a\nb"), "^note: .*one? ?line|^note: .* must be a line"),
        (("set", "laptop"), "^nothing to change; give a value, or an option"),
        (("set", "laptop", "--allowed-ips", "10.9.0.3/32"), "both have 10.9.0.3/32"),
        (("set", "laptop", "--allowed-ips", "10.9.0.1"), "has 10.9.0.1/32, our own address"),
        (("set", "laptop", "--allowed-ips", "10.9.0.9/24"), "^--allowed-ips: .* bits set beyond"),
        (("set", "laptop", "--peer-endpoint", "tcp://a.example"), "^--peer-endpoint: serve only"),
        (("set", "laptop", "--peer-endpoint", "udp://0.0.0.0"), "^--peer-endpoint: .* dialled"),
        (("set", "laptop", "--keepalive", "70000"), "^--keepalive: 70000 is out of range"),
        (("set", "laptop", "--psk-file", "/nonexistent"), "key file '/nonexistent': No such file"),
        (("set", "laptop", "--psk-file", "/x", "--no-psk"), "^--no-psk: conflicts"),
        (("rekey", "laptop", "--public-key", "abc"), "^--public-key: not a key"),
        (("rekey", "laptop", "--psk", "--public-key", "abc"), "^--psk: conflicts"),
        (("enable", "lapptop"), "did you mean 'laptop'"),
        (("add", "a'b"), "^NAME: .* is not a valid peer name"),
        (("add", "new", "--expire", "soon"), "^expire: 'soon' is not a date"),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(
    state: Path, run: Callable[..., str], arguments: tuple[str, ...], said: str
) -> None:
    run("add", "other")
    with PeerStore(state) as store:
        before = store.peers(), store.version(), store.public_endpoints()
        with pytest.raises((FastunError, click.UsageError), match=said):
            run(*arguments)
        assert (store.peers(), store.version(), store.public_endpoints()) == before


# -- whose peers ------------------------------------------------------------------------------


def test_without_a_gateway_the_peers_are_the_default_ones(tmp_path: Path) -> None:
    assert server_state.find(None, None, tmp_path / "none") == server_state.DEFAULT_STATE
    with pytest.raises(ConfigError, match="--interface: conflicts with --state"):
        server_state.find(tmp_path, "ft0", tmp_path)


@pytest.mark.parametrize("file_format", ["toml", "wg-quick"])
def test_a_peer_that_is_dialled_needs_no_endpoint_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str
) -> None:
    """As on a host without a default route, by which one could be guessed."""

    def unknown(_: object) -> None:
        raise ConfigError("--endpoint: missing")

    monkeypatch.setattr(new_client, "_guessed_endpoints", unknown)
    public = keys.format_key(keys.public_of(keys.generate_private()))
    added = ("peer", "add", "site", "--public-key", public, "--allowed-ips", "172.16.0.0/16")
    state = ("--state", str(tmp_path / "other"), "--format", file_format)
    cli.main([*added, *state], standalone_mode=False)
    with PeerStore(tmp_path / "other") as store:
        assert [peer.name for peer in store.peers()] == ["site"]
    with pytest.raises(ConfigError, match="--endpoint: missing"):
        cli.main(
            ["peer", "add", "phone", "--address", "10.9.0.7/24", *state], standalone_mode=False
        )
