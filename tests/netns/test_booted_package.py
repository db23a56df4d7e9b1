"""The Debian package under a real systemd: enabled, upgraded while it runs, removed, purged.

office: a booted Debian with the package, 192.0.2.1 ---- laptop 192.0.2.2: fastun connect
        fastun-connect@home, with a kill switch  ------> and fastun serve

The tests are the steps of one machine's life, in this order.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import Lab
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import FASTUN
from tests.support import booted_host
from tests.support.booted_host import ROOT, BootedHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from tests.support.figures import Figures

PACKAGES = sorted((ROOT / "dist").glob("fastun_*.deb"))
pytestmark = [
    pytest.mark.soak,  # needs debootstrap, a minute of Debian's mirror, and the package
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(booted_host.missing()), reason=f"needs {booted_host.missing()}"),
    pytest.mark.skipif(not PACKAGES, reason="no package in dist: run ./run package first"),
]

SERVE, CONNECT = "fastun-serve@office.service", "fastun-connect@home.service"
OFFICE = """
[interface]
name = "office0"
address = ["10.77.0.1/24"]
[listen]
udp = ["udp://192.0.2.1:51820"]
tcp = []
"""
# Looks for a gap in the kill switch, until the file is gone.
WATCH = """
touch /run/watched
while [ -e /run/watched ]; do
    nft list tables | grep -q kill_switch || echo gone
done >/run/gaps 2>&1 &
"""


def is_busy() -> bool:
    """Whether others use this machine: then what takes long says nothing."""
    return os.getloadavg()[0] > 2 * (os.cpu_count() or 1)


class Machine(NamedTuple):
    booted: BootedHost
    laptop: Host
    directory: Path

    def dpkg(self, *arguments: str) -> str:
        done = self.booted.done("dpkg", *arguments, timeout_s=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start_client(self) -> None:
        """Have the laptop connect to the office."""
        add = ("fastun", "peer", "add", "laptop", "--endpoint", "udp://192.0.2.1")
        file = self.directory / "laptop.toml"
        file.touch(0o600)
        file.write_text(self.booted.run(*add))
        self._spawn("connect", str(file), name="laptop")

    def start_server(self) -> None:
        """Have the laptop serve, and the office's file for it."""
        listen = ("--listen", "udp://192.0.2.2:51999", "--address", "10.88.0.1/24", "-i", "hq0")
        places = self._spawn("serve", *listen, name="hq")
        log = self.directory / "hq.log"
        wait_until(lambda: " up " in log.read_text(), "hq", timeout_s=30)
        add = (*FASTUN, "peer", "add", "home", "--endpoint", "udp://192.0.2.2:51999", *places)
        own = '[interface]\nname = "home0"\nkill_switch = true'
        text = self.laptop.run(*add).stdout.replace("[interface]", own)
        self.booted.write("/etc/fastun/home.toml", f'[metrics]\nlisten = "off"\n{text}', 0o600)

    def _spawn(self, *command: str, name: str) -> tuple[str, ...]:
        own = self.directory / name
        places = ("--state", str(own / "state"), "--run-dir", str(own / "run"))
        with (self.directory / f"{name}.log").open("wb") as log:
            self.laptop.spawn(*FASTUN, *command, "--metrics", "off", *places, stderr=log)
        return places

    def wait_answer(self) -> None:
        wait_until(lambda: answers_ping(self.laptop, "10.77.0.1"), "an answer", timeout_s=60)

    def has_kill_switch(self) -> bool:
        return "kill_switch" in self.booted.text("nft", "list", "tables")


@pytest.fixture(scope="module", params=booted_host.RELEASES)
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    directory = tmp_path_factory.mktemp("package")

    def carry(root: Path) -> None:
        shutil.copy(PACKAGES[-1], root / "root" / "fastun.deb")

    with Lab() as lab:
        office, laptop = lab.host("office"), lab.host("laptop")
        lab.wire(office, laptop, ["192.0.2.1/24"], ["192.0.2.2/24"])
        with booted_host.booted(office, directory, carry, request.param) as booted:
            yield Machine(booted, laptop, directory)


@pytest.mark.promise("A package enabled under systemd has its first packet within a minute")
def test_the_package_is_installed_enabled_and_reached(machine: Machine, figures: Figures) -> None:
    began_s = time.monotonic()
    machine.dpkg("--install", "/root/fastun.deb")
    machine.booted.write("/etc/fastun/office.toml", OFFICE)
    machine.booted.run("systemctl", "enable", "--now", SERVE)
    machine.start_client()
    machine.wait_answer()
    took_s = time.monotonic() - began_s
    figures.worst("dpkg, enable --now, peer add, connect: first packet", took_s, "s")
    assert took_s < 60 or is_busy()


def test_its_service_is_the_one_that_install_service_takes(machine: Machine) -> None:
    machine.booted.run("fastun", "install-service", "office")
    found = machine.booted.show(SERVE, "FragmentPath")
    assert found.endswith("lib/systemd/system/fastun-serve@.service")
    assert not [*(machine.booted.root / "etc/systemd/system").glob("fastun-*")]
    machine.wait_answer()


def test_it_starts_with_the_host(machine: Machine) -> None:
    machine.booted.reboot()
    machine.wait_answer()


def test_an_upgrade_restarts_what_runs_and_nothing_else(machine: Machine) -> None:
    before = machine.booted.show(SERVE, "MainPID")
    machine.dpkg("--install", "/root/fastun.deb")
    assert machine.booted.show(SERVE, "MainPID") not in (before, "0")
    assert machine.booted.show(CONNECT, "ActiveState") == "inactive"
    machine.wait_answer()


def test_a_kill_switch_has_no_gap_in_an_upgrade_and_goes_with_the_package(
    machine: Machine,
) -> None:
    booted = machine.booted
    machine.start_server()
    booted.run("fastun", "install-service", "home", "--role", "connect")
    assert machine.has_kill_switch()
    booted.run("sh", "-c", WATCH)
    machine.dpkg("--install", "/root/fastun.deb")
    assert booted.show(CONNECT, "ActiveState") == "active"
    booted.run("systemctl", "stop", CONNECT)
    booted.run("rm", "/run/watched")
    assert booted.run("cat", "/run/gaps") == ""
    assert machine.has_kill_switch()
    assert "kill switch removed" in machine.dpkg("--remove", "fastun")
    assert not machine.has_kill_switch()
    assert booted.show(SERVE, "ActiveState") == "inactive"
    assert "office0" not in booted.run("ip", "link")


def test_a_purge_leaves_nothing_but_the_operators_files(machine: Machine) -> None:
    machine.dpkg("--purge", "fastun")
    find = ("find", "/usr", "/var/lib", "/etc", "/run", "-xdev", "-name", "*fastun*")
    assert machine.booted.run(*find).split() == ["/etc/fastun"]
