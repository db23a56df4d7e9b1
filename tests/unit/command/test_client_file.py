"""Files for WireGuard's own programs: what wg(8) takes, and a code that says the same."""

import os
import subprocess
import sys
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest
import segno

from fastun.command import client_file, new_client, peers
from fastun.command.client_file import Client
from fastun.config.served import server_of
from fastun.config.settings import Options, Settings, load
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError
from fastun.peers.store import PeerStore
from fastun.session import keys

SERVER_KEY = keys.generate_private()
CLIENT = Client(
    name="phone",
    mode="tun",
    addresses=(ip_interface("10.9.0.2/24"), ip_interface("fd00:9::2/64")),
    private_key=keys.generate_private(),
    preshared_key=keys.generate_preshared(),
    server_public_key=keys.public_of(SERVER_KEY),
    server_endpoints=(
        Endpoint("tcp", "vpn.example.net", 55555),
        Endpoint("udp", "2001:db8::1", 51820),
        Endpoint("udp", "vpn.example.net", 51820),
    ),
    server_networks=(ip_network("10.9.0.0/24"), ip_network("fd00:9::/64")),
)


def stored(directory: Path, text: str, name: str) -> Path:
    path = directory / name
    path.touch(0o600)
    path.write_text(text)
    return path


def loaded(directory: Path, text: str, name: str) -> Settings:
    return load("connect", str(stored(directory, text, name)), Options())


def test_a_wg_quick_file_says_what_the_toml_says_but_dials_the_first_udp_endpoint(
    tmp_path: Path,
) -> None:
    text = client_file.write(CLIENT, "wg-quick")
    ours = loaded(tmp_path, client_file.write(CLIENT, "toml"), "phone.toml")
    theirs = loaded(tmp_path, text, "phone.conf")
    assert text.count("Endpoint") == 1
    assert theirs.endpoints == (Endpoint("udp", "2001:db8::1", 51820),)
    assert ours.endpoints == CLIENT.server_endpoints
    assert theirs.peers[0] == replace(ours.peers[0], name="phone", endpoints=theirs.endpoints)
    assert (theirs.private_key, theirs.addresses) == (ours.private_key, ours.addresses)


def test_wg_reads_the_keys_and_the_peer_of_a_wg_quick_file(tmp_path: Path) -> None:
    path = stored(tmp_path, client_file.write(CLIENT, "wg-quick"), "phone.conf")
    stripped = subprocess.run(
        ["wg-quick", "strip", path], capture_output=True, text=True, check=True
    ).stdout
    said = dict(line.split(" = ", 1) for line in stripped.splitlines() if " = " in line)
    assert set(said) == {
        *("PrivateKey", "PublicKey", "PresharedKey"),
        *("AllowedIPs", "Endpoint", "PersistentKeepalive"),
    }
    public = subprocess.run(
        ["wg", "pubkey"], input=said["PrivateKey"], capture_output=True, text=True, check=True
    ).stdout
    assert public.strip() == keys.format_key(keys.public_of(CLIENT.private_key))


def test_a_code_says_the_file_in_80_columns_for_a_dark_terminal() -> None:
    drawn = client_file.write(CLIENT, "qr").splitlines()
    assert max(map(len, drawn)) <= 80
    text = client_file.write(CLIENT, "wg-quick").partition("\n\n")[2]
    matrix = segno.make_qr(text, error="l", version=13).matrix_iter(border=4)
    light = "▀█", "▄█"  # light above, light below
    rows = [[char not in half for char in line] for line in drawn for half in light]
    for row, modules in zip(rows, matrix, strict=False):
        assert row == [bool(module) for module in modules]


def test_a_file_too_long_for_the_code_is_refused_without_a_word_of_it() -> None:
    networks = tuple(ip_network(f"10.{number}.0.0/16") for number in range(20))
    with pytest.raises(ConfigError, match="too long for a code of 80 columns") as caught:
        client_file.write(replace(CLIENT, server_networks=networks), "qr")
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("file_format", ["wg-quick", "qr"])
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"server_endpoints": CLIENT.server_endpoints[:1]}, "over tcp; give --endpoint udp://"),
        ({"mode": "tap"}, "the server's mode is tap"),
    ],
)
def test_a_server_that_wireguard_cannot_reach_gives_no_such_file(
    file_format: str, changed: dict[str, object], named: str
) -> None:
    with pytest.raises(ConfigError, match=f"^--format {file_format}: ") as caught:
        client_file.write(replace(CLIENT, **changed), file_format)  # type: ignore[arg-type]
    assert named in str(caught.value)


