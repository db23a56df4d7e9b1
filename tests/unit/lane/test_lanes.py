"""Several lanes: what each one's tun-reader gets of the others, and what all of them hear."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from typing import TYPE_CHECKING

import pytest

from fastun.lane import crossing
from fastun.lane.boot import LanePlan, boot_of
from fastun.lane.crossing import Crossings
from fastun.lane.lanes import Lanes
from fastun.lane.messages import Boot
from fastun.lane.template import Template
from fastun.lane.ways import SetWays
from fastun.native import LANES_MAX, ROLES, Mode, Offload, Wire
from tests.support.descriptors import open_descriptors
from tests.support.running_lane import until

if TYPE_CHECKING:
    from fastun.errors import RuntimeFailure
    from fastun.lane.lane import Lane
    from fastun.lane.messages import ToGateway
    from fastun.lane.worker_process import WorkerProcess


def boot(lane: int, n_lanes: int) -> Boot:
    return Boot(
        ring_bytes=1 << 20,
        wire=Wire.WIREGUARD,
        mode=Mode.TUN,
        holds=False,
        coalesce=Offload.NONE,
        mss_mtu=0,
        lanes=(lane, n_lanes, False),
    )


def inode(fd: int) -> int:
    return os.fstat(fd).st_ino


@pytest.mark.parametrize("n_lanes", [2, 3, LANES_MAX])
def test_what_one_lane_gives_another_one_gets(n_lanes: int) -> None:
    crossings = Crossings(n_lanes)
    given, taken = {}, {}
    for lane in range(n_lanes):
        fds = crossings.descriptors(lane)
        assert len(fds) == crossing.n_of(boot(lane, n_lanes))
        others = [each for each in range(n_lanes) if each != lane]
        rings = list(map(inode, crossing.of_rings(boot(lane, n_lanes), fds)))
        for i, other in enumerate(others):
            taken[other, lane] = rings[i]
            given[lane, other] = rings[len(others) + i]
        ends = crossing.attach(boot(lane, n_lanes), fds)
        assert ends is not None
        assert ends.incoming[lane] is ends.outgoing[lane] is None
        assert None not in [ends.incoming[other] for other in others]
        assert ends.wake_fds == crossings.descriptors(0)[-n_lanes:]
        for ring in (*ends.incoming, *ends.outgoing):
            if ring is not None:
                ring.close()
    assert given == taken
    assert len(set(given.values())) == n_lanes * (n_lanes - 1)
    crossings.close()


def test_of_one_lane_there_is_nothing_to_cross() -> None:
    assert crossing.n_of(boot(0, 1)) == 0
    assert crossing.attach(boot(0, 1), []) is None


def memory_of(lane: Lane, role: str) -> set[tuple[str, int]]:
    """What a worker maps: the name of each memory, and which one it is."""
    _, fds = boot_of(lane, role)
    named = [(os.readlink(f"/proc/self/fd/{fd}"), inode(fd)) for fd in fds if fd >= 0]  # noqa: PTH115 (of a descriptor)
    return {(name, which) for name, which in named if "eventfd" not in name}


def test_two_lanes_share_no_memory_but_the_rings_between_their_tun_readers() -> None:
    plan = LanePlan(-1, Wire.WIREGUARD, Mode.TUN)
    lanes = Lanes(plan, [-1, -1, -1], Template())
    for one in lanes.all:
        for other in lanes.all:
            for role, other_role in itertools.product(ROLES, ROLES):
                both = memory_of(one, role) & memory_of(other, other_role)
                if one is not other:
                    is_crossing = role == other_role == "tun-reader"
                    assert len(both) == (2 if is_crossing else 0), (role, other_role, both)
    asyncio.run(lanes.stop())


class Owner:
    """What the lanes report."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.failures: list[RuntimeFailure] = []

    def on_start(self, worker: WorkerProcess) -> None:
        self.started.append(worker.name)

    def on_message(self, _: WorkerProcess, __: ToGateway) -> None:
        """Nothing is done."""

    def on_death(self, _: WorkerProcess) -> None:
        """Nothing is done."""

    def on_failure(self, error: RuntimeFailure) -> None:
        self.failures.append(error)


@pytest.mark.slow  # starts real processes
def test_all_lanes_start_and_stop_and_a_killed_worker_comes_back_in_its_own() -> None:
    async def claim() -> None:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
        for device, _ in pairs:
            device.setblocking(False)
        n_before = len(open_descriptors())
        with Template() as template:
            plan = LanePlan(-1, Wire.WIREGUARD, Mode.TUN)
            lanes, owner = Lanes(plan, [device.fileno() for device, _ in pairs], template), Owner()
            lanes.start(owner)
            await until(lambda: all(lane.is_whole() for lane in lanes.all))
            assert sorted(owner.started) == sorted(f"{role}/{i}" for role in ROLES for i in (0, 1))
            lanes.set_ways(SetWays(3, (1,), by_flow=False))
            pid = lanes.all[1].workers["tun-reader"].pid
            assert pid is not None
            os.kill(pid, 9)
            await until(lambda: owner.started[-1:] == ["tun-reader/1"])
            await until(lanes.all[1].is_whole)
            assert sum(worker.restarts for worker in lanes.workers()) == 1
            await lanes.stop()
        assert not owner.failures
        assert len(open_descriptors()) <= n_before
        for pair in pairs:
            for end in pair:
                end.close()

    asyncio.run(asyncio.wait_for(claim(), 50))
