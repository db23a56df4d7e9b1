"""What cannot be started says why in one line, exits 1 or 2, and leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.tunnel import start_gateway

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

INSECURE = ("--wire", "plain", "--insecure")
NO_DEVICE_FILE = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh")
NO_DRIVER = 'mount -t tmpfs none /dev/net && {} /dev/net/tun; exec "$@"'
NO_PRIVILEGE = ("setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin")


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.host("host")


def refused(
    host: Host, tmp_path: Path, *arguments: str, under: tuple[str, ...] = ()
) -> tuple[int, str]:
    """Run fastun, which must fail by itself; return its exit code and its complaint."""
    directories = ("--run-dir", str(tmp_path), "--state", str(tmp_path))
    devices_before = host.devices()
    # fmt: off
    done = subprocess.run(
        ["ip", "netns", "exec", host.namespace, *under,
         sys.executable, "-m", "fastun", *arguments, *directories],
        capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL,
        env={key: value for key, value in os.environ.items() if key != "FASTUN_DEBUG"},
    )
    # fmt: on
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    complaints = [line for line in done.stderr.splitlines() if line.startswith("fastun: ")]
    assert len(complaints) == 1, done.stderr
    reason = complaints[0].rpartition(": ")[2]
    assert done.stderr.count(reason) == 1, "said once"
    assert host.devices() == devices_before
    assert not list(tmp_path.glob("*.sock"))
    wait_until(lambda: not host.pids(), "no process is left")
    return done.returncode, complaints[0]


# What is wrong: arguments, exit code, words that the one line must hold.
CASES: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    "no --insecure": (("serve", "--wire", "plain"), 2, ("unencrypted", "--insecure")),
    "no key": (("connect", "tcp://192.0.2.1"), 2, ("192.0.2.1", "fastun peer add")),
    "long name": (("serve", *INSECURE, "-i", "a-name-of-sixteen"), 2, ("--interface", "15")),
    "taken by another kind": (("serve", *INSECURE, "-i", "lo"), 1, ("lo", "--interface")),
    "unknown option": (("serve", *INSECURE, "--adress", "10.0.0.1/8"), 2, ("--address",)),
    "unknown command": (("sreve",), 2, ("serve",)),
    "address without length": (("serve", *INSECURE, "--address", "10.0.0.1"), 2, ("--address",)),
    "address taken": (("serve", *INSECURE, "--address", "10.7.7.7/24"), 1, ("10.7.7.7", "free")),
    "addresses taken": (
        ("serve", *INSECURE, "--address", "10.7.7.7/24", "--address", "10.7.7.8/24"),
        1,
        ("10.7.7.7/24 10.7.7.8/24: already",),
    ),
    "no scheme": (("connect", "192.0.2.1", *INSECURE), 2, ("tcp://192.0.2.1:55555",)),
    "no file": (("connect", "./nothing.toml"), 2, ("nothing.toml",)),
}


@pytest.mark.parametrize("what", CASES)
def test_a_bad_start_is_one_line(host: Host, tmp_path: Path, what: str) -> None:
    arguments, expected_code, words = CASES[what]
    for taken in ("10.7.7.7/32", "10.7.7.8/32"):
        host.ip("address", "add", taken, "dev", "lo")
    code, complaint = refused(host, tmp_path, *arguments)
    assert code == expected_code
    for word in words:
        assert word in complaint


def test_a_missing_device_file_is_named_with_the_fix(host: Host, tmp_path: Path) -> None:
    code, complaint = refused(host, tmp_path, "serve", *INSECURE, under=NO_DEVICE_FILE)
    assert code == 1
    assert "/dev/net/tun" in complaint
    assert "modprobe tun" in complaint


@pytest.mark.parametrize(
    "make", ["mkdir", "touch", "mknod -m 600 /dev/net/x c 1 3 && mv /dev/net/x"]
)
def test_what_is_there_in_place_of_the_device_file_is_named_with_the_fix(
    host: Host, tmp_path: Path, make: str
) -> None:
    under = ("unshare", "-m", "sh", "-c", NO_DRIVER.format(make), "sh")
    code, complaint = refused(host, tmp_path, "serve", *INSECURE, under=under)
    assert code == 1
    assert "/dev/net/tun is not the device of the TUN driver" in complaint
    assert "mknod" in complaint


def test_a_device_with_queues_of_another_program_is_named_with_the_fix(
    host: Host, tmp_path: Path
) -> None:
    host.ip("tuntap", "add", "ft0", "mode", "tun", "multi_queue")
    code, complaint = refused(host, tmp_path, "serve", *INSECURE, "-i", "ft0")
    assert code == 1
    assert "with 'multi_queue'" in complaint
    assert "--lanes 2" in complaint


def test_a_second_server_on_one_state_directory_is_one_line(host: Host, tmp_path: Path) -> None:
    first = start_gateway(
        host, tmp_path, "serve", wire="wireguard", addresses=["10.99.0.1/24"], interface="ft0"
    )
    wait_until(lambda: host.listens(55555), "the first gateway listens")
    home = tmp_path / host.name
    # fmt: off
    done = host.run(
        sys.executable, "-m", "fastun", "serve", "-i", "ft1", "--address", "10.98.0.1/24",
        "--metrics", "off", "--listen", "udp://[::]:7001",
        "--run-dir", str(home), "--state", str(home), check=False,
    )
    # fmt: on
    assert done.returncode == 1
    assert f"fastun: --state {home}: another gateway serves from it; " in done.stderr
    assert first.stop() == 0
    assert not (home / ".serving").exists()


def test_too_few_open_files_are_one_line_with_the_limit(host: Host, tmp_path: Path) -> None:
    code, complaint = refused(host, tmp_path, "serve", *INSECURE, under=("prlimit", "--nofile=63"))
    assert code == 1
    assert "open files: the limit is 63" in complaint
    assert "LimitNOFILE" in complaint


def test_a_missing_privilege_is_named_with_the_fix(host: Host, tmp_path: Path) -> None:
    code, complaint = refused(host, tmp_path, "serve", *INSECURE, under=NO_PRIVILEGE)
    assert code == 1
    assert "CAP_NET_ADMIN" in complaint


def test_a_run_directory_that_is_locked_is_one_line(host: Host, tmp_path: Path) -> None:
    lock = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    code, complaint = refused(host, tmp_path, "serve", *INSECURE)
    os.close(lock)
    assert code == 1
    assert "--run-dir" in complaint
    assert "another start" in complaint


def test_a_run_directory_of_everybody_is_one_line(host: Host, tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    code, complaint = refused(host, tmp_path, "serve", *INSECURE)
    assert code == 1
    assert "--run-dir" in complaint
    assert "others may write" in complaint


def test_an_unknown_field_is_named_with_the_nearest(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('[interface]\nadress = ["10.0.0.1/8"]\n')
    code, complaint = refused(host, tmp_path, "serve", "-c", str(file), *INSECURE)
    assert code == 2
    assert "interface.adress" in complaint
    assert "address" in complaint.partition("adress")[2]


def test_a_second_gateway_says_what_is_taken(host: Host, tmp_path: Path) -> None:
    """Each start takes one thing less from the first gateway, until it could run beside it."""
    home = tmp_path / "first"
    home.mkdir()
    first = start_gateway(host, home, "serve", addresses=["10.99.0.1/24"], interface="ft0")
    wait_until(lambda: host.listens(55555), "the first gateway listens")
    second = tmp_path / "second"
    second.mkdir()
    for arguments, words in (
        (("-i", "ft0"), ("ft0", "--interface")),
        (("-i", "ft1"), ("10055", "--metrics")),
        (("-i", "ft1", "--metrics", "off"), ("55555", "--listen")),
    ):
        code, complaint = refused_beside(host, second, "serve", *INSECURE, *arguments)
        assert code == 1
        for word in words:
            assert word in complaint
    assert first.stop() == 0


def refused_beside(host: Host, tmp_path: Path, *arguments: str) -> tuple[int, str]:
    """As refused, where another gateway's processes are there to stay."""
    # fmt: off
    done = host.run(
        sys.executable, "-m", "fastun", *arguments,
        "--run-dir", str(tmp_path), "--state", str(tmp_path), check=False,
    )
    # fmt: on
    complaints = [line for line in done.stderr.splitlines() if line.startswith("fastun: ")]
    assert len(complaints) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, complaints[0]