# -- as they are typed ------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state directory of a server that has served, with the default listen."""
    path = tmp_path / "gateway.toml"
    path.write_text("[push]\nroutes = ['192.168.7.0/24']\n")
    return served(path, tmp_path)


def served(path: Path, directory: Path) -> Path:
    """Return the state directory of a server with this file."""
    options = Options(config=path, state=directory / "state", run_dir=directory)
    settings = load("serve", None, options)
    with PeerStore(options.state) as store:
        store.remember_server(server_of(settings, keys.public_of(SERVER_KEY)))
    return options.state


def add(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastun", "peer", "add", "a", "--state", str(state), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"COLUMNS": "80"},
    )


def test_a_client_is_given_both_endpoints_udp_first_and_the_pushed_routes(
    state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(new_client, "_seen_from_outside", lambda listened: listened[0])
    peers.add("a", (), (), "toml", state)
    text = capsys.readouterr().out
    assert 'endpoints = ["udp://[::]:51820", "tcp://[::]:55555"]' in text
    assert 'allowed_ips = ["10.55.0.0/24", "192.168.7.0/24"]' in text


def test_the_format_is_chosen_by_an_option(state: Path, tmp_path: Path) -> None:
    completed = add(state, "--endpoint", "udp://vpn.example.net", "--format", "wg-quick")
    settings = loaded(tmp_path, completed.stdout, "a.conf")
    assert settings.endpoints == (Endpoint("udp", "vpn.example.net", 51820),)
    assert settings.private_key is not None
    assert keys.format_key(settings.private_key) not in completed.stderr


PUSHED_DNS = """[push]
routes = ["192.168.7.0/24"]
dns = ["10.55.0.1", "corp.example", "fd00:9::1"]
"""


def test_apps_are_given_the_dns_that_is_pushed_and_fastun_is_pushed_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "server.toml"
    config.write_text(PUSHED_DNS)
    state, udp = served(config, tmp_path), ("udp://vpn.example.net",)
    texts = {}
    for file_format in ("wg-quick", "toml"):
        peers.add(f"of-{file_format}", udp, (), file_format, state)
        texts[file_format] = capsys.readouterr().out
    assert "DNS = 10.55.0.1, fd00:9::1, corp.example\n" in texts["wg-quick"]
    assert "dns" not in texts["toml"]
    settings = loaded(tmp_path, texts["wg-quick"], "a.conf")
    assert (settings.dns, settings.dns_search) == (("10.55.0.1", "fd00:9::1"), ("corp.example",))
    assert settings.peers[0].allowed_ips == tuple(
        map(ip_network, ("10.55.0.0/24", "192.168.7.0/24"))
    )


def test_split_dns_is_not_for_apps_and_the_file_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "server.toml"
    config.write_text(PUSHED_DNS.replace("corp", "~corp"))
    state, udp = served(config, tmp_path), ("udp://vpn.example.net",)
    peers.add("a", udp, (), "wg-quick", state)
    text = capsys.readouterr().out
    assert "DNS = 10.55.0.1, fd00:9::1\n" in text
    assert "# Split DNS (~corp.example) needs fastun and systemd-resolved" in text
    loaded(tmp_path, text, "a.conf")


def test_apps_send_everything_to_a_server_that_pushes_a_default_route(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "server.toml"
    config.write_text("[push]\ndefault = true\n")
    state, udp = served(config, tmp_path), ("udp://vpn.example.net",)
    peers.add("a", udp, (), "wg-quick", state)
    assert "AllowedIPs = 0.0.0.0/0, ::/0\n" in capsys.readouterr().out
    peers.add("b", udp, (), "toml", state)
    assert 'allowed_ips = ["10.55.0.0/24"]' in capsys.readouterr().out, "it accepts by a word"


def test_a_refused_format_adds_no_peer(state: Path) -> None:
    completed = add(state, "--endpoint", "tcp://vpn.example.net", "--format", "qr")
    assert completed.returncode == 2
    assert completed.stdout == ""
    assert "give --endpoint udp://HOST" in completed.stderr
    with PeerStore(state) as store:
        assert store.peers() == ()
        assert store.public_endpoints() == ()
