"""`fastun doctor`: each condition that a test can break is found, and the fix is told."""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import struct
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest

from fastun import native
from fastun.doctor import examination
from fastun.doctor import finding as doctor_finding
from fastun.doctor import kernel as doctor_kernel
from fastun.doctor import network as doctor_network
from fastun.doctor import probe as doctor_probe
from fastun.doctor.finding import Finding, Subject
from fastun.doctor.probe import Probe
from fastun.host import programs
from fastun.peers.peer import Peer
from fastun.peers.store import PeerStore
from fastun.session import keys

SOUND = Probe(offload="tcp+udp", tcp_write="", udp_write="", udp_cut="")


class Sound(Subject):
    """One whose kernel does as it should, without a namespace to try it in."""

    probe = SOUND  # type: ignore[assignment]
    gateways = []  # type: ignore[assignment]  # noqa: RUF012 (never changed)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """A host on which fastun has run before."""
    state, run_dir = tmp_path / "state", tmp_path / "run"
    state.mkdir(mode=0o700)
    run_dir.mkdir(mode=0o700)
    keys.store_private(state / "private.key", keys.generate_private())
    with PeerStore(state):
        pass
    return Sound(state, run_dir)


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc to write into."""
    made = tmp_path / "proc"
    for name, value in {
        "self/status": "Name:\tx\nCapEff:\t0000000000001000\n",
        "swaps": "Filename\n/dev/sda2\n",
        "sys/net/ipv4/ip_forward": "1",
        "sys/net/ipv6/conf/all/forwarding": "1",
        "sys/net/ipv4/conf/all/rp_filter": "0",
        "sys/net/ipv4/conf/eth0/rp_filter": "0",
        "sys/net/ipv4/conf/lo/rp_filter": "1",
        "sys/net/ipv4/tcp_congestion_control": "cubic",
    }.items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
    for module in (doctor_finding, doctor_kernel, doctor_network):
        monkeypatch.setattr(module, "PROC", made)
    return made


def found(subject: Subject, check: str) -> Finding:
    (finding,) = (each for each in examination.examine(subject) if each.check == check)
    return finding


def add_peers(subject: Subject, n_peers: int) -> None:
    with PeerStore(subject.state) as store:
        for number in range(n_peers):
            public = keys.public_of(keys.generate_private())
            store.add(Peer(name=f"peer{number}", public_key=public, allowed_ips=()))


def test_every_check_names_itself_and_says_something(subject: Subject) -> None:
    findings = list(examination.examine(subject))
    assert [each.check for each in findings] == list(examination.CHECKS)
    assert all(each.message for each in findings)
    assert all(each.fix for each in findings if each.verdict == "FAIL")


# -- the kernel and the libraries -------------------------------------------------------------


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
def test_what_the_probe_found_is_told(
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
def test_the_cipher_is_told(
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
from fastun.native import Aead, Mode, PeerTable, Ring, Stats, Wire, sealing_library
from fastun.native.loop import Loop

channel, _other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
loop = Loop("link-reader", Ring.create(1 << 20), Stats.create(), PeerTable.create(),
            wire=Wire.WIREGUARD, mode=Mode.TUN, device_fd=os.open("/dev/null", os.O_RDWR),
            channel_fd=channel.fileno(), wake_fd=os.eventfd(0))

def locked():
    return int(re.search(r"VmLck:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

before = locked()
loop.set_gate_keys(bytes(32), bytes(range(32)))
on_udp = locked()
for index in range(1, 9):
    for aead in Aead:
        key = os.urandom(32)
        loop.add_receiving_key(0, aead, key, index=index, counter=0, expires_ns=2**62)
print(sealing_library(), on_udp - before, locked() - on_udp)
"""


def test_a_link_reader_locks_as_much_for_a_peer_as_doctor_says() -> None:
    asked = subprocess.run(
        [sys.executable, "-c", LINK_READER], capture_output=True, text=True, check=True
    )
    library, on_udp, for_a_peer = asked.stdout.split()
    assert int(on_udp) <= doctor_kernel.LOCKED_BYTES_ON_UDP
    assert int(for_a_peer) == doctor_kernel.locked_bytes_a_peer(library)


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


# -- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", ["state", "private key", "peers", "run directory"])
def test_what_is_in_order_or_not_there_yet_is_ok(subject: Subject, check: str) -> None:
    assert found(subject, check).verdict == "ok"
    fresh = Sound(subject.state / "a" / "b", subject.run_dir / "c")
    assert found(fresh, check).verdict == "ok"
    assert not (subject.state / "a").exists()
    assert not (subject.run_dir / "c").exists()


