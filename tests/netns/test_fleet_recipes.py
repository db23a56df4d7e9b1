"""A router learns by the recipes of docs/fleet.md where a peer is, and that it has left.

By hand (make soak): it needs Debian's bird2 and frr.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from tests.support import fleet_site
from tests.support.routing_recipes import Bird, Frr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from tests.support.routing_recipes import Recipe

pytestmark = pytest.mark.soak

PEER = "10.9.0.7"
# Of BFD, in both recipes: four times 0.3 s, and what a busy machine adds.
CUT_S = 3.0


@pytest.fixture(params=[Bird, Frr])
def recipe(request: pytest.FixtureRequest) -> Iterator[Recipe]:
    made = request.param()
    yield made
    made.close()


def test_a_router_learns_where_a_peer_is_and_that_it_has_left(recipe: Recipe, lab: Lab) -> None:
    hosts = fleet_site.wired(lab, ())
    core, (first, second, _) = hosts.core, hosts.gateways
    recipe.start_core(core)
    for number, host in enumerate(hosts.gateways):
        recipe.start(host, number)
    for number, host in enumerate((first, second)):
        network = f"198.18.{number}"
        lab.wire(host, lab.host(f"peers{number}"), [f"{network}.1/24"], [f"{network}.2/24"])

    def has(way: str | None) -> bool:
        return way == known(core, recipe).get(PEER)

    first.ip("route", "add", "172.16.7.0/24", "dev", "to-peers0", "proto", "static")
    have(first, "to-peers0")
    wait_until(lambda: has(fleet_site.inside(0)), "the router knows", timeout_s=30)
    wait_until(lambda: fleet_site.inside(0) in second.ip("route", "show", PEER),
               "and so does another gateway", timeout_s=10)  # fmt: skip
    assert "172.16.7.0/24" not in known(core, recipe)  # no route of fastun's
    have(second, "to-peers1")  # the peer moves: ours is used beside the one by the other gateway
    assert "dev to-peers1" in second.ip("route", "get", PEER)
    first.ip("route", "del", f"{PEER}/32", "proto", "157")
    wait_until(lambda: has(fleet_site.inside(1)), "it has moved", timeout_s=10)
    for device in ("eth0", "eth1"):  # a power cut: nothing is withdrawn
        second.ip("link", "set", device, "down")
    wait_until(lambda: has(None), "it is gone", timeout_s=CUT_S)
    recipe.stop(second, signal.SIGKILL)
    fleet_site.join(second)
    recipe.start(second, 1)
    wait_until(lambda: has(fleet_site.inside(1)), "it is back", timeout_s=30)
    second.ip("route", "del", f"{PEER}/32", "proto", "157")
    wait_until(lambda: has(None), "it has left", timeout_s=10)


def have(gateway: Host, device: str) -> None:
    """Have a peer, as a gateway of fastun's has (fastun/host/reconcile.py)."""
    gateway.ip("route", "add", f"{PEER}/32", "dev", device, "proto", "157", "metric", "10")


def known(core: Host, recipe: Recipe) -> dict[str, str]:
    """Return what the router has of the fleet, and by which gateway."""
    lines = core.ip("route", "show", "proto", recipe.protocol).splitlines()
    return {line.split()[0]: line.partition(" via ")[2].split()[0] for line in lines}
