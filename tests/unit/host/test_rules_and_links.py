"""Routing rules and interfaces as a real kernel has them, beside what ip(8) says of them."""

from __future__ import annotations

import json
import socket
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import structs

from fastun.host import link_state
from fastun.host.netlink import links
from fastun.host.netlink.links import ChangeLink, FoundLink
from fastun.host.netlink.rules import Rule, Rules
from fastun.host.routing.rule_kinds import Beside, Kind, Level, Unmarked

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

MARK = 60001
ALL_BITS = 0xFFFFFFFF
KINDS: tuple[Kind, ...] = (
    Level(4, 0),
    Level(6, 0),
    Level(4, 24),
    Level(6, 64, is_blocked=True),
    Unmarked(4, is_blocked=False),
    Unmarked(6, is_blocked=True),
    Beside(ip_network("192.168.7.0/24")),
    Beside(ip_network("fe80::/10")),
)


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.host("host")


def with_rules(host: Host, act: Callable[[Rules], object]) -> Any:
    def enter() -> object:
        with Rules() as rules:
            return act(rules)

    return host.inside(enter)


def ours(host: Host) -> list[Rule]:
    found: list[Rule] = with_rules(host, Rules.read)
    return [rule for rule in found if rule.maker == 157]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_rule_is_found_as_it_was_made_once_and_removed(host: Host, kind: Kind) -> None:
    before = with_rules(host, Rules.read)
    for rule in kind.rules(MARK):
        with_rules(host, lambda rules, rule=rule: rules.add(rule))  # type: ignore[misc]
        with pytest.raises(FileExistsError):
            with_rules(host, lambda rules, rule=rule: rules.add(rule))  # type: ignore[misc]
    # A mark without a mask is compared whole.
    expected = {
        structs.replace(rule, mask=rule.mask or (ALL_BITS if rule.mark else 0))
        for rule in kind.rules(MARK)
    }
    assert set(ours(host)) == expected
    for rule in ours(host):
        with_rules(host, lambda rules, rule=rule: rules.remove(rule))  # type: ignore[misc]
        with pytest.raises(FileNotFoundError):
            with_rules(host, lambda rules, rule=rule: rules.remove(rule))  # type: ignore[misc]
    assert with_rules(host, Rules.read) == before


def test_rules_say_to_ip_what_they_say_to_us(host: Host) -> None:
    for kind in (Level(4, 24), Unmarked(4, is_blocked=True)):
        for rule in kind.rules(MARK):
            with_rules(host, lambda rules, rule=rule: rules.add(rule))  # type: ignore[misc]
    assert [line.split("\t")[1].strip() for line in host.ip("rule").splitlines()] == [
        "from all lookup local",
        "from all fwmark 0 lookup 60001 unreachable proto 157",
        "from all lookup main suppress_prefixlength 24 proto 157",
        "not from all fwmark 0xea61 lookup 60001 suppress_prefixlength 23 proto 157",
        "from all lookup main",
        "from all lookup default",
    ]


def test_what_the_kernel_refuses_of_a_rule_is_an_error(host: Host) -> None:
    wrong = Rule(family=socket.AF_INET, priority=7, table=0, maker=157, action=2)  # to nowhere
    with pytest.raises(OSError, match="Invalid argument"):
        with_rules(host, lambda rules: rules.add(wrong))


def test_another_program_s_rule_with_bits_beyond_its_length_is_read(host: Host) -> None:
    host.ip("rule", "add", "to", "10.1.2.3/8", "lookup", "77", "priority", "5", "iif", "lo")
    (found,) = [rule for rule in with_rules(host, Rules.read) if rule.table == 77]
    assert (found.priority, found.destination) == (5, ip_network("10.0.0.0/8"))


# -- interfaces -----------------------------------------------------------------------------------


@pytest.fixture
def device(host: Host) -> int:
    host.ip("tuntap", "add", "wg0", "mode", "tun")
    host.ip("link", "add", "br0", "type", "bridge")
    return index_of(host, "wg0")


def index_of(host: Host, name: str) -> int:
    return int(host.inside(lambda: socket.if_nametoindex(name)))


def shown(host: Host, name: str) -> dict[str, Any]:
    (found,) = json.loads(host.ip("-d", "-j", "link", "show", name))
    return dict(found)


def test_an_interface_is_what_ip_says_before_and_after_a_change(host: Host, device: int) -> None:
    def agree(found: FoundLink | None) -> None:
        assert found is not None
        says = shown(host, "wg0")
        assert found == FoundLink(
            index=says["ifindex"],
            name="wg0",
            kind=says["linkinfo"]["info_kind"],
            is_up="UP" in says["flags"],
            has_carrier=False,
            mtu=says["mtu"],
            queue_frames=says["txqlen"],
            gso_max_bytes=says["gso_max_size"],
            bridge=0,
        )

    agree(host.inside(lambda: links.of(device)))
    wanted = ChangeLink(mtu=1300, queue_frames=77, gso_max_bytes=65000, is_up=True)
    host.inside(lambda: links.change(device, wanted))
    says = shown(host, "wg0")
    assert (says["mtu"], says["txqlen"], says["gso_max_size"]) == (1300, 77, 65000)
    assert "UP" in says["flags"]
    agree(host.inside(lambda: links.of(device)))
    host.inside(lambda: links.change(device, ChangeLink(is_up=False)))
    assert "UP" not in shown(host, "wg0")["flags"]
    (found,) = [link for link in host.inside(links.found) if link.name == "wg0"]
    agree(found)


def test_a_port_joins_its_bridge_and_leaves_it(host: Host) -> None:
    host.ip("tuntap", "add", "tap0", "mode", "tap")
    host.ip("link", "add", "br0", "type", "bridge")
    port, bridge = index_of(host, "tap0"), index_of(host, "br0")
    for wanted in (bridge, 0):
        host.inside(lambda wanted=wanted: links.change(port, ChangeLink(bridge=wanted)))  # type: ignore[misc]
        state = host.inside(lambda: link_state.read(port))
        assert state is not None
        assert state.bridge == wanted


def test_an_interface_that_is_gone_or_no_tunnel_s_is_none(host: Host, device: int) -> None:
    assert host.inside(lambda: links.of(4711)) is None
    bridge = index_of(host, "br0")
    assert host.inside(lambda: link_state.read(bridge)) is None
    assert host.inside(lambda: link_state.unused("br0")) == 0
    assert host.inside(lambda: link_state.unused("wg0")) == device
    assert host.inside(lambda: link_state.unused("absent")) == 0
    host.ip("link", "property", "add", "dev", "wg0", "altname", "other")
    assert host.inside(lambda: link_state.unused("other")) == 0
    assert host.inside(link_state.tun_devices) == {"wg0": False}


def test_what_the_kernel_refuses_of_an_interface_is_an_error(host: Host, device: int) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        host.inside(lambda: links.change(device, ChangeLink(mtu=1)))
