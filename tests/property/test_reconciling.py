"""Whatever is wanted one after the other, and whatever others change, the host ends as wanted."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fastun.host.netlink.kernel import Place
from fastun.host.reconcile import Reconciler
from fastun.host.routing.routing_rules import PROTOCOL, Level
from fastun.host.wanted import Wanted
from tests.support.fake_kernel import FT0, LAN, MAIN, FakeKernel, reconciled_with
from tests.support.pushed_device import JOURNAL, MARK, settings

NETWORKS = [IPv4Network(f"10.{n}.0.0/16") for n in range(4)] + [
    IPv4Network(text) for text in ("0.0.0.0/0", "10.0.0.0/8", "10.1.2.0/24", "192.168.7.0/24")
]
LANS = {IPv4Network("192.168.7.0/24"), IPv4Network("10.3.0.0/16")}
SOME = st.lists(st.sampled_from(NETWORKS), max_size=5).map(tuple)
ADDRESSES = st.lists(
    st.sampled_from([IPv4Interface(f"10.9.{n}.1/24") for n in range(3)]), max_size=2, unique=True
).map(tuple)
OUTER = st.frozensets(st.sampled_from([each[9] for each in NETWORKS]), max_size=2)
WANTED = st.fixed_dictionaries(
    {
        "mtu": st.sampled_from([1420, 1300]),
        "addresses": ADDRESSES,
        "routes": SOME,
        "pushed_routes": SOME,
        "outer": OUTER,
    }
).map(lambda fields: Wanted(**fields))


def have_theirs(kernel: FakeKernel) -> None:
    for lan in LANS:
        kernel.have_route(str(lan), LAN)
    kernel.have_route("172.16.0.0/16", FT0)  # an administrator's, by our device


def vanish(kernel: FakeKernel, number: int) -> None:
    """Let others remove one of our routes, rules or addresses."""
    ours = [route for route in kernel.routes if route["proto"] == PROTOCOL]
    for made, store in ((ours, kernel.routes), (kernel.rules[:], kernel.rules)):
        if made:
            store.remove(made[number % len(made)])
    own = [entry for entry in kernel.entries if entry["index"] == FT0]
    if own:
        kernel.entries.remove(own[number % len(own)])


@given(st.lists(st.tuples(WANTED, st.integers(0, 9)), min_size=1, max_size=4))
def test_the_host_ends_as_wanted_and_what_others_have_stays(
    steps: list[tuple[Wanted, int]],
) -> None:
    kernel: Any = FakeKernel()
    have_theirs(kernel)
    with reconciled_with(kernel):
        reconciler = Reconciler(FT0, settings(table="auto"), JOURNAL)
        for wanted, number in steps:
            applied = reconciler.apply(wanted)
            check(kernel, wanted, {refusal.item for refusal in applied.refused})
            vanish(kernel, number)
            reconciler.apply(wanted)
            check(kernel, wanted, {refusal.item for refusal in applied.refused})
            assert reconciler.apply(wanted).made == ()


def check(kernel: FakeKernel, wanted: Wanted, refused: set[str]) -> None:
    routes = {*wanted.routes, *wanted.pushed_routes}
    assert {network for network in routes if str(network) in refused} == routes & LANS
    caught = {each for each in routes if any(host in each for host in wanted.outer)}
    expected = {
        Place(each, MARK if each in caught or not each.prefixlen else MAIN)
        for each in routes - LANS
    }
    ours = {found.place for found in kernel.own_routes() if found.is_ours}
    assert ours == expected
    levels = {Level(4, place.network.prefixlen) for place in ours if place.table == MARK}
    assert {rule["FRA_PRIORITY"] for rule in kernel.rules} == {
        priority for level in levels for priority in (level.known_first, level.unmarked)
    }
    assert kernel.mtu == wanted.mtu
    assert kernel.addresses_of() == {str(each) for each in wanted.addresses}
    assert {found.place.network for found in kernel.main_routes() if LAN in found.indices} == LANS
    assert ("172.16.0.0/16", MAIN) in kernel.routes_of()
