"""The hosts that the guides speak of: each with directories of its own, as separate machines have.

    office     laptop == internet == server (vpn.example.net) == 172.16.9.0/24   (office.py)
    tcp-only   the same, but the internet drops the laptop's UDP
    ethernet   laptop ============== server (br0 192.168.5.1) == printer 192.168.5.20
    sites      desk == berlin ====== paris == bureau
    fleet      laptop == edge == gw1, gw2, gw3 == core == server, db   (fleet_site.py)

A network namespace alone would share /etc, /run and /var/lib with this machine: what runs on a
host here is also in a mount namespace with these of its own, so that commands can be typed exactly
as the page has them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastun.lab.host import wait_until
from tests.support import fleet_site, office
from tests.support.guide_page import Carry, Command, File, Scene, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

ROOT: Final = Path(__file__).resolve().parents[2]

# What a host has of its own; /etc begins as a copy.
_MOUNTS: Final = """
set -e
cp -a /etc "$1/etc"
for directory in /run /var/lib; do mount -t tmpfs tmpfs $directory; done
mount --bind "$1/etc" /etc
cat "$1/hosts" >> /etc/hosts
rm -f /etc/resolv.conf
echo nameserver 203.0.113.53 > /etc/resolv.conf
echo "hosts: files dns" > /etc/nsswitch.conf
touch "$1/ready"
exec sleep infinity
"""

# What a page asks of systemd, on hosts that share their processes' numbers and have no systemd.
_SYSTEMCTL: Final = """#!/bin/sh
set -e
case $1 in start|stop|restart) ;; *) exit 1 ;; esac
mkdir -p /run/$2
case $2 in
bird)
    [ ! -e /run/bird/pid ] || kill $(cat /run/bird/pid)
    rm -f /run/bird/pid
    [ $1 = stop ] || exec /usr/sbin/bird -P /run/bird/pid
    ;;
frr)
    chown frr:frr /run/frr
    exec /usr/lib/frr/frrinit.sh $1
    ;;
keepalived)
    [ $1 = stop ] || exec /usr/sbin/keepalived
    ;;
postgresql)
    mkdir -p /var/log/postgresql
    chown postgres /run/postgresql /var/log/postgresql
    for cluster in /etc/postgresql/*/*; do
        version=${cluster%/*}
        pg_ctlcluster ${version##*/} ${cluster##*/} $1
    done
    ;;
*)
    exit 1
    ;;
esac
"""

#: Commands that are asked again for a while: a link comes up a moment after its gateway.
_PATIENT: Final = re.compile(
    r"(ping|curl|birdc|vtysh|fastun (status|peer list)|podman (exec|healthcheck|logs))( |$)"
)
PATIENCE_S: Final = 20.0
#: Commands that go on until Ctrl-C.
_FOREGROUND: Final = re.compile(
    r"fastun (serve|connect) (?!.*--check)|fastun serve$|fastun bench --serve"
)
UP_LIMIT_S: Final = 20.0
STOP_LIMIT_S: Final = 15.0


class WrongOutputError(AssertionError):
    """A command did not do what its page says."""


@dataclass(slots=True)
class Machine:
    """One host of a page, with its directory and what runs in its foreground."""

    host: Host
    home: Path
    holder: subprocess.Popen[bytes]
    running: list[tuple[Command, subprocess.Popen[bytes]]] = field(default_factory=list)

    def path(self, name: str) -> Path:
        """Return where a file of this host is: in its home, or with a path in its /etc."""
        if name.startswith("/"):
            assert name.startswith("/etc/"), name  # of the rest it has nothing of its own
        return self.home / name.lstrip("/")

    def argv(self, line: str) -> list[str]:
        own = (self.home.parent / "programs", ROOT / ".venv" / "bin")
        path = os.pathsep.join([*map(str, own), os.environ["PATH"]])
        inside = ("nsenter", "-t", str(self.holder.pid), "-m", "-n", f"--wdns={self.home}")
        return [*inside, "env", f"PATH={path}", "sh", "-c", line]


class GuideLab:
    """The machines of one page, and what its reader does at them."""

    def __init__(self, lab: Lab, kind: str, directory: Path) -> None:
        """Make the hosts of ``kind``; their directories are below ``directory``."""
        self._directory = directory
        self.machines: dict[str, Machine] = {}
        hosts, names = _KINDS[kind](lab)
        systemctl = directory / "programs" / "systemctl"
        systemctl.parent.mkdir()
        systemctl.write_text(_SYSTEMCTL)
        systemctl.chmod(0o755)
        for name, host in hosts.items():
            home = directory / name
            home.mkdir()
            (home / "hosts").write_text("".join(f"{a} {n}\n" for n, a in names.items()))
            script = ("unshare", "-m", "sh", "-c", _MOUNTS, "sh", str(home))
            self.machines[name] = Machine(host, home, host.spawn(*script))
        for name, machine in self.machines.items():
            wait_until((machine.home / "ready").exists, f"the directories of {name}", timeout_s=20)

    def follow(self, scene: Scene) -> None:
        """Do each step of a scene as its reader does, then end what runs. WrongOutputError."""
        try:
            for step in scene.steps:
                if isinstance(step, Command):
                    self._type(step)
                elif isinstance(step, File):
                    self._write(self.machines[step.host].path(step.name), step.text)
                elif isinstance(step, Stop):
                    faults = _stop(self.machines[step.host])
                    if faults:
                        raise WrongOutputError("; ".join(faults))
                else:
                    self._carry(step)
        finally:
            left = [line for machine in self.machines.values() for line in _end(machine)]
        if left:
            raise WrongOutputError("; ".join(left))

    def _write(self, path: Path, text: str) -> None:
        path.touch(0o600)
        path.write_text(text, encoding="utf-8")

    def _carry(self, carry: Carry) -> None:
        origin, to = (self.machines[name].path(carry.name) for name in (carry.origin, carry.to))
        self._write(to, origin.read_text(encoding="utf-8"))
        shutil.copymode(origin, to)

    def _type(self, command: Command) -> None:
        machine = self.machines[command.host]
        if _FOREGROUND.match(command.line):
            self._start(machine, command)
            return
        # A lost ping is not waited for, as it would by itself for ten seconds.
        line = f"timeout 2 {command.line}" if command.line.startswith("ping ") else command.line
        deadline = time.monotonic() + PATIENCE_S
        while True:
            # fmt: off
            done = subprocess.run(
                machine.argv(line), stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=60, check=False,
            )
            # fmt: on
            said = done.stdout + done.stderr
            if done.returncode == 0 and command.is_in(said):
                return
            if not _PATIENT.match(command.line) or time.monotonic() > deadline:
                raise WrongOutputError(
                    f"{command.where}: {command.line}: exit code {done.returncode}:\n{said}"
                    + "".join(self._logs())
                )
            time.sleep(0.2)

    def _start(self, machine: Machine, command: Command) -> None:
        log = self._directory / f"{machine.host.name}-{len(machine.running)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ("setpriv", "--pdeathsig", "KILL", *machine.argv(f"exec {command.line}")),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        machine.running.append((command, process))

        def is_up() -> bool:
            if process.poll() is not None:
                raise WrongOutputError(f"{command.where}: {command.line}: {log.read_text()}")
            said = log.read_text(errors="replace")
            return " up  " in said or (bool(said) and " bench " in command.line)

        wait_until(is_up, f"{command.where}: {command.line}", timeout_s=UP_LIMIT_S)

    def _logs(self) -> list[str]:
        return [
            f"\n--- {log.stem}\n{log.read_text(errors='replace')[-2000:]}"
            for log in sorted(self._directory.glob("*.log"))
        ]


def _end(machine: Machine) -> list[str]:
    faults = _stop(machine)
    machine.holder.kill()
    machine.holder.wait()
    return faults


def _stop(machine: Machine) -> list[str]:
    """End a host's foreground programs by Ctrl-C; says what did not end as it should."""
    faults = []
    for command, process in reversed(machine.running):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            code = process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
        if code != 0:
            faults.append(f"{command.where}: {command.line}: ended with {code}")
    machine.running.clear()
    return faults


