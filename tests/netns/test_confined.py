"""What workers are left with, from /proc, and what becomes of one that does what it may not.

tests/conftest.py has the topology.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.host.users import FIRST, LAST
from fastun.lab.host import wait_until
from fastun.lab.tunnel import FASTUN, METRICS_PORT, GatewayProcess
from fastun.native import ROLES
from tests.netns.test_status import status
from tests.support.hijacked import DiedError, Hijacked, make_call
from tests.support.processes import worker_pid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartTunnel

NO_CAPABILITIES = "0" * 16
KEY_MEMORY = "/secretmem"  # its own, by memfd_secret

# System calls by their number on x86-64, each for another worker in an attacker's hands.
OPENAT, SOCKET, KILL, PROCESS_VM_READV = 257, 41, 62, 310


def proc_status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return {key: text.strip() for key, _, text in (line.partition(":") for line in lines)}


def assert_holds_nothing(pid: int) -> None:
    has = proc_status(pid)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert has[name] == NO_CAPABILITIES, name
    assert (has["NoNewPrivs"], has["Seccomp"], has["Threads"]) == ("1", "2", "1")
    assert Path(f"/proc/{pid}/status").stat().st_uid in (0, 65534)  # not dumpable
    limits = Path(f"/proc/{pid}/limits").read_text(encoding="ascii")
    for name in ("processes", "file size", "core file size"):
        assert re.search(rf"^Max {name} +0 +0 ", limits, re.MULTILINE), name
    assert re.search(r"^Max address space +\d+ +\d+ ", limits, re.MULTILINE)


def opened(pid: int) -> set[str]:
    """What it has open: kinds for what has no name."""
    names = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    return {re.sub(r":\[\d+\]$", "", name) for name in names}


def mapped_for_writing(pid: int) -> set[str]:
    """The files that others see its changes of."""
    lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    shared = [line.split(None, 5) for line in lines if line.split()[1] == "rw-s"]
    return {re.sub(r" \(deleted\)$", "", fields[5]) for fields in shared}


def writable_code(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if "w" in line.split()[1] and "x" in line.split()[1]]


#: What one role has, and no other.
OWN = {"tun-reader": "/memfd:fastun-counters", "link-reader": "/memfd:fastun-marks"}


def assert_no_file(pid: int, role: str, log_file: Path) -> None:
    """Nothing of the file system can be written by it, and only libraries are mapped."""
    ours = {"/memfd:fastun-ring", "/memfd:fastun-stats", "/memfd:fastun-peers", KEY_MEMORY}
    assert mapped_for_writing(pid) - ours == ({OWN[role]} if role in OWN else set())
    assert writable_code(pid) == []
    kinds = {"pipe", "socket", "anon_inode:[eventpoll]", "anon_inode:[eventfd]"}
    assert opened(pid) <= kinds | {
        "/dev/null",
        "/dev/net/tun",
        str(log_file),
        f"{KEY_MEMORY} (deleted)",
    }


def test_workers_have_a_user_of_their_own_and_nothing_else(tunnel: StartTunnel) -> None:
    pair = tunnel(transport="both")
    users = []
    for gateway in (pair.server, pair.client):
        of_workers = set()
        for role in ROLES:
            pid = worker_pid(gateway, role)
            assert_holds_nothing(pid)
            assert_no_file(pid, role, gateway.log_file)
            has = proc_status(pid)
            assert has["Groups"] == ""
            assert has["Uid"] == has["Gid"]
            of_workers |= set(map(int, has["Uid"].split()))
        (user,) = of_workers
        assert FIRST <= user <= LAST
        users.append(user)
        shown = " ".join(status(gateway).stdout.split())  # how wide its labels are is not the claim
        assert f"sandbox user {user}, no capabilities, seccomp" in shown
    assert users[0] != users[1]


@pytest.fixture
def rootless(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A server that is root in a user namespace only."""
    # fmt: off
    command = (
        "unshare", "--user", "--map-root-user", "--net", "--mount", *FASTUN, "serve",
        "--listen", "tcp://0.0.0.0:55555", "--address", "10.99.0.1/24",
        "--state", str(tmp_path / "state"), "--run-dir", str(tmp_path),
    )
    # fmt: on
    log_file = tmp_path / "serve.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    host = None
    gateway = GatewayProcess(host, process, log_file, ("10.99.0.1/24",), "fastun0", METRICS_PORT)  # type: ignore[arg-type]
    try:
        yield gateway
    finally:
        process.terminate()
        process.wait(10)


