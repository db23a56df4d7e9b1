"""The units under a real systemd, on a booted Debian: what operators do with a service.

inside 10.20.0.2 ---- office: systemd, fastun-serve@office ---- laptop: fastun connect
                              fastun-connect@home --------------> and fastun serve
"""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import Lab
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import FASTUN
from fastun.native import ROLES
from tests.support import booted_host
from tests.support.booted_host import BootedHost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from tests.support.figures import Figures

pytestmark = [
    pytest.mark.soak,  # needs debootstrap and a minute of Debian's mirror
    pytest.mark.skipif(bool(booted_host.missing()), reason=f"needs {booted_host.missing()}"),
]

SERVE, CONNECT = "fastun-serve@office.service", "fastun-connect@home.service"
OFFICE = """
[interface]
name = "office0"
address = ["10.77.0.1/24"]
[listen]
tcp = ["tcp://192.0.2.1:55555"]
udp = ["udp://192.0.2.1:51820"]
[push]
routes = ["10.20.0.0/24"]
[forward]
enabled = true
masquerade = true
"""
NAME_SERVER = "10.88.0.1"
EXPOSURE_MAX = 1.5


class Office(NamedTuple):
    machine: BootedHost
    laptop: Host
    directory: Path
    start_s: float = 0.0

    def answers(self, address: str = "10.77.0.1") -> bool:
        return answers_ping(self.laptop, address)

    def wait_answer(self, address: str = "10.77.0.1", timeout_s: float = 30) -> None:
        wait_until(lambda: self.answers(address), f"ping of {address}", timeout_s=timeout_s)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    directory = tmp_path_factory.mktemp("booted")
    with Lab() as lab:
        server, laptop, inside = (lab.host(name) for name in ("office", "laptop", "inside"))
        lab.wire(server, laptop, ["192.0.2.1/24"], ["192.0.2.2/24"])
        lab.wire(server, inside, ["10.20.0.1/24"], ["10.20.0.2/24"])
        with booted_host.booted(server, directory) as machine:
            machine.write("/etc/fastun/office.toml", OFFICE)
            began_s = time.monotonic()
            machine.run("fastun", "install-service", "office")
            endpoints = ("--endpoint", "tcp://192.0.2.1:55555", "--endpoint", "udp://192.0.2.1")
            file = directory / "laptop.toml"
            file.touch(0o600)
            file.write_text(machine.run("fastun", "peer", "add", "laptop", *endpoints))
            places = ("--state", str(directory / "state"), "--run-dir", str(directory / "run"))
            with (directory / "laptop.log").open("wb") as log:
                laptop.spawn(
                    *(*FASTUN, "connect", str(file), "--metrics", "off", *places), stderr=log
                )
                found = Office(machine, laptop, directory)
                found.wait_answer()
                yield found._replace(start_s=time.monotonic() - began_s)


def status_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    pairs = (line.partition(":") for line in text.splitlines())
    return {key: value.strip() for key, _, value in pairs}


def assert_confined(office: Office, unit: str) -> None:
    """As tests/netns/test_processes.py has it for other ways of starting."""
    found = office.machine.processes(unit)
    assert found.keys() == {"gateway", "host", "template", *ROLES}
    users = set()
    for name, pid in found.items():
        has = status_of(pid)
        users.add(has["Uid"])
        assert has["NoNewPrivs"] == "1"
        assert has["CapBnd"] == f"{1 << 12:016x}"
        held = {int(has[each], 16) for each in ("CapPrm", "CapEff", "CapAmb")}
        assert held == ({1 << 12} if name == "host" else {0}), name
        n_filters = int(has["Seccomp_filters"])
        assert n_filters > int(status_of(found["host"])["Seccomp_filters"]) or name == "host"
        maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
        fields = [[*line.split(None, 5), ""][:6] for line in maps]
        shared = {each[5] for each in fields if each[1] == "rw-s"}
        assert all(each.startswith(("/memfd:fastun-", "/secretmem")) for each in shared)
        assert not [each for each in fields if {"w", "x"} <= set(each[1])]
    (numbers,) = users
    assert "0" not in numbers.split()


