"""What a worker that died while it woke its neighbour leaves: a sleeper that seems awake."""

from __future__ import annotations

import asyncio
import mmap
import struct

import pytest

from fastun.native import Mode
from tests.support.running_lane import running, until

pytestmark = pytest.mark.slow  # each starts real processes


# csrc/shared/ring.h, wait.h: the consumer's `asleep`, and how it sleeps on its eventfd.
ASLEEP_OFFSET, ON_EVENTFD = 260, 2


@pytest.mark.parametrize(
    ("producer", "ring"),
    [("link-reader", "inbound"), ("tun-reader", "outbound"), ("link-reader", "hairpin")],
)
def test_a_consumer_that_seems_awake_is_woken_when_its_producer_has_died(
    producer: str, ring: str
) -> None:
    async def claim() -> None:
        async with running(Mode.TAP) as owner:
            assert owner.lane.switch is not None
            rings = {**owner.lane.rings, "hairpin": owner.lane.switch.hairpin}
            with mmap.mmap(rings[ring].fd, 4096) as memory:

                def sleeps_on_the_eventfd() -> bool:
                    return bool(struct.unpack_from("=I", memory, ASLEEP_OFFSET)[0] & ON_EVENTFD)

                await until(sleeps_on_the_eventfd)
                struct.pack_into("=I", memory, ASLEEP_OFFSET, 0)
                owner.kill(producer)
                await until(sleeps_on_the_eventfd)

    asyncio.run(asyncio.wait_for(claim(), 50))
