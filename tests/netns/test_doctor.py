"""`fastun doctor` on hosts of the laboratory: one that is in order, and what the network breaks."""

from __future__ import annotations

import json
import socket
import sys
from typing import TYPE_CHECKING, Any

from fastun.lab.host import wait_until
from fastun.lab.tunnel import INTERFACE, start_gateway

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab


def doctor(host: Host, directory: Path) -> tuple[int, dict[str, Any]]:
    """Return the exit code, and the findings by their checks."""
    places = ("--state", str(directory), "--run-dir", str(directory))
    done = host.run(sys.executable, "-m", "fastun", "doctor", "--json", *places, check=False)
    findings = json.loads(done.stdout)["findings"]
    return done.returncode, {each["check"]: each for each in findings}


def test_a_host_that_carries_tunnels_has_nothing_that_fails(lab: Lab, tmp_path: Path) -> None:
    host = lab.host("server")
    devices = host.devices()
    code, findings = doctor(host, tmp_path)
    assert {name for name, each in findings.items() if each["verdict"] == "FAIL"} == set()
    assert code == 0
    for check in ("TUN device", "CAP_NET_ADMIN", "super-packets", "TUN writes", "libgcrypt"):
        assert findings[check]["verdict"] in ("ok", "warn"), "each was looked at"
    assert "arrive intact" in findings["UDP offload"]["message"]
    assert host.devices() == devices, "the probe's device was elsewhere"
    assert list(tmp_path.iterdir()) == []


def test_ports_of_a_running_gateway_are_its_own_and_those_of_others_are_reported(
    lab: Lab, tmp_path: Path
) -> None:
    host = lab.host("server")
    _, findings = doctor(host, tmp_path)
    ports = ("udp port", "tcp port", "metrics port")
    assert [findings[port]["message"].split()[-1] for port in ports] == 3 * ["free"]
    gateway = start_gateway(host, tmp_path, "serve", wire="wireguard", addresses=("10.99.0.1/24",))
    home = gateway.log_file.parent
    wait_until((home / f"{INTERFACE}.sock").exists, "the control socket", timeout_s=15)
    wait_until(lambda: host.listens(55555) and host.listens(51820, udp=True), "the ports")
    code, findings = doctor(host, home)
    assert code == 0
    assert [findings[port]["verdict"] for port in ports] == 3 * ["ok"]
    assert (
        findings["udp port"]["message"]
        == f"udp://[::]:51820 is in use by the gateway of {INTERFACE}"
    )
    assert findings["run directory"]["message"].endswith(f"running gateways: {INTERFACE}")
    # Somebody who does not know of the gateway sees another program.
    _, findings = doctor(host, tmp_path)
    assert [findings[port]["verdict"] for port in ports] == 3 * ["warn"]
    assert all("in use by another program" in findings[port]["message"] for port in ports)
    assert gateway.stop() == 0


def test_settings_of_the_network_that_break_tunnels_are_reported(lab: Lab, tmp_path: Path) -> None:
    host, other = lab.host("server"), lab.host("client")
    lab.wire(host, other, ["10.0.0.1/24"], ["10.0.0.2/24"])
    for name, value in (("all", 0), ("to-client", 0)):
        host.sysctl(f"net.ipv4.conf.{name}.rp_filter", value)
    assert doctor(host, tmp_path)[1]["rp_filter"]["verdict"] == "ok"
    host.sysctl("net.ipv4.conf.to-client.rp_filter", 1)
    with host.socket(kind=socket.SOCK_DGRAM) as taken:
        taken.bind(("10.0.0.1", 51820))
        _, findings = doctor(host, tmp_path)
    assert findings["rp_filter"]["verdict"] == "warn"
    assert "strict on to-client:" in findings["rp_filter"]["message"]
    assert findings["udp port"]["verdict"] == "warn"
    assert findings["tcp port"]["verdict"] == "ok"
