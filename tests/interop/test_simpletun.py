"""fastun on the simpletun wire against an independent peer (simpletun_peer.py).

server                          client
simpletun_peer or fastun serve  fastun connect or simpletun_peer
    tcp port 55555  ==== veth ====
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping, ping
from fastun.lab.tunnel import INTERFACE, PORT, start_gateway
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    import subprocess

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

PEER = Path(__file__).parents[1] / "support" / "simpletun_peer.py"
MEGABYTE = 10**6
FASTUN_INNER, PEER_INNER = "10.99.0.1", "10.99.0.2"


def start_peer(host: Host, mode: str, role: str, address: str) -> subprocess.Popen[bytes]:
    """Start the independent peer and give its device an address once it is there."""
    process = host.spawn(sys.executable, str(PEER), mode, "st0", role, address, str(PORT))
    wait_until(lambda: "st0" in host.devices(), "the peer's device")
    host.ip("address", "add", f"{PEER_INNER}/24", "dev", "st0")
    host.ip("link", "set", "st0", "up")
    return process


@pytest.mark.parametrize("n_megabytes", [10, pytest.param(100, marks=pytest.mark.soak)])
@pytest.mark.parametrize("mode", ["tun", "tap"])
@pytest.mark.parametrize("fastun_role", ["serve", "connect"])
def test_the_simpletun_wire_carries_ping_and_megabytes_exactly(
    lab: Lab, tmp_path: Path, fastun_role: str, mode: str, n_megabytes: int
) -> None:
    ours, theirs = lab.host("fastun"), lab.host("simpletun")
    lab.wire(ours, theirs, ["10.0.0.1/24"], ["10.0.0.2/24"])
    options = {"wire": "simpletun", "mode": mode, "addresses": [f"{FASTUN_INNER}/24"]}
    if fastun_role == "serve":
        url = f"tcp://10.0.0.1:{PORT}"
        gateway = start_gateway(ours, tmp_path, "serve", "--listen", url, **options)
        wait_until(lambda: ours.listens(PORT), "fastun listens")
        peer = start_peer(theirs, mode, "client", "10.0.0.1")
    else:
        peer = start_peer(theirs, mode, "server", "10.0.0.2")
        gateway = start_gateway(ours, tmp_path, "connect", f"tcp://10.0.0.2:{PORT}", **options)
    wait_until(lambda: answers_ping(theirs, FASTUN_INNER), "ping through the tunnel", timeout_s=15)
    before = gateway.scrape().dropped()  # what the host's IPv6 said before the link

    assert ping(ours, PEER_INNER, n=10).n_received == 10
    for source, destination, address in (
        (ours, theirs, PEER_INNER),
        (theirs, ours, FASTUN_INNER),
    ):
        transfer = start_transfer(source, destination, address, n_bytes=n_megabytes * MEGABYTE)
        assert transfer.result(timeout=120).is_exact

    # The peer ends with code 3 at the first frame that its buffer could not hold.
    assert peer.poll() is None
    assert gateway.scrape().dropped() == before
    assert gateway.stop() == 0
    wait_until(lambda: INTERFACE not in ours.devices(), "the device is gone")
