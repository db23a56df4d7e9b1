"""A TAP device in a bridge with ports of a larger MTU: said when it begins, changes and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog
from msgspec.structs import replace

from fastun import log
from fastun.host.bridge_mtu import BridgeMtu, Interface, mismatch_of

if TYPE_CHECKING:
    from collections.abc import Iterator

BRIDGE = Interface(9, "br0", 1398, 0)
TAP = Interface(5, "ft0", 1398, 9)
LAN = Interface(2, "eth0", 1500, 9)


@pytest.fixture(autouse=True)
def _logged() -> Iterator[None]:
    log.configure("console", 0)
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("all_interfaces", "larger"),
    [
        ([BRIDGE, TAP, LAN], ("eth0",)),
        ([BRIDGE, TAP, replace(LAN, mtu=1398)], ()),
        ([BRIDGE, TAP, replace(LAN, mtu=1000)], ()),
        ([BRIDGE, TAP, replace(LAN, master=0)], ()),
        ([BRIDGE, TAP, replace(LAN, master=8)], ()),
        ([replace(TAP, master=0), LAN], ()),
        ([TAP, LAN], ()),  # the bridge has just gone
        ([LAN], ()),
        ([BRIDGE, TAP, LAN, Interface(3, "eth1", 9000, 9)], ("eth0", "eth1")),
    ],
)
def test_only_larger_ports_of_the_same_bridge_count(
    all_interfaces: list[Interface], larger: tuple[str, ...]
) -> None:
    found = mismatch_of(TAP.index, all_interfaces)
    assert (() if found is None else tuple(each.name for each in found.larger)) == larger


def test_it_is_said_with_the_figures_when_it_begins_changes_and_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    watch = BridgeMtu(TAP.index)
    said = []
    for lan_mtu in (1398, 1500, 1500, 9000, 1398, 1398):
        watch.say(mismatch_of(TAP.index, [BRIDGE, TAP, replace(LAN, mtu=lan_mtu)]))
        said.append(capsys.readouterr().err)
    assert said[0] == said[2] == said[5] == ""
    assert "warning" in said[1]
    for figure in ("eth0 (1500)", "mtu=1398", "bridge=br0", "interface=ft0", "--mtu 1500"):
        assert figure in said[1]
    assert "eth0 (9000)" in said[3]
    assert "fit the TAP device now" in said[4]
