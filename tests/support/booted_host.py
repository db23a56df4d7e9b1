"""A Debian with its own systemd, booted in a host's network namespace by systemd-nspawn.

cache/debian-12-systemd   debootstrap's, of each release, made once
overlay                   what one test changes: fastun in /opt/fastun, the machine's settings
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from fastun.lab.host import run_command, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastun.lab.host import Host

ROOT: Final = Path(__file__).resolve().parents[2]
_CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fastun-tests"
_PROGRAMS: Final = ("debootstrap", "systemd-nspawn", "nsenter")
_BASE: Final = (
    "systemd,systemd-sysv,dbus,systemd-resolved,python3,python3-venv,iproute2,iputils-ping"
    ",nftables,procps"
)  # They need a logind, which debootstrap does not find by itself.
_MORE: Final = ("libpam-systemd", "polkitd")
_MIRROR: Final = "http://deb.debian.org/debian"
_PATH: Final = "/opt/fastun/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# systemd-nspawn's own filter lacks them.
_CALLS: Final = "landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret"
BOOT_S: Final = 60.0
RELEASES: Final = {"bookworm": 12, "trixie": 13}
_UP: Final = ("running", "degraded")


def missing() -> str:
    """Return what this machine lacks to boot one, empty where there is all."""
    if os.geteuid() != 0:
        return "root"
    return ", ".join(name for name in _PROGRAMS if shutil.which(name) is None)


def base(release: str = "bookworm") -> Path:
    """Return the root without fastun, made if it is missing: a minute, and 120 MiB from Debian."""
    made = _CACHE / f"debian-{RELEASES[release]}-systemd"
    if made.exists():
        return made
    new = made.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    include = f"--include={_BASE}"
    run_command(
        "debootstrap", "--variant=minbase", include, release, str(new), _MIRROR, timeout_s=900
    )
    resolv_conf = new / "etc" / "resolv.conf"
    resolv_conf.unlink(missing_ok=True)
    shutil.copy("/etc/resolv.conf", resolv_conf)
    install = ("apt-get", "install", "-qq", "-y", "--no-install-recommends", *_MORE)
    run_command(
        "chroot", str(new), "env", "DEBIAN_FRONTEND=noninteractive", *install, timeout_s=300
    )
    resolv_conf.unlink()
    resolv_conf.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    new.rename(made)
    return made


def wheels(directory: Path) -> Path:
    """Return a directory with this checkout's wheel and all that it needs."""
    command = (sys.executable, "-m", "pip", "wheel", "-q", "-w", str(directory), str(ROOT))
    run_command(*command, timeout_s=600)
    return directory


