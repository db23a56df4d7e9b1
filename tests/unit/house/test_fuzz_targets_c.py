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


# Functions of what comes from the network that no target runs, by the reason. (Some compilers
# inline some of them.)
NOT_RUN = {
    "reads a socket; what it brings goes through datagram_batch and message_in": """
        inbound/datagram_reader.c:datagrams_drain inbound/datagram_reader.c:datagrams_read
        """,
    "does not look at what has come": """
        inbound/datagram_batch.c:datagram_batch_free inbound/frame_writer.c:capture
        inbound/frame_writer.c:refusals_of
        inbound/link_reader.c:link_reader_free inbound/message_in.c:message_space_max
        inbound/pieces_in.c:pieces_in_free inbound/switch_in.c:switch_in_wait
        inbound/tun_writer.c:tun_writer_free
        """,
}


def run_by(target: str) -> dict[str, bool]:
    """Return the functions that a target has, and whether it runs them on its inputs."""
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
    line = re.compile(r"^(UN)?COVERED_FUNC: .*edges: \S+ (\S+) .*/csrc/([^:\s]+):", re.MULTILINE)
    found = line.findall(ran.stderr + ran.stdout)
    return {f"{file}:{function}": not without for without, function, file in found}


def run_shortly(targets: list[str]) -> None:
    fuzzers = " ".join(f"fuzz_{target}" for target in targets)
    subprocess.run(
        ["make", "-C", NATIVE, "fuzz", f"FUZZERS={fuzzers}", "FUZZ_RUNS=1000"],
        check=True,
        capture_output=True,
    )


@pytest.mark.soak
@pytest.mark.parametrize("target", sorted(set(TARGETS.values())))
def test_each_target_runs_what_is_said_of_it(target: str) -> None:
    run_shortly([target])
    files = {file for file, of in TARGETS.items() if of == target}
    functions = run_by(target)
    assert sorted(files - {name.partition(":")[0] for name in functions if functions[name]}) == []


@pytest.mark.soak
def test_every_function_of_what_comes_from_the_network_is_run_by_a_target() -> None:
    targets = sorted(path.stem.removeprefix("fuzz_") for path in (NATIVE / "fuzz").glob("fuzz_*.c"))
    run_shortly(targets)
    is_run: dict[str, bool] = {}
    for target in targets:
        for name, runs in run_by(target).items():
            is_run[name] = is_run.get(name, False) or runs
    left = {
        name
        for name, runs in is_run.items()
        if not runs and re.match(r"(inbound|packet)/\w+\.c:", name)
    }
    assert sorted(left - {name for names in NOT_RUN.values() for name in names.split()}) == []
