"""How much memory may be locked: keys that the gateway can have there, its workers must map."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.network import Lab


@pytest.mark.parametrize("kibibytes", [0, 64, 8192])
def test_a_server_starts_whatever_may_be_locked(lab: Lab, tmp_path: Path, kibibytes: int) -> None:
    """As in a container with CAP_IPC_LOCK, but without CAP_SYS_RESOURCE."""
    host = lab.host("host")
    places = ("--state", str(tmp_path), "--run-dir", str(tmp_path))
    fastun = (sys.executable, "-m", "fastun")
    # fmt: off
    process = host.spawn(
        "prlimit", f"--memlock={kibibytes * 1024}",
        "setpriv", "--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource",
        *fastun, "serve", "--metrics", "off", *places, stderr=subprocess.STDOUT,
    )
    # fmt: on
    ready = (*fastun, "status", "--ready", "--run-dir", str(tmp_path))
    wait_until(lambda: host.run(*ready, check=False).returncode == 0, "it is ready", timeout_s=20)
    process.terminate()
    assert process.wait(20) == 0
