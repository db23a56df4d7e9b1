"""A host whose names are looked up by a real systemd-resolved, with a D-Bus of its own.

Debian's package, laid over /etc and /usr in a mount namespace of the host; nothing is installed,
and no service of this machine takes part.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from fastun.lab.host import run_command

if TYPE_CHECKING:
    from fastun.lab.host import Host

PACKAGE = Path(__file__).parents[2] / ".venv" / "resolvers" / "systemd-resolved"
DAEMON = PACKAGE / "lib" / "systemd" / "systemd-resolved"

# As the package's systemd unit and sysusers.d have it.
_START = """
set -e
mount --make-rprivate /
mount -t tmpfs none {top}
for part in etc usr; do
    mkdir {top}/$part {top}/$part.work
    mount -t overlay none /$part \\
        -o lowerdir={package}/$part:/$part,upperdir={top}/$part,workdir={top}/$part.work
done
mount -t tmpfs none /run
echo 'systemd-resolve:x:990:990::/:/usr/sbin/nologin' >> /etc/passwd
echo 'systemd-resolve:x:990:' >> /etc/group
mkdir -p /run/dbus /run/systemd/resolve
chown 990:990 /run/systemd/resolve
rm -f /etc/resolv.conf
{resolv_conf}
ip link set lo up
dbus-daemon --system --nofork --nopidfile &
until [ -S /run/dbus/system_bus_socket ]; do sleep 0.05; done
{package}/lib/systemd/systemd-resolved &
until [ -e /run/systemd/resolve/stub-resolv.conf ] && resolvectl dns >/dev/null 2>&1; do
    sleep 0.05
done
echo ready
wait
"""
STUB = "ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf"


def missing() -> str:
    """Return what such a host lacks on this machine, empty where there is all."""
    if not DAEMON.exists():
        return "systemd-resolved (./run test fetches it)"
    if shutil.which("dbus-daemon") is None:
        return "dbus-daemon"
    linked = run_command("ldd", str(DAEMON), check=False).stdout
    return "a systemd of the package's version" if "not found" in linked else ""


class ResolvedHost:
    """Runs commands where systemd-resolved is; ended with the laboratory."""

    def __init__(self, host: Host, directory: Path, resolv_conf: str = STUB) -> None:
        """Start it; ``resolv_conf`` makes /etc/resolv.conf."""
        self._host = host
        top = directory / "over"
        top.mkdir()
        script = _START.format(top=top, package=PACKAGE, resolv_conf=resolv_conf)
        log = directory / "resolved.log"
        with log.open("wb") as stderr:
            self._holder = host.spawn(
                "unshare", "-m", "sh", "-c", script, stdout=subprocess.PIPE, stderr=stderr
            )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n", log.read_text()

    def inside(self, *command: str) -> list[str]:
        """Return the command that runs another one here."""
        return ["nsenter", "-t", str(self._holder.pid), "-n", "-m", *command]

    def restart(self) -> None:
        """Kill systemd-resolved and start it anew, as an upgrade does."""
        name = "org.freedesktop.resolve1"
        bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
        printed = self.run("busctl", "call", *bus, "GetConnectionUnixProcessID", "s", name)
        os.kill(int(printed.split()[1]), signal.SIGTERM)
        self._host.spawn(*self.inside(str(DAEMON)))

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command here to its end and return what it prints."""
        return run_command(*self.inside(*command), check=check).stdout
