"""Two servers that have each other as a peer, each with a key of its own.

here                                             there
fastun serve, ft0 10.99.0.1/24  ===veth 10.0.0===  fastun serve, ft0 10.98.0.1/24
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import FASTUN, start_gateway

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab


def test_two_sites_are_joined_by_one_command_each_while_both_run(lab: Lab, tmp_path: Path) -> None:
    """The one that has the other's endpoint begins, without traffic of its own."""
    here, there = lab.host("here"), lab.host("there")
    lab.wire(here, there, ["10.0.0.1/24"], ["10.0.0.2/24"])
    keys = {}
    other = {"here": "10.98.0.0/24", "there": "10.99.0.0/24"}
    for host, network in ((here, "10.99.0"), (there, "10.98.0")):
        start_gateway(host, tmp_path, "serve", wire="wireguard", addresses=[f"{network}.1/24"])
        run_dir = tmp_path / host.name
        wait_until((run_dir / "ft0.sock").exists, "the server", timeout_s=15)
        host.ip("route", "add", other[host.name], "dev", "ft0")
        done = host.run(*FASTUN, "key", "--run-dir", str(run_dir))
        keys[host.name] = done.stdout.strip()
    # fmt: off
    said = here.run(
        *FASTUN, "peer", "add", "there", "--public-key", keys["there"],
        "--allowed-ips", "10.98.0.0/24", "--peer-endpoint", "udp://10.0.0.2", "--keepalive", "5",
        "--endpoint", "udp://10.0.0.1", "--run-dir", str(tmp_path / "here"),
    )
    (peer,) = tomllib.loads(said.stdout)["peer"]
    assert peer["public_key"] == keys["here"]
    psk = tmp_path / "psk"
    psk.touch(0o600)
    psk.write_text(peer["preshared_key"])
    there.run(
        *FASTUN, "peer", "add", "here", "--public-key", peer["public_key"],
        "--allowed-ips", ",".join(peer["allowed_ips"]), "--psk-file", str(psk),
        "--run-dir", str(tmp_path / "there"),
    )
    # fmt: on
    wait_until(lambda: answers_ping(there, "10.99.0.1"), "the other site", timeout_s=20)
    assert answers_ping(here, "10.98.0.1")
