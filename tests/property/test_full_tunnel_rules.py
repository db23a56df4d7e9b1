"""Whatever is wanted of a full tunnel one after the other, its rules are those of the last."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv6Interface, ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fastun.host.reconcile import Reconciler
from fastun.host.routing.rule_kinds import Beside, Level, Unmarked, key_found, key_of
from fastun.host.wanted import Wanted
from tests.support.fake_kernel import ETH0, FT0, LAN, FakeKernel, reconciled_with
from tests.support.pushed_device import JOURNAL, MARK, settings

ADDRESSES = st.lists(
    st.sampled_from([IPv4Interface("10.9.0.2/24"), IPv6Interface("fd09::2/64")]), unique=True
).map(tuple)
WANTED = st.fixed_dictionaries(
    {
        "mtu": st.just(1420),
        "addresses": ADDRESSES,
        "takes_all": st.booleans(),
        "pushed_all": st.booleans(),
    }
).map(lambda fields: Wanted(**fields))
BRIDGE, LAN_NETWORK = ip_network("172.18.0.0/16"), ip_network("192.168.7.0/24")


def expected(wanted: Wanted, beside: set[Any]) -> set[Any]:
    if not (wanted.takes_all or wanted.pushed_all):
        return set()
    carried = {address.version for address in wanted.addresses}
    kinds: set[Any] = {Beside(network) for network in (*beside, ip_network("fe80::/10"))}
    for version in (4, 6):
        is_blocked = version not in carried
        kinds |= {Level(version, 0, is_blocked), Unmarked(version, is_blocked)}
    return {key_of(rule) for kind in kinds for rule in kind.rules(MARK)}


@given(st.lists(st.tuples(WANTED, st.booleans(), st.integers(0, 9)), min_size=1, max_size=5))
def test_the_rules_are_those_of_what_is_wanted_now(
    steps: list[tuple[Wanted, bool, int]],
) -> None:
    kernel: Any = FakeKernel()
    kernel.have_address("172.18.0.1/16", LAN)
    kernel.have_route("0.0.0.0/0", ETH0)
    kernel.have_address("192.168.7.2/24", ETH0)
    at_home = list(kernel.entries)
    with reconciled_with(kernel):
        reconciler = Reconciler(FT0, settings(table="auto", allow_lan=True), JOURNAL)
        for wanted, is_at_home, number in [*steps, (Wanted(mtu=1420), True, 0)]:
            own = [entry for entry in kernel.entries if entry["index"] == FT0]
            kernel.entries = own + (at_home if is_at_home else at_home[:1])
            beside = {BRIDGE, LAN_NETWORK} if is_at_home else {BRIDGE}
            reconciler.apply(wanted)
            assert {key_found(rule) for rule in kernel.rules} == expected(wanted, beside)
            if kernel.rules:  # others remove one
                kernel.rules.pop(number % len(kernel.rules))
                assert len(reconciler.apply(wanted).made) >= 1
                assert {key_found(rule) for rule in kernel.rules} == expected(wanted, beside)
            assert reconciler.apply(wanted).made == ()
    assert kernel.rules == []
    assert kernel.routes_of() == set()
