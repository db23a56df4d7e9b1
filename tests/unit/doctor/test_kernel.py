"""`fastun doctor` on the kernel, the processor and the libraries."""

from __future__ import annotations

import platform
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fastun import native
from fastun.doctor import kernel as doctor_kernel
from fastun.doctor.finding import Subject
from fastun.doctor.probe import Probe
from tests.support.doctored_host import Sound, add_peers, found


@pytest.mark.parametrize("made", ["missing", "file"])
def test_a_tun_device_that_is_not_there_fails(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str
) -> None:
    path = tmp_path / "tun"
    if made == "file":
        path.write_text("")
    monkeypatch.setattr(doctor_kernel, "TUN_DEVICE", path)
    finding = found(subject, "TUN device")
    assert finding.verdict == "FAIL"
    assert ("modprobe tun" in finding.fix) == (made == "missing")


def test_a_process_without_the_capability_fails(subject: Subject, proc: Path) -> None:
    assert found(subject, "CAP_NET_ADMIN").verdict == "ok"
    (proc / "self/status").write_text("CapEff:\t000001ffffffefff\n")
    finding = found(subject, "CAP_NET_ADMIN")
    assert (finding.verdict, "run as root" in finding.fix) == ("FAIL", True)


@pytest.mark.parametrize(
    ("release", "verdict", "fix"),
    [
        ("6.18.44-cloud-amd64", "ok", ""),
        ("6.6.43", "ok", ""),
        ("6.6.44-1", "warn", "gso = false"),
        ("6.6.47", "ok", ""),
        ("7.0.0-rc1", "warn", "udp_offload = false"),
        ("7.0.2-6-pve", "warn", "udp_offload = false"),
        ("7.1.4", "warn", "udp_offload = false"),
        ("7.1.5", "ok", ""),
        ("5.10.0-30-amd64", "warn", "udp_offload = false"),
        ("7.2", "ok", ""),
        ("custom", "unknown", ""),
    ],
)
def test_kernels_with_known_faults_are_known_by_their_version(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, release: str, verdict: str, fix: str
) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    finding = found(subject, "kernel")
    assert finding.verdict == verdict
    assert fix in finding.fix


@pytest.mark.parametrize(
    ("probe", "check", "expected"),
    [
        (Probe(failure="no namespace"), "super-packets", "unknown: no namespace"),
        (Probe(failure="no namespace"), "TUN writes", "unknown: no namespace"),
        (Probe(failure="no namespace"), "UDP offload", "ok: UDP sockets have UDP_SEGMENT"),
        (Probe(offload="tcp", tcp_write=""), "super-packets", "warn: the kernel passes super-"),
        (Probe(offload="tcp", tcp_write=""), "TUN writes", "ok: "),
        (Probe(offload="none", tcp_write=""), "super-packets", "warn: the kernel does not pass"),
        (
            Probe(offload="tcp+udp", tcp_write="Invalid argument"),
            *("TUN writes", "FAIL: a super-packet of TCP written to a TUN: Invalid argument"),
        ),
        (
            Probe(offload="tcp+udp", tcp_write="", udp_write="its datagrams arrived changed"),
            *("TUN writes", "FAIL: a super-packet of UDP written to a TUN: its datagrams arrived"),
        ),
        (
            Probe(offload="tcp+udp", tcp_write="", udp_write="", udp_cut="sent changed"),
            *("UDP offload", "FAIL: a buffer of datagrams sent with UDP_SEGMENT: sent changed"),
        ),
    ],
)
def test_what_the_probe_found_is_shown(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, probe: Probe, check: str, expected: str
) -> None:
    monkeypatch.setattr(Sound, "probe", probe)
    finding = found(subject, check)
    assert f"{finding.verdict}: {finding.message}".startswith(expected)


def test_a_socket_without_udp_offload_is_a_warning(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_kernel, "_UDP_GRO", 9999)
    finding = found(subject, "UDP offload")
    assert (finding.verdict, finding.message) == ("warn", "UDP sockets have no UDP_GRO")


@pytest.mark.parametrize(("has_aes", "name"), [(True, "AES-256-GCM"), (False, "ChaCha20")])
def test_the_cipher_is_shown(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, has_aes: bool, name: str
) -> None:
    monkeypatch.setattr(native, "has_aes_instructions", lambda: has_aes)
    finding = found(subject, "cipher")
    assert (finding.verdict, finding.message.startswith(name)) == ("ok", True)
    assert re.search(r"; implementation: (libgcrypt|intel-ipsec-mb)$", finding.message)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("_GCRYPT_LIBRARY", "libgcrypt.so.999", "not installed"),
        ("GCRYPT_VERSION_MIN", "99.0.0", "too old"),
        ("_GCRY_CIPHER_CHACHA20", 9999, "refuses ChaCha20-Poly1305"),
    ],
)
def test_a_libgcrypt_that_does_not_do_fails(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, name: str, value: object, words: str
) -> None:
    assert found(subject, "libgcrypt").verdict == "ok"
    monkeypatch.setattr(doctor_kernel, name, value)
    finding = found(subject, "libgcrypt")
    assert (finding.verdict, words in finding.message) == ("FAIL", True)


