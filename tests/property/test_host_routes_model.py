"""Where routes go, against a model of the kernel's rules; what is changed, against plain sets."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from fastun.host.reconcile import difference
from fastun.host.routing.placing import Caught, Place, Way, placed
from fastun.host.routing.prefixes import Prefixes
from fastun.host.routing.routing_rules import MAIN_TABLE, Level, table_of

MARK = 60000
TABLE = table_of(MARK)

# Few addresses and lengths, so that networks nest and coincide, at both ends of the space.
HOSTS = st.sampled_from([IPv4Address(n) for n in (0, 1, 2, 3, 1 << 31, (1 << 32) - 1, 0x0A000001)])
LENGTHS = st.sampled_from([0, 1, 2, 8, 24, 30, 31, 32])
NETWORKS = st.builds(lambda host, length: IPv4Network((host, length), strict=False), HOSTS, LENGTHS)


@given(st.lists(NETWORKS), NETWORKS, HOSTS)
def test_what_holds_a_network_or_an_address_is_found_longest_first(
    networks: list[IPv4Network], inner: IPv4Network, host: IPv4Address
) -> None:
    prefixes = Prefixes((network, network) for network in networks)
    expected = sorted({each for each in networks if inner.subnet_of(each)}, reverse=True)
    by_length = sorted(expected, key=lambda each: each.prefixlen, reverse=True)
    assert list(prefixes.holding(inner)) == by_length
    assert set(prefixes.holding_address(host)) == {each for each in networks if host in each}


@given(st.lists(st.integers(0, 9)), st.dictionaries(st.integers(0, 9), st.booleans()))
def test_the_difference_makes_what_is_wanted_and_leaves_what_is_others(
    wanted: list[int], present: dict[int, bool]
) -> None:
    remove, add = difference(wanted, present)
    after = set(present) - set(remove) | set(add)
    assert after == set(wanted) | {key for key, is_ours in present.items() if not is_ours}
    assert not set(add) & set(present)
    assert len(add) == len(set(add))


def longest(networks: set[IPv4Network], host: IPv4Address) -> int | None:
    """The length of the longest of the networks that hold an address."""
    lengths = [network.prefixlen for network in networks if host in network]
    return max(lengths, default=None)


def goes_inside(
    host: IPv4Address, *, is_marked: bool, main: dict[IPv4Network, bool], ours: set[IPv4Network],
    levels: set[Level],
) -> bool:  # fmt: skip
    """Whether the rules of these levels lead a packet to us; `main` says which are our routes."""
    for level in sorted(levels, key=lambda level: level.known_first):
        found = longest(set(main), host)
        if found is not None and found > level.length:
            break
        found = longest(ours, host)
        if not is_marked and found is not None and found >= level.length:
            return True
    best = longest(set(main), host)
    return any(
        is_ours and host in network and network.prefixlen == best
        for network, is_ours in main.items()
    )


@given(st.sets(NETWORKS), st.sets(NETWORKS), st.sets(HOSTS), HOSTS)
def test_the_longest_prefix_wins_and_our_own_packets_stay_outside(
    wanted: set[IPv4Network], others: set[IPv4Network], outer: set[IPv4Address], host: IPv4Address
) -> None:
    wanted -= {network for network in others if network.prefixlen}  # permitted.py refuses them
    found = placed((), sorted(wanted), outer, Way("auto", MARK))
    ours = {place.network for place in found.routes if place.table == TABLE}
    main = dict.fromkeys(others, False)
    main |= {place.network: True for place in found.routes if place.table == MAIN_TABLE}  # type: ignore[misc]
    assert {place.network for place in found.routes} == wanted
    rules = {"main": main, "ours": ours, "levels": found.levels}
    mine, their = longest(wanted, host), longest(others, host)
    expected = mine is not None and (their is None or mine >= their)
    assert goes_inside(host, is_marked=False, **rules) == expected  # type: ignore[arg-type]
    for address in outer:
        assert not goes_inside(address, is_marked=True, **rules)  # type: ignore[arg-type]


@given(st.lists(NETWORKS), st.sets(HOSTS))
def test_what_is_caught_is_what_holds_an_outer_address(
    networks: list[IPv4Network], outer: set[IPv4Address]
) -> None:
    expected = {network for network in networks if any(host in network for host in outer)}
    assert Caught(networks).by(outer) == expected


@given(st.sets(NETWORKS), st.sets(HOSTS))
def test_a_table_of_the_users_own_has_all(
    networks: set[IPv4Network], outer: set[IPv4Address]
) -> None:
    found = placed((), sorted(networks), outer, Way(4242, MARK))
    assert set(found.routes) == {Place(network, 4242) for network in networks}
    assert found.levels == set()
