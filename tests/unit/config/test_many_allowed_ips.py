"""As many allowed IPs as WireGuard's own tests load, in one peer or in many, are read in seconds.

The limit is for a machine that is busy with other tests. What grows with the square of their number
takes minutes, or hours.
"""

from __future__ import annotations

import time
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from fastun.config.settings import Options, Settings, load
from fastun.errors import ConfigError
from fastun.peers.peer import Peer
from fastun.peers.store import PeerStore
from fastun.session import keys

if TYPE_CHECKING:
    from pathlib import Path

N, N_PEERS = 130_560, 200
N_SOME = 30_000  # Compared with each other they took a minute, and quoted in a complaint another.
CPU_LIMIT_S = 15
OWN = keys.format_key(keys.generate_private())


def prefix(n: int) -> str:
    """One of N: none lies beside the one before it, and every other is IPv6."""
    n = n * 7919 % N  # A prime.
    return (
        f"2001:db8:{n >> 8:x}:{n & 0xFF:x}::/64"
        if n % 2
        else f"10.{n >> 8 & 255}.{n & 255}.{n >> 16}/32"
    )


def file(path: Path, n: int, n_peers: int, extra: str = "") -> Path:
    publics = (
        keys.format_key(keys.public_of(bytes([1 + n % 250, n // 250] * 16))) for n in range(n_peers)
    )
    parts = [[prefix(each) for each in range(first, n, n_peers)] for first in range(n_peers)]
    if path.suffix == ".conf":
        text = f"[Interface]\nPrivateKey = {OWN}\nAddress = 172.16.0.1/24\nTable = off\n"
        for public, part in zip(publics, parts, strict=True):
            lines = "".join(
                f"AllowedIPs = {', '.join(part[n : n + 40])}\n" for n in range(0, len(part), 40)
            )
            text += f"[Peer]\nPublicKey = {public}\nEndpoint = 192.0.2.1:1\n{lines}"
        text += f"AllowedIPs = {extra}\n" if extra else ""
    else:
        text = f'[interface]\nprivate_key = "{OWN}"\naddress = ["172.16.0.1/24"]\n'
        for number, (public, part) in enumerate(zip(publics, parts, strict=True)):
            quoted = ", ".join(
                f'"{each}"' for each in (*part, *([extra] if extra and number else ()))
            )
            text += (
                f'[[peer]]\nname = "p{number}"\npublic_key = "{public}"\n'
                f'endpoint = "udp://192.0.2.1:1"\nallowed_ips = [{quoted}]\n'
            )
    path.touch(0o600)
    path.write_text(text)
    return path


def load_in_time(path: Path) -> Settings:
    begin = time.process_time()
    loaded = load("connect", str(path), Options())
    assert time.process_time() - begin < CPU_LIMIT_S
    return loaded


@pytest.mark.parametrize(
    ("name", "n", "n_peers"),
    [
        pytest.param("many.conf", N, 1, marks=pytest.mark.slow),
        ("many.toml", N_SOME, 1),
        ("many.toml", N_SOME, N_PEERS),
    ],
)
def test_a_hundred_thousand_allowed_ips_are_read(
    tmp_path: Path, name: str, n: int, n_peers: int
) -> None:
    loaded = load_in_time(file(tmp_path / name, n, n_peers))
    networks = [each for peer in loaded.peers for each in peer.allowed_ips]
    assert len(loaded.peers) == n_peers
    assert len(networks) == n
    assert networks[:9] == [ip_network(prefix(each)) for each in range(0, 9 * n_peers, n_peers)]


@pytest.mark.parametrize("name", ["many.conf", "many.toml"])
def test_one_that_two_of_many_peers_have_is_found(tmp_path: Path, name: str) -> None:
    path = file(tmp_path / name, N_SOME, 2, extra=prefix(0))
    begin = time.process_time()
    with pytest.raises(ConfigError, match="both have"):
        load("connect", str(path), Options())
    assert time.process_time() - begin < CPU_LIMIT_S


def test_a_peer_of_the_directory_may_have_as_many(tmp_path: Path) -> None:
    networks = tuple(ip_network(prefix(n)) for n in range(20_000))
    ant = Peer(name="ant", public_key=bytes(range(32)), allowed_ips=networks)
    with PeerStore(tmp_path) as directory:
        directory.add(ant)
        begin = time.process_time()
        assert directory.peers() == (ant,)
        assert time.process_time() - begin < CPU_LIMIT_S / 3
