"""Podman for the tests, with an image built from this checkout; and containers in hosts of the lab.

A shell script of that name stands before the machine's own, so that a guide's commands can be typed
as they are. It has containers and images in a directory of the test, and does without systemd and
its cgroups. No registry is asked: the base image is a fresh Debian (debootstrap). No image is built
with FASTUN_IMAGE, an archive of `podman save`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from fastun.lab.host import LabError, run_command, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host

ROOT: Final = Path(__file__).resolve().parents[2]
BASE: Final = "docker.io/library/debian:12-slim"
IMAGE: Final = "localhost/fastun"

_BUILD_LIMIT_S: Final = 1800.0
_PROGRAMS: Final = ("podman", "debootstrap", "unshare")

_SCRIPT: Final = """#!/bin/sh
limits='--ulimit nofile=4096:4096 --ulimit nproc=4096:4096'
case $1 in
run) shift; set -- run --cgroups=disabled $limits "$@" ;;
build)
    shift
    set -- build --network host --isolation chroot $limits {volumes} "$@"
    ;;
esac
set -- {podman} --root {store}/root --runroot {store}/run --tmpdir {store}/tmp \\
    --storage-driver=overlay --cgroup-manager=cgroupfs --events-backend=file "$@"
[ ! -e {holder} ] || exec nsenter -t $(cat {holder}) -m -n --wdns="$PWD" "$@"
exec unshare -m sh -c '{mounts}exec "$@"' podman "$@"
"""
_MOUNTS: Final = """
umount -R /sys/fs/cgroup 2>/dev/null
mount -t cgroup2 none /sys/fs/cgroup
"""

# What podman has once on a machine, wherever its store is: networks, and the names in them.
_NETWORKS: Final = """
for directory in /etc/containers/networks /run/containers; do
    mkdir -p $directory
    mount -t tmpfs tmpfs $directory
