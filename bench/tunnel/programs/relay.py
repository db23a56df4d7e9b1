"""A relay of 100 lines of C: what any tunnel in user space pays over TCP, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from bench.tunnel.addresses import OUTER
from bench.tunnel.pair import Pair
from fastun.lab.host import run_command

if TYPE_CHECKING:
    from fastun.lab.host import Host

PORT = 10001
DEVICE = "relay0"
COMPILER = os.environ.get("CC", "cc")
SOURCE = Path(__file__).with_suffix(".c")


def start(pair: Pair) -> None:
    """Compile it, start both ends, and give their devices addresses."""
    program = pair.directory / "relay"
    run_command(COMPILER, "-O2", "-pthread", "-o", str(program), str(SOURCE))
    _spawn(pair, pair.server, program, "listen")
    pair.wait_listening(PORT, udp=False)
    _spawn(pair, pair.client, program, "connect")
    for host in pair.hosts:
        pair.configure_device(host, DEVICE)


def _spawn(pair: Pair, host: Host, program: Path, how: str) -> None:
    pair.spawn(host, str(program), DEVICE, how, OUTER.server.bare_v4, str(PORT))
