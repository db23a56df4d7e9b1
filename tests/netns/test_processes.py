"""What each process of a gateway is left with, from /proc, in the four ways of starting one.

    root       the gateway and its workers change their user
    service    as by systemd with DynamicUser and AmbientCapabilities: there is no root at any time
    unit       the same, without the call by which a process gives up capabilities, as our units are
    rootless   root in a user namespace, with one user

One process keeps the capabilities of the start: the host process.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil
import pytest

from fastun.host.users import FIRST, LAST
from fastun.lab.host import wait_until
from fastun.lab.tunnel import FASTUN
from fastun.native import ROLES
from fastun.status import control

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.status.reply import Status

INTERFACE = "ft0"
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
NONE, NET_ADMIN = "0" * 16, f"{1 << 12:016x}"
SERVICE_USER = 61183  # not one that fastun chooses

WAYS = ("root", "service", "unit", "rootless")
AS_SERVICE = ("service", "unit")
# prctl(PR_SET_NO_NEW_PRIVS), and a filter that answers EPERM to one call (seccomp(2)).
FORBID = """
import ctypes, os, struct, sys
call, *command = sys.argv[1:]
steps = ((0x20, 0, 0, 0), (0x15, 0, 1, int(call)), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000))
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
prctl = ctypes.CDLL(None, use_errno=True).prctl
assert prctl(38, 1, 0, 0, 0) == 0
assert prctl(22, 2, program, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(command[0], command)
"""
CAPSET = {"x86_64": 126}.get(os.uname().machine, 91)  # of all newer processors


class Start(NamedTuple):
    """A gateway that runs, and what it was started as."""

    way: str
    pid: int
    run_dir: Path
    state: Path

    def status(self) -> Status:
        return control.request(control.socket_path(self.run_dir, INTERFACE), "status")

    def processes(self) -> dict[str, int]:
        """Process IDs by name; the gateway's is "gateway"."""
        found = {"gateway": self.pid}
        for child in psutil.Process(self.pid).children():
            found[child.cmdline()[0].removeprefix("fastun: ").removesuffix("/0").strip()] = (
                child.pid
            )
        return found

    def is_whole(self) -> bool:
        """Whether all workers are at work, and so confined."""
        if not self.processes().keys() >= {"host", "template", *ROLES}:
            return False
        # One is the template's, and one is the unit's.
        n_filters = 2 + (self.way == "unit")
        are_confined = all(self.of(role)["Seccomp_filters"] == str(n_filters) for role in ROLES)
        return are_confined and self.status().confinement is not None

    def of(self, name: str) -> dict[str, str]:
        text = Path(f"/proc/{self.processes()[name]}/status").read_text(encoding="ascii")
        pairs = (line.partition(":") for line in text.splitlines())
        return {key: value.strip() for key, _, value in pairs}


def readable_python(directory: Path) -> str:
    """Shell commands that let every user reach this Python; in a mount namespace."""
    base = Path(sys.base_prefix).resolve()
    closed = [each for each in base.parents if not each.stat().st_mode & 0o001]
    if not closed:
        return "true"
    hold, top = directory / "python", closed[-1]
    hold.mkdir()
    return (
        f"mount --bind {base} {hold} && mount -t tmpfs -o mode=755 none {top}"
        f" && mkdir -p {base} && mount --bind {hold} {base}"
    )


def command_of(way: str, directory: Path) -> list[str]:
    state, run_dir = directory / "state", directory / "run"
    # fmt: off
    serve = [
        *FASTUN, "serve", "-i", INTERFACE, "--listen", "tcp://127.0.0.1:5555",
        "--listen", "udp://127.0.0.1:5555", "--address", "10.99.0.1/24", "--metrics", "off",
        "--state", str(state), "--run-dir", str(run_dir),
    ]
    if way == "rootless":
        return ["unshare", "--user", "--map-root-user", "--net", "--mount", *serve]
    if way == "root":
        return ["unshare", "--net", *serve]
    for path in (directory, state, run_dir):
        path.mkdir(mode=0o700, exist_ok=True)
        os.chown(path, SERVICE_USER, SERVICE_USER)
    as_service = [
        "setpriv", f"--reuid={SERVICE_USER}", f"--regid={SERVICE_USER}", "--clear-groups",
        "--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin",
        "--bounding-set=-all,+net_admin",
    ]
    # fmt: on
    # As udev has it (50-udev-default.rules).
    tun = f"mknod -m 666 {directory}/tun c 10 200 && mount --bind {directory}/tun /dev/net/tun"
    script = f'{readable_python(directory)} && {tun} && exec "$@"'
    forbid = [sys.executable, "-c", FORBID, str(CAPSET)] if way == "unit" else []
    return ["unshare", "--net", "--mount", "sh", "-c", script, "sh", *as_service, *forbid, *serve]


@pytest.fixture(scope="module", params=WAYS)
def start(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Start]:
    way: str = request.param
    directory = tmp_path_factory.mktemp(way)
    for above in (directory, *directory.parents):
        if above.stat().st_uid == 0 and above.name.startswith(("pytest-", "popen-")):
            above.chmod(0o755)
    log_file = directory / "log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command_of(way, directory), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    started = Start(way, process.pid, directory / "run", directory / "state")

    def is_up() -> bool:
        assert process.poll() is None, log_file.read_text(encoding="utf-8")
        return bool(started.run_dir.exists() and " up " in log_file.read_text(encoding="utf-8"))

    try:
        wait_until(is_up, f"a start as {way}", timeout_s=20)
        wait_until(started.is_whole, "workers", timeout_s=20)
        yield started
    finally:
        process.terminate()
        assert process.wait(10) == 0, log_file.read_text(encoding="utf-8")


def test_there_are_a_host_process_a_gateway_a_template_and_workers(start: Start) -> None:
    assert start.processes().keys() == {"gateway", "host", "template", *ROLES}


@pytest.mark.parametrize("name", ["gateway", "template", *ROLES])
def test_all_but_the_host_process_have_no_capability_and_no_way_to_one(
    start: Start, name: str
) -> None:
    has = start.of(name)
    sets = {each: has[each] for each in SETS}
    if start.way in AS_SERVICE:  # it takes CAP_SETPCAP to empty this one, whose worth is nothing
        assert sets.pop("CapBnd") == NET_ADMIN
    if start.way == "unit":  # and capset(2) for this one
        assert sets.pop("CapInh") == NET_ADMIN
    assert set(sets.values()) == {NONE}
    assert has["NoNewPrivs"] == "1"
    assert has["Seccomp"] == "2"
    n_filters = 1 + (name in ROLES) + (start.way == "unit")
    assert has["Seccomp_filters"] == str(n_filters)
    assert Path(f"/proc/{start.processes()[name]}/status").stat().st_uid in (0, 65534), "not hidden"


def test_every_thread_of_the_gateway_has_given_up_the_same(start: Start) -> None:
    seen = set()
    for thread in Path(f"/proc/{start.pid}/task").iterdir():
        text = (thread / "status").read_text(encoding="ascii")
        wanted = re.findall(r"^(?:Cap\w+|NoNewPrivs|Seccomp|[UG]id):\t.*$", text, re.MULTILINE)
        seen.add(tuple(wanted))
    assert len(list(Path(f"/proc/{start.pid}/task").iterdir())) > 1
    assert len(seen) == 1


def test_the_host_process_keeps_what_the_start_had(start: Start) -> None:
    held = int(start.of("host")["CapEff"], 16)
    assert held >> 12 & 1, "CAP_NET_ADMIN"
    if start.way in AS_SERVICE:
        assert held == 1 << 12


def test_gateway_and_workers_are_users_of_their_own_where_root_has_started_them(
    start: Start,
) -> None:
    workers = {start.of(name)["Uid"] for name in (*ROLES, "template")}
    (user,) = {number for text in workers for number in text.split()}
    real, *others = start.of("gateway")["Uid"].split()
    assert real == user, "it may signal its workers"
    assert len(set(others)) == 1
    groups = {start.of(name)["Groups"] for name in (*ROLES, "template", "gateway")}
    confinement = start.status().confinement
    assert confinement is not None
    assert confinement.gateway is not None
    assert (confinement.user, confinement.gateway.user) == (int(user), int(others[0]))
    lacks = [each for each in confinement.gateway.lacks if each.startswith("a user of its own")]
    if start.way == "root":
        assert groups == {""}
        assert FIRST <= int(user) <= LAST
        assert FIRST <= int(others[0]) <= LAST
        assert user != others[0]
        assert lacks == []
    else:
        assert {user, *others} == {str(SERVICE_USER) if start.way in AS_SERVICE else "0"}
        assert len(lacks) == 1


def opened(pid: int) -> dict[str, str]:
    """What is open, by kind or name, and how: the flags of one that is."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has been closed since
            name = re.sub(r":\[\d+\]$", "", str(entry.readlink()))
            found[name] = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text(encoding="ascii")
    return found


def test_the_gateway_has_no_file_open_that_it_could_write_to(start: Start) -> None:
    log_file = str(start.run_dir.parent / "log")
    found = opened(start.pid)
    python = {each for each in found if Path(each).is_dir()}  # to import from
    for each in python:
        assert int(re.findall(r"flags:\s*(\d+)", found[each])[0], 8) & os.O_PATH
    kinds = {
        "pipe",
        "socket",
        "anon_inode:[eventpoll]",
        "anon_inode:[eventfd]",
        "anon_inode:[pidfd]",
    }
    memory = {each for each in found if each.startswith("/memfd:")}
    others = found.keys() - kinds - memory - python
    assert others <= {"/dev/null", "/dev/net/tun", "/secretmem (deleted)", log_file}


@pytest.mark.parametrize("name", ["gateway", "template", *ROLES])
def test_nothing_that_is_mapped_is_a_file_that_can_be_written_to_or_code_that_changes(
    start: Start, name: str
) -> None:
    pid = start.processes()[name]
    lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    fields = [[*line.split(None, 5), ""][:6] for line in lines]
    shared = {each[5] for each in fields if each[1] == "rw-s"}
    assert all(each.startswith(("/memfd:fastun-", "/secretmem")) for each in shared), shared
    assert not [each for each in fields if {"w", "x"} <= set(each[1])]


def test_only_the_host_process_can_write_what_is_kept(start: Start) -> None:
    owner = SERVICE_USER if start.way in AS_SERVICE else 0
    kept = [path for path in (start.state, start.run_dir) for path in (path, *path.rglob("*"))]
    assert {"peers.sqlite", "private.key", f"{INTERFACE}.sock"} <= {path.name for path in kept}
    for path in kept:
        status = path.lstat()
        assert (status.st_uid, status.st_mode & 0o077) == (owner, 0), path


def test_a_reload_finds_it_by_its_process(start: Start) -> None:
    command = [*FASTUN, "reload", "--run-dir", str(start.run_dir), "--pid"]
    for pid, code in ((start.pid, 0), (start.processes()["host"], 1)):
        done = subprocess.run([*command, str(pid)], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    assert "not a gateway" in done.stderr
    done = subprocess.run([*command, "1", "-i", "x"], capture_output=True, text=True, check=False)
    assert (done.returncode, "conflicts with --interface" in done.stderr) == (2, True)


# -- what is done with one that runs ------------------------------------------------------------


def test_ports_under_1024_are_listened_on_after_a_reload(tmp_path: Path) -> None:
    file, run_dir = tmp_path / "server.toml", tmp_path / "run"

    def write(port: int) -> None:
        file.write_text(
            '[interface]\naddress = ["10.99.0.1/24"]\n'
            f'[listen]\ntcp = ["tcp://127.0.0.1:{port}"]\nudp = ["udp://127.0.0.1:{port}"]\n'
            f'[metrics]\nlisten = "127.0.0.1:{port + 1}"\n'
        )
        file.chmod(0o600)

    write(555)
    arguments = ["--state", str(tmp_path / "state"), "--run-dir", str(run_dir), "-i", INTERFACE]
    serve = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    serve += [*FASTUN, "serve", "--config", str(file), *arguments]
    log_file = tmp_path / "log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(serve, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: " up " in log_file.read_text(encoding="utf-8"), "it is up")
        write(666)
        path = control.socket_path(run_dir, INTERFACE)
        assert len(control.reload(path).changes) > 1
        found = control.request(path, "status")
        assert set(found.listen) == {"tcp://127.0.0.1:666", "udp://127.0.0.1:666"}
        tables = [Path(f"/proc/{process.pid}/net", name).read_text() for name in ("tcp", "udp")]
        assert all(f"0100007F:{666:04X} " in table for table in tables)
        assert f"0100007F:{667:04X} " in tables[0], "and the metrics"
        assert not any(f":{555:04X} " in table for table in tables)
        add = [*FASTUN, "peer", "add", "laptop", "--endpoint", "udp://192.0.2.1:666"]
        added = subprocess.run([*add, *arguments[:4]], check=True, capture_output=True, text=True)
        assert "has applied the change" in added.stderr
        assert [peer.name for peer in control.request(path, "status").peers] == ["laptop"]
        assert len(control.request(path, "status").lanes) == 1
    finally:
        process.terminate()
        assert process.wait(10) == 0, log_file.read_text(encoding="utf-8")
    assert not path.exists()
