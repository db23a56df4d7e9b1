"""A DHCP server and a client of this world: udhcpd and udhcpc, which are parts of busybox.

The client's script does what those of distributions do with a lease: address, routes (option 121 in
place of the router, RFC 3442) and name servers.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fastun.lab.host import Host

# ./run unpacks it here where the machine's own has no DHCP, as that of an installer's ramdisk.
UNPACKED = Path(__file__).parents[2] / ".venv" / "busybox" / "busybox"

SCRIPT = """#!/bin/sh
[ "$1" = bound ] || exit 0
{applied}
env > {lease}.new
mv {lease}.new {lease}
"""
APPLIED = """
ip address add "$ip/$mask" dev "$interface"
set -- $staticroutes
[ $# -gt 0 ] || set -- 0.0.0.0/0 $router
while [ $# -gt 1 ]; do
    ip route add "$1" via "$2" dev "$interface"
    shift 2
done
for server in $dns; do echo "nameserver $server"; done > /etc/resolv.conf
"""


def busybox() -> str:
    """Return the busybox that has both; skips the test where none has."""
    for program in (shutil.which("busybox"), str(UNPACKED)):
        with contextlib.suppress(OSError):
            listed = subprocess.run(
                [program or "", "--list"], capture_output=True, text=True, check=False
            )
            if {"udhcpc", "udhcpd"} <= set(listed.stdout.split()):
                return str(program)
    pytest.skip("needs a busybox with udhcpd and udhcpc")


@contextlib.contextmanager
def server(
    host: Host, interface: str, directory: Path, address: str, **options: str
) -> Iterator[None]:
    """Have a server there that hands out one address, with these options (udhcpd.conf(5))."""
    file = directory / "udhcpd.conf"
    lines = [f"start {address}", f"end {address}", "max_leases 1", f"interface {interface}"]
    lines += [f"lease_file {directory}/leases", f"pidfile {directory}/pid"]
    lines += [f"opt {name} {value}" for name, value in options.items()]
    file.write_text("\n".join(lines) + "\n")
    (directory / "leases").touch()
    process = host.spawn(busybox(), "udhcpd", "-f", "-a", "50", str(file))
    try:
        yield
    finally:
        process.terminate()
        process.wait(5)


@contextlib.contextmanager
def client(
    host: Host, interface: str, directory: Path, *, applies: bool = False
) -> Iterator[Mapping[str, str]]:
    """Have a client there; yields its lease, as udhcpc tells it to its script."""
    script, lease = directory / "script", directory / "lease"
    applied = APPLIED if applies else ""
    script.write_text(SCRIPT.replace("{applied}", applied).replace("{lease}", str(lease)))
    script.chmod(0o700)
    command = ("udhcpc", "-f", "-i", interface, "-s", str(script), "-O", "staticroutes")
    process = host.spawn(busybox(), *command, "-t", "20", "-T", "1")
    try:
        wait_until(lease.exists, "a lease", timeout_s=20)
        yield dict(line.split("=", 1) for line in lease.read_text().splitlines() if "=" in line)
    finally:
        process.terminate()
        process.wait(5)
        lease.unlink(missing_ok=True)
