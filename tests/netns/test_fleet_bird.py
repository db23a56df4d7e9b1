"""The recipe of docs/fleet.md for BIRD: a router learns where a peer is, and that it has left.

By hand (make soak): it needs Debian's bird2.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until

if TYPE_CHECKING:
    from fastun.lab.host import Host
    from fastun.lab.network import Lab

pytestmark = pytest.mark.soak

PAGE = Path(__file__).parents[2] / "docs" / "fleet.md"
RECIPE = re.compile(r"^```\n(protocol device.*?)^```", re.MULTILINE | re.DOTALL)
ROUTER = """
router id 192.0.2.1;
protocol device { }
protocol kernel { ipv4 { import none; export all; }; }
protocol bgp fleet {
    local 192.0.2.1 as 65000;
    neighbor 192.0.2.11 as 65000;
    rr client;
    direct;
    ipv4 { import all; export all; };
}
"""


def test_a_router_learns_where_a_peer_is(lab: Lab, tmp_path: Path) -> None:
    bird = shutil.which("bird") or shutil.which("bird", path="/usr/sbin")
    if bird is None:
        pytest.skip("needs BIRD (Debian package bird2)")
    gateway, router = lab.host("gw1"), lab.host("router")
    lab.wire(gateway, router, ["192.0.2.11/24"], ["192.0.2.1/24"])
    (recipe,) = RECIPE.findall(PAGE.read_text())
    for host, text in ((gateway, recipe), (router, ROUTER)):
        config = tmp_path / f"{host.name}.conf"
        config.write_text(text)
        host.spawn(bird, "-f", "-c", str(config), "-s", str(tmp_path / f"{host.name}.ctl"))
    # As a fleet's gateway makes them (fastun/host/reconcile.py), on a device of its own.
    lab.wire(gateway, lab.host("peers"), ["198.51.100.1/24"], ["198.51.100.2/24"])
    gateway.ip("route", "add", "10.9.0.7/32", "dev", "to-peers", "proto", "157", "metric", "10")
    gateway.ip("route", "add", "172.16.7.0/24", "dev", "to-peers", "proto", "static")
    wait_until(lambda: learned(router) == ["10.9.0.7"], "the route", timeout_s=30)
    assert "via 192.0.2.11" in router.ip("route", "get", "10.9.0.7")
    gateway.ip("route", "del", "10.9.0.7/32", "proto", "157")
    wait_until(lambda: learned(router) == [], "no route", timeout_s=30)


def learned(router: Host) -> list[str]:
    """Return what the router has from BIRD."""
    listed = router.ip("route", "show", "proto", "bird").splitlines()
    return [line.split()[0] for line in listed if not line.startswith("192.0.2.0")]