done
"""

# What a build here needs of this machine to reach the package registries.
_OF_MACHINE: Final = ("/etc/ssl/certs", "/etc/pip.conf")


class Podman:
    """Podman with a store of its own, and the image in it."""

    def __init__(self, directory: Path) -> None:
        """Build the image, in minutes. Skips the test where a program is missing."""
        missing = [name for name in _PROGRAMS if shutil.which(name) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)} (Debian packages podman, debootstrap)")
        self.programs = directory / "programs"
        self.programs.mkdir()
        self._store = directory / "store"
        self._holder = directory / "holder"
        volumes = (f"-v {path}:{path}:ro" for path in _OF_MACHINE if Path(path).exists())
        script = self.programs / "podman"
        script.write_text(
            _SCRIPT.format(
                podman=shutil.which("podman"),
                store=self._store,
                volumes=" ".join(volumes),
                mounts=_MOUNTS,
                holder=self._holder,
            )
        )
        script.chmod(0o755)
        if archive := os.environ.get("FASTUN_IMAGE"):
            self("load", "--input", archive, timeout_s=_BUILD_LIMIT_S)
        else:
            self._import_base()
            self._build()

    def __call__(
        self, *arguments: str, timeout_s: float = 120.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end. LabError where it fails."""
        program = str(self.programs / "podman")
        return run_command(program, *arguments, timeout_s=timeout_s, check=check)

    @contextlib.contextmanager
    def at(self, host: Host) -> Iterator[None]:
        """Have all calls in the network of ``host``, and in one mount namespace.

        The networks of containers are mounts: without it they are gone when a call has ended.
        """
        ready = self._holder.with_suffix(".ready")
        script = f"{_MOUNTS}{_NETWORKS}touch {ready}; exec sleep infinity"
        holder = host.spawn("unshare", "-m", "sh", "-c", script)
        wait_until(ready.exists, "the mount namespace", timeout_s=20)
        self._holder.write_text(str(holder.pid))
        try:
            yield
        finally:
            self._holder.unlink()
            ready.unlink()

    def print_logs(self) -> None:
        """Print what the last containers have written; pytest shows it on failure."""
        for name in self("ps", "--all", "--format", "{{.Names}}").stdout.split():
            done = self("logs", "--tail", "20", name, check=False)
            print(f"--- {name}", done.stdout, done.stderr, sep="\n")  # noqa: T201
            self("rm", "--force", "--time", "2", name, check=False)

    def path(self) -> str:
        """Return a PATH with it."""
        return os.pathsep.join((str(self.programs), os.environ["PATH"]))

    def end(self) -> None:
        """Stop all containers, and remove the store."""
        self("stop", "--time", "2", "--all", check=False, timeout_s=300)
        shutil.rmtree(self._store, ignore_errors=True)

    def build(self, name: str, containerfile: Path) -> None:
        """Build one more image, from the same base; its directory is the context."""
        self._import_base()
        build = ("image", "build", "--network", "host", "--isolation", "chroot", "-t", name)
        where = ("-f", str(containerfile), str(containerfile.parent))
        self(*build, *where, timeout_s=_BUILD_LIMIT_S)

    def _import_base(self) -> None:
        if self("image", "exists", BASE, check=False).returncode == 0:
            return
        root = self._store.parent / "base"
        include = ("--variant=minbase", "--include=ca-certificates", "bookworm", str(root))
        run_command("debootstrap", *include, timeout_s=_BUILD_LIMIT_S)
        packed = root.with_suffix(".tar")
        run_command("tar", "-C", str(root), "-cf", str(packed), ".", timeout_s=_BUILD_LIMIT_S)
        shutil.rmtree(root)
        self("import", str(packed), BASE, timeout_s=_BUILD_LIMIT_S)
        packed.unlink()

    def _build(self) -> None:
        done = subprocess.run(
            [str(ROOT / "packaging" / "image.sh")],
            env={**os.environ, "PATH": self.path()},
            capture_output=True,
            text=True,
            timeout=_BUILD_LIMIT_S,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(f"the image cannot be built: {(done.stdout + done.stderr)[-2000:]}")


class Container:
    """A fastun in the network of a host."""

    def __init__(self, podman: Podman, host: Host, *options: str) -> None:
        """Prepare: with a read-only root, no capability, and ``options`` of `podman run`."""
        self.podman, self.host, self.name = podman, host, host.namespace
        named = ("--name", self.name, "--network", f"ns:/run/netns/{host.namespace}")
        self._options = (*named, "--read-only", "--cap-drop", "all", *options)

    def start(self, *command: str) -> None:
        self.podman("run", "-d", *self._options, IMAGE, *command)

    def fastun(self, *command: str) -> str:
        """Run a command of fastun inside; return what it prints. LabError where it fails."""
        return self.podman("exec", self.name, "fastun", *command).stdout

    def is_healthy(self) -> bool:
        self.podman("healthcheck", "run", self.name, check=False)
        return self._inspect("{{.State.Health.Status}}") == "healthy"

    def log(self) -> str:
        done = self.podman("logs", self.name)
        return done.stdout + done.stderr

    def warnings(self) -> list[str]:
        """Return how each warning and error in its log begins, up to a colon."""
        found = re.findall(r"^\S+ (?:warning|error) +\S+ +([^:\n]+)", self.log(), re.MULTILINE)
        return [line.strip() for line in found]

    def stop(self) -> int:
        """Stop it as podman does, by SIGTERM; return its exit code."""
        self.podman("stop", "--time", "15", self.name)
        return int(self._inspect("{{.State.ExitCode}}"))

    def run_to_end(self, *command: str) -> tuple[int, str]:
        """Run one that ends by itself; return its exit code, and what it printed."""
        self.podman("run", *self._options, IMAGE, *command, check=False)
        return int(self._inspect("{{.State.ExitCode}}")), self.log()

    def _inspect(self, what: str) -> str:
        return self.podman("inspect", self.name, "--format", what).stdout.strip()
