"""Facts about this machine and the programs on it, for the result file."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from pathlib import Path

import psutil

from bench.tunnel.results import Machine
from fastun import __version__
from fastun.lab.host import LabError, run_command

CHECKOUT = Path(__file__).resolve().parents[2]
# wg's own is the version of the tools, whose protocol work is done by wireguard-go.
VERSIONS = {
    "iperf3": ("iperf3", "--version"),
    "wireguard-go": ("wireguard-go", "--version"),
    "openvpn": ("openvpn", "--version"),
    "fastd": ("fastd", "--version"),
    "tincd": ("tincd", "--version"),
}


def describe(congestion_control: str, load_average: float) -> Machine:
    """Look at this machine; `congestion_control` is what the laboratory's hosts use.

    `load_average` is of the last minute before the run.
    """
    installed = {name: line for name in VERSIONS if (line := _version(*VERSIONS[name]))}
    return Machine(
        cpu=_cpu(),
        n_cpus=os.cpu_count() or 0,
        memory_mib=psutil.virtual_memory().total // 1024**2,
        kernel=platform.release(),
        system=platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        python=platform.python_version(),
        congestion_control=congestion_control,
        versions={"fastun": __version__} | installed,
        commit=_commit(),
        load_average=round(load_average, 2),
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"model name", "Model"}:
            return value.strip()
    return platform.machine()


def _version(program: str, option: str) -> str:
    """Return the first line without the list of what was built in; "" if there is no program."""
    if shutil.which(program) is None:
        return ""
    # Some end with an error code after it.
    lines = run_command(program, option, check=False).stdout.strip().splitlines()
    return lines[0].partition(" [")[0] if lines else ""


def _commit() -> str:
    with contextlib.suppress(LabError):
        # fmt: off
        return run_command("git", "-C", str(CHECKOUT), "describe", "--always", "--dirty",
                           "--exclude", "*").stdout.strip()
        # fmt: on
    return ""
