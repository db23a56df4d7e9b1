"""A laptop with a kill switch, and all around it.

vm  10.88.0.2 ==== br0 10.88.0.1   laptop
                   up  192.168.77.2, fd01::2 ==== 192.168.77.1, fd01::1  internet, with DNS
                   wg0 10.99.0.2 ...tunnel...     198.51.100.1           server, ft0 10.99.0.1
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import run_command, wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import FASTUN, SERVER_ADDRESSES, add_peer, start_gateway
from tests.support import leaks
from tests.support.leaks import Attempts, Capture, Permitted
from tests.support.name_server import NameServer, resolv_conf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastun.lab.host import Host
    from fastun.lab.tunnel import Transport

UPLINK, ROUTER, ROUTER_V6 = "up", "192.168.77.1", "fd01::1"
LAPTOP, LAPTOP_V6 = "192.168.77.2", "fd01::2"
SERVER, SERVER_V6, NAME = "198.51.100.1", "fd02::1", "vpn.example.net"
INNER, INNER_V6 = "10.99.0.1", "fd99::1"
AWAY, AWAY_V6 = "203.0.113.9", "2001:db8::9"
TABLE = "fastun_wg0_kill_switch"
PERMITTED = Permitted(
    frozenset(
        (protocol, address, port)
        for address in (SERVER, SERVER_V6)
        for protocol, port in (("udp", 51820), ("tcp", 55555))
    ),
    frozenset({ROUTER}),
    frozenset({NAME}),
)


@dataclass(eq=False)
class Scene:
    """The hosts, and `fastun connect` on the laptop."""

    laptop: Host
    internet: Host
    server: Host
    vm: Host
    home: Path
    process: subprocess.Popen[bytes] | None = None
    n_attempts: int = 0
    captured: list[Capture] = field(default_factory=list)

    def log(self) -> str:
        return (self.home / "log").read_text()

    def start(self, more: str = "kill_switch = true") -> None:
        if self.process is not None and self.process.poll() is None:
            self.ends(self.process.terminate, code=0)
        text = (self.home / "client.toml").read_text()
        file = self.home / "started.toml"
        file.touch(0o600)
        file.write_text(text.replace("[interface]\n", f"[interface]\n{more}\n"))
        with (self.home / "log").open("ab") as stderr:
            self.process = self.laptop.spawn(
                *(*FASTUN, "connect", str(file), "--state", str(self.home)),
                *("--run-dir", str(self.home), "--metrics", "off"),
                stderr=stderr,
                env=os.environ,
            )

    def fastun(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = (sys.executable, "-m", "fastun", *arguments, "--run-dir", str(self.home))
        return self.laptop.run(*command, check=check)

    def reload_with_another_endpoint(self) -> None:
        """Have the client go to the server's IPv4 address instead of its name."""
        file = self.home / "started.toml"
        file.write_text(file.read_text().replace(f"udp://{NAME}", f"udp://{SERVER}"))
        assert f"+udp://{SERVER}:51820" in self.fastun("reload").stdout
        wait_until(lambda: f"remote={SERVER}:51820" in self.log(), "the endpoint")

    def ends(self, how: Callable[[], object], code: int | None = None) -> None:
        """Have the client end, with all its workers."""
        process = self.process
        assert process is not None
        how()
        ended = process.wait(15)
        assert code is None or ended == code, self.log()
        wait_until(lambda: not self.laptop.pids(), "workers gone")

    def answers(self) -> bool:
        assert self.process is None or self.process.poll() is None, self.log()
        return all(answers_ping(self.laptop, each) for each in (INNER, INNER_V6))

    def wait_up(self) -> float:
        """Wait until the tunnel carries packets of the laptop and the VM; return for how long."""
        started = time.monotonic()
        wait_until(self.answers, "the tunnel", timeout_s=30)
        took = time.monotonic() - started
        assert answers_ping(self.vm, INNER), "from the virtual machine"
        return took

    def rules(self) -> str:
        return self.laptop.run("nft", "list", "ruleset").stdout

    def watched(self, permitted: Permitted = PERMITTED) -> Capture:
        self.captured.append(Capture(self.laptop, UPLINK, permitted))
        return self.captured[-1]

    def ordinary(self) -> Attempts:
        """Return what sends as any program does: by the routes that there are."""
        inner = [(INNER, 9), (INNER_V6, 9), (AWAY, 9), (AWAY_V6, 9), (SERVER, 9)]
        return Attempts(
            *(leaks.udp(self.laptop, to, port) for to, port in inner),
            leaks.tcp(self.laptop, AWAY, 443),
            leaks.dns_question(self.laptop, AWAY, "secret.example.org"),
        )

    def attempts(self) -> Attempts:
        """Return what sends by all ways that there are around a tunnel."""
        laptop, internet, vm = self.laptop, self.internet, self.vm
        mark = 51820
        inner = [(INNER, 9), (INNER_V6, 9), (AWAY, 9), (AWAY_V6, 9)]
        extended = [
            leaks.raw_ipv6(laptop, "fd01::2", AWAY_V6, header, body)
            for header, body in leaks.extensions(9)
        ]
        return Attempts(
            *(leaks.udp(laptop, to, port) for to, port in inner),
            *(leaks.udp(laptop, to, port, device=UPLINK) for to, port in inner),
            *(leaks.udp(laptop, to, port, device=UPLINK, mark=mark) for to, port in inner),
            leaks.udp(laptop, SERVER, 9, mark=mark),  # the mark and the address, not the port
            leaks.udp(laptop, SERVER, 51820, device=UPLINK),  # without the mark
            leaks.udp(laptop, AWAY, 9, source="10.99.0.2"),
            leaks.udp(laptop, AWAY_V6, 9, source="fd99::2"),
            leaks.udp(laptop, ROUTER, 9, device=UPLINK),
            leaks.udp(laptop, "224.0.0.251", 5353, device=UPLINK),
            leaks.udp(laptop, "ff02::fb", 5353, device=UPLINK),
            leaks.udp(laptop, "255.255.255.255", 9, device=UPLINK),
            leaks.udp(vm, INNER, 9),
            leaks.udp(vm, "203.0.113.88", 9),
            leaks.dns_question(vm, ROUTER, "secret.example.org"),
            leaks.dns_question(laptop, ROUTER, "secret.example.org"),
            leaks.dns_question(laptop, ROUTER_V6, "secret.example.org"),
            leaks.tcp(laptop, AWAY, 443),
            leaks.tcp(laptop, AWAY_V6, 443),
            leaks.joins(laptop, UPLINK),
            # What makes the laptop answer: ICMP errors that quote, resets, echoes.
            leaks.udp(internet, LAPTOP, 9),
            leaks.udp(internet, LAPTOP_V6, 9),
            leaks.tcp(internet, LAPTOP, 9),
            leaks.tcp(internet, LAPTOP_V6, 9),
            *extended,
        )


