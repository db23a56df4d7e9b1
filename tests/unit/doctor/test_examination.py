"""`fastun doctor`: each condition that a test can break is found, and its fix is named."""

from __future__ import annotations

import json
import os
import platform
import struct
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastun.doctor import examination, kill_switch, listing
from fastun.doctor import probe as doctor_probe
from fastun.doctor.finding import Finding, Subject
from fastun.doctor.probe import Probe
from fastun.host import programs
from fastun.host.firewall import kill_switch_found
from fastun.lab.network import missing_capability
from fastun.peers.peer import Peer
from fastun.peers.store import PeerStore
from fastun.session import keys
from tests.support.doctored_host import Sound, found


def test_every_check_names_itself_and_says_something(subject: Subject) -> None:
    findings = list(examination.examine(subject))
    assert [each.check for each in findings] == list(examination.CHECKS)
    assert all(each.message for each in findings)
    assert all(each.fix for each in findings if each.verdict == "FAIL")


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


def test_a_key_that_others_can_read_fails_and_the_fix_can_be_pasted(subject: Subject) -> None:
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


def test_peers_that_others_can_read_or_no_user_fail(subject: Subject) -> None:
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
from types import SimpleNamespace
# All that is loaded late: the interpreter may stand where this user cannot read.
import encodings.ascii
import fastun.peers.store, fastun.session.keys, fastun.status.control
import fastun.doctor.probe
from fastun.doctor import examination, kill_switch, listing
from fastun.doctor.finding import Subject
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
subject = Subject(Path(sys.argv[1]), Path(sys.argv[2]))
sys.exit(listing.show(examination.examine(subject), as_json=True))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_without_rights_it_says_what_was_not_checked(subject: Subject) -> None:
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
    assert finding.verdict == "warn"
    assert "serve' with --forward" in finding.fix
    assert finding.fix.endswith("sysctl -w net.ipv4.ip_forward=1")


@pytest.mark.parametrize(
    ("obstacles", "verdict"),
    [([], "ok"), (["ip filter FORWARD drops it; run 'iptables -I'"], "FAIL")],
)
def test_what_is_in_the_way_of_a_gateway_that_forwards_is_a_failure(
    subject: Subject, obstacles: list[str], verdict: str
) -> None:
    forward = SimpleNamespace(obstacles=obstacles)
    gateway = SimpleNamespace(
        interface="fastun0", forward=forward, listen=[], metrics=None, dns=None, fleet=None
    )
    vars(subject)["gateways"] = [gateway]  # as it is looked up once
    finding = found(subject, "forwarding")
    assert finding.verdict == verdict
    assert finding.message.startswith("fastun0: ")
    assert finding.fix == ("run 'iptables -I'" if obstacles else "")


def test_a_setting_that_cannot_be_read_is_not_a_failure(subject: Subject, proc: Path) -> None:
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
    assert probe.failure == "" or missing_capability()


# A checksum at a place where UDP has none, which include/linux/virtio_net.h refuses.
MISPLACED = """
import sys
from fastun.doctor import probe as doctor_probe
doctor_probe._UDP4 = doctor_probe._UDP4._replace(csum_offset=4)
sys.stdout.buffer.write(doctor_probe.msgspec.json.encode(doctor_probe._probe()))
"""


def test_a_super_packet_that_the_kernel_refuses_is_reported_in_its_words() -> None:
    child = [sys.executable, "-c", MISPLACED]
    done = subprocess.run(child, capture_output=True, timeout=60, check=True)
    probe = json.loads(done.stdout)
    if probe["failure"] and missing_capability():
        pytest.skip(f"a TUN device needs {missing_capability()}")
    if tuple(map(int, platform.release().split(".")[:2])) < (6, 2):
        pytest.skip("needs a kernel with UDP offload on TUN devices (Linux 6.2)")
    assert (probe["tcp_write"], probe["udp_write"]) == ("", "Invalid argument")


def test_a_probe_that_does_not_load_is_not_a_failure_of_the_doctor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    assert doctor_probe.run() == Probe(failure="the probe did not answer")


# -- telling ----------------------------------------------------------------------------------


def test_the_text_fits_80_columns_and_each_fix_follows_its_finding(
    subject: Subject, capsys: pytest.CaptureFixture[str]
) -> None:
    (subject.state / "private.key").chmod(0o644)
    assert listing.show(examination.examine(subject), as_json=False) == 1
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
        code = listing.show(examination.examine(subject), as_json=True)
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


# -- kill switch ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interfaces", "verdict", "said"),
    [
        ((), "ok", "none is set"),
        (("ft0",), "ok", "set: nothing leaves this host beside ft0"),
        (("ft7",), "warn", "that of ft7 is set, its fastun is not running"),
    ],
)
def test_a_kill_switch_whose_fastun_is_gone_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, interfaces: tuple[str, ...], verdict: str, said: str
) -> None:
    monkeypatch.setattr(kill_switch_found, "interfaces", lambda: interfaces)
    finding = kill_switch.check(SimpleNamespace(gateways=[SimpleNamespace(interface="ft0")]))  # type: ignore[arg-type]
    assert finding.verdict == verdict
    assert finding.message.startswith(said)
    assert finding.fix == (
        "start it again, or run 'fastun disconnect -i ft7'" if verdict == "warn" else ""
    )


def test_without_root_a_kill_switch_is_not_checked(
    monkeypatch: pytest.MonkeyPatch, subject: Subject
) -> None:
    def denied() -> tuple[str, ...]:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(kill_switch_found, "interfaces", denied)
    assert kill_switch.check(subject).verdict == "unknown"
