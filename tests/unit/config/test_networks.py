"""One rule for lists of networks, wherever they are: what is taken, refused and remarked on."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastun.config import networks
from fastun.config.settings import Options, Role, load
from fastun.session import keys
from tests.support.configuration import LINES, OWN_KEY, PUBLIC, complaint, file, peer_table

LISTS = {
    "push.routes": "[push]\nroutes = [{}]\n",
    "forward.to": "[forward]\nto = [{}]\n",
    "peer.allowed_ips": peer_table(LINES, allowed_ips="[{}]"),
    "peer.to": peer_table(LINES, to="[{}]"),
}


def remarks(role: Role, path: Path) -> list[str]:
    said: list[str] = []
    load(role, None, Options(config=path), said.append)
    return said


@pytest.mark.parametrize("place", LISTS)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("172.16.9.1/24", "has bits set beyond its prefix length; write 172.16.9.0/24 for the"),
        ("172.16.9.0/255.255.255.0", "is not a prefix"),
        ("172.16.9.0/33", "is not a prefix"),
        ("office", "is not a prefix"),
    ],
)
def test_each_list_refuses_the_same(tmp_path: Path, place: str, text: str, said: str) -> None:
    path = file(tmp_path, LISTS[place].format(f"'{text}'"))
    found = complaint("serve", None, Options(config=path))
    assert found.startswith(f"{path}: {place}: ")
    assert said in found


@pytest.mark.parametrize("place", LISTS)
def test_each_list_takes_an_address_for_a_host_and_says_so_of_a_network(
    tmp_path: Path, place: str
) -> None:
    path = file(tmp_path, LISTS[place].format("'172.16.9.0', '172.16.9.7', '172.17.0.0/16'"))
    assert [line.removeprefix(f"{path}: ") for line in remarks("serve", path)] == [
        f"{place}: 172.16.9.0 is one host, 172.16.9.0/32; for a network write 172.16.9.0/24"
    ]


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0", "10.0.0.0/8"),
        ("10.9.0.0", "10.9.0.0/16"),
        ("10.9.8.0", "10.9.8.0/24"),
        ("0.0.0.0", "0.0.0.0/0"),  # noqa: S104 (a network)
        ("::", "::/0"),
        ("fd00:9::", "fd00:9::/64"),
        ("fd00:9:0:0:0:0:0:0", "fd00:9::/64"),
    ],
)
def test_a_remark_names_what_was_probably_meant(text: str, network: str) -> None:
    (line,) = networks.remarks([text], "to")
    assert line.endswith(f"; for a network write {network}")


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1",
        "10.0.0.10",
        "10.0.0.0/32",
        "10.0.0.0/24",
        "fd00::1",
        "fd00::1:0",
        "x.0",
        "",
        "::1",
    ],
)
def test_a_host_and_what_has_a_length_are_not_remarked_on(text: str) -> None:
    assert list(networks.remarks([text], "to")) == []


def test_of_many_the_first_are_said(tmp_path: Path) -> None:
    many = str([f"10.9.{n}.0" for n in range(100)])
    path = file(tmp_path, peer_table(LINES, allowed_ips=many))
    assert len(remarks("serve", path)) == 8


def test_a_wg_quick_file_is_read_as_wireguard_does_with_a_remark(tmp_path: Path) -> None:
    path = tmp_path / "wg0.conf"
    path.touch(0o600)
    path.write_text(
        f"[Interface]\nPrivateKey = {keys.format_key(OWN_KEY)}\n[Peer]\nPublicKey = {PUBLIC}\n"
        "Endpoint = 192.0.2.1:51820\nAllowedIPs = 10.9.0.0, 10.8.0.7/16\n"
    )
    (peer,) = load("connect", str(path), Options()).peers
    assert list(map(str, peer.allowed_ips)) == ["10.9.0.0/32", "10.8.0.0/16"]
    (line,) = remarks("connect", path)
    assert line.startswith(f"{path}: Peer.AllowedIPs: 10.9.0.0 is one host, 10.9.0.0/32; ")
