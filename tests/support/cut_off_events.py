"""What happens to a laptop with a kill switch, and to its tunnel (cut_off.py)."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING

import psutil

from fastun.lab.host import wait_until
from tests.support import dhcp, router_advertisement
from tests.support.cut_off import AWAY, ROUTER, TABLE, UPLINK, Scene

if TYPE_CHECKING:
    from collections.abc import Callable


def cut(scene: Scene, seconds: float = 1.5) -> None:
    device = next(each for each in scene.internet.devices() if each.startswith("to-laptop"))
    scene.internet.ip("link", "set", device, "down")
    time.sleep(seconds)
    scene.internet.ip("link", "set", device, "up")


def cut_for_half_a_minute(scene: Scene) -> None:
    cut(scene, 30)


def kill_a_worker(scene: Scene) -> None:
    assert scene.process
    children = psutil.Process(scene.process.pid).children()
    workers = [child.pid for child in children if child.cmdline()[:1] == ["fastun: tun-reader/0"]]
    os.kill(workers[0], signal.SIGKILL)
    time.sleep(1)


def weaken(scene: Scene) -> None:
    scene.laptop.run("nft", "insert", "rule", "inet", TABLE, "postrouting", "accept")
    wait_until(lambda: not any(line.strip() == "accept" for line in scene.rules().splitlines()),
               "without their rule")  # fmt: skip


def kill(scene: Scene) -> None:
    assert scene.process
    scene.ends(scene.process.kill)
    assert TABLE in scene.rules()
    said = scene.fastun("status", check=False).stderr
    assert "the kill switch of wg0 is set: 'fastun disconnect -i wg0' removes it" in said
    time.sleep(0.5)
    scene.start()


def stop(scene: Scene) -> None:
    assert scene.process
    scene.ends(scene.process.terminate, code=0)
    assert "'fastun disconnect -i wg0' removes it" in scene.log().splitlines()[-1]
    assert TABLE in scene.rules()
    time.sleep(0.5)
    scene.start()


def delete_the_device(scene: Scene) -> None:
    scene.ends(lambda: scene.laptop.ip("link", "del", "wg0"), code=1)
    assert TABLE in scene.rules()
    time.sleep(0.5)
    scene.start()


def start_without_a_network(scene: Scene) -> None:
    assert scene.process
    device = next(each for each in scene.internet.devices() if each.startswith("to-laptop"))
    scene.internet.ip("link", "set", device, "down")
    scene.ends(scene.process.terminate, code=0)
    scene.start()
    time.sleep(3)
    scene.internet.ip("link", "set", device, "up")


def hand_out_routes(scene: Scene) -> None:
    """As a rogue DHCP server does: TunnelVision (option 121), and TunnelCrack's local network."""
    routes = ("0.0.0.0/1", "128.0.0.0/1", "10.99.0.0/25", "203.0.113.0/24")
    for route in routes:
        scene.laptop.ip("route", "add", route, "via", ROUTER, "dev", UPLINK)
    scene.laptop.ip("address", "add", "203.0.113.77/20", "dev", UPLINK)
    scene.laptop.ip("-6", "route", "add", "2000::/3", "via", "fd01::1", "dev", UPLINK)
    time.sleep(1)
    wait_until(scene.answers, "the tunnel, as if there were no such routes")
    for route in routes:
        scene.laptop.ip("route", "del", route, "via", ROUTER, "dev", UPLINK)
    scene.laptop.ip("address", "del", "203.0.113.77/20", "dev", UPLINK)
    scene.laptop.ip("-6", "route", "del", "2000::/3", "via", "fd01::1", "dev", UPLINK)


def take_the_lease_of_a_rogue_dhcp_server(scene: Scene) -> None:
    """TunnelVision and TunnelCrack by a real server and a real client."""
    halves = f"0.0.0.0/1 {ROUTER}, 128.0.0.0/1 {ROUTER}, 10.99.0.0/25 {ROUTER}, {AWAY}/32 {ROUTER}"
    options = {"subnet": "255.255.240.0", "staticroutes": halves, "dns": AWAY}
    with (
        dhcp.server(scene.internet, "to-laptop", scene.home, "203.0.113.77", **options),
        dhcp.client(scene.laptop, UPLINK, scene.home, applies=True),
    ):
        assert f"0.0.0.0/1 via {ROUTER} dev {UPLINK}" in scene.laptop.ip("route")
        scene.laptop.run("timeout", "2", "getent", "hosts", "secret.example.org", check=False)
        wait_until(scene.answers, "the tunnel, as if there were no such server")
    scene.laptop.run("sh", "-c", f"echo nameserver {ROUTER} > /etc/resolv.conf")
    scene.laptop.ip("address", "del", "203.0.113.77/20", "dev", UPLINK)
    for route in ("0.0.0.0/1", "128.0.0.0/1", "10.99.0.0/25", AWAY):
        scene.laptop.ip("route", "del", route, "via", ROUTER, "dev", UPLINK)


def hear_a_rogue_router(scene: Scene) -> None:
    """TunnelVision and TunnelCrack by IPv6: better routes, and the tunnel's own network."""
    halves, inner = ("2000::/4", "3000::/4"), ("fd99::/64", "2001:db8::/64")
    for setting, value in (("accept_ra", 2), ("accept_ra_rt_info_max_plen", 128)):
        scene.laptop.sysctl(f"net.ipv6.conf.{UPLINK}.{setting}", value)
    router = partial(router_advertisement.advertise, scene.internet, "to-laptop")
    router(prefixes=inner, routes=halves)
    wait_until(lambda: _heard(scene) >= {"default", *halves, *inner}, "it is heard")
    wait_until(scene.answers, "the tunnel, as if there were no such router")
    scene.laptop.run("timeout", "2", "getent", "hosts", "secret.example.org", check=False)
    for setting, value in (("accept_ra_rt_info_max_plen", 0), ("accept_ra", 0)):
        scene.laptop.sysctl(f"net.ipv6.conf.{UPLINK}.{setting}", value)
    scene.laptop.ip("-6", "route", "flush", "dev", UPLINK, "proto", "ra")
    for network in inner:
        scene.laptop.ip("-6", "address", "flush", "dev", UPLINK, "to", network)
        scene.laptop.ip("-6", "route", "flush", network, "dev", UPLINK)


def _heard(scene: Scene) -> set[str]:
    """Return where the laptop's routes by its uplink lead, of which the router is to be."""
    routes = scene.laptop.ip("-6", "route", "show", "dev", UPLINK).splitlines()
    return {line.split()[0] for line in routes if "proto ra" in line or "expires" in line}


ALL: list[Callable[[Scene], None]] = [
    cut,
    kill_a_worker,
    weaken,
    hand_out_routes,
    take_the_lease_of_a_rogue_dhcp_server,
    hear_a_rogue_router,
    Scene.reload_with_another_endpoint,
    kill,
    stop,
    delete_the_device,
    start_without_a_network,
]