def test_a_state_directory_that_others_can_write_fails(subject: Subject) -> None:
    subject.state.chmod(0o770)
    finding = found(subject, "state")
    assert (finding.verdict, finding.fix) == ("FAIL", f"chmod 700 {subject.state}")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_run_directory_that_others_can_write_fails(subject: Subject, mode: int) -> None:
    subject.run_dir.chmod(mode)
    finding = found(subject, "run directory")
    assert (finding.verdict, finding.fix) == ("FAIL", f"chmod go-w {subject.run_dir}")


@pytest.mark.parametrize("below", ["", "below"])
@pytest.mark.parametrize("check", ["state", "run directory"])
def test_a_file_where_a_directory_should_be_fails(tmp_path: Path, check: str, below: str) -> None:
    path = tmp_path / "file"
    path.write_text("")
    finding = found(Sound(path / below, path / below), check)
    assert finding.verdict == "FAIL"
    assert f"{path} is not a directory" in finding.message
    assert finding.fix.startswith("choose another --")


def test_a_key_that_others_can_read_fails_and_the_mend_can_be_pasted(subject: Subject) -> None:
    path = subject.state / "private.key"
    path.chmod(0o644)
    finding = found(subject, "private key")
    assert (finding.verdict, finding.fix) == ("FAIL", f"chmod 600 {path}")
    assert "is open to other users" in finding.message


@pytest.mark.parametrize("content", ["", "nonsense\n", "A" * 44])
def test_a_key_that_is_none_fails_and_is_not_shown(subject: Subject, content: str) -> None:
    (subject.state / "private.key").write_text(content)
    finding = found(subject, "private key")
    assert finding.verdict == "FAIL"
    assert not content or content.strip() not in finding.message + finding.fix


def test_peers_that_others_can_read_or_nobody_fail(subject: Subject) -> None:
    path = subject.state / "peers.sqlite"
    path.chmod(0o640)
    finding = found(subject, "peers")
    assert (finding.verdict, finding.fix) == ("FAIL", f"chmod 600 {path}")
    path.chmod(0o600)
    path.write_bytes(b"nonsense" * 1000)
    finding = found(Sound(subject.state, subject.run_dir), "peers")
    assert (finding.verdict, "damaged" in finding.message) == ("FAIL", True)