@pytest.mark.promise("A service is there a minute after its package")
def test_a_client_connects_soon_after_the_service_is_installed(
    office: Office, figures: Figures
) -> None:
    figures.worst("service started, peer added, connected, first answer", office.start_s, "s")
    assert office.start_s < 60


def test_its_processes_have_what_they_need_and_no_more(office: Office) -> None:
    assert_confined(office, SERVE)
    assert office.machine.exposure(SERVE) <= EXPOSURE_MAX
    status = office.machine.run("fastun", "status")
    assert "Landlock" in status
    warnings = [each["MESSAGE"] for each in office.machine.events(SERVE) if each["PRIORITY"] < "6"]
    assert [line for line in warnings if "ICMP" not in line] == []


def test_it_forwards_to_the_network_behind_it(office: Office) -> None:
    office.wait_answer("10.20.0.2")


def test_the_journal_has_events_with_fields(office: Office) -> None:
    (up,) = office.machine.events(SERVE, event="up", component="gateway")
    assert up["FASTUN_INTERFACE"] == "office0"
    assert up["_CAP_EFFECTIVE"] == "0"
    assert office.machine.events(SERVE, peer="laptop", event="up")


def test_a_reload_applies_the_file_and_keeps_the_sessions(office: Office) -> None:
    machine = office.machine
    gateway = machine.show(SERVE, "MainPID")
    machine.write("/etc/fastun/office.toml", OFFICE.replace('["10.20', '["10.20.0.2/32", "10.20'))
    machine.run("systemctl", "reload", SERVE)
    assert machine.events(SERVE, event="reloaded"), "systemctl waits for it"
    wait_until(lambda: "10.20.0.2 dev" in office.laptop.ip("route"), "the route", timeout_s=20)
    assert machine.show(SERVE, "MainPID") == gateway
    assert machine.show(SERVE, "ActiveState") == "active"
    machine.write("/etc/fastun/office.toml", "[interface]\nnonsense = 1\n")
    assert machine.done("systemctl", "reload", SERVE).returncode != 0
    assert machine.events(SERVE, event="not reloaded")
    assert machine.show(SERVE, "ActiveState") == "active"
    machine.write("/etc/fastun/office.toml", OFFICE)
    machine.run("systemctl", "reload", SERVE)
    assert office.answers()


def test_a_fault_in_the_file_is_named_and_not_tried_again(office: Office) -> None:
    machine = office.machine
    machine.write("/etc/fastun/broken.toml", "[interface]\nnonsense = 1\n")
    done = machine.done("fastun", "install-service", "broken")
    assert done.returncode == 1
    assert "fastun-serve@broken.service did not start: " in done.stderr
    assert "nonsense" in done.stderr
    assert machine.show("fastun-serve@broken.service", "ActiveState") == "failed"
    machine.run("fastun", "install-service", "broken", "--remove")
    assert machine.show(SERVE, "ActiveState") == "active"


@pytest.mark.promise("A service that hangs is ended and started again")
def test_the_watchdog_ends_a_gateway_that_hangs_and_it_is_started_again(
    office: Office, figures: Figures
) -> None:
    machine = office.machine
    drop_in = "[Service]\nWatchdogSec=4\nTimeoutAbortSec=2\n"
    machine.write(f"/etc/systemd/system/{SERVE}.d/watchdog.conf", drop_in)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", SERVE)
    office.wait_answer()
    before = machine.processes(SERVE)
    began_s = time.monotonic()
    os.kill(before["gateway"], signal.SIGSTOP)

    def is_new() -> bool:
        now = machine.processes(SERVE)
        return now.keys() == before.keys() and not {*now.values()} & {*before.values()}

    wait_until(is_new, "a new gateway", timeout_s=60, interval_s=0.2)
    office.wait_answer("10.20.0.2")
    figures.worst("stopped until it answers, of WatchdogSec 4", time.monotonic() - began_s, "s")
    assert machine.show(SERVE, "NRestarts") == "1"
    tables = machine.run("nft", "list", "tables").split("\n")
    assert len([line for line in tables if "fastun_office0_forward" in line]) == 1
    (machine.root / f"etc/systemd/system/{SERVE}.d/watchdog.conf").unlink()


