"""Every C file that takes apart bytes from outside has a fuzz target that runs it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CSRC, NATIVE = ROOT / "csrc", ROOT / "tests" / "native"

# What reads: integers of a packet, a socket, a ring, another process's memory.
READING = re.compile(
    r"\b(?:[bl]e(?:16|32|64)_read|recvm?m?sg|recv|readv?|ring_peek|vnet_read|peer_read_endpoint"
    r"|CMSG_FIRSTHDR|ip_walk|session_open)\("
)

# The target that runs each file's; those of inline functions that others use are theirs.
TARGETS = {
    "host/udp_address.c": "udp_address",
    "inbound/datagram_batch.c": "datagram_batch",
    "inbound/frame_writer.c": "tun_writer",
    "inbound/handshake_gate.c": "datagram_reader",
    "inbound/handshake_in.c": "datagram_reader",
    "inbound/message_in.c": "sealed_reader",
    "inbound/pieces_in.c": "datagram_reader",
    "inbound/reach.c": "sealed_reader",
    "inbound/shaped_in.c": "sealed_reader",
    "inbound/stream_reader.c": "link_reader",
    "inbound/tun_writer.c": "tun_writer",
    "inbound/write_in_place.c": "switch",
    "outbound/answer.c": "tun_reader",
    "outbound/answer_limit.c": "tun_reader",
    "outbound/captured_out.c": "tun_reader",
    "outbound/datagram_socket.c": "link_writer",
    "outbound/frame.c": "tun_reader",
    "outbound/link_writer.c": "link_writer",
    "outbound/own_packets.c": "tun_reader",
    "outbound/path_fit.c": "tun_reader",
    "outbound/piece_flows.c": "tun_reader",
    "outbound/ring_in.c": "tun_reader",
    "outbound/send_in_place.c": "tun_reader",
    "outbound/splitting.c": "tun_reader",
    "outbound/tun_reader.c": "tun_reader",
    "packet/encapsulation.c": "message_decapsulate",
    "packet/gro.c": "gro",
    "packet/gso.c": "gso_split",
    "packet/flow.c": "headers",
    "packet/headers.c": "headers",
    "packet/icmp.c": "icmp",
    "packet/mss.c": "mss",
    "packet/pieces.c": "pieces",
    "packet/vnet.c": "message_decapsulate",
    "session/session.c": "datagram_reader",
    "session/xchacha.c": "datagram_reader",
    "shared/capture_file.c": "capture_read",
    "shared/peer_table.c": "udp_address",
    "shared/ring.c": "ring_peek",
}


def reading_files() -> set[str]:
    return {
        path.relative_to(CSRC).as_posix()
        for path in CSRC.rglob("*.c")
        if READING.search(path.read_text(encoding="utf-8"))
    }


# What reads nothing from outside: of a child, before it has run anything else, its errno.
OWN = {"host/start.c"}


def test_every_c_file_that_takes_bytes_apart_has_a_target() -> None:
    assert sorted((reading_files() - OWN) ^ TARGETS.keys()) == []


def test_the_targets_are_there() -> None:
    there = {path.stem.removeprefix("fuzz_") for path in (NATIVE / "fuzz").glob("fuzz_*.c")}
    assert sorted(set(TARGETS.values()) - there) == []


def covered_by(target: str) -> set[str]:
    """Return the files of which a target runs a function, beginning with the kept inputs."""
    program = NATIVE / "build" / "fuzz" / f"fuzz_{target}"
    corpora = [
        NATIVE / "build" / "corpus" / program.name,
        ROOT / "tests/fuzz/corpus" / program.name,
    ]
    ran = subprocess.run(
        [program, "-runs=0", "-print_coverage=1", *corpora],
        check=True,
        capture_output=True,
        text=True,
        errors="replace",
    )
    found = re.findall(r"^COVERED_FUNC: .*/csrc/([^:\s]+):", ran.stderr + ran.stdout, re.MULTILINE)
    return set(found)


@pytest.mark.soak
@pytest.mark.parametrize("target", sorted(set(TARGETS.values())))
def test_each_target_runs_what_is_said_of_it(target: str) -> None:
    subprocess.run(
        ["make", "-C", NATIVE, "fuzz", f"FUZZERS=fuzz_{target}", "FUZZ_RUNS=1000"],
        check=True,
        capture_output=True,
    )
    files = {file for file, of in TARGETS.items() if of == target}
    assert sorted(files - covered_by(target)) == []
