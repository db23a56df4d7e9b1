"""The process of a fleet as a service starts it, of an unprivileged user with one capability.

As by systemd with AmbientCapabilities; "unit": also without the call by which capabilities are
given up, as in our units.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.fleet import messages
from fastun.fleet.messages import Confined, Now
from fastun.lab.network import missing_capability
from tests.netns.test_processes import CAPSET, FORBID, NONE, SERVICE_USER, readable_python

if TYPE_CHECKING:
    from fastun.fleet.messages import Message


def heard(channel: socket.socket, n: int) -> list[Message | None]:
    return [messages.receive(channel, messages.OF_PROCESS) for _ in range(n)]


@pytest.mark.parametrize("way", ["service", "unit"])
def test_it_has_no_capability_and_is_confined(tmp_path: Path, way: str) -> None:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_uid == 0 and above.name.startswith(("pytest-", "popen-", "test_")):
            above.chmod(0o755)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, SERVICE_USER, SERVICE_USER)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # fmt: off
    command = [
        "setpriv", f"--reuid={SERVICE_USER}", f"--regid={SERVICE_USER}", "--clear-groups",
        "--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin",
        "--bounding-set=-all,+net_admin",
        *([sys.executable, "-c", FORBID, str(CAPSET)] if way == "unit" else []),
        sys.executable, "-I", "-u", "-m", "fastun.fleet.process", str(theirs.fileno()),
        str(state), "postgresql://127.0.0.1:1/fastun", "gw1",
    ]
    # fmt: on
    script = f'{readable_python(tmp_path)} && exec "$@"'
    with ours, theirs:
        ours.settimeout(30)
        process = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", script, "sh", *command],
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        confined, now = heard(ours, 2)
        text = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    assert process.wait(20) == 0, "it ends with the gateway"
    assert isinstance(confined, Confined)
    assert (confined.user, confined.has_filter) == (SERVICE_USER, True)
    assert isinstance(now, Now)
    assert "cannot be reached" in now.error
    has = {
        key: value.strip() for key, _, value in (row.partition(":") for row in text.splitlines())
    }
    assert {has[name] for name in ("CapPrm", "CapEff", "CapAmb")} == {NONE}
    assert has["NoNewPrivs"] == "1"
    assert has["Seccomp_filters"] == str(1 + (way == "unit"))
