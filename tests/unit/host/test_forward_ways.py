"""Where a gateway leads to: which interfaces, and which networks its clients are given."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from fastun.config.settings import Options, ServeSettings, load
from fastun.gateway.late_networks import with_networks
from fastun.host.firewall import forward_ways
from fastun.host.firewall.forward_ways import interfaces, private_networks
from fastun.host.netlink.kernel import FoundRoute, Kernel, Place

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab
    from fastun.peers.peer import Network

DEVICE, LO, WAN, LAN, DMZ = 9, 1, 2, 3, 4


def route(text: str, *indices: int) -> FoundRoute:
    return FoundRoute(Place(ip_network(text), 254), frozenset(indices), is_ours=False)


ROUTES = [
    route("0.0.0.0/0", WAN),
    route("198.51.100.0/24", WAN),
    route("10.0.0.0/8", LAN),
    route("10.9.0.0/24", DEVICE),
    route("10.7.0.0/16", DMZ),
    route("127.0.0.0/8", LO),
    route("192.168.9.0/24", 0),  # a blackhole
    route("169.254.0.0/16", DMZ),
    route("::/0", WAN),
    route("fd09::/64", LAN),
    route("fe80::/64", DMZ),
    route("172.16.0.0/12", LAN, DMZ),
]


@pytest.mark.parametrize(
    ("to", "ipv4", "ipv6"),
    [
        ((), [WAN, LAN, DMZ], [WAN, LAN]),
        (("10.7.1.0/24",), [DMZ], []),
        (("10.8.0.0/16",), [LAN], []),
        (("10.0.0.0/8",), [LAN, DMZ], []),
        (("203.0.113.0/24", "fd09::1/128"), [WAN], [LAN]),
        (("172.16.9.0/24",), [LAN, DMZ], []),
        (("0.0.0.0/0",), [WAN, LAN, DMZ], []),
    ],
)
def test_forwarding_needs_the_interfaces_that_lead_there(
    to: tuple[str, ...], ipv4: list[int], ipv6: list[int]
) -> None:
    assert interfaces(ROUTES, tuple(map(ip_network, to)), DEVICE) == {4: ipv4, 6: ipv6}


def test_clients_are_given_the_private_networks_but_those_of_containers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(forward_ways, "_INTERFACES", tmp_path)
    monkeypatch.setattr(forward_ways, "name_of", lambda index: f"if{index}")
    (tmp_path / f"if{DMZ}" / "brif" / "veth1").mkdir(parents=True)  # as docker0 is
    found = list(map(str, private_networks(ROUTES, DEVICE)))
    assert found == ["10.0.0.0/8", "fd09::/64", "172.16.0.0/12"]
    (tmp_path / f"if{DMZ}" / "brif" / "eth3").mkdir()
    (tmp_path / "eth3" / "device").mkdir(parents=True)
    assert "10.7.0.0/16" in map(str, private_networks(ROUTES, DEVICE))


def serving(tmp_path: Path, text: str) -> ServeSettings:
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    settings = load("serve", None, Options(config=file, state=tmp_path))
    assert isinstance(settings, ServeSettings)
    return settings


def led_to() -> list[Network]:
    with Kernel(0) as kernel:
        return private_networks(kernel.main_routes(), but=0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[forward]", ["172.16.9.0/24"]),
        ("[forward]\n[push]\nroutes = ['10.1.0.0/16']", ["10.1.0.0/16", "172.16.9.0/24"]),
        ("[forward]\nto = ['10.2.0.0/16']", ["10.2.0.0/16"]),
        ("[push]\nroutes = ['10.1.0.0/16']", ["10.1.0.0/16"]),
    ],
)
def test_a_server_that_forwards_to_all_gives_its_clients_what_this_host_leads_to(
    lab: Lab, tmp_path: Path, text: str, expected: list[str]
) -> None:
    host, lan = lab.host("host"), lab.host("lan")
    lab.wire(host, lan, ["172.16.9.1/24"])
    settings = with_networks(serving(tmp_path, text), host.inside(led_to))
    assert isinstance(settings, ServeSettings)
    assert list(map(str, settings.push.routes)) == expected


def test_networks_that_do_not_fit_a_hello_are_said(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host, lan = lab.host("host"), lab.host("lan")
    lab.wire(host, lan, ["172.16.9.1/24"])
    lines = [f"route add fd09:{number:x}:1234::/48 dev to-lan" for number in range(200)]
    batch = tmp_path / "batch"
    batch.write_text("\n".join(lines))
    host.ip("-6", "-batch", str(batch))
    settings = with_networks(serving(tmp_path, "[forward]"), host.inside(led_to))
    assert isinstance(settings, ServeSettings)
    assert 10 < len(settings.push.routes) < 200
    assert "not all networks of this host fit the hello" in "".join(capsys.readouterr())