def test_a_drop_in_gives_it_a_port_below_1024(office: Office) -> None:
    machine = office.machine
    machine.write("/etc/fastun/office.toml", OFFICE.replace(":55555", ":443"))
    done = machine.done("systemctl", "reload", SERVE)
    assert done.returncode != 0
    assert "CAP_NET_BIND_SERVICE" in machine.events(SERVE, event="not reloaded")[-1]["MESSAGE"]
    names = ("AmbientCapabilities", "CapabilityBoundingSet")
    text = "".join(f"{name}=CAP_NET_BIND_SERVICE\n" for name in names)
    machine.write(f"/etc/systemd/system/{SERVE}.d/port.conf", f"[Service]\n{text}")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", SERVE)
    assert "192.0.2.1:443" in machine.run("ss", "-Hltn")
    machine.write("/etc/fastun/office.toml", OFFICE)
    (machine.root / f"etc/systemd/system/{SERVE}.d/port.conf").unlink()
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", SERVE)
    office.wait_answer()


def test_a_killed_gateway_is_started_again(office: Office) -> None:
    machine = office.machine
    before = machine.processes(SERVE)
    os.kill(before["gateway"], signal.SIGKILL)
    wait_until(lambda: machine.show(SERVE, "MainPID") not in ("0", ""), "a start", timeout_s=30)
    wait_until(
        lambda: machine.processes(SERVE).get("gateway", 0) not in (0, before["gateway"]),
        "a new gateway",
        timeout_s=30,
    )
    office.wait_answer("10.20.0.2")


@pytest.fixture
def home(office: Office) -> Iterator[BootedHost]:
    """A tunnel from the booted host to a server on the laptop, with a DNS server."""
    machine, laptop = office.machine, office.laptop
    places = (
        "--state",
        str(office.directory / "hq"),
        "--run-dir",
        str(office.directory / "hq-run"),
    )
    listen = ("--listen", "udp://192.0.2.2:51999", "--address", "10.88.0.1/24", "-i", "hq0")
    log_file = office.directory / "hq.log"
    with log_file.open("wb") as log:
        server = laptop.spawn(*(*FASTUN, "serve", *listen, "--metrics", "off", *places), stderr=log)
    wait_until(lambda: " up " in log_file.read_text(), "hq", timeout_s=20)
    name = f"home{os.urandom(3).hex()}"
    add = (*FASTUN, "peer", "add", name, "--endpoint", "udp://192.0.2.2:51999", *places)
    text = '[metrics]\nlisten = "off"\n' + laptop.run(*add).stdout.replace(
        "[interface]", f'[interface]\nname = "home0"\ndns = ["{NAME_SERVER}", "corp.example"]'
    )
    machine.write("/etc/fastun/home.toml", text, 0o600)
    try:
        yield machine
    finally:
        machine.run("fastun", "install-service", "home", "--role", "connect", "--remove")
        server.terminate()
        server.wait(10)


def test_a_client_gives_its_dns_servers_to_resolved(home: BootedHost, office: Office) -> None:
    home.run("fastun", "install-service", "home", "--role", "connect")
    wait_until(lambda: NAME_SERVER in home.text("resolvectl", "dns", "home0"), "DNS", timeout_s=20)
    assert "corp.example" in home.run("resolvectl", "domain", "home0")
    assert_confined(office, CONNECT)
    assert home.exposure(CONNECT) <= EXPOSURE_MAX
    file = (home.root / "etc/fastun/home.toml").stat()
    assert (file.st_uid, file.st_mode & 0o777) == (0, 0o640)
    home.run("systemctl", "stop", CONNECT)
    assert "home0" not in home.text("resolvectl", "dns")


