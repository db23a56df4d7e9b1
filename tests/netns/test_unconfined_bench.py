"""What `./run bench against --unconfined` measures beside: nothing of it is confined."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from bench.tunnel.against import UNCONFINED
from fastun.lab.host import wait_until
from fastun.lab.tunnel import SERVER_ADDRESSES, start_gateway
from fastun.native import ROLES
from tests.support.processes import processes

if TYPE_CHECKING:
    from fastun.lab.network import Lab


def test_no_process_of_it_gives_anything_up(lab: Lab, tmp_path: Path) -> None:
    listen = ("--listen", "udp://127.0.0.1:51820")
    gateway = start_gateway(
        lab.host("server"),
        tmp_path,
        "serve",
        *listen,
        wire="wireguard",
        addresses=SERVER_ADDRESSES,
        program=UNCONFINED,
    )
    expected = {"gateway", "host", "template", *ROLES}
    wait_until(lambda: set(processes(gateway).values()) == expected, "workers", timeout_s=20)
    wait_until(lambda: "gateway   up" in "".join(gateway.log_tail(20)), "up", timeout_s=20)
    given_up = {
        title: re.findall(
            r"^(?:NoNewPrivs|Seccomp):\t(\d)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
        )
        for pid, title in processes(gateway).items()
    }
    assert given_up == {title: ["0", "0"] for title in expected}
    assert gateway.stop(timeout_s=15) == 0
