"""What fails of a host under a tunnel that runs: its disk, its clock, its limits.

What others do to device, addresses, routes and rules is in tests/netns/test_host_changed.py, a
suspend in test_suspend.py, a device in another namespace in test_host_restored.py.
tests/conftest.py has the topology; each end's state is on a small disk of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import run_command, wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import (
    CLIENT_ADDRESSES,
    FASTUN,
    INTERFACE,
    SERVER_ADDRESSES,
    Tunnel,
    add_peer,
    endpoints,
    start_gateway,
)
from tests.support.failing_calls import FailingCalls, build
from tests.support.faulted_tunnel import HASTY
from tests.support.serve_and_dial import log_of
from tests.support.transfer import Probe, probing, start_transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastun.lab.tunnel import GatewayProcess
    from tests.support.figures import Figures

TEN_YEARS_S = 10 * 365 * 86400
# Keys change every second; a machine on which four tunnels run at once is late itself.
GOES_ON_S = 15.0
N_REKEYS = 10 if os.environ.get("FASTUN_SOAK") == "1" else 1


class Ends:
    """Both ends of a tunnel over UDP whose keys change every second."""

    def __init__(self, lab: Lab, directory: Path, stack: contextlib.ExitStack) -> None:
        """Start both, and a probe between them."""
        self.directory = directory
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, ["10.0.0.1/24"], ["10.0.0.2/24"])
        library = build(directory)
        self.calls = {
            host.name: FailingCalls(library, directory / f"calls-{host.name}")
            for host in (server, client)
        }
        for host in (server, client):
            home = directory / host.name
            home.mkdir()
            run_command("mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(home))
            stack.callback(run_command, "umount", "-l", str(home))
        listen = ("--listen", *endpoints("10.0.0.1", "udp"))
        # fmt: off
        self.server = start_gateway(server, directory, "serve", *listen, wire="wireguard",
                                    addresses=SERVER_ADDRESSES,
                                    program=self.calls["server"].program(HASTY))
        file = add_peer(self.server, "client", "10.0.0.1", "udp")
        self.client = start_gateway(client, directory, "connect", str(file), wire="wireguard",
                                    addresses=CLIENT_ADDRESSES,
                                    program=self.calls["client"].program(HASTY))
        # fmt: on
        Tunnel(self.server, self.client).wait_up()
        self.probe: Probe = stack.enter_context(probing(client, server, self.server.inner_address))

    def home(self, end: GatewayProcess) -> Path:
        """Return where an end keeps its state."""
        return self.directory / end.host.name

    def goes_on(self) -> float:
        """Wait for new keys; return the longest time without an answer meanwhile."""
        wanted, longest_s = self.n_rekeys() + N_REKEYS, 0.0
        deadline_s = time.monotonic() + GOES_ON_S
        while self.n_rekeys() < wanted:
            assert time.monotonic() < deadline_s, "no new keys"
            for _ in range(10):  # a look at the metrics costs more than a probe
                longest_s = max(longest_s, self.probe.seconds_until_answer())
                time.sleep(0.02)
        return longest_s

    def n_rekeys(self) -> float:
        """Count the changes of keys so far."""
        return self.client.scrape().total("fastun_rekeys_total")


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ends]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(Lab())
        running = Ends(lab, tmp_path_factory.mktemp("ends"), stack)
        yield running
        for end in (running.client, running.server):
            end.check_alive()
            assert end.stop() == 0


def add(ends: Ends, name: str) -> tuple[int, str]:
    """Have a peer added; return the exit code and what was said."""
    command = (sys.executable, "-m", "fastun", "peer", "add", name, "--endpoint", "udp://10.0.0.1")
    done = ends.server.host.run(*command, "--state", str(ends.home(ends.server)), check=False)
    return done.returncode, done.stderr


@pytest.mark.promise(
    "With a full disk a tunnel gets new keys as ever, and goes on when there is room"
)
def test_a_full_disk_stops_no_tunnel(ends: Ends, figures: Figures) -> None:
    fillers = [ends.home(end) / "filler" for end in (ends.server, ends.client)]
    for filler in fillers:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
    figures.worst("longest without an answer", ends.goes_on(), "s")
    code, said = add(ends, "another")
    assert code == 1
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1
    for filler in fillers:
        filler.unlink()
    assert add(ends, "another")[0] == 0
    ends.goes_on()


@pytest.mark.promise(
    "With a state directory that has become read-only a tunnel gets new keys as ever"
)
def test_a_read_only_state_stops_no_tunnel(ends: Ends, figures: Figures) -> None:
    for end in (ends.server, ends.client):
        home = str(ends.home(end))
        mounted = ("nsenter", "-t", str(end.process.pid), "-m")
        run_command(*mounted, "mount", "--bind", home, home)
        run_command(*mounted, "mount", "-o", "remount,bind,ro", home)
    figures.worst("longest without an answer", ends.goes_on(), "s")
    for end in (ends.server, ends.client):
        run_command("nsenter", "-t", str(end.process.pid), "-m", "umount", str(ends.home(end)))
    ends.goes_on()
    assert "Traceback" not in log_of(ends.server) + log_of(ends.client)


@pytest.mark.promise("A damaged peer directory cuts off no peer that is connected, and is said")
def test_a_damaged_directory_cuts_no_peer_off(ends: Ends, figures: Figures) -> None:
    file = ends.home(ends.server) / "peers.sqlite"
    kept = ends.directory / "kept.sqlite"
    shutil.copy(file, kept)
    file.write_bytes(b"\xa5" * file.stat().st_size)
    said = "cannot read the peer directory"
    wait_until(lambda: said in log_of(ends.server), "the log says so", timeout_s=GOES_ON_S)
    figures.worst("longest without an answer", ends.goes_on(), "s")
    shutil.copy(kept, file)
    assert add(ends, "a-fourth")[0] == 0
    ends.goes_on()
    assert answers_ping(ends.client.host, ends.server.inner_address)


@pytest.mark.promise("A clock that jumps ten years, either way and on either side, costs no packet")
@pytest.mark.parametrize("which", ["server", "client"])
def test_a_clock_that_jumps_ten_years_costs_nothing(
    ends: Ends, which: str, figures: Figures
) -> None:
    lost_before = [end.scrape().dropped() for end in (ends.client, ends.server)]
    for ahead_s in (TEN_YEARS_S, -TEN_YEARS_S, 0):
        ends.calls[which].set_clock(ahead_s)
        figures.worst("longest without an answer", ends.goes_on(), "s")
    assert [end.scrape().dropped() for end in (ends.client, ends.server)] == lost_before


@pytest.mark.promise("An MTU of the device that is changed under way costs no connection")
def test_an_mtu_that_changes_costs_nothing(ends: Ends, figures: Figures) -> None:
    host = ends.client.host
    before = host.ip("-o", "link", "show", INTERFACE).partition(" mtu ")[2].split()[0]
    for mtu in ("1280", "576", "9000", before):
        host.ip("link", "set", INTERFACE, "mtu", mtu)
        figures.worst("longest without an answer", ends.goes_on(), "s")
        for size in ("500", "1200", "4000"):
            done = host.run(
                "ping", "-c1", "-W2", "-s", size, ends.server.inner_address, check=False
            )
            assert done.returncode == 0, (mtu, size)


@pytest.mark.promise("A client runs with 64 open files")
def test_a_client_runs_with_64_open_files(lab: Lab, tmp_path: Path) -> None:
    run_limited(lab, tmp_path, "prlimit", "--nofile=64:64")


@pytest.mark.promise("A client runs, and carries, in 64 MiB of memory with all its processes")
def test_a_client_runs_in_64_mib(lab: Lab, tmp_path: Path, figures: Figures) -> None:
    group = Path("/sys/fs/cgroup/memory") / f"fastun-test-{os.getpid()}"
    if not group.parent.joinpath("memory.limit_in_bytes").exists():
        pytest.skip("needs the memory controller of cgroups, version 1")
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(64 * 2**20))
        # Where namespaces of networks are entered, control groups are out of sight.
        waits = ("sh", "-c", 'kill -STOP $$; exec "$@"', "sh")
        run_limited(lab, tmp_path, *waits, begin=lambda pid: enter(group, pid))
        most_bytes = int((group / "memory.max_usage_in_bytes").read_text())
        assert "oom_kill 0" in (group / "memory.oom_control").read_text()
        figures.worst("at most", most_bytes / 2**20, "MiB")
        assert most_bytes > 20 * 2**20, "it was in no group"
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), "they are gone")
        group.rmdir()


def enter(group: Path, pid: int) -> None:
    """Put a process that has stopped itself into a control group, and let it go on."""
    stat = Path(f"/proc/{pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it waits")
    (group / "cgroup.procs").write_text(str(pid))
    os.kill(pid, signal.SIGCONT)


def run_limited(
    lab: Lab, tmp_path: Path, *before: str, begin: Callable[[int], None] = lambda _: None
) -> None:
    """Run a client under limits, which a command in front of it sets, beside a server without."""
    server, client = lab.host("server"), lab.host("client")
    lab.wire(server, client, ["10.0.0.1/24"], ["10.0.0.2/24"])
    listen = ("--listen", *endpoints("10.0.0.1", "udp"))
    # fmt: off
    serving = start_gateway(server, tmp_path, "serve", *listen, wire="wireguard",
                            addresses=SERVER_ADDRESSES)
    file = add_peer(serving, "client", "10.0.0.1", "udp")
    limited = start_gateway(client, tmp_path, "connect", str(file), wire="wireguard",
                            addresses=CLIENT_ADDRESSES, program=(*before, *FASTUN))
    # fmt: on
    begin(limited.process.pid)
    Tunnel(serving, limited).wait_up()
    for source, destination in ((client, server), (server, client)):
        address = (serving if destination is server else limited).inner_address
        transfer = start_transfer(source, destination, address, n_bytes=2 * 10**7)
        assert transfer.result(timeout=60).is_exact
    assert limited.scrape().total("fastun_worker_restarts_total") == 0
    assert [gateway.stop() for gateway in (limited, serving)] == [0, 0]
