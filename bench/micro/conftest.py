"""What a result file says of the machine, besides what pytest-benchmark looks up itself."""

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