# -- the kinds ------------------------------------------------------------------------------------

_Hosts = tuple[dict[str, "Host"], dict[str, str]]


def _office(lab: Lab) -> _Hosts:
    built = office.build(lab)
    hosts = {"laptop": built.laptop, "server": built.gateway}
    return hosts, {"vpn.example.net": office.GATEWAY[4]}


def _tcp_only(lab: Lab) -> _Hosts:
    built = office.build(lab)
    for rule in (
        "add table inet cafe",
        "add chain inet cafe forward { type filter hook forward priority 0; }",
        "add rule inet cafe forward meta l4proto udp drop",
    ):
        built.internet.run("nft", rule)
    hosts = {"laptop": built.laptop, "server": built.gateway}
    return hosts, {"vpn.example.net": office.GATEWAY[4]}


def _ethernet(lab: Lab) -> _Hosts:
    laptop, server, printer = map(lab.host, ("laptop", "server", "printer"))
    lab.wire(laptop, server, ["203.0.113.2/24"], ["203.0.113.1/24"])
    cable = lab.wire(printer, server, ["192.168.5.20/24"])
    server.ip("link", "add", "br0", "type", "bridge")
    server.ip("address", "add", "192.168.5.1/24", "dev", "br0")
    server.ip("link", "set", "br0", "up")
    server.ip("link", "set", cable.b_device, "master", "br0")
    hosts = {"laptop": laptop, "server": server, "printer": printer}
    return hosts, {"vpn.example.net": "203.0.113.1"}


def _sites(lab: Lab) -> _Hosts:
    desk, berlin, paris, bureau = map(lab.host, ("desk", "berlin", "paris", "bureau"))
    lab.wire(berlin, paris, ["203.0.113.1/24"], ["203.0.113.2/24"])
    for host, gateway, network in ((desk, berlin, "172.16.1"), (bureau, paris, "172.16.2")):
        lab.wire(host, gateway, [f"{network}.2/24"], [f"{network}.1/24"])
        host.ip("route", "add", "default", "via", f"{network}.1")
    hosts = {"desk": desk, "berlin": berlin, "paris": paris, "bureau": bureau}
    return hosts, {"berlin.example.net": "203.0.113.1", "paris.example.net": "203.0.113.2"}


def _fleet(lab: Lab) -> _Hosts:
    hosts = fleet_site.wired(lab, ("laptop", "desk")).all
    names = {f"gw{n + 1}.example.net": fleet_site.outside(n) for n in range(3)}
    shared = {"db.example.net": fleet_site.DATABASE, "vpn.example.net": "198.51.100.10"}
    return hosts, {**names, **shared}


_KINDS: Final[dict[str, Callable[[Lab], _Hosts]]] = {
    "office": _office,
    "tcp-only": _tcp_only,
    "ethernet": _ethernet,
    "sites": _sites,
    "fleet": _fleet,
}
