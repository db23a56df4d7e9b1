"""What the workers of several lanes can write: by what each has mapped, at both ends, at work.

Two lanes can write the same memory in the rings between their tun-readers only; of these, which
lines both write: tests/native/test_lane_layout.c.
"""

from __future__ import annotations

import collections
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import GatewayProcess
from fastun.native import LANES_MAX, ROLES
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from tests.conftest import StartTunnel

N_LANES = 4
LANES = ("--lanes", str(N_LANES))
LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) (\S+) (\d+) +(.*)")
PAGE = 4096


class Worker(NamedTuple):
    role: str
    lane: int


class Page(NamedTuple):
    """A page of shared memory, whoever maps it."""

    name: str
    device: str
    inode: int
    number: int


def written_pages(pid: int) -> set[Page]:
    """Return what a process can write and may share with others."""
    pages = set()
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="ascii").splitlines():
        found = LINE.match(line)
        assert found is not None, line
        start, end, rights, offset, device, inode, name = found.groups()
        if "w" in rights and "s" in rights:
            first, n = int(offset, 16) // PAGE, (int(end, 16) - int(start, 16)) // PAGE
            pages |= {Page(name, device, int(inode), first + i) for i in range(n)}
    return pages


def workers_of(gateway: GatewayProcess) -> dict[Worker, int]:
    found = {}
    for child in psutil.Process(gateway.process.pid).children():
        role, _, lane = child.cmdline()[0].removeprefix("fastun: ").partition("/")
        if role in ROLES:
            found[Worker(role, int(lane))] = child.pid
    return found


def test_two_lanes_write_the_rings_between_their_tun_readers_and_nothing_else(
    tunnel: StartTunnel,
) -> None:
    pair = tunnel(server_arguments=LANES, client_arguments=LANES)
    there = (pair.client.host, pair.server.host, pair.server.inner_address)
    flows = [start_transfer(*there, n_bytes=10**6, port=7300 + n) for n in range(8)]
    assert all(flow.result(timeout=60).is_exact for flow in flows)
    for gateway in (pair.server, pair.client):
        workers = workers_of(gateway)
        assert len(workers) == N_LANES * len(ROLES)
        writers = collections.defaultdict(set)
        for worker, pid in workers.items():
            for page in written_pages(pid):
                writers[page].add(worker)
        shared = {page: who for page, who in writers.items() if len({w.lane for w in who}) > 1}
        assert {page.name.partition(" ")[0] for page in shared} == {"/memfd:fastun-ring"}
        assert all(len(who) == 2 for who in shared.values()), "a pair of lanes has its own"
        assert {worker.role for who in shared.values() for worker in who} == {"tun-reader"}
        pairs = collections.Counter(frozenset(who) for who in shared.values() if who)
        assert len(pairs) == N_LANES * (N_LANES - 1) / 2
        assert len({page.inode for page in shared}) == N_LANES * (N_LANES - 1)
        # What a lane writes for each packet of its own: nothing of it can another one write.
        own = {page.name.partition(" ")[0] for page, who in writers.items() if page not in shared}
        assert {"/memfd:fastun-ring", "/memfd:fastun-stats", "/memfd:fastun-peers"} <= own


def test_as_many_lanes_as_there_may_be_come_up_and_carry(tunnel: StartTunnel) -> None:
    pair = tunnel(server_arguments=("--lanes", str(LANES_MAX)))
    assert len(workers_of(pair.server)) == LANES_MAX * len(ROLES)
    assert answers_ping(pair.client.host, pair.server.inner_address)
