"""Files that fastun writes are taken by wg(8) itself, which tells a real device what they say."""

from __future__ import annotations

import shutil
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING

import pytest

from fastun.command import client_file
from fastun.command.client_file import Client
from fastun.endpoint import Endpoint
from fastun.lab.host import wait_until
from fastun.session import keys

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab

CLIENT = Client(
    name="phone",
    mode="tun",
    addresses=(ip_interface("10.9.0.2/24"),),
    private_key=keys.generate_private(),
    preshared_key=keys.generate_preshared(),
    server_public_key=keys.public_of(keys.generate_private()),
    server_endpoints=(
        Endpoint("tcp", "192.0.2.1", 55555),
        Endpoint("udp", "192.0.2.1", 51821),
    ),
    server_networks=(ip_network("10.9.0.0/24"), ip_network("fd00:9::/64")),
)


def test_wg_sets_up_its_own_device_by_the_file_of_a_new_client(lab: Lab, tmp_path: Path) -> None:
    for program in ("wireguard-go", "wg", "wg-quick"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    host = lab.host("phone")
    file = tmp_path / "phone.conf"
    file.touch(0o600)
    file.write_text(client_file.write(CLIENT, "wg-quick"))
    stripped = tmp_path / "stripped"
    stripped.touch(0o600)
    stripped.write_text(host.run("wg-quick", "strip", str(file)).stdout)
    device = f"ft{tmp_path.stat().st_ino % 10**9}"  # Its control socket is the whole host's.
    host.spawn("wireguard-go", "-f", device)
    wait_until(lambda: host.run("wg", "show", device, check=False).returncode == 0, "wireguard-go")
    host.run("wg", "setconf", device, str(stripped))
    interface, peer = host.run("wg", "show", device, "dump").stdout.splitlines()
    assert interface.split("\t")[0] == keys.format_key(CLIENT.private_key)
    public, preshared, endpoint, allowed, _, _, _, keepalive = peer.split("\t")
    assert public == keys.format_key(CLIENT.server_public_key)
    assert preshared == keys.format_key(CLIENT.preshared_key)
    assert (endpoint, keepalive) == ("192.0.2.1:51821", "25")
    assert set(allowed.split(",")) == {"10.9.0.0/24", "fd00:9::/64"}
