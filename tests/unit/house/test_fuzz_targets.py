"""Every parser of outside bytes has a fuzz target, and what was found once stays found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from fastun import log
from tests.fuzz.all_targets import TARGETS
from tests.fuzz.parsers import parsers

ROOT = Path(__file__).parents[3]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
C_TARGETS = {path.stem for path in (ROOT / "tests" / "native" / "fuzz").glob("fuzz_*.c")}

N_KEPT_MAX, KEPT_BYTES_MAX = 250, 128 << 10

# What looks like a parser and needs no target, by the reason.
WITHOUT: dict[str, str] = {
    # reads, and gives what it has read to a parser that has one
    "only reads": """
        capture/command.py:_Capture._is_over gateway/life.py:Life._on_signal
        host/netlink/netlink.py:Netlink._change host/netlink/notices.py:Notices.read
        host/netlink/rtnetlink.py:RouteChanges.have_come host/programs.py:run
        host/hooks/saving.py:save link/datagram/hints.py:IcmpListener._take_turn
        link/stream/arrivals.py:Arrivals._receive
        link/stream/handshake.py:PlainHandshaker._connect
        link/stream/handshake.py:SealedHandshaker._agree
        link/datagram/hellos.py:DatagramHellos.receive
        link/datagram/path_mtu.py:PathWatch.receive native/shared.py:PeerTable.endpoint
        status/capture_service.py:CaptureService._wait status/control.py:capture
        link/draining.py:Draining.receive link/leaving.py:Leaving.receive status/control.py:drain
        status/control.py:_reply
        """,
    # what this process, or one of its own of the same user, has made
    "our own": """
        config/manual.py:_text config/manual.py:manual config/reference.py:renewed
        gateway/live_parts.py:_part host/process/gateway_files.py:GatewayPeers.peers
        host/process/gateway_files.py:GatewayPeers.changes_since
        host/process/reading.py:Reading.read
        host/hooks/process.py:HookProcess.serve
        host/hooks/runner.py:HookRunner._read lane/packing.py:prepare lane/template.py:Template.fork
        lane/template.py:Template.is_ready lane/template.py:_answer
        lane/template_process.py:_fork_until_child
        link/refusals.py:fingerprint host/sockets/syn_filter.py:program
        metrics/readings.py:of_rings native/host.py:sealing_library native/vocabulary.py:_names
        peers/server_key.py:_text
        fleet/postgres.py:PostgresDirectory.announce fleet/schema.py:prepare
        peers/store.py:PeerStore.remember_server status/peer_report.py:_age
        status/report.py:_print host/firewall/nft.py:is_plain host/dns/name_servers.py:_check
        host/dns/resolver.py:record_of host/process/reading.py:Reading.read
        host/process/handing_over.py:taken service/installing.py:_is_packaged
        service/installing.py:_run service/installing.py:_start service/installing.py:remove
        service/installing.py:write service/units.py:_read
        """,
    # a number or a few fixed bytes of the kernel, read where it is used
    "a value of the kernel": """
        host/hooks/process.py:children host/firewall/forward_check.py:_has_legacy
        lane/opening.py:idle_seconds
        host/firewall/strong_host.py:forwards host/journal/journal.py:Journal.__init__
        host/journal/sysctls.py:Ipv6Forwarding.original host/link_state.py:_read
        host/settings_of_host.py:_strict host/socket_state.py:socket_state
        host/socket_state.py:_memory host/tun.py:name host/tun.py:_of_another_kind
        host/users.py:_missing lane/watch.py:tracer_of fleet/confinement.py:_limit
        lane/watch.py:resident_bytes link/datagram/local_mtu.py:_of_interface
        link/inside.py:_arrived_by host/dns/resolv_conf.py:_has_any
        """,
}


def excepted() -> set[str]:
    return {f"fastun/{name}" for names in WITHOUT.values() for name in names.split()}


@pytest.fixture(autouse=True)
def quiet() -> None:
    log.configure("console", -1)


class Called:
    """The functions that were called while a target ran."""

    def __init__(self) -> None:
        self.codes: set[CodeType] = set()

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            self.codes.add(frame.f_code)

    def names(self) -> Iterator[str]:
        for code in self.codes:
            path = Path(code.co_filename)
            if path.is_relative_to(ROOT):
                yield f"{path.relative_to(ROOT).as_posix()}:{code.co_qualname}"


@pytest.fixture(scope="module")
def called() -> set[str]:
    """Run every target on its kept inputs; return what of fastun that has called."""
    found = Called()
    for name, run in TARGETS.items():
        for path in sorted((CORPUS / name).iterdir()):
            content = path.read_bytes()
            sys.setprofile(found.note)
            try:
                run(content)
            except Exception as error:
                raise AssertionError(f"{path.relative_to(ROOT)} is not taken") from error
            finally:
                sys.setprofile(None)
    return set(found.names())


# Its long form is `make fuzz`, whose figures tests/fuzz/counted.py keeps.
@pytest.mark.promise(
    "No bytes of peers, strangers, files, programs or workers break what reads them"
)
def test_every_python_function_that_takes_bytes_apart_runs_in_a_fuzz_target(
    called: set[str],
) -> None:
    assert sorted({*parsers()} - called - excepted()) == []


def test_no_exception_is_left_of_what_is_gone_or_has_a_target_by_now(called: set[str]) -> None:
    assert sorted(excepted() - ({*parsers()} - called)) == []


def test_every_target_has_inputs_kept_and_all_kept_inputs_have_a_target() -> None:
    kept = {path.name for path in CORPUS.iterdir() if any(path.iterdir())}
    assert sorted(kept ^ (TARGETS.keys() | C_TARGETS)) == []


@pytest.mark.parametrize("folder", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_kept_inputs_are_few_and_small(folder: Path) -> None:
    sizes = [file.stat().st_size for file in folder.iterdir()]
    assert len(sizes) <= N_KEPT_MAX
    assert sum(sizes) <= KEPT_BYTES_MAX