class BootedHost:
    """One, running. Use `booted`."""

    def __init__(self, root: Path, host: Host, tun: Path) -> None:
        """Prepare; ``root`` is where its files are, ``host`` its network."""
        self.root = root
        self._host = host
        self._tun = tun
        self._nspawn: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Boot it, and wait until systemd has started all."""
        # fmt: off
        self._nspawn = subprocess.Popen(
            [
                "systemd-nspawn", "--quiet", "--directory", str(self.root), "--register=no",
                "--keep-unit", f"--network-namespace-path=/run/netns/{self._host.namespace}",
                f"--bind={self._tun}:/dev/net/tun", "--capability=CAP_NET_ADMIN",
                f"--system-call-filter={_CALLS}", "--console=pipe", "--boot",
            ],
            stdin=subprocess.DEVNULL,
            stdout=(self.root.parent / "console").open("ab"),
            stderr=subprocess.STDOUT,
        )
        # fmt: on
        wait_until(self._is_up, "systemd", timeout_s=BOOT_S, interval_s=0.3)

    def _is_up(self) -> bool:
        return self.pid() != 0 and self.text("systemctl", "is-system-running") in _UP

    def reboot(self) -> None:
        """Have systemd reboot: systemd-nspawn ends where /run is a disk's, and is started anew."""
        before = self.pid()
        self.run("systemctl", "reboot")
        assert self._nspawn is not None
        wait_until(lambda: not psutil.pid_exists(before), "the end of systemd", timeout_s=BOOT_S)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._nspawn.wait(5)
            self.boot()
        wait_until(self._is_up, "systemd", timeout_s=BOOT_S, interval_s=0.3)

    def pid(self) -> int:
        """Return its systemd, as this machine numbers it; 0 while there is none."""
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, (self.root.parent / "console").read_text()
        children = psutil.Process(self._nspawn.pid).children()
        return next((each.pid for each in children if each.name() == "systemd"), 0)

    def end(self) -> None:
        """Power it off."""
        if self._nspawn is not None:
            self._nspawn.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._nspawn.wait(30)
            self._nspawn.kill()
            self._nspawn.wait()

    def done(self, *command: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command there, as root."""
        enter = ("nsenter", "--target", str(self.pid()), *["-m", "-u", "-i", "-n", "-p", "-C"])
        env = ("env", "-i", f"PATH={_PATH}", "HOME=/root", "LANG=C.UTF-8")
        return run_command(*enter, *env, *command, timeout_s=timeout_s, check=False)

    def text(self, *command: str) -> str:
        """Return what a command there prints, without the line's end."""
        return self.done(*command).stdout.strip()

    def run(self, *command: str) -> str:
        """Return what a command there prints, which must succeed."""
        done = self.done(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.text("systemctl", "show", unit, "--property", name, "--value")

    def processes(self, unit: str) -> dict[str, int]:
        """Return the processes of a gateway's unit, as this machine numbers them, by name.

        But for programs that the host process runs at the moment.
        """
        group = self.show(unit, "ControlGroup")
        found = {}
        for pid in psutil.pids():
            with contextlib.suppress(OSError, psutil.Error):
                line = Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii").strip()
                if line.endswith(group):
                    title = (*psutil.Process(pid).cmdline(), "ended")[0]
                    name = title.removeprefix("fastun: ").removesuffix("/0").strip()
                    if "python" in name:
                        found["gateway"] = pid
                    elif "/" not in name:
                        found[name] = pid
        return found

    def events(self, unit: str, **fields: str) -> list[dict[str, Any]]:
        """Return what the journal has of a unit's events, with these fields."""
        matches = [f"FASTUN_{name.upper()}={value}" for name, value in fields.items()]
        lines = self.run("journalctl", "-b", "-u", unit, "-o", "json", "--no-pager", *matches)
        return [json.loads(line) for line in lines.splitlines()]

    def exposure(self, unit: str) -> float:
        """Return what systemd says of a loaded unit's exposure."""
        printed = self.run("systemd-analyze", "security", "--no-pager", unit)
        return float(re.findall(r"exposure level for \S+: ([\d.]+)", printed)[0])

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file there."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(mode)


def install_wheels(root: Path) -> None:
    """Install this checkout in /opt/fastun."""
    wheels(root / "opt" / "wheels")
    install = "python3 -m venv /opt/fastun && /opt/fastun/bin/pip install -q --no-index"
    shell = f"{install} --find-links /opt/wheels fastun"
    run_command("chroot", str(root), "sh", "-c", shell, timeout_s=300)


@contextlib.contextmanager
def booted(
    host: Host,
    directory: Path,
    prepare: Callable[[Path], None] = install_wheels,
    release: str = "bookworm",
) -> Iterator[BootedHost]:
    """Boot one on the network of ``host``, when ``prepare`` has been given its root."""
    parts = {name: directory / name for name in ("upper", "work", "root")}
    for path in parts.values():
        path.mkdir()
    layers = f"lowerdir={base(release)},upperdir={parts['upper']},workdir={parts['work']}"
    run_command("mount", "-t", "overlay", "none", "-o", layers, str(parts["root"]))
    tun = directory / "tun"  # with the mode that udev gives it
    run_command("mknod", "-m", "666", str(tun), "c", "10", "200")
    tun.chmod(0o666)
    machine = BootedHost(parts["root"], host, tun)
    try:
        prepare(parts["root"])
        machine.boot()
        yield machine
    finally:
        machine.end()
        run_command("umount", "--lazy", str(parts["root"]))