def scene(lab: Lab, directory: Path, transport: Transport = "udp") -> Scene:
    """Make the hosts, and a server that answers; the client is not started yet."""
    laptop, internet, server = lab.host("laptop"), lab.host("internet"), lab.host("server")
    vm = lab.host("vm")
    for host in (laptop, internet):  # else a cable that is pulled costs them
        for scope in ("all", "default"):
            host.sysctl(f"net.ipv6.conf.{scope}.keep_addr_on_down", 1)
    laptop_wire = (f"{LAPTOP}/24", f"{LAPTOP_V6}/64"), (f"{ROUTER}/24", f"{ROUTER_V6}/64")
    cable = lab.wire(laptop, internet, *laptop_wire)
    laptop.ip("link", "set", cable.a_device, "name", UPLINK)
    for ended, address in (("4", "192.168.77.1"), ("6", ROUTER_V6)):
        laptop.ip(f"-{ended}", "route", "add", "default", "via", address)
    lab.wire(internet, server, ["192.0.2.1/24", "fd03::1/64"], ["192.0.2.2/24", "fd03::2/64"])
    for host in (internet, laptop):
        host.sysctl("net.ipv4.ip_forward", 1)
        host.sysctl("net.ipv6.conf.all.forwarding", 1)
    internet.ip("route", "add", SERVER, "via", "192.0.2.2")
    internet.ip("-6", "route", "add", SERVER_V6, "via", "fd03::2")
    for address, length in ((SERVER, 32), (SERVER_V6, 128)):
        server.ip("address", "add", f"{address}/{length}", "dev", "lo")
    server.ip("route", "add", "default", "via", "192.0.2.1")
    server.ip("-6", "route", "add", "default", "via", "fd03::1")
    _add_vm(laptop, vm)
    serving = start_gateway(
        server, directory, "serve", wire="wireguard", addresses=SERVER_ADDRESSES
    )
    home = directory / "laptop"
    home.mkdir()
    text = add_peer(serving, "client", NAME, transport).read_text()
    host_settings = "name = 'wg0'\ntable = 'all'\n"
    text = text.replace("[interface]\n", f"[interface]\n{host_settings}")
    text = re.sub("(?m)^allowed_ips.*$", "allowed_ips = ['0.0.0.0/0', '::/0']", text)
    file = home / "client.toml"
    file.touch(0o600)
    file.write_text(text)
    server.ip("route", "add", "10.88.0.0/24", "dev", "ft0")
    return Scene(laptop, internet, server, vm, home)


def _add_vm(laptop: Host, vm: Host) -> None:
    laptop.ip("link", "add", "br0", "type", "bridge")
    # fmt: off
    run_command("ip", "link", "add", "vm0", "netns", laptop.namespace, "type", "veth",
                "peer", "name", "eth0", "netns", vm.namespace)
    # fmt: on
    laptop.ip("link", "set", "vm0", "master", "br0", "up")
    laptop.ip("address", "add", "10.88.0.1/24", "dev", "br0")
    laptop.ip("link", "set", "br0", "up")
    vm.ip("address", "add", "10.88.0.2/24", "dev", "eth0")
    vm.ip("link", "set", "eth0", "up")
    vm.ip("route", "add", "default", "via", "10.88.0.1")
    # As a hypervisor does: by any interface that is not the virtual machine's.
    laptop.run(
        "nft",
        "add table ip nat; add chain ip nat post { type nat hook postrouting "
        "priority srcnat; }; add rule ip nat post ip saddr 10.88.0.0/24 oifname != br0 masquerade",
    )


@contextlib.contextmanager
def running(directory: Path, transport: Transport) -> Iterator[Scene]:
    """Have the hosts, with the client connected; skips the test where there can be none."""
    missing = missing_capability()
    if missing:
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with Lab() as lab:
        made = scene(lab, directory, transport)
        with (
            NameServer(made.internet, ROUTER, {NAME: [SERVER, SERVER_V6]}),
            resolv_conf(made.laptop, ROUTER),
        ):
            made.start()
            made.wait_up()
            yield made
            print(made.log())  # noqa: T201