UNPRIVILEGED = """
import os, sys
from pathlib import Path
# All that is loaded late: the interpreter may stand where this user cannot read.
import encodings.ascii
import fastun.peers.store, fastun.session.keys, fastun.status.control
import fastun.doctor.probe
from fastun.doctor.examination import show
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
sys.exit(show(Path(sys.argv[1]), Path(sys.argv[2]), as_json=True))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_somebody_who_may_not_look_is_told_what_was_not_looked_at(subject: Subject) -> None:
    (subject.state.parent).chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, str(subject.state), str(subject.run_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    findings = {each["check"]: each for each in json.loads(done.stdout)["findings"]}
    assert list(findings) == list(examination.CHECKS)
    for check in ("state", "private key", "peers", "run directory"):
        assert findings[check]["verdict"] == "unknown", check
        assert findings[check]["message"].endswith(": permission denied")
    assert findings["CAP_NET_ADMIN"]["verdict"] == "FAIL"
    assert findings["kernel"]["verdict"] in ("ok", "warn")


# -- the network ------------------------------------------------------------------------------


@pytest.mark.parametrize(("of_all", "of_eth0", "verdict"), [
    (0, 0, "ok"), (0, 1, "warn"), (1, 0, "warn"), (2, 1, "ok"), (1, 2, "ok"),
])  # fmt: skip
def test_strict_source_validation_is_a_warning_where_the_kernel_has_it(
    subject: Subject, proc: Path, of_all: int, of_eth0: int, verdict: str
) -> None:
    for name, value in (("all", of_all), ("eth0", of_eth0)):
        (proc / f"sys/net/ipv4/conf/{name}/rp_filter").write_text(f"{value}\n")
    finding = found(subject, "rp_filter")
    assert finding.verdict == verdict
    assert ("strict on eth0:" in finding.message) == (verdict == "warn")


@pytest.mark.parametrize(("path", "verdict"), [("/usr/sbin/nft", "ok"), (None, "warn")])
def test_a_missing_nft_is_a_warning_that_names_the_package(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, path: str | None, verdict: str
) -> None:
    monkeypatch.setattr(programs, "find", lambda _: path)
    finding = found(subject, "nft")
    assert finding.verdict == verdict
    assert ("nftables" in finding.fix) == (verdict == "warn")


def test_forwarding_is_missed_where_there_are_several_peers(subject: Subject, proc: Path) -> None:
    assert found(subject, "forwarding").verdict == "ok"
    (proc / "sys/net/ipv4/ip_forward").write_text("0\n")
    assert found(subject, "forwarding").verdict == "ok"
    with PeerStore(subject.state) as store:
        for number in (2, 3):
            public = keys.public_of(keys.generate_private())
            prefixes = (ip_network(f"10.9.0.{number}/32"),)
            store.add(Peer(name=f"peer{number}", public_key=public, allowed_ips=prefixes))
    finding = found(Sound(subject.state, subject.run_dir), "forwarding")
    assert (finding.verdict, finding.fix) == ("warn", "sysctl -w net.ipv4.ip_forward=1")


def test_a_setting_that_cannot_be_read_is_no_failure(subject: Subject, proc: Path) -> None:
    (proc / "sys/net/ipv4/tcp_congestion_control").unlink()
    finding = found(subject, "congestion")
    assert (finding.verdict, "No such file" in finding.message) == ("unknown", True)


# -- the probe --------------------------------------------------------------------------------


def datagram(payload: bytes, flags: int = 0, gso_type: int = 0) -> bytes:
    """A frame as the device hands it out, its checksum whole or left to the reader."""
    ends = (bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]))
    length = 8 + len(payload)
    pseudo = doctor_probe.ones_complement_sum(doctor_probe.pseudo_header(ends, 17, length))
    plain = struct.pack("!HHHH", 20001, 20002, length, 0) + payload
    whole = ~doctor_probe.ones_complement_sum(struct.pack("!H", pseudo) + plain) & 0xFFFF
    checksum = struct.pack("!H", pseudo if flags else whole)
    header = struct.pack("<BBHHHHH", flags, gso_type, 0, 0, 0, 0, 0)
    return header + doctor_probe.ipv4_header(ends, 17, length) + plain[:6] + checksum + plain[8:]


@pytest.mark.parametrize("flags", [0, 1])
@pytest.mark.parametrize("payload", [b"even", b"odd"])
def test_a_datagram_in_order_is_read_and_one_with_any_other_bit_is_not(
    flags: int, payload: bytes
) -> None:
    frame = datagram(payload, flags)
    assert doctor_probe.payload_of(frame) == payload
    assert doctor_probe.payload_of(datagram(payload, flags, gso_type=5)) == b""
    n_checked = len(frame) - (len(payload) if flags else 0)  # a checksum left open says nothing
    for place in range(12, n_checked):
        changed = bytearray(frame)
        changed[place] ^= 4
        assert doctor_probe.payload_of(bytes(changed)) == b"", place


def test_the_probe_of_this_kernel_comes_to_an_end() -> None:
    probe = doctor_probe.run()
    assert bool(probe.failure) == (probe.offload is None)


# A checksum at a place where UDP has none, which include/linux/virtio_net.h refuses.
MISPLACED = """
import sys
from fastun.doctor import probe as doctor_probe
doctor_probe._UDP4 = doctor_probe._UDP4._replace(csum_offset=4)
sys.stdout.buffer.write(doctor_probe.msgspec.json.encode(doctor_probe._probe()))
"""


def test_a_super_packet_that_the_kernel_refuses_is_told_in_its_words() -> None:
    child = [sys.executable, "-c", MISPLACED]
    done = subprocess.run(child, capture_output=True, timeout=60, check=True)
    probe = json.loads(done.stdout)
    if probe["offload"] != "tcp+udp":
        pytest.skip(f"needs a TUN device with UDP offload: {probe['failure']}")
    assert (probe["tcp_write"], probe["udp_write"]) == ("", "Invalid argument")


def test_a_probe_that_does_not_load_is_no_failure_of_the_doctor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    assert doctor_probe.run() == Probe(failure="the probe did not answer")


# -- telling ----------------------------------------------------------------------------------


def test_the_text_fits_80_columns_and_each_mend_follows_its_finding(
    subject: Subject, capsys: pytest.CaptureFixture[str]
) -> None:
    (subject.state / "private.key").chmod(0o644)
    assert examination.show(subject.state, subject.run_dir, as_json=False) == 1
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80 or any(len(word) > 59 for word in str(subject.state).split())
    (failed,) = (i for i, line in enumerate(lines) if line.startswith("FAIL  private key "))
    assert any("fix: chmod 600" in line for line in lines[failed + 1 :])
    assert "1 failed" in lines[-1]


def test_the_exit_code_and_the_json_say_whether_something_failed(
    subject: Subject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for verdict in ("ok", "warn", "unknown", "FAIL"):
        one = {"one": lambda _, verdict=verdict: Finding("", verdict, "said", "fixed")}
        monkeypatch.setattr(examination, "CHECKS", one)
        code = examination.show(subject.state, subject.run_dir, as_json=True)
        report = json.loads(capsys.readouterr().out)
        assert code == (verdict == "FAIL")
        assert report["ok"] == (verdict != "FAIL")
        assert report["findings"] == [
            {"check": "one", "verdict": verdict, "message": "said", "fix": "fixed"}
        ]


def test_a_library_that_does_not_load_is_a_failure_of_the_host(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastun.native", None)
    monkeypatch.delattr("fastun.native")
    finding = found(subject, "cipher")
    assert (finding.verdict, "cannot be loaded" in finding.message) == ("FAIL", True)