def test_a_client_writes_resolv_conf_where_no_program_manages_it(home: BootedHost) -> None:
    before = "nameserver 192.0.2.53\n"
    link = home.root / "etc/resolv.conf"
    target = link.readlink()
    home.run("systemctl", "stop", "systemd-resolved")
    link.unlink()
    home.write("/etc/resolv.conf", before)
    try:
        home.run("fastun", "install-service", "home", "--role", "connect")
        wait_until(lambda: NAME_SERVER in link.read_text(), "DNS", timeout_s=20)
        home.run("systemctl", "stop", CONNECT)
        assert link.read_text() == before
    finally:
        link.unlink()
        link.symlink_to(target)
        home.run("systemctl", "start", "systemd-resolved")


def test_a_key_can_be_a_credential(office: Office) -> None:
    machine = office.machine
    key = machine.run("cat", "/var/lib/fastun/private.key")
    machine.write("/etc/fastun/office.key", key, 0o600)
    machine.write(
        f"/etc/systemd/system/{SERVE}.d/key.conf",
        "[Service]\nLoadCredential=key:/etc/fastun/office.key\n",
    )
    line = '[interface]\nprivate_key_file = "$CREDENTIALS_DIRECTORY/key"'
    machine.write("/etc/fastun/office.toml", OFFICE.replace("[interface]", line))
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", SERVE)
    office.wait_answer()
    machine.run("systemctl", "reload", SERVE)
    wait_until(lambda: bool(machine.events(SERVE, event="reloaded")), "a reload", timeout_s=20)
    (machine.root / f"etc/systemd/system/{SERVE}.d/key.conf").unlink()
    machine.write("/etc/fastun/office.toml", OFFICE)
    machine.run("systemctl", "daemon-reload")


@pytest.mark.promise("A service starts with the host")
def test_it_starts_with_the_host(office: Office, figures: Figures) -> None:
    machine = office.machine
    began_s = time.monotonic()
    machine.reboot()
    office.wait_answer("10.20.0.2")
    figures.worst("reboot until it answers", time.monotonic() - began_s, "s")
    assert_confined(office, SERVE)


def test_an_installation_in_root_s_home_is_shown_to_the_service(office: Office) -> None:
    machine = office.machine
    install = "/root/own/bin/pip install -q --no-index --find-links /opt/wheels fastun"
    machine.run("sh", "-c", f"python3 -m venv /root/own && {install}")
    assert (machine.root / "root").stat().st_mode & 0o005 == 0
    machine.run("/root/own/bin/fastun", "install-service", "office")
    assert "/root/own/bin/fastun" in machine.show(SERVE, "ExecStart")
    office.wait_answer()
    assert_confined(office, SERVE)
    assert machine.exposure(SERVE) <= EXPOSURE_MAX + 0.1
    machine.run("systemctl", "reload", SERVE)
    machine.run("/opt/fastun/bin/fastun", "install-service", "office")


def test_it_runs_as_a_dynamic_user_as_well(office: Office) -> None:
    machine = office.machine
    text = "[Service]\nDynamicUser=yes\nUser=fastundyn\nGroup=fastundyn\nStateDirectory=\n"
    text += "StateDirectory=fastundyn\nRuntimeDirectory=\nRuntimeDirectory=fastundyn\n"
    machine.write(f"/etc/systemd/system/{SERVE}.d/dynamic.conf", text)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", SERVE)
    assert machine.show(SERVE, "DynamicUser") == "yes"
    wait_until(lambda: machine.processes(SERVE).keys() >= {"host", *ROLES}, "workers", timeout_s=20)
    assert_confined(office, SERVE)
    assert machine.exposure(SERVE) <= EXPOSURE_MAX
    uid = re.findall(r"\d+", status_of(machine.processes(SERVE)["gateway"])["Uid"])[0]
    assert 61184 <= int(uid) <= 65519
