"""What a gateway and its workers have loaded when they are up: memory that every user pays for.

The modules below are those that a library brings with it unasked, or that only one command needs.
Named modules are looked for, since megabytes and milliseconds differ from host to host.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun import imports
from fastun.lab.host import run_command, wait_until
from fastun.lab.tunnel import start_gateway
from fastun.peers.store import PeerStore

if TYPE_CHECKING:
    from fastun.lab.network import Lab

pytestmark = pytest.mark.slow

METRICS_ONLY = ("email", "fastun.metrics", "http.server", "prometheus_client.registry", "wsgiref")

# For other commands, for developers, and what libraries import for parts that we do not use.
NEVER = (
    "attr",
    "cryptography",  # 8 MiB
    "ctypes",  # 0.7 MiB
    "dns",  # but where a name is looked up past the tunnel
    "fastun.bench",
    "fastun.command.peer_cli",
    "fastun.doctor",
    "fastun.lab",
    "fastun.top",
    "hypothesis",
    "markdown_it",
    "matplotlib",
    "multiprocessing",
    "numpy",
    "psutil",
    "pygments",
    "pyroute2.conntrack",
    "pyroute2.ipdb",
    "pyroute2.ndb",
    "pyroute2.netlink.nl80211",
    "pyroute2.netlink.rtnl.tcmsg",
    "pyroute2.plan9",
    "pytest",
    "rich.console",
    "segno",
    "_ssl",
    "structlog.stdlib",
    "unittest.case",
    "unittest.mock",
    "urllib.request",
)

OF_THE_HOST_PROCESS = (
    "fastun.host.device",
    "fastun.host.firewall.nft",
    "fastun.host.hooks.runner",
    "fastun.host.journal.journal",
    "fastun.host.reconcile",
    "pyroute2",
    "sqlite3",  # with what we do with it 1.2 MiB
)

# A gateway and its host process have 745 with Python 3.11, and its template 113; others have some
# more or fewer.
GATEWAY_MODULES_MAX = 790
WORKER_MODULES_MAX = 135

# What the gateway does for its workers.
NOT_IN_A_WORKER = (
    *NEVER,
    *METRICS_ONLY,
    "asyncio",
    "click",
    "dataclasses",  # with inspect 1 MiB; msgspec.Struct is there anyway
    "decimal",
    "fastun.config",
    "fastun.gateway",
    "fastun.host",
    "fastun.link",
    "fastun.log",
    "fastun.peers",
    "fastun.session",
    "fastun.status",
    "inspect",
    "ipaddress",
    "json",
    "logging",
    "msgspec.inspect",
    "nacl",
    "platform",
    "pyroute2",
    "selectors",
    "socket",  # its constants as enumerations: 1 MiB
    "sqlite3",
    "structlog",
    "subprocess",
    "threading",
    "tomllib",
)

# Starts the command line. The template of its workers is started by `sys.executable`, which is
# fastun's own choice and not the environment's.
PROGRAM = "import sys; sys.executable = {!r}; from fastun.command.cli import main; main()"


def python_with_reports(directory: Path) -> Path:
    """Return a Python that writes what it imports to a file of its own there."""
    script = directory / "python"
    script.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -X importtime "$@" 2>"{directory}/template.$$"\n'
    )
    script.chmod(0o755)
    return script


def loaded(report: Path) -> set[str]:
    """Return the modules in a report of -X importtime. It lists what was not found as well."""
    lines = report.read_text().splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}


def found(modules: set[str], unwanted: tuple[str, ...]) -> list[str]:
    return [name for name in unwanted if name in modules]


@pytest.mark.parametrize("metrics", ["127.0.0.1:9100", "off"])
def test_a_gateway_and_its_workers_load_no_more_than_they_use(
    lab: Lab, tmp_path: Path, metrics: str
) -> None:
    host = lab.host("server")
    report = tmp_path / "gateway"
    program = PROGRAM.format(str(python_with_reports(tmp_path)))
    command = [sys.executable, "-X", "importtime", "-c", program, "serve", "-i", "ft0"]
    command += ["--address", "10.99.0.1/24", "--metrics", metrics]
    command += ["--state", str(tmp_path), "--run-dir", str(tmp_path)]
    with report.open("wb") as stderr:
        host.spawn(*command, stderr=stderr)
    wait_until(lambda: "gateway   up" in report.read_text(), "the gateway", timeout_s=20)

    def templates() -> list[set[str]]:
        """What the process that forks the workers has loaded, and the workers behind it."""
        all_of_them = map(loaded, tmp_path.glob("template.*"))
        return [modules for modules in all_of_them if "fastun.native.loop" in modules]

    wait_until(lambda: len(templates()) == 1, "the template", timeout_s=20)
    gateway = loaded(report)
    assert "fastun.gateway.gateway" in gateway
    assert found(gateway, NEVER) == []
    assert found(gateway, METRICS_ONLY) == ([] if metrics == "off" else list(METRICS_ONLY))
    assert found(templates()[0], NOT_IN_A_WORKER) == []
    assert len(gateway) <= GATEWAY_MODULES_MAX
    assert len(templates()[0]) <= WORKER_MODULES_MAX


def test_a_gateway_has_nothing_with_which_it_could_change_its_host() -> None:
    program = "import sys, fastun.gateway.run; print(*sys.modules)"
    modules = run_command(sys.executable, "-c", program).stdout.split()
    assert "fastun.host.process.gateway_device" in modules
    assert found(set(modules), OF_THE_HOST_PROCESS) == []


def test_no_library_is_mapped_that_is_not_used(lab: Lab, tmp_path: Path) -> None:
    """Nor is code of the fastest sealing library that only its own test has executed."""
    host = lab.host("server")
    with PeerStore(tmp_path / host.name):
        pass  # as at any start but the first
    gateway = start_gateway(host, tmp_path, "serve", addresses=["10.99.0.1/24"], wire="wireguard")
    wait_until(lambda: len(host.pids()) >= 7, "all processes", timeout_s=20)
    wait_until(lambda: "gateway   up" in gateway.log_file.read_text(), "the gateway", timeout_s=20)
    for pid in host.pids() if imports.has_own_hashes() else []:
        assert "libcrypto" not in Path(f"/proc/{pid}/maps").read_text()
    assert "libsqlite3" not in Path(f"/proc/{gateway.process.pid}/maps").read_text()
    mapped = {pid: resident_kib_of_ipsec_mb(pid) for pid in host.pids()}
    assert not mapped[gateway.process.pid]
    assert max(mapped.values()) < 1024, mapped  # of 3,300 that its own test goes through


def resident_kib_of_ipsec_mb(pid: int) -> int:
    """Return how much code of it a process has mapped, 0 where it is not loaded."""
    maps = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    starts = [n for n, line in enumerate(maps) if " r-xp " in line and "libIPSec_MB" in line]
    rss = [line for n in starts for line in maps[n : n + 6] if line.startswith("Rss:")]
    return sum(int(line.split()[1]) for line in rss)
