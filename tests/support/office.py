"""The way into an office: laptops far away, the internet between, and what is behind a gateway.

    laptop             internet               gateway            office's LAN
    192.0.2.2 ======== .1 | 198.51.100.1 ==== .2 | 172.16.9.1 == server 172.16.9.2, fd09::2
    fd01::2           ::1 | fd02::1          ::2 | fd09::1    == dns    172.16.9.53, fd09::53
                      203.0.113.80, fd80::80 is a server out there

The internet has no route into the office, and the hosts of the office have none out of it: what
gets there came through a tunnel, and comes back only if the gateway hides where it is from. More
laptops are at 192.0.3.2 (fd01:3::2), 192.0.4.2 and so on.

`Operator` is a person at a host, and counts the commands of fastun that they type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fastun.lab.host import wait_until
from fastun.lab.tunnel import FASTUN, METRICS_PORT, GatewayProcess

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

SERVER: Final = {4: "172.16.9.2", 6: "fd09::2"}
DNS: Final = {4: "172.16.9.53", 6: "fd09::53"}
OUTSIDE: Final = {4: "203.0.113.80", 6: "fd80::80"}
GATEWAY: Final = {4: "198.51.100.2", 6: "fd02::2"}  # where clients dial
GATEWAY_IN_OFFICE: Final = {4: "172.16.9.1", 6: "fd09::1"}

INTERFACE: Final = "fastun0"
INNER: Final = {4: "10.55.0.1", 6: "fd55::1"}  # the gateway's own address in the tunnel
INNER_ADDRESSES: Final = ("--address", "10.55.0.1/24", "--address", "fd55::1/64")


@dataclass(frozen=True, slots=True)
class Office:
    """The hosts, wired; nothing forwards yet but the internet."""

    laptops: tuple[Host, ...]
    internet: Host
    gateway: Host
    server: Host
    dns: Host

    @property
    def laptop(self) -> Host:
        """The first one."""
        return self.laptops[0]


def build(lab: Lab, *laptops: str) -> Office:
    """Make the hosts and wire them; one ``laptop`` where no names are given."""
    names = laptops or ("laptop",)
    away = tuple(map(lab.host, names))
    internet, gateway, lan, server, dns = map(
        lab.host, ("internet", "gateway", "lan", "server", "dns")
    )
    for number, laptop in enumerate(away, 2):
        v4, v6 = f"192.0.{number}", "fd01:" if number == 2 else f"fd01:{number}:"
        lab.wire(laptop, internet, [f"{v4}.2/24", f"{v6}:2/64"], [f"{v4}.1/24", f"{v6}:1/64"])
        _default(laptop, f"{v4}.1", f"{v6}:1")
    lab.wire(
        internet, gateway, ["198.51.100.1/24", "fd02::1/64"], ["198.51.100.2/24", "fd02::2/64"]
    )
    _default(gateway, "198.51.100.1", "fd02::1")
    for address in OUTSIDE.values():
        internet.ip("address", "add", address, "dev", "lo")
    for setting in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
        internet.sysctl(setting, 1)
    lan.ip("link", "add", "lan0", "type", "bridge")
    lan.ip("link", "set", "lan0", "up")
    for host, inside in ((gateway, GATEWAY_IN_OFFICE), (server, SERVER), (dns, DNS)):
        cable = lab.wire(host, lan, [f"{inside[4]}/24", f"{inside[6]}/64"])
        lan.ip("link", "set", cable.b_device, "master", "lan0")
    return Office(away, internet, gateway, server, dns)


def _default(host: Host, *routers: str) -> None:
    for router in routers:
        host.ip("route", "add", "default", "via", router)


@dataclass(slots=True)
class Operator:
    """A person at a host; ``home`` has the state and run directory of the fastun there."""

    host: Host
    home: Path
    commands: list[str] = field(default_factory=list)

    def run(self, *command: str) -> str:
        """Run a command of fastun to its end and return what it prints on stdout."""
        return self.host.run(*self._whole(command)).stdout

    def start(self, *command: str, interface: str = INTERFACE) -> GatewayProcess:
        """Start `fastun serve` or `connect`, and return it when it is up."""
        self.home.mkdir(exist_ok=True)
        log_file = self.home / f"{command[0]}.log"
        begin = log_file.stat().st_size if log_file.exists() else 0
        process = self._spawn(command, log_file)
        made = GatewayProcess(self.host, process, log_file, (), interface)

        def is_up() -> bool:
            made.check_alive()
            return " up " in log_file.read_text()[begin:]

        wait_until(is_up, f"fastun {command[0]}", timeout_s=20)
        return made

    def _spawn(self, command: tuple[str, ...], log_file: Path) -> subprocess.Popen[bytes]:
        with log_file.open("ab") as log:
            return self.host.spawn(*self._whole(command), stdout=log, stderr=log)

    def _whole(self, command: tuple[str, ...]) -> list[str]:
        """Return it with the directories of this host, which another namespace would share."""
        self.commands.append(" ".join(command))
        name, more = command[0], [] if command[0] == "status" else ["--state", str(self.home)]
        if name in ("serve", "connect", "status", "doctor"):
            more += ["--run-dir", str(self.home)]
        if name in ("serve", "connect"):
            more += ["--metrics", f"127.0.0.1:{METRICS_PORT}"]
        if name == "peer":  # its own commands have the options
            return [*FASTUN, *command, *more]
        return [*FASTUN, name, *more, *command[1:]]


def add_laptop(at_gateway: Operator, directory: Path, name: str = "laptop", *urls: str) -> Path:
    """Run `fastun peer add` at the gateway, and carry the file that it prints to the laptop."""
    urls = urls or (f"udp://{GATEWAY[4]}",)
    named = [word for url in urls for word in ("--endpoint", url)]
    text = at_gateway.run("peer", "add", name, *named)
    file = directory / f"{name}.toml"
    file.touch(0o600)
    file.write_text(text, encoding="utf-8")
    return file
