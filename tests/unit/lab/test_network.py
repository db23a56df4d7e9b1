from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fastun.lab.host import NAMESPACE_DIR, LabError, wait_until
from fastun.lab.network import ALLOWED_ALGORITHMS, CONGESTION_CONTROL, Lab
from fastun.lab.traffic import iperf3, ping
from fastun.lab.tunnel import Scrape

pytestmark = pytest.mark.slow  # it makes namespaces


# Prints the names of what it made, then waits for its end.
A_LABORATORY = """
import time
from fastun.lab.network import Lab
with Lab() as lab:
    host = lab.host("alone")
    print(host.namespace, host.spawn("sleep", "1000").pid, flush=True)
    time.sleep(1000)
"""


def is_there(namespace: str) -> bool:
    return (NAMESPACE_DIR / namespace).exists()


def runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def start_laboratory() -> tuple[subprocess.Popen[str], str, int]:
    process = subprocess.Popen(
        [sys.executable, "-c", A_LABORATORY],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    namespace, pid = process.stdout.readline().split()
    assert is_there(namespace)
    assert runs(int(pid))
    # Until it is what was spawned, the programs before it may not have asked for their end.
    comm = Path(f"/proc/{pid}/comm")
    wait_until(lambda: comm.read_text(encoding="ascii") == "sleep\n", "the process")
    return process, namespace, int(pid)


def test_a_wire_carries_the_first_packet_of_both_ip_versions(lab: Lab) -> None:
    a, b = lab.host("a"), lab.host("b")
    lab.wire(a, b, ["10.0.0.1/24", "fd00::1/64"], ["10.0.0.2/24", "fd00::2/64"])
    for address in ("10.0.0.2", "fd00::2"):
        result = ping(a, address, n=3)
        assert (result.n_sent, result.n_received) == (3, 3)
        assert 0 < result.min_ms <= result.avg_ms <= result.max_ms < 500


def test_iperf3_reports_what_was_asked_for(lab: Lab) -> None:
    a, b = lab.host("a"), lab.host("b")
    lab.wire(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"])
    tcp = iperf3(a, b, "10.0.0.2", n_bytes=50_000_000, n_streams=2, reverse=True)
    # iperf3 stops at whole blocks of 128 KiB, and what is under way at the end is not counted.
    assert 40_000_000 < tcp.n_bytes < 60_000_000
    assert tcp.congestion_control == lab.congestion_control
    udp = iperf3(a, b, "10.0.0.2", duration_s=1, udp_bits_per_second=10e6, size_bytes=1000)
    assert udp.bits_per_second == pytest.approx(10e6, rel=0.1)
    assert 0 <= udp.lost_percent < 20  # a busy machine loses some


@pytest.mark.slow
def test_iperf3_without_a_server_is_an_error(lab: Lab) -> None:
    a, b = lab.host("a"), lab.host("b")
    lab.wire(a, b, ["10.0.0.1/24"], ["10.0.0.2/24"])
    with pytest.raises(LabError, match="unable to connect"):
        iperf3(a, b, "10.0.0.3", duration_s=1)
    assert b.pids() == []


def test_hosts_use_cubic_and_the_list_of_the_machine_stays(lab: Lab) -> None:
    before = ALLOWED_ALGORITHMS.read_text(encoding="ascii")
    lab.host("a")
    assert lab.congestion_control == CONGESTION_CONTROL
    assert ALLOWED_ALGORITHMS.read_text(encoding="ascii") == before


def test_a_spawned_process_has_the_pid_of_its_program(lab: Lab) -> None:
    host = lab.host("a")
    process = host.spawn("sleep", "1000")
    comm = Path(f"/proc/{process.pid}/comm")
    wait_until(lambda: comm.read_text(encoding="ascii") == "sleep\n", "sleep runs")
    assert host.pids() == [process.pid]
    process.send_signal(signal.SIGINT)
    assert process.wait(2) == -signal.SIGINT


def test_a_socket_belongs_to_its_host(lab: Lab) -> None:
    a, b = lab.host("a"), lab.host("b")
    with a.socket() as listener, a.socket() as same, b.socket() as other:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = listener.getsockname()
        assert a.listens(address[1])
        assert not b.listens(address[1])
        same.connect(address)
        with pytest.raises(ConnectionRefusedError):
            other.connect(address)


def test_a_setting_is_of_one_host_only(lab: Lab) -> None:
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    before = forward.read_text(encoding="ascii")
    a, b = lab.host("a"), lab.host("b")
    a.sysctl("net.ipv4.ip_forward", 1)
    b.sysctl("net.ipv4.ip_forward", 0)
    assert a.inside(forward.read_text) == "1\n"
    assert b.inside(forward.read_text) == "0\n"
    assert forward.read_text(encoding="ascii") == before


def test_a_failing_command_is_quoted_with_its_reason(lab: Lab) -> None:
    host = lab.host("a")
    with pytest.raises(LabError, match=r'link set nope up: Cannot find device "nope"'):
        host.ip("link", "set", "nope", "up")


def test_an_exception_removes_processes_and_namespaces(lab: Lab) -> None:
    del lab  # for its skip
    with contextlib.suppress(RuntimeError), Lab() as broken:
        host = broken.host("a")
        # It ignores SIGTERM, and has a child that is not of the laboratory's making.
        process = host.spawn("sh", "-c", "trap '' TERM; sleep 1000 & wait; sleep 1000")
        wait_until(lambda: len(host.pids()) == 2, "the child runs")
        pids = host.pids()
        raise RuntimeError
    assert process.returncode == -signal.SIGKILL
    wait_until(lambda: not any(runs(pid) for pid in pids), "processes gone")
    assert not is_there(host.namespace)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_removes_everything(lab: Lab, number: signal.Signals) -> None:
    del lab  # for its skip
    process, namespace, pid = start_laboratory()
    process.send_signal(number)
    process.wait(5)
    assert not is_there(namespace)
    assert not runs(pid)


def test_the_next_laboratory_clears_what_a_killed_one_left_and_nothing_else(lab: Lab) -> None:
    del lab  # for its skip
    alive, namespace_of_alive, _ = start_laboratory()
    killed, namespace_of_killed, pid = start_laboratory()
    killed.kill()
    killed.wait()
    wait_until(lambda: not runs(pid), "spawned processes die with the laboratory")
    with Lab():
        assert not is_there(namespace_of_killed)
        assert is_there(namespace_of_alive)
    alive.terminate()
    alive.wait(5)


def test_wait_until_names_what_did_not_happen() -> None:
    with pytest.raises(LabError, match=r"the moon is blue: not within 0\.05 s"):
        wait_until(lambda: False, "the moon is blue", timeout_s=0.05)


def test_a_scrape_sums_the_samples_that_carry_all_labels() -> None:
    scrape = Scrape(
        {
            'packets{direction="inbound",role="a"}': 1,
            'packets{direction="inbound",role="b"}': 2,
            'packets{direction="outbound",role="a"}': 4,
            "packets_total": 8,
        }
    )
    assert scrape.total("packets") == 7
    assert scrape.total("packets", direction="inbound") == 3
    assert scrape.total("packets", direction="outbound", role="a") == 4
    assert scrape.total("packets_total") == 8
    with pytest.raises(KeyError):
        scrape.total("packets", direction="sideways")
