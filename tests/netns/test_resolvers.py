"""DNS by the real resolvconf of Debian and openresolv: what they make of it, and what is left.

Their files are laid over /etc and /usr/lib in a mount namespace of the test's own.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.tunnel import FASTUN
from fastun.session import keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.lab.network import Lab

PACKAGES = Path(__file__).parents[2] / ".venv" / "resolvers"
LAN, OURS = "192.168.1.1", "10.9.0.1"

MOUNT = """
set -e
mount -t tmpfs none {top}
mkdir {top}/bin {top}/etc {top}/etc.work {top}/lib {top}/lib.work
for part in etc:/etc lib:/usr/lib; do
    from=${{part%%:*}} to=${{part#*:}}
    mount -t overlay none $to \\
        -o lowerdir={package}/$from:$to,upperdir={top}/$from,workdir={top}/$from.work
done
mount -t tmpfs none /run
cp {package}/sbin/resolvconf {top}/bin
PATH={top}/bin:$PATH
rm -f /etc/resolv.conf
echo nameserver {lan} > /etc/resolv.conf
{prepare}
echo ready
exec sleep 600
"""
RECORD = f"printf 'nameserver {LAN}\\nsearch lan\\n' | resolvconf -a eth0.dhclient"
# What the package does when it is installed.
DEBIAN = """
mkdir -p /run/resolvconf/interface
resolvconf --enable-updates
ln -sf /run/resolvconf/resolv.conf /etc/resolv.conf
"""
FILE = f"""
[Interface]
PrivateKey = {keys.format_key(keys.generate_private())}
Address = 10.9.0.2/24
DNS = {OURS}, corp.example
[Peer]
PublicKey = {keys.format_key(keys.public_of(keys.generate_private()))}
AllowedIPs = 10.9.0.0/24
Endpoint = 127.0.0.1:9
"""

Prepared = "Callable[[str, str], Resolving]"


class Resolving:
    """A host whose names are managed by a package."""

    def __init__(self, lab: Lab, directory: Path, package: str, prepare: str) -> None:
        self._directory = directory
        self._top = directory / "top"
        self._top.mkdir()
        script = MOUNT.format(top=self._top, package=PACKAGES / package, lan=LAN, prepare=prepare)
        self._holder = lab.host("client").spawn("sh", "-c", script, stdout=subprocess.PIPE)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"

    def _inside(self, *command: str) -> list[str]:
        return ["nsenter", "-t", str(self._holder.pid), "-n", "-m", *command]

    def resolv_conf(self) -> str:
        completed = subprocess.run(
            self._inside("cat", "/etc/resolv.conf"), capture_output=True, text=True, check=True
        )
        return completed.stdout

    def servers(self) -> list[str]:
        lines = map(str.split, self.resolv_conf().splitlines())
        return [line[1] for line in lines if line[:1] == ["nameserver"]]

    def connect(self) -> subprocess.Popen[bytes]:
        file, log = self._directory / "wg0.conf", self._directory / "log"
        file.touch(0o600)
        file.write_text(FILE)
        state = str(self._directory / "state")
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                self._inside(
                    "env",
                    f"PATH={self._top}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    *FASTUN,
                    "connect",
                    str(file),
                    "--state",
                    state,
                    "--run-dir",
                    state,
                    "--metrics",
                    "off",
                ),
                stderr=stderr,
            )
        wait_until(lambda: "up  interface=wg0" in self.log(), "the tunnel")
        return process

    def log(self) -> str:
        return (self._directory / "log").read_text()


@pytest.fixture
def resolving(lab: Lab, tmp_path: Path) -> Callable[[str, str], Resolving]:
    if not PACKAGES.is_dir():
        pytest.skip(
            "the packages resolvconf and openresolv are not there (./run test fetches them)"
        )
    return lambda package, prepare: Resolving(lab, tmp_path, package, prepare)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL])
@pytest.mark.parametrize(
    ("package", "prepare"),
    [
        ("resolvconf", DEBIAN + RECORD),
        ("openresolv", RECORD),
        ("openresolv", ""),
    ],
)
def test_the_tunnels_server_is_asked_first_and_nothing_of_it_is_left(
    resolving: Callable[[str, str], Resolving],
    package: str,
    prepare: str,
    ending: signal.Signals,
) -> None:
    host = resolving(package, prepare)
    before = host.resolv_conf()
    assert host.servers() == [LAN]
    process = host.connect()
    assert host.servers()[0] == OURS
    assert "DNS servers set  servers=10.9.0.1" in host.log()
    process.send_signal(ending)
    process.wait(10)
    if ending == signal.SIGKILL:
        process = host.connect()
        assert host.servers()[0] == OURS
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    assert host.resolv_conf() == before


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param("mkdir -p /run/resolvconf/interface", id="a file that it does not write"),
        pytest.param(DEBIAN + RECORD + "\nresolvconf --disable-updates", id="updates are put off"),
        pytest.param(
            DEBIAN + RECORD + "\nprintf 'eth0.*\\ntun*\\n' > /etc/resolvconf/interface-order",
            id="the LAN comes first",
        ),
    ],
)
def test_a_server_that_stays_first_is_named(
    resolving: Callable[[str, str], Resolving], prepare: str
) -> None:
    host = resolving("resolvconf", prepare)
    before = host.resolv_conf()
    process = host.connect()
    assert host.servers()[0] == LAN
    (line,) = (line for line in host.log().splitlines() if " dns " in line)
    assert "warning" in line
    assert "others are asked first  servers=10.9.0.1" in line
    assert f"/etc/resolv.conf names {LAN} first" in line
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    assert host.resolv_conf() == before
