"""The image under podman: a read-only root, CAP_NET_ADMIN, and nothing else.

server                                      client
to-client 10.0.0.1          ===veth===      to-server 10.0.0.2
fastun0   10.55.0.1         ...tunnel...    fastun0   10.55.0.2

Each is a container in a network namespace that the test has made. Building the image takes minutes:
a soak test.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import missing_capability
from fastun.lab.traffic import answers_ping
from tests.support import guide_page
from tests.support.guide_lab import ROOT, GuideLab
from tests.support.host_state import differences, host_state
from tests.support.podman import Container, Podman
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]

PAGE = guide_page.read(ROOT / "docs" / "guide" / "containers.md")
N_BYTES = 10**8
# What one capability leaves out.
WITHOUT_USER = "own (without CAP_KILL, CAP_SETGID, CAP_SETUID)"
WITHOUT_ICMP = "cannot read ICMP (needs CAP_NET_RAW)"


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    found = Podman(tmp_path_factory.mktemp("podman"))
    try:
        yield found
    finally:
        found.end()


class Ground:
    """Two hosts on a wire, on each of which a container can run."""

    def __init__(self, podman: Podman, lab: Lab, directory: Path) -> None:
        self.hosts = self.server, self.client = lab.host("server"), lab.host("client")
        lab.wire(self.server, self.client, ["10.0.0.1/24"], ["10.0.0.2/24"])
        self.directory = directory
        # As udev makes it: all users may open it.
        device = directory / "tun"
        os.mknod(device, stat.S_IFCHR, os.makedev(10, 200))
        device.chmod(0o666)
        self.device = ("--device", f"{device}:/dev/net/tun")
        self._podman = podman

    def container(self, host: Host, *options: str, user: str = "0:0") -> Container:
        """Prepare one with what the image needs, and its state in a directory of ``user``."""
        state = self.directory / host.name
        state.mkdir()
        volume = ("--user", user, "--volume", f"{state}:/var/lib/fastun:U")
        return self.bare(host, "--cap-add", "NET_ADMIN", *self.device, *volume, *options)

    def bare(self, host: Host, *options: str) -> Container:
        """Prepare one without anything but ``options``."""
        return Container(self._podman, host, *options)


@pytest.fixture
def ground(podman: Podman, lab: Lab, tmp_path: Path) -> Iterator[Ground]:
    yield Ground(podman, lab, tmp_path)
    podman.print_logs()


@pytest.mark.parametrize("scene", PAGE.scenes, ids=[scene.name for scene in PAGE.scenes])
def test_a_reader_who_types_what_the_page_says_sees_what_it_says(
    podman: Podman,
    scene: guide_page.Scene,
    lab: Lab,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", podman.path())
    try:
        GuideLab(lab, "office", tmp_path).follow(scene)
    finally:
        podman.print_logs()


@pytest.mark.parametrize("user", ["0:0", "10055:10055"])
@pytest.mark.parametrize("scheme", ["udp", "tcp"])
def test_both_ends_carry_every_byte_from_containers_with_one_capability(
    ground: Ground, user: str, scheme: str
) -> None:
    settings = [f"net.ipv4.conf.{which}.send_redirects" for which in ("all", "default")]
    for host in ground.hosts:  # podman leaves them set in the host's namespace
        host.sysctl("net.ipv4.ping_group_range", "0 0")
    for name in settings:
        ground.server.sysctl(name, 0)
    before = [host_state(host) for host in ground.hosts]
    options = (word for name in settings for word in ("--sysctl", f"{name}=0"))
    server = ground.container(ground.server, *options, user=user)
    server.start("serve")
    wait_until(server.is_healthy, "the server is healthy", timeout_s=30)
    file = ground.directory / "laptop.toml"
    file.touch(mode=0o600)
    file.write_text(server.fastun("peer", "add", "laptop", "--endpoint", f"{scheme}://10.0.0.1"))
    os.chown(file, *map(int, user.split(":")))
    mounted = f"{file}:/etc/fastun/laptop.toml:ro"
    client = ground.container(ground.client, "--volume", mounted, user=user)
    client.start("connect", "/etc/fastun/laptop.toml")
    wait_until(client.is_healthy, "the client is healthy", timeout_s=30)
    wait_until(lambda: answers_ping(ground.client, "10.55.0.1"), "the tunnel", timeout_s=20)
    both = (ground.client, ground.server, "10.55.0.1"), (ground.server, ground.client, "10.55.0.2")
    for source, to, address in both:
        transfer = start_transfer(source, to, address, n_bytes=N_BYTES).result(timeout=120)
        assert transfer.is_exact

    status = json.loads(server.fastun("status", "--json"))
    assert status["peers"][0]["link"]["transport"] == scheme
    for confined in (status["confinement"], status["confinement"]["gateway"]):
        assert confined["user"] == int(user.partition(":")[0])
        assert confined["seccomp"]
        assert confined["landlock"] > 0
        (lack,) = confined["lacks"]
        assert lack.endswith(WITHOUT_USER)
    has_secret_memory = [
        "secretmem" in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
        for pid in ground.server.pids()
    ]
    assert any(has_secret_memory)
    assert server.warnings() == [WITHOUT_ICMP]
    assert [each.stop() for each in (client, server)] == [0, 0]
    assert [host.pids() for host in ground.hosts] == [[], []]
    after = [host_state(host) for host in ground.hosts]
    assert [differences(*each) for each in zip(before, after, strict=True)] == [[], []]


def test_what_a_container_refuses_is_one_line_that_says_how_to_start_it(ground: Ground) -> None:
    ground.server.sysctl("net.ipv4.ip_forward", 0)
    server = ground.container(ground.server)
    code, printed = server.run_to_end("serve", "--forward", "--masquerade")
    assert code == 1
    (line,) = (line for line in printed.splitlines() if line.startswith("fastun: "))
    assert "start the container with --sysctl net.ipv4.ip_forward=1" in line


def test_a_container_without_its_capability_or_its_device_says_so(ground: Ground) -> None:
    for host, options, said in (
        (ground.server, ground.device, "CAP_NET_ADMIN"),
        (ground.client, ("--cap-add", "NET_ADMIN"), "/dev/net/tun"),
    ):
        code, printed = ground.bare(host, *options).run_to_end("serve")
        assert code == 1
        (line,) = printed.strip().splitlines()
        assert said in line
