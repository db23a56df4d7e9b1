"""Packages on fresh systems: from the file to the first packet, and gone without a trace.

For `FASTUN_SOAK=1`, after `./run package`. Needs root, debootstrap and the distributions' mirrors.

server 10.0.0.1  ===veth===  laptop 10.0.0.2     each with the package in a root of its own release
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fastun
from fastun.lab.host import run_command, wait_until
from tests.support.fresh_root import RELEASES, ROOT, FreshRoot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from tests.support.figures import Figures

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(shutil.which("debootstrap") is None, reason="debootstrap is missing"),
]
DIST = ROOT / "dist"
LIMIT_S = 60.0
_SCRAPE = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:10055/metrics").read().decode())
"""
_TAB_IN_BASH = """
source /usr/share/bash-completion/completions/fastun
COMP_WORDS=(fastun peer show l) COMP_CWORD=3
_fastun_completion fastun l show
printf '%s' "${COMPREPLY[*]}"
"""


def is_busy() -> bool:
    """Whether others use this machine: then what takes long says nothing."""
    return os.getloadavg()[0] > 2 * (os.cpu_count() or 1)


def package(pattern: str) -> Path:
    found = sorted(DIST.glob(pattern))
    if not found:
        pytest.skip(f"no {pattern} in dist: run ./run package first")
    return found[-1]


@pytest.fixture(params=RELEASES)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FreshRoot]:
    with FreshRoot(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def wired(lab: Lab, hosts: tuple[Host, Host]) -> tuple[Host, Host]:
    lab.wire(*hosts, ["10.0.0.1/24"], ["10.0.0.2/24"])
    return hosts


def first_packet(root: FreshRoot, hosts: tuple[Host, Host], logs: Path, command: str) -> None:
    """Start both ends, and return when a packet has come back through the tunnel."""
    server, client = hosts
    serving = root.spawn(server, logs / "server.log", command, "serve", "--address", "10.9.0.1/24")
    wait_until(lambda: server.listens(51820, udp=True), "the server", timeout_s=30)
    adding = (command, "peer", "add", "laptop", "--endpoint", "udp://10.0.0.1")
    file = root.run(*adding, host=server)
    (root.path / "root" / "laptop.toml").touch(0o600)
    (root.path / "root" / "laptop.toml").write_text(file)
    dialling = root.spawn(client, logs / "client.log", command, "connect", "/root/laptop.toml")

    def answers() -> bool:
        for process in (serving, dialling):
            assert process.poll() is None, (logs / "client.log").read_text()
        return client.run("ping", "-c1", "-W1", "10.9.0.1", check=False).returncode == 0

    wait_until(answers, "the first packet", timeout_s=30, interval_s=0.01)
    metrics = server.run(sys.executable, "-c", _SCRAPE).stdout
    assert re.search(rf'fastun_info{{.*version="{fastun.__version__}"', metrics)
    for process in (dialling, serving):
        process.terminate()
        assert process.wait(15) == 0


@pytest.mark.promise("Installed from the deb on a fresh system, the first packet within a minute")
def test_the_deb_makes_a_tunnel_within_a_minute_and_is_removed_without_a_trace(
    root: FreshRoot, wired: tuple[Host, Host], tmp_path: Path, figures: Figures
) -> None:
    shutil.copy(package("fastun_*.deb"), root.path / "root" / "fastun.deb")
    begin = time.monotonic()
    root.run("apt-get", "update")
    root.run("apt-get", "install", "-y", "--no-install-recommends", "/root/fastun.deb")
    first_packet(root, wired, tmp_path, "fastun")
    took = time.monotonic() - begin
    figures.worst("from the package to the first packet, five commands", took, "s")
    assert took < LIMIT_S or is_busy()

    installed = root.run("dpkg-query", "--show", "--showformat=${Version}", "fastun")
    assert installed == f"{fastun.__version__}-1"
    assert root.run("fastun", "--version") == f"fastun {fastun.__version__}\n"
    assert "of this package" in root.run("fastun", "doctor", check=False)
    assert "fastun.json" in root.run("fastun", "grafana", "--out", "/root/monitoring")
    root.run("apt-get", "install", "-y", "--reinstall", "/root/fastun.deb")
    completed = root.run("bash", "-c", _TAB_IN_BASH, host=wired[0])
    assert completed == "laptop"
    root.run("apt-get", "install", "-y", "--no-install-recommends", "fish")
    asked = ("fish", "-c", 'complete --do-complete "fastun peer show "')
    assert root.run(*asked, host=wired[0]).split() == ["laptop"]
    (root.path / "etc" / "fastun" / "office.toml").touch(0o600)
    root.run("apt-get", "purge", "-y", "fastun")
    left = root.run("find", "/usr", "/var/lib", "/etc", "/run", "-xdev", "-name", "*fastun*")
    assert left.split() == ["/etc/fastun"]  # what is in there the operator has written


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_the_wheel_needs_no_compiler_and_no_headers(
    release: str, wired: tuple[Host, Host], tmp_path: Path
) -> None:
    wheels = [package("fastun-*.whl"), *(ROOT / ".package" / "wheels").glob("*.whl")]
    with FreshRoot(release, tmp_path) as root:
        (root.path / "root" / "wheels").mkdir()
        for wheel in wheels:
            shutil.copy(wheel, root.path / "root" / "wheels")
        root.run("apt-get", "update")
        root.run("apt-get", "install", "-y", "--no-install-recommends", "python3-venv")
        for absent in ("usr/bin/gcc", "usr/bin/cc", "usr/include/gcrypt.h"):
            assert not (root.path / absent).exists()
        root.run("python3", "-m", "venv", "/opt/fastun")
        offline = ("--no-index", "--find-links", "/root/wheels")
        root.run("/opt/fastun/bin/pip", "install", *offline, "fastun")
        first_packet(root, wired, tmp_path, "/opt/fastun/bin/fastun")
        said = root.run("/opt/fastun/bin/fastun", "doctor", check=False)
        assert "implementation: libgcrypt" in " ".join(said.split())
        assert "of this package" in said


@pytest.mark.skipif(shutil.which("lintian") is None, reason="lintian is missing")
def test_lintian_has_nothing_to_say() -> None:
    done = run_command("lintian", str(package("fastun_*.deb")), timeout_s=300, check=False)
    assert done.stdout == ""


@pytest.mark.parametrize("pattern", ["fastun-*.cdx.json", "fastun_*.cdx.json"])
def test_the_list_of_contents_names_each_library_with_its_version(pattern: str) -> None:
    listed = json.loads(package(pattern).read_text(encoding="utf-8"))
    assert listed["metadata"]["component"]["version"] == fastun.__version__
    versions = {each["name"]: each.get("version") for each in listed["components"]}
    assert versions["libgcrypt"] == "1.11.0"
    if pattern.startswith("fastun_"):
        pins = (ROOT / "packaging" / "runtime.txt").read_text(encoding="utf-8")
        assert dict(re.findall(r"^(\S+)==(\S+)", pins, re.MULTILINE)).items() <= versions.items()
