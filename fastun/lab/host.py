"""One host of the laboratory: a network namespace, and running programs in it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, TypeVar

from fastun.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Result = TypeVar("Result")

# What a gateway promises to need for its end.
STOP_TIMEOUT_S = 2.0
# For what comes at once: a machine that others use too takes longer. It only ends what hangs.
WAIT_LIMIT_S: Final = 30.0
NAMESPACE_DIR = Path("/run/netns")

_CLONE_NEWNET = 0x40000000  # linux/sched.h


class LabError(RuntimeFailure):
    """A command of the laboratory failed, or a condition did not come true in time."""


def wait_until(
    condition: Callable[[], bool],
    what: str,
    *,
    timeout_s: float = WAIT_LIMIT_S,
    interval_s: float = 0.02,
) -> None:
    """Return as soon as `condition()` is true; LabError naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {timeout_s:g} s")
        time.sleep(interval_s)


def run_command(
    *command: str, timeout_s: float = 30.0, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end without standard input; LabError if it fails or takes too long."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"program not found: {error.filename}") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(command)}: not done within {timeout_s:g} s") from error
    if check and done.returncode != 0:
        said = "; ".join((done.stderr or done.stdout).strip().splitlines())
        raise LabError(f"{' '.join(command)}: {said or f'exit code {done.returncode}'}")
    return done


@dataclass(eq=False, slots=True)
class Host:
    """A network namespace with what runs in it. Made by `Lab.host`."""

    name: str
    namespace: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(
        self, *command: str, timeout_s: float = 30.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here to its end. Raises as `run_command`."""
        inside = ("ip", "netns", "exec", self.namespace, *command)
        return run_command(*inside, timeout_s=timeout_s, check=check)

    def spawn(
        self,
        *command: str,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.DEVNULL,
        stderr: int | IO[bytes] = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a command here. Its pid is the program's own; it is ended with the laboratory.

        It runs in a session of its own, so Ctrl-C does not reach it before the laboratory
        ends it in order, and it is killed when the *thread* that called this is gone.
        """
        inside = ("ip", "netns", "exec", self.namespace, *command)
        process = subprocess.Popen(
            ("setpriv", "--pdeathsig", "KILL", *inside),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def ip(self, *arguments: str) -> str:
        """Run iproute2's ``ip`` on this namespace and return what it prints."""
        return run_command("ip", "-n", self.namespace, *arguments).stdout

    def inside(self, function: Callable[[], Result]) -> Result:
        """Call `function` in a thread that has entered this namespace, and return its result."""

        def entered() -> Result:
            with (NAMESPACE_DIR / self.namespace).open("rb") as namespace:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                    raise LabError(f"setns {self.namespace}: {os.strerror(ctypes.get_errno())}")
            return function()

        with ThreadPoolExecutor(max_workers=1) as thread:
            return thread.submit(entered).result()

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """Open a socket that belongs to this namespace; it may be used from any thread."""
        return self.inside(lambda: socket.socket(family, kind))

    def sysctl(self, key: str, value: object) -> None:
        """Write a setting of this namespace, such as ``net.ipv4.ip_forward``."""
        path = Path("/proc/sys", *key.split("."))
        self.inside(lambda: path.write_text(f"{value}\n"))

    def devices(self) -> list[str]:
        """Return the names of the network devices here, lo included."""
        listing = self.ip("-brief", "link")
        return [line.split()[0].split("@")[0] for line in listing.splitlines()]

    def listens(self, port: int, *, udp: bool = False) -> bool:
        """Whether a socket here is bound to `port` and takes connections or datagrams."""
        kind = "-u" if udp else "-t"
        return bool(self.run("ss", "-Hln", kind, f"sport = :{port}").stdout.strip())

    def pids(self) -> list[int]:
        """Return the processes in this namespace, spawned here or not."""
        return [
            int(pid) for pid in run_command("ip", "netns", "pids", self.namespace).stdout.split()
        ]


def stop_processes(hosts: Iterable[Host]) -> None:
    """End what was spawned in these hosts: SIGTERM for all at once, SIGKILL for what stays."""
    alive = [p for host in hosts for p in host.processes if p.poll() is None]
    for process in alive:
        process.terminate()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for process in alive:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.wait()
