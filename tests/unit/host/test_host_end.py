"""A host process ends, whatever hangs in it: nothing of a gateway is left."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HANGING = """
import os, socket, sys, time
from pathlib import Path
from fastun.config.settings import Options, load
from fastun.host.process import main
from fastun.host.process.work import HostWork
from fastun.host.users import KEPT

main.END_LIMIT_S = 0.3
HostWork.end = lambda work: time.sleep(600)
gateway, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
gateway.close()
directory = Path(sys.argv[1])
settings = load("serve", None, Options(state=directory, run_dir=directory))
main.serve(theirs, os.eventfd(0), settings, None, KEPT)
"""


def test_one_that_hangs_as_it_restores_the_host_says_so_and_ends(tmp_path: Path) -> None:
    # fmt: off
    done = subprocess.run(
        [sys.executable, "-c", HANGING, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )
    # fmt: on
    assert done.returncode == 1
    assert "the host was not restored in time; the next start undoes what is left" in done.stderr
