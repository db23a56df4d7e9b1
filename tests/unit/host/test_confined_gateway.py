"""What a gateway that has given up its privileges can still do, and what not: tried by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fastun import native

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give it up")

# Threads wait in each way that Python has, and all must give up the same.
PROGRAM = """
import ctypes, json, os, resource, signal, socket, sys, threading, time
from pathlib import Path
from fastun import native

reader, writer = os.pipe()
never, lock = threading.Event(), threading.Lock()
lock.acquire()
waiting = [lambda: os.read(os.pipe()[0], 1), never.wait, lambda: never.wait(100), lock.acquire,
           lambda: time.sleep(100), lambda: socket.socketpair()[0].recv(1)]
for each in waiting:
    threading.Thread(target=each, daemon=True).start()

class Busy(threading.Thread):
    "Starts others all the time."
    def run(self):
        while not never.is_set():
            other = threading.Thread(target=time.sleep, args=(0.0005,))
            other.start()
            other.join()
Busy(daemon=True).start()

user = int(sys.argv[1])
child = os.fork()
if child == 0:
    if user:
        os.setresuid(61181, 61181, 61181)
    os.write(writer, b"ready")
    time.sleep(100)
os.read(reader, 5)
import encodings.idna
readable = [Path(each) for each in ("/usr", "/etc", "/proc", "/sys", "/nonexistent")]
native.confine_gateway(user, user, (61181 if user else 0, 61181 if user else 0), readable)

def tried(what):
    try:
        return what() and "done" or "done"
    except OSError as error:
        return error.errno

def call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        return ctypes.get_errno()
    return "done"

wanted = ("Cap", "NoNew", "Seccomp:", "Uid", "Gid")

def alike():
    seen = set()
    for thread in Path("/proc/self/task").iterdir():
        try:
            lines = (thread / "status").read_text().splitlines()
        except OSError:
            continue  # it has ended
        seen.add(tuple(each for each in lines if each.startswith(wanted)))
    return seen

def ended():
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)

clone_new_user = 0x10000000
found = {
    "threads": sorted(map(list, alike())),
    "write": tried(lambda: open("/tmp/fastun-escaped", "w")),
    "make": tried(lambda: os.mkdir("/tmp/fastun-escaped.d")),
    "state": tried(lambda: os.listdir("/var")),
    "keys": tried(lambda: open("/etc/shadow")),
    "hosts": tried(lambda: open("/etc/hosts").read()),
    "proc": tried(lambda: open("/proc/self/stat").read()),
    "execute": tried(lambda: os.execv("/bin/true", ["true"])),
    "trace": call(101, 16, os.getppid(), 0, 0),
    "read memory": call(310, os.getppid(), 0, 0, 0, 0, 0),
    "namespace": call(272, clone_new_user),
    "bpf": call(321, 0, 0, 0),
    "user": tried(lambda: os.setuid(61181)),
    "unix": tried(lambda: socket.socket(socket.AF_UNIX)),
    "packet": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "raw": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "mark": tried(lambda: socket.socket().setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)),
    "bind": tried(lambda: socket.socket().bind(("127.0.0.1", 0))),
    "pair": tried(socket.socketpair),
    "udp": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
    "name": tried(lambda: socket.getaddrinfo("localhost", 1)),
    "signal init": tried(lambda: os.kill(1, 0)),
    "end a worker": tried(ended),
    "new thread": tried(lambda: (t := threading.Thread(target=int), t.start(), t.join())),
}
never.set()
print(json.dumps(found))
os._exit(0)
"""

REFUSED = (
    "write", "make", "state", "keys", "execute", "trace", "read memory", "namespace", "bpf", "user",
    "unix", "packet", "raw", "mark", "signal init",
)  # fmt: skip
ALLOWED = ("hosts", "proc", "pair", "udp", "name", "end a worker", "new thread")


def tried(user: int, directory: Path) -> dict[str, object]:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(user)],
        check=True,
        capture_output=True,
        text=True,
        cwd=directory,
        timeout=60,
    )
    found: dict[str, object] = json.loads(ran.stdout)
    return found


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system call numbers of x86-64")
@pytest.mark.parametrize("user", [61182, 0])
def test_it_can_do_its_work_and_little_else(user: int, tmp_path: Path) -> None:
    has_landlock = native.probe_confinement().landlock > 0
    found = tried(user, tmp_path)
    (threads,) = found["threads"]  # type: ignore[misc]
    assert "NoNewPrivs:\t1" in threads
    assert "Seccomp:\t2" in threads
    assert sum(each.endswith("\t" + "0" * 16) for each in threads) == 5, "no capability in any set"
    if user:
        assert f"Uid:\t61181\t{user}\t{user}\t{user}" in threads
    # Root without a capability may still do to root's what rules and filter let it.
    as_root = {"keys", "signal init"} | (set() if has_landlock else {"write", "make", "state"})
    as_another = set() if has_landlock else {"state"}
    assert {each for each in REFUSED if found[each] == "done"} <= (as_another if user else as_root)
    assert [each for each in ALLOWED if found[each] != "done"] == []
    if native.probe_confinement().landlock >= 4:
        assert found["bind"] != "done"
