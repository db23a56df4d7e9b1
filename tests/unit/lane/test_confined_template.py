"""What the template, and a worker before it has put its own filter on, may not do."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

from fastun import native

PROGRAM = """
import ctypes, errno, json, os, signal, socket
from fastun import native

other = os.getppid()
native.confine_template(0, 0)

def call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        return errno.errorcode[ctypes.get_errno()]
    return "done"

def tried(function):
    try:
        function()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

found = {
    "execute": tried(lambda: os.execv("/bin/true", ["true"])),
    "socket": tried(socket.socket),
    "netlink": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    "pair": tried(socket.socketpair),
    "signal": tried(lambda: os.kill(other, 0)),
    "signal by pidfd": tried(
        lambda: signal.pidfd_send_signal(os.pidfd_open(other), signal.SIGCONT)
    ),
    "trace": call(101, 16, other, 0, 0),
    "read memory": call(310, other, 0, 0, 0, 0, 0),
    "namespace": call(272, 0x10000000),
    "bpf": call(321, 0, 0, 0),
    "io_uring": call(425, 1, 0),
    "itself": tried(lambda: os.kill(os.getpid(), 0)),
}
pid = os.fork()
if pid == 0:
    os._exit(0 if tried(lambda: os.kill(os.getpid(), 0)) == "EPERM" else 1)
found["a worker's signal"] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps(found))
"""

REFUSED = (
    "execute",
    "socket",
    "netlink",
    "pair",
    "signal",
    "signal by pidfd",
    "trace",
    "read memory",
    "namespace",
    "bpf",
    "io_uring",
)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")
def test_it_forks_and_nothing_that_reaches_others() -> None:
    if not native.probe_confinement().has_filter:
        pytest.skip("this kernel has no seccomp filters")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {what: found[what] for what in REFUSED} == dict.fromkeys(REFUSED, "EPERM")
    assert (found["itself"], found["a worker's signal"]) == ("done", 0)
