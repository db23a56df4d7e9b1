"""What changes in a gateway's file is applied while traffic flows (tests/support/reloading.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import INTERFACE
from tests.support import reloading

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess


def routes(client: GatewayProcess) -> list[str]:
    """Return the routes that the client has from its server."""
    listed = client.host.ip("route", "show", "dev", INTERFACE)
    return [line.split()[0] for line in listed.splitlines() if line.startswith("172.")]


def test_peers_pushes_and_the_rest_change_without_a_lost_packet(lab: Lab, tmp_path: Path) -> None:
    here = reloading.start(lab, tmp_path)
    handshakes = here.handshakes()
    here.start_pings(1400)
    assert here.changed() == ["nothing has changed"]

    udp_key, tcp_key = (here.peers[name][0] for name in ("udp", "tcp"))
    here.peers["udp"] = (udp_key, ("10.99.0.2/32", "10.77.0.0/16"))
    assert here.changed() == ["nothing has changed"]
    here.write()
    assert here.changed() == ["peer udp: allowed IPs +10.77.0.0/16"]
    assert "10.77.0.0/16" in here.server.host.ip("route", "show", "dev", INTERFACE)
    here.peers["udp"] = (udp_key, ("10.99.0.2/32",))
    here.peers["tcp"] = (tcp_key, ("10.99.0.3/32", "10.77.0.0/16"))
    here.write()
    assert here.changed() == [
        "peer udp: allowed IPs -10.77.0.0/16",
        "peer tcp: allowed IPs +10.77.0.0/16",
    ]

    for route in ("172.20.0.0/16", "172.21.0.0/16"):
        here.sections["push"] = f'routes = ["{route}"]'
        here.write()
        (said,) = here.changed()
        assert said.startswith(f"push.routes: +{route} -172.")
        for client in here.clients.values():
            wait_until(lambda: routes(client) == [route], "the pushed route", timeout_s=10)  # noqa: B023

    here.write('[metrics\nlisten = "127.0.0.1:10056"\n')
    done = here.reload()
    assert (done.returncode, done.stdout) == (2, "")
    assert "gateway.toml" in done.stderr
    assert "line" in done.stderr

    here.sections["interface"] += "\nmtu = 1400\ngso = false"
    here.sections["log"] = 'level = "debug"'
    here.sections["listen"] = (
        'udp = ["udp://[::]:51820", "udp://[::]:51821"]\ntcp = ["tcp://[::]:55555"]'
    )
    here.write()
    assert sorted(here.changed()) == [
        "interface.mtu: 1420 -> 1400",
        "listen: +udp://[::]:51821",
        "log.level: info -> debug",
        "needs a restart: interface.gso",
    ]
    assert "mtu 1400" in here.server.host.ip("link", "show", "dev", INTERFACE)
    assert here.server.host.listens(51821, udp=True)

    assert here.lost() == {"udp": 0, "tcp": 0}
    assert here.handshakes() == handshakes
    assert answers_ping(here.clients["udp"].host, reloading.SERVER_INNER)
