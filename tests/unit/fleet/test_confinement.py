"""What the process of a fleet can still do once it is confined, and what not: tried by one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from fastun.fleet import confinement
from fastun.fleet.confinement import Files
from fastun.peers.store import PeerStore

if TYPE_CHECKING:
    from pathlib import Path

URL = "postgresql://fastun@db.example.net:6543/fastun"

# The first argument is the state directory, the second the URL; the rest are files of others.
PROGRAM = """
import json, os, resource, signal, socket, sys
from pathlib import Path
from fastun.fleet import confinement
from fastun.fleet.confinement import Files
from fastun.peers.peer import Peer
from fastun.peers.store import PeerStore

state, url, port, *others = sys.argv[1:]
store = PeerStore(Path(state))
store.remember_original("postgresql:///")
child = os.fork()
if child == 0:
    os.close(1)
    os.close(2)
    signal.alarm(30)
    signal.pause()
found = confinement.give_up(url, Files(Path(state), url))

def tried(what):
    try:
        what()
        return "done"
    except OSError as error:
        return error.errno
    except MemoryError:
        return "no memory"

def opened(path):
    return lambda: open(path, "rb").close()

def connected(port):
    with socket.socket() as made:
        made.settimeout(1)
        made.connect(("127.0.0.1", port))

def written():
    for n in range(1, 400):  # pages that the cache does not keep, so that the journal is needed
        store.copy([Peer(name=f"p{n}", public_key=n.to_bytes(32, "big"))], [])
    return len(store.peers())

said = {
    "user": [found.user, os.geteuid()],
    "filter": found.has_filter,
    "landlock": found.landlock,
    "written": written(),
    "others": [tried(opened(each)) for each in others],
    "beside": tried(lambda: open(Path(state, "new"), "w")),
    "hosts": tried(opened("/etc/hosts")),
    "shadow": tried(opened("/etc/shadow")),
    "names": [each[4][0] for each in socket.getaddrinfo("localhost", 1, type=socket.SOCK_STREAM)],
    "local": tried(lambda: socket.socket(socket.AF_UNIX)),
    "packet": tried(lambda: socket.socket(socket.AF_PACKET)),
    "listen": tried(lambda: socket.socket().listen()),
    "connect": tried(lambda: connected(int(port))),
    "kill": tried(lambda: os.kill(child, signal.SIGCONT)),
    "kill self": tried(lambda: os.kill(os.getpid(), 0)),
    "chmod": tried(lambda: os.chmod(state, 0o777)),
    "chown": tried(lambda: os.chown(state, 0, 0)),
    "exec": tried(lambda: os.execv("/bin/true", ["true"])),
    "limit": tried(lambda: resource.prlimit(child, resource.RLIMIT_NOFILE, (1, 1))),
    "memory": tried(lambda: bytearray(3 << 30)),
}
print(json.dumps(said))
"""


def run(state: Path, url: str, port: int, *others: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(state), url, str(port), *map(str, others)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


EPERM, EACCES, EAFNOSUPPORT, ECONNREFUSED = 1, 13, 97, 111


def test_it_keeps_the_copy_names_and_libraries_and_nothing_else(tmp_path: Path) -> None:
    key, passfile = tmp_path / "private.key", tmp_path / "pgpass"
    for path in (key, passfile):
        path.touch(mode=0o600)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        said = run(
            tmp_path, f"{URL}?passfile={passfile}", listening.getsockname()[1], key, passfile
        )
    assert said["filter"]
    assert said["user"] == [os.geteuid()] * 2
    assert said["written"] == 399
    assert {"127.0.0.1", "::1"} >= {*said["names"]} != set()
    assert said["hosts"] == said["kill self"] == "done"
    assert said["local"] == said["packet"] == EAFNOSUPPORT
    for refused in ("listen", "kill", "chmod", "chown", "exec", "limit"):
        assert said[refused] == EPERM, refused
    assert said["memory"] == "no memory"
    if said["landlock"]:
        assert said["others"] == [EACCES, "done"]
        assert said["shadow"] == said["beside"] == EACCES
    if said["landlock"] >= 4:
        assert said["connect"] == EACCES


@pytest.mark.parametrize("url", ["postgresql:///fastun?host=/run/postgresql", "postgresql:///x"])
def test_a_database_on_this_host_is_reached_by_its_socket(tmp_path: Path, url: str) -> None:
    assert run(tmp_path, url, 1)["local"] == "done"


def test_ports_are_those_of_the_url_and_of_the_name_service(tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        url = f"postgresql://a.example.net:{port},b.example.net:5433/fastun"
        assert run(tmp_path, url, port)["connect"] == "done"


# -- which files ------------------------------------------------------------------------------


def test_files_are_those_that_libpq_would_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = tmp_path / "services.conf"
    services.write_text("[f]\nhost=db\nport=7777\npassfile=/etc/fastun/pgpass\nsslcert=/c.crt\n")
    monkeypatch.setenv("HOME", "/home/op")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv("PGSSLKEY", "/c.key")
    files = Files(tmp_path, "postgresql:///?service=f&sslrootcert=/ca.pem")
    wanted = {"/etc/fastun/pgpass", "/c.crt", "/c.key", "/ca.pem", str(services), "/etc/hosts"}
    wanted |= {"/home/op/.pgpass", "/home/op/.postgresql/root.crt", "/home/op/.pg_service.conf"}
    assert wanted <= {*files.readable}
    assert "PGSERVICE" not in os.environ
    assert confinement.options_of("postgresql:///?service=f")["port"] == "7777"


@pytest.mark.parametrize("url", ["postgresql:///?service=nosuch", "postgresql://h/?nosuch=1"])
def test_what_libpq_would_refuse_is_left_to_it(tmp_path: Path, url: str) -> None:
    assert "/etc/hosts" in Files(tmp_path, url).readable


def test_a_file_that_is_another_by_its_name_is_noticed(tmp_path: Path) -> None:
    passfile = tmp_path / "pgpass"
    with PeerStore(tmp_path) as store:
        store.remember_original("postgresql:///")
    files = Files(tmp_path, f"{URL}?passfile={passfile}")
    assert not files.have_changed()
    passfile.write_text("one")
    assert files.have_changed(), "it was not there"
    files = Files(tmp_path, f"{URL}?passfile={passfile}")
    passfile.write_text("two")
    assert not files.have_changed(), "it is the same file"
    (tmp_path / "new").write_text("three")
    (tmp_path / "new").rename(passfile)
    assert files.have_changed()


def test_a_service_that_names_another_file_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = tmp_path / "services.conf"
    services.write_text("[f]\npassfile=/a\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    files = Files(tmp_path, "postgresql:///?service=f")
    assert not files.have_changed()
    services.write_text("[f]\npassfile=/b\n")
    assert files.have_changed()