def test_without_root_workers_have_no_capability_either(rootless: GatewayProcess) -> None:
    wait_until(lambda: "sandbox  " in status(rootless).stdout, "workers start", timeout_s=15)
    for role in ROLES:
        pid = worker_pid(rootless, role)
        assert_holds_nothing(pid)
        assert_no_file(pid, role, rootless.log_file)
    # 80 columns cut the line in two.
    said = " ".join(status(rootless).stdout.split())
    assert "user 0, no capabilities, seccomp" in said
    assert "a user of their own (the user namespace has no other user)" in said


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")
def test_a_worker_in_an_attackers_hands_dies_counted_and_is_replaced(tunnel: StartTunnel) -> None:
    pair = tunnel(transport="udp")
    attempts = dict(zip(ROLES, (OPENAT, SOCKET, KILL, PROCESS_VM_READV), strict=True))
    pids = {role: worker_pid(pair.client, role) for role in ROLES}
    for role, number in attempts.items():
        pid = pids[role]
        make_call(pid, number)
        wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), f"{role} dies")  # type: ignore[misc]
    wait_until(lambda: pair.client.get("/healthz")[0] == 200, "all are replaced", timeout_s=15)
    pair.wait_up()
    scrape = pair.client.scrape()
    name = "fastun_worker_forbidden_calls_total"
    for role, number in attempts.items():
        assert scrape[f'{name}{{call="{number}",lane="0",role="{role}"}}'] == 1
    log = pair.client.log_file.read_text(encoding="utf-8")
    assert log.count("worker made a system call that it may not make") == len(attempts)
    for number in attempts.values():
        assert f"system_call={number}" in log


READ, READV, RECVMSG, RECVMMSG, MMAP, MREMAP = 0, 19, 47, 299, 9, 25
FRAME_BYTES, EVENTFD_BYTES = 2048, 8
READABLE_AND_WRITABLE, READABLE_AND_CODE = 3, 5
PRIVATE_ANONYMOUS, NOT_RESERVED = 0x22, 0x4000
MUCH = 64 << 30


def device_fd(pid: int) -> int | None:
    """The descriptor of its device."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        if str(entry.readlink()) == "/dev/net/tun":
            return int(entry.name)
    return None


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")
def test_only_the_tun_reader_can_read_the_device(tunnel: StartTunnel) -> None:
    pair = tunnel(transport="udp")
    reader, writer = (worker_pid(pair.client, role) for role in ("link-reader", "tun-writer"))
    assert device_fd(worker_pid(pair.client, "link-writer")) is None
    fd = device_fd(reader)
    assert fd is not None
    with Hijacked(reader) as attacker:
        # struct msghdr of all zeros is a message without room, which a socket would take.
        attacker.write(attacker.scratch, bytes(64))
        assert attacker.call(RECVMSG, fd, attacker.scratch, 0) == -errno.ENOTSOCK
        assert attacker.call(RECVMMSG, fd, attacker.scratch, 1, 0, 0) == -errno.ENOTSOCK
        assert attacker.call(MREMAP, attacker.scratch & ~4095, 4096, 8192, 1) == -errno.ENOMEM
        whole = (0, MUCH, READABLE_AND_WRITABLE, PRIVATE_ANONYMOUS | NOT_RESERVED, -1, 0)
        assert attacker.call(MMAP, *whole) == -errno.ENOMEM
    assert pair.client.scrape().total("fastun_worker_restarts_total") == 0
    with pytest.raises(DiedError), Hijacked(reader) as attacker:
        attacker.call(READV, fd, attacker.scratch, 1)
    fd = device_fd(writer)
    assert fd is not None
    with Hijacked(writer) as attacker:
        assert attacker.call(READ, fd, attacker.scratch, EVENTFD_BYTES) < 0
    for count in (FRAME_BYTES, EVENTFD_BYTES + 2**32):
        writer = worker_pid(pair.client, "tun-writer")
        with pytest.raises(DiedError), Hijacked(writer) as attacker:
            attacker.call(READ, fd, attacker.scratch, count)
        wait_until(lambda pid=writer: not Path(f"/proc/{pid}").exists(), "it dies")  # type: ignore[misc]
        wait_until(lambda: pair.client.get("/healthz")[0] == 200, "replaced", timeout_s=15)
    writer = worker_pid(pair.client, "tun-writer")
    with pytest.raises(DiedError), Hijacked(writer) as attacker:
        attacker.call(MMAP, 0, 4096, READABLE_AND_CODE, PRIVATE_ANONYMOUS, -1, 0)
    pair.wait_up()
