"""Two ends with wg-quick files, as they are with WireGuard's own programs.

server 192.0.2.1 (10.9.0.1)  ==veth==  client 192.0.2.2 (10.9.0.2)
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from fastun.lab.host import wait_until
from fastun.lab.tunnel import FASTUN
from fastun.session import keys

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

SERVER_KEY, CLIENT_KEY = keys.generate_private(), keys.generate_private()
SERVER, CLIENT = (keys.format_key(keys.public_of(key)) for key in (SERVER_KEY, CLIENT_KEY))
SERVER_FILE = f"""
[Interface]
PrivateKey = {keys.format_key(SERVER_KEY)}
Address = 10.9.0.1/24
ListenPort = 51820

[Peer]
PublicKey = {CLIENT}
"""
CLIENT_FILE = f"""
[Interface]
PrivateKey = {keys.format_key(CLIENT_KEY)}
Address = 10.9.0.2/24

[Peer]
PublicKey = {SERVER}
AllowedIPs = 10.9.0.0/24
Endpoint = 192.0.2.1:51820
PersistentKeepalive = 1
"""


def start(
    host: Host, directory: Path, name: str, text: str
) -> tuple[subprocess.Popen[bytes], Path]:
    file, log = directory / f"{name}.conf", directory / f"{name}.log"
    file.touch(0o600)
    file.write_text(text)
    role = ("serve", "-c") if name == "server" else ("connect",)
    state = ("--state", str(directory / name), "--run-dir", str(directory / name))
    with log.open("wb") as stderr:
        process = host.spawn(*FASTUN, *role, str(file), *state, "--metrics", "off", stderr=stderr)
    return process, log


def test_a_peer_without_allowed_ips_connects_and_nothing_is_routed_to_it(
    lab: Lab, tmp_path: Path
) -> None:
    server, client = lab.host("server"), lab.host("client")
    lab.wire(server, client, ["192.0.2.1/24"], ["192.0.2.2/24"])
    processes = []
    for host, name, text in ((server, "server", SERVER_FILE), (client, "client", CLIENT_FILE)):
        process, log = start(host, tmp_path, name, text)
        processes.append(process)
        wait_until(lambda log=log: " up  interface=" in log.read_text(), f"the {name}")
    log = tmp_path / "server.log"
    wait_until(lambda: "link      up" in log.read_text(), "the link")
    (line,) = (line for line in log.read_text().splitlines() if "warning" in line)
    assert "no allowed IPs: nothing is routed to the peer  peer=server" in line
    assert client.run("ping", "-c", "1", "-W", "1", "10.9.0.1", check=False).returncode == 1
    for process in processes:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
