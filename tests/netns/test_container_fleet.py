"""packaging/container/fleet.yaml does what its first lines say: three gateways and a database.

And podman-compose starts the server of compose.yaml, whose other images are not of this project.

laptop 192.0.2.2 ===veth=== docker 192.0.2.1 ---bridge--- gw1, gw2, gw3, db (containers)

By hand (make soak): the images take minutes, and podman-compose is needed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import missing_capability
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import FASTUN
from tests.support.podman import ROOT, Podman

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]

FILES = ROOT / "packaging" / "container"
GATEWAYS = ("gw1", "gw2", "gw3")


def steps() -> list[str]:
    """Return the commands of the file's first lines, as typed with podman."""
    head = (FILES / "fleet.yaml").read_text(encoding="utf-8").partition("\nname:")[0]
    lines = re.findall(r"^#     (.*)$", head, re.MULTILINE)
    typed = "\n".join(line.partition("   ")[0] if "(or " in line else line for line in lines)
    typed = typed.replace("docker compose", "podman-compose").replace("docker", "podman")
    return typed.replace("\\\n", " ").splitlines()[1:]  # without `cd`


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    if shutil.which("podman-compose") is None:
        pytest.skip("needs podman-compose (Debian package podman-compose)")
    found = Podman(tmp_path_factory.mktemp("podman"))
    # Beforehand, with the machine's network: `up` has the host's.
    found.build("fastun-postgres", FILES / "Containerfile.postgres")
    try:
        yield found
    finally:
        found.end()


class Composed:
    """What a compose file starts at a host."""

    def __init__(self, podman: Podman, host: Host, directory: Path) -> None:
        """Have a copy of the file's directory."""
        self.podman = podman
        self._host = host
        self.home = directory / "container"
        shutil.copytree(FILES, self.home)

    def follow(self) -> None:
        """Type the first lines of fleet.yaml."""
        for step in steps():
            self.type(step.replace("vpn.example.net", "192.0.2.1"))

    def type(self, line: str) -> str:
        """Type a line; return what it prints."""
        inside = ("ip", "netns", "exec", self._host.namespace, "env", f"PATH={self.podman.path()}")
        done = subprocess.run(
            [*inside, "sh", "-c", line],
            cwd=self.home, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        print(line, done.stdout, done.stderr, sep="\n")  # noqa: T201
        assert done.returncode == 0, f"{line}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout

    def connect(self, laptop: Host) -> None:
        """Connect with the file that has been made."""
        own = str(self.home.parent)
        file = str(self.home / "laptop.toml")
        options = ("--state", own, "--run-dir", own, "--metrics", "off")
        laptop.spawn(*FASTUN, "connect", file, *options)

    def peers(self, gateway: str) -> dict[str, bool]:
        """Return the peers that a gateway knows, and whether they are connected to it."""
        listed = json.loads(self._fastun(gateway, "peer", "list", "--json"))
        return {each["name"]: each["up"] for each in listed}

    def _fastun(self, gateway: str, *command: str) -> str:
        return self.podman("exec", f"fastun-{gateway}", "fastun", *command).stdout


@pytest.fixture
def laptop_and_docker(podman: Podman, lab: Lab) -> Iterator[tuple[Host, Host]]:
    laptop, docker = lab.host("laptop"), lab.host("docker")
    lab.wire(docker, laptop, ["192.0.2.1/24"], ["192.0.2.2/24"])
    with podman.at(docker):
        try:
            yield laptop, docker
        finally:
            podman.print_logs()


def test_three_gateways_and_a_database_from_one_file(
    podman: Podman, laptop_and_docker: tuple[Host, Host], tmp_path: Path
) -> None:
    laptop, docker = laptop_and_docker
    fleet = Composed(podman, docker, tmp_path)
    fleet.follow()
    fleet.connect(laptop)
    wait_until(lambda: answers_ping(laptop, "10.9.0.1"), "the tunnel", timeout_s=60)
    assert fleet.peers("gw1") == {"laptop": True}
    assert [fleet.peers(name) for name in ("gw2", "gw3")] == [{"laptop": False}] * 2

    fleet.type("podman stop fastun-gw1")
    wait_until(lambda: answers_ping(laptop, "10.9.0.1"), "another gateway", timeout_s=20)
    assert sorted(fleet.peers(name)["laptop"] for name in ("gw2", "gw3")) == [False, True]

    fleet.type("podman exec fastun-gw2 fastun peer add desk > desk.toml")
    wait_until(lambda: "desk" in fleet.peers("gw3"), "desk on gw3", timeout_s=10)
    fleet.type("podman-compose -f fleet.yaml down")


def test_podman_compose_starts_the_server_that_has_prometheus_beside_it(
    podman: Podman, laptop_and_docker: tuple[Host, Host], tmp_path: Path
) -> None:
    laptop, docker = laptop_and_docker
    server = Composed(podman, docker, tmp_path)
    server.type("podman-compose -f compose.yaml up -d fastun")

    def is_ready() -> bool:
        return podman("exec", "fastun", "fastun", "status", "--ready", check=False).returncode == 0

    wait_until(is_ready, "the server is ready", timeout_s=30)
    line = "podman exec fastun fastun peer add laptop --endpoint udp://192.0.2.1 > laptop.toml"
    server.type(f"{line}; chmod 600 laptop.toml")
    server.connect(laptop)
    wait_until(lambda: answers_ping(laptop, "10.55.0.1"), "the tunnel", timeout_s=60)