def test_the_least_libgcrypt_is_the_one_that_c_asks_for() -> None:
    source = Path(__file__).parents[3] / "csrc" / "session" / "aead_gcrypt.c"
    asked = f'#define GCRYPT_VERSION_MIN "{doctor_kernel.GCRYPT_VERSION_MIN}"'
    assert asked in source.read_text(encoding="utf-8")


@pytest.mark.parametrize(("n_peers", "verdict"), [(2, "ok"), (3, "warn")])
def test_memory_for_fewer_keys_than_there_are_peers_is_a_warning(
    subject: Subject,
    proc: Path,
    monkeypatch: pytest.MonkeyPatch,
    n_peers: int,
    verdict: str,
) -> None:
    a_peer = doctor_kernel.locked_bytes_a_peer(subject.sealing_library)
    limit = doctor_kernel.LOCKED_BYTES_ON_UDP + 2 * a_peer
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    add_peers(subject, n_peers)
    finding = found(subject, "locked memory")
    assert finding.verdict == verdict
    assert f"{limit // 1024} KiB: enough for the keys of 2 connected peers" in finding.message
    (proc / "swaps").write_text("Filename\n")
    assert found(Sound(subject.state, subject.run_dir), "locked memory").verdict == "ok"


LINK_READER = """
import os, re, socket
from fastun.native import Aead, KeyArea, KeyRegion, Mode, PeerTable, Ring, Stats, Waiting, Wire
from fastun.native import load_sealing_library, sealing_library
from fastun.native.secrets import Secret
from fastun.native.counters import ReplayMarks, SendingCounters
from fastun.native.loop import Descriptors, Loop, SessionMemory, SharedMemory

channel, _other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
region = KeyRegion.create(secret=False)
area = KeyArea(region.fd("link-reader"))
sessions = SessionMemory(area, SendingCounters.create(), ReplayMarks.create())
memory = SharedMemory(Ring.create(1 << 20), Stats.create(), PeerTable.create(), sessions)
fds = Descriptors(os.open("/dev/null", os.O_RDWR), channel.fileno(), os.eventfd(0))
loop = Loop("link-reader", memory, fds, wire=Wire.WIREGUARD, mode=Mode.TUN, waiting=Waiting())

def locked():
    return int(re.search(r"VmLck:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

load_sealing_library()  # as the template has, before it forks
before = locked()
loop.set_gate_keys(bytes(32), bytes(range(32)))
N_PEERS, N_KEYS = 64, 4

def add_key(slot, aead, index):
    key = region.put(Secret.new_private(), Secret.new_private())
    loop.add_receiving_key(slot, aead, key.name, index=index, counter=0, expires_ns=2**62)

add_key(len(Aead) * N_PEERS, Aead.AES_256_GCM, 2**32 - 1)  # a mapping stays for what derives keys
on_udp = locked()
# A session's second key is made when it is first used, so here each cipher has sessions of its own.
for which, aead in enumerate(Aead):
    for i in range(which * N_PEERS * N_KEYS, (which + 1) * N_PEERS * N_KEYS):
        add_key(i // N_KEYS, aead, i + 1)
print(sealing_library(), on_udp - before, (locked() - on_udp) // N_PEERS)
"""


def test_a_link_reader_locks_as_much_for_a_peer_as_doctor_says() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", LINK_READER], capture_output=True, text=True, check=True
    )
    library, on_udp, for_a_peer = asked.stdout.split()
    assert int(on_udp) <= doctor_kernel.LOCKED_BYTES_ON_UDP
    said = doctor_kernel.locked_bytes_a_peer(library)
    assert 0.9 * said <= int(for_a_peer) <= said


@pytest.mark.parametrize(("n_peers", "verdict"), [(2, "ok"), (3, "warn")])
def test_files_for_fewer_connections_than_there_are_peers_is_a_warning(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, n_peers: int, verdict: str
) -> None:
    fresh = Sound(subject.state, subject.run_dir)
    assert found(fresh, "open files").message == "enough for 1,024 connected peers over tcp"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 384 + 2))
    add_peers(subject, n_peers)
    finding = found(subject, "open files")
    assert (finding.verdict, "enough for 2 connected peers" in finding.message) == (verdict, True)
