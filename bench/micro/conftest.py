"""What a result file says of the machine, and what it leaves out."""

from __future__ import annotations

import platform
from typing import Any

from bench.micro import library


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Add what the figures depend on; take out the host's name, which they do not."""
    machine_info.pop("node", None)
    machine_info["distribution"] = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    machine_info["compiler"] = library.compiler_version()
    machine_info["libgcrypt"] = library.load().libgcrypt_version


def pytest_benchmark_update_commit_info(commit_info: dict[str, Any]) -> None:
    """Take out what a checkout is called; the commit says it all."""
    commit_info.pop("project", None)
    commit_info.pop("branch", None)


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Take out the time of every single round: a file that is kept should be small."""
    for benchmark in output_json["benchmarks"]:
        benchmark["stats"].pop("data", None)
