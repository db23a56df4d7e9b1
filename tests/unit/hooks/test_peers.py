"""The order of peers' hooks, whatever their links do (hooks/peers)."""

from __future__ import annotations

import asyncio
import dataclasses
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import ip_network
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

from hypothesis import given
from hypothesis import strategies as st

from fastun.config.hooks import Hooks
from fastun.config.settings import Options, load
from fastun.hooks import facts
from fastun.hooks.gateway import GatewayHooks
from fastun.hooks.peers import AT_ONCE, PeerHooks
from fastun.host.hooks.facts import VALUE_CHARS_MAX
from fastun.host.hooks.job import Job
from fastun.lane.messages import LinkFormat
from fastun.link.peer_slots import SlottedPeer
from fastun.link.table import Link
from fastun.native import Mode, Wire
from fastun.peers.peer import Peer
from tests.support.hooks_here import runner_here

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = dataclasses.replace(
    load("serve", None, Options()), hooks=Hooks(peer_up=(("/up",),), peer_down=(("/down",),))
)


def link(number: int, **fields: Any) -> Link:
    peer = Peer(name=f"p{number}", public_key=bytes([number] * 32))
    link_format = LinkFormat(
        Wire.WIREGUARD, Mode.TUN, super_outbound=False, super_inbound=False, message_max=1500
    )
    slotted = SlottedPeer(number, peer)
    return Link(1, slotted, None, "192.0.2.1:1", link_format, "x", Mock(), **fields)


class RecordedHooks(GatewayHooks):
    """Hooks that end when a test says so."""

    def __init__(self) -> None:
        super().__init__(SETTINGS, runner_here(SETTINGS))
        self.begun: list[tuple[str, str]] = []
        self.open: list[Future[str]] = []

    def begin(self, event: str, command: Any, link: Link | None = None) -> Job:
        assert command in SETTINGS.hooks.of(event)
        assert link is not None
        self.begun.append((link.peer_name, event))
        job = Job(number=0, said={})
        self.open.append(job.done)
        return job

    async def end_all(self) -> None:
        while self.open:
            self.open.pop(0).set_result("")
            await settled()


async def settled() -> None:
    """Wait until what has come is dealt with: a thread's work is behind what others gave it."""
    for _ in range(3):
        await asyncio.sleep(0)
        await asyncio.to_thread(lambda: None)


def following(test: Callable[[PeerHooks, RecordedHooks], Any]) -> RecordedHooks:
    async def run() -> RecordedHooks:
        # One thread, so that a call is done when one after it is, however busy the machine.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=1))
        hooks = RecordedHooks()
        peers = PeerHooks(hooks)
        async with peers.following(SimpleNamespace(follow=lambda _: None)):  # type: ignore[arg-type]
            await test(peers, hooks)
            await settled()
            await hooks.end_all()
        return hooks

    return asyncio.run(run())


def test_a_link_that_is_replaced_is_not_an_event() -> None:
    async def replace(peers: PeerHooks, _: RecordedHooks) -> None:
        first, second, third = link(1), link(1), link(1)
        peers.on_change(first, True)
        await settled()
        peers.on_change(first, False)
        peers.on_change(second, True)
        await settled()
        peers.on_change(third, True)
        peers.on_change(second, False)
        await settled()

    assert following(replace).begun == [("p1", "peer_up")]


def test_a_flood_of_reconnects_is_one_of_each_while_a_hook_runs() -> None:
    async def flood(peers: PeerHooks, hooks: RecordedHooks) -> None:
        for _ in range(100):
            peers.on_change(each := link(1), True)
            await asyncio.sleep(0)
            peers.on_change(each, False)
            await asyncio.sleep(0)
        await settled()
        assert hooks.begun == [("p1", "peer_up")]

    assert following(flood).begun == [("p1", "peer_up"), ("p1", "peer_down")]


def test_few_run_at_a_time_and_one_peer_does_not_wait_for_another() -> None:
    async def many(peers: PeerHooks, hooks: RecordedHooks) -> None:
        for number in range(1, 21):
            peers.on_change(link(number), True)
        await settled()
        assert len(hooks.begun) == AT_ONCE

    assert sorted(following(many).begun) == sorted((f"p{n}", "peer_up") for n in range(1, 21))


@given(st.lists(st.sampled_from(["up", "down", "turn", "end"]), max_size=40))
def test_each_peer_up_is_followed_by_its_peer_down(steps: list[str]) -> None:
    is_up = []

    async def take(peers: PeerHooks, hooks: RecordedHooks) -> None:
        current = None
        for step in steps:
            if step == "up":
                peers.on_change(current := link(1), True)
            elif step == "down" and current is not None:
                peers.on_change(current, False)
                current = None
            elif step == "turn":
                await asyncio.sleep(0)
            elif step == "end":
                await settled()
                await hooks.end_all()
        is_up.append(current is not None)

    events = [event for _, event in following(take).begun]
    assert events == ["peer_up", "peer_down"] * (len(events) // 2) + ["peer_up"] * (len(events) % 2)
    assert len(events) % 2 == is_up[0]


def test_what_a_peer_says_is_one_clean_value() -> None:
    networks = tuple(ip_network(f"fd00:{n:x}::/32") for n in range(2000))
    it = link(1, end_reason="silent")
    it.peer_software = "evil\n\x1b[31mFASTUN_PEER=x\0"
    it.slotted.peer = dataclasses.replace(it.slotted.peer, allowed_ips=networks)
    environment = facts.of_peer(it, "peer_down")
    assert environment["FASTUN_PEER_SOFTWARE"] == "evil\\n\\x1b[31mFASTUN_PEER=x\\x00"
    assert environment["FASTUN_PEER_ENDPOINT"] == "udp://192.0.2.1:1"
    assert environment["FASTUN_REASON"] == "silent"
    listed = environment["FASTUN_PEER_ALLOWED_IPS"].split(" ")
    assert listed == [str(network) for network in networks[: len(listed)]]
    assert 7000 < len(" ".join(listed)) <= VALUE_CHARS_MAX
    assert all(value.isprintable() for value in environment.values())
