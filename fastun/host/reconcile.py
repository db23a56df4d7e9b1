"""Makes a host have what is wanted: what is there is read, compared, and changed in bulk.

    Wanted --permitted.py--> allowed --placing.py--> with tables --difference()--> steps --> Applied

Each item is handled by itself: one that the host or the kernel refuses is reported with its reason,
and costs no other. Only what fastun has made is removed: routes with our protocol number on the
device, and addresses that carry it or that we remember. What an administrator has made stays.
"""

from __future__ import annotations

import errno
import os
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from fastun import ending
from fastun.config.full_tunnel import DEFAULTS
from fastun.host import bridge, settings_of_host
from fastun.host.journal.changes import RoutingRules
from fastun.host.netlink.iproute import IPRoute, NetlinkError
from fastun.host.netlink.kernel import Kernel, Place, SetAddress, SetLink, SetRoute
from fastun.host.routing import full_tunnel, permitted, placing, routing_rules
from fastun.host.routing.other_networks import OtherNetworks, of_others
from fastun.host.routing.placing import Caught
from fastun.host.routing.rule_kinds import MAIN_TABLE
from fastun.host.wanted import Applied, Change, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastun.config.settings import Settings
    from fastun.host.journal.journal import Journal
    from fastun.host.netlink.kernel import FoundAddress, FoundRoute, Link, Step
    from fastun.host.netlink.netlink import Fault
    from fastun.host.routing.outer_addresses import OuterAddress
    from fastun.host.routing.placing import Placed
    from fastun.host.routing.rule_kinds import Kind as RuleKind
    from fastun.host.wanted import Kind, Wanted
    from fastun.peers.peer import Address, Network

_Key = TypeVar("_Key")

#: Of routes to peers that are here: less than that of routes which BIRD (32) and FRR (20) make.
FLEET_METRIC: Final = 10


def difference(
    wanted: Iterable[_Key], present: Mapping[_Key, bool]
) -> tuple[list[_Key], list[_Key]]:
    """Return what to remove and what to add; ``present`` says which is ours to remove."""
    once = dict.fromkeys(wanted)
    remove = [key for key, is_ours in present.items() if is_ours and key not in once]
    return remove, [key for key in once if key not in present]


class _Outcome(msgspec.Struct, dict=True):  # of the cached property
    """What becomes of a `Wanted`, while it is applied."""

    link: Link
    wanted: Wanted
    refused: list[Refusal] = msgspec.field(default_factory=list)
    made: list[Change] = msgspec.field(default_factory=list)

    def make(self, kind: Kind, item: object) -> None:
        self.made.append(Change(kind, str(item)))

    @cached_property
    def _configured(self) -> frozenset[object]:
        return frozenset((*self.wanted.addresses, *self.wanted.routes, *self.wanted.behind))

    def refuse(self, kind: Kind, item: object, reason: str, advice: str = "") -> None:
        is_pushed = kind in ("address", "route") and item not in self._configured
        self.refused.append(Refusal(kind, str(item), reason, advice, is_pushed))


class Reconciler:
    """Of one device. One thread at a time, not the event loop's: pyroute2 brings its own loop."""

    def __init__(self, index: int, settings: Settings, journal: Journal) -> None:
        """Prepare; ``journal`` undoes what does not go with the device."""
        self._index = index
        self._settings = settings
        self._mtu = settings.mtu  # as it was configured when it was last applied
        self._journal = journal
        self._addresses: set[Address] = set()  # made here; older kernels do not give the maker
        self._pushed_mtu = 0
        self._levels: set[RuleKind] = set()
        self._caught: tuple[Caught, frozenset[Network]] = (Caught(()), frozenset())
        self._is_new = True  # nothing was applied yet

    def apply(self, wanted: Wanted) -> Applied:
        """Have what is ``wanted``, in place of what was; say what was refused and what was made.

        Raises OSError where the device is gone, and AskedToStop.
        """
        with Kernel(self._index) as kernel:
            outcome = _Outcome(kernel.link(), wanted)
            mtu = self._set_mtu(kernel, wanted, outcome)
            self._join(kernel, wanted, outcome)
            found = kernel.addresses()
            main = kernel.main_routes()
            others = of_others(main, found, self._index)
            placed = self._placed(wanted, others, found, outcome)
            if wanted.takes_all or wanted.pushed_all:
                self._take_all(placed, main, found, outcome)
            self._set_addresses(kernel, placed, found, outcome)
            if self._is_new:  # routes may take seconds
                ending.check()
            if self._set_up(kernel, outcome):
                self._set_routes(kernel, placed, outcome)
        outcome.made += settings_of_host.apply(
            self._journal, self._settings, outcome.link.name, placed, outcome.refused
        )
        self._is_new = False
        self._caught = (placed.caught, placed.caught.by(wanted.outer))
        return Applied(mtu, tuple(outcome.refused), tuple(outcome.made))

    def follow(self, settings: Settings) -> None:
        """Go by these settings from the next `apply` on."""
        self._settings = settings
        self.__dict__.pop("_named", None)

    def foresee(self, wanted: Wanted) -> tuple[Refusal, ...]:
        """Return what `apply` would refuse because of what the host has; nothing changes."""
        with Kernel(self._index) as kernel:
            outcome, found = _Outcome(kernel.link(), wanted), kernel.addresses()
            others = of_others(kernel.main_routes(), found, self._index)
            self._placed(wanted, others, found, outcome)
        return tuple(outcome.refused)

    @property
    def _is_of_fleet(self) -> bool:
        """Whether a peer that is here may have a route to another gateway, which lets it go."""
        return self._settings.role == "serve" and self._settings.fleet is not None

    def is_moved_by(self, outer: Iterable[OuterAddress]) -> bool:
        """Return whether other routes than before would catch our own packets, now to ``outer``."""
        catching, caught = self._caught
        return catching.by(outer) != caught

    @cached_property
    def _named(self) -> frozenset[Network]:
        """The prefixes that the configuration has, by which it allows a push."""
        return frozenset(prefix for peer in self._settings.peers for prefix in peer.allowed_ips)

    # -- the link -------------------------------------------------------------------------------

    def _set_mtu(self, kernel: Kernel, wanted: Wanted, outcome: _Outcome) -> int:
        """Set the MTU; one that was set by hand stays until another one is pushed."""
        now = outcome.link.mtu
        is_ours = self._is_new or now == self._pushed_mtu or wanted.mtu != self._mtu
        self._mtu = wanted.mtu
        goal = wanted.pushed_mtu or (wanted.mtu if is_ours else now)
        self._pushed_mtu = wanted.pushed_mtu
        if goal == now:
            return now
        faults = kernel.change([SetLink(mtu=goal)])
        if not faults:
            return goal
        self._pushed_mtu = 0
        outcome.refused.append(
            Refusal("MTU", str(goal), str(faults[0]), "", is_pushed=bool(wanted.pushed_mtu))
        )
        return now

    @staticmethod
    def _join(kernel: Kernel, wanted: Wanted, outcome: _Outcome) -> None:
        """Make the device a port of its bridge."""
        joined = bridge.join(kernel, outcome.link, wanted.bridge) if wanted.bridge else False
        if joined is True:
            outcome.make("bridge", wanted.bridge)
        elif joined:
            outcome.refuse("bridge", wanted.bridge, *joined)

    def _set_up(self, kernel: Kernel, outcome: _Outcome) -> bool:
        """Bring a new device up; whether it is up. One that was set down later stays down."""
        if outcome.link.is_up:
            return True
        name = outcome.link.name
        if self._is_new:
            faults = kernel.change([SetLink(is_up=True)])
            reason = str(faults[0]) if faults else ""
        else:
            reason = "it is down, so nothing is routed to it"
        if not reason:
            return True
        outcome.refuse("link", name, reason, f"run 'ip link set {name} up'")
        return False

    # -- what it is to have -----------------------------------------------------------------------

    def _placed(
        self,
        wanted: Wanted,
        others: OtherNetworks,
        found: Sequence[FoundAddress],
        outcome: _Outcome,
    ) -> Placed:
        taken = {address.local.ip for address in found if address.index != self._index}
        addresses, refused = permitted.configured_addresses(wanted.addresses, taken)
        outcome.refused += refused
        more, refused = permitted.pushed_addresses(
            wanted.pushed_addresses, self._named, others, wanted.outer
        )
        outcome.refused += refused
        # In a table of the user's own, what other interfaces have in the main one is not replaced.
        is_own_table = isinstance(self._settings.table, int)
        beside = OtherNetworks(()) if is_own_table else others
        routes, refused = permitted.configured_routes(dict.fromkeys(wanted.routes), beside)
        outcome.refused += refused
        if self._is_of_fleet and not is_own_table:
            beside = of_others((), found, self._index)
        behind = dict.fromkeys(wanted.behind).keys() - set(wanted.routes)
        more_routes, refused = permitted.configured_routes(behind, beside)
        outcome.refused += refused
        pushed, refused = permitted.pushed_routes(
            dict.fromkeys(wanted.pushed_routes), self._named, others
        )
        outcome.refused += refused
        placed = placing.placed(
            (*addresses, *more),
            (*routes, *more_routes, *pushed),
            wanted.outer,
            placing.Way(self._settings.table, self._settings.fwmark),
        )
        for network in placed.unmarked:
            reason = "it contains the server's address, and our packets have no mark"
            outcome.refuse("route", network, reason, "set fwmark")
        return placed

    def _take_all(
        self,
        placed: Placed,
        main: Sequence[FoundRoute],
        found: Sequence[FoundAddress],
        outcome: _Outcome,
    ) -> None:
        way = placing.Way(self._settings.table, self._settings.fwmark)
        if isinstance(way.table, int):  # the device is in another namespace, where none are ours
            placed.routes |= {Place(each, MAIN_TABLE): None for each in DEFAULTS}
            return
        if not way.marked_table:
            reason = "our packets have no mark, and would go into the tunnel"
            outcome.refuse("route", "default", reason, "restart fastun, which then chooses one")
            return
        may = full_tunnel.beside(found, main, self._index, allow_lan=self._allows_lan)
        inside = [place.network for place in placed.routes]
        inside += [address.network for address in placed.addresses]
        apart, meeting = full_tunnel.apart(may, inside)
        for network in meeting:
            reason = "it has addresses in common with a network that is behind the tunnel"
            outcome.refuse("network", network, reason)
        full_tunnel.take_all(placed, way.marked_table, apart)

    @property
    def _allows_lan(self) -> bool:
        return self._settings.role == "connect" and self._settings.allow_lan

    # -- addresses --------------------------------------------------------------------------------

    def _set_addresses(
        self, kernel: Kernel, placed: Placed, found: Sequence[FoundAddress], outcome: _Outcome
    ) -> None:
        wanted = [SetAddress(*each) for each in placed.addresses.items()]
        remove, add = difference(wanted, self._present(found, placed))
        if remove:
            kernel.change([SetAddress(step.address, is_removal=True) for step in remove])
            # Removing an IPv4 address also removes later ones in its network.
            remove, add = difference(wanted, self._present(kernel.addresses(), placed))
        faults = kernel.change(add)
        for place, step in enumerate(add):
            fault = faults.get(place)
            if fault is None:
                outcome.make("address", step.address)
                self._addresses.add(step.address)
            elif fault.code != errno.EEXIST:
                outcome.refuse("address", step.address, *self._why_not(fault, step, outcome))
        self._addresses &= set(placed.addresses)

    def _present(self, found: Sequence[FoundAddress], placed: Placed) -> dict[SetAddress, bool]:
        """Return the device's addresses, and which are ours; those of others are as they are."""
        present: dict[SetAddress, bool] = {}
        for each in found:
            if each.index == self._index:
                is_ours = each.is_ours or each.local in self._addresses
                has_route = each.has_route
                if not is_ours:
                    has_route = placed.addresses.get(each.local, has_route)
                present[SetAddress(each.local, has_route)] = is_ours
        return present

    # -- routes and rules -------------------------------------------------------------------------

    def _set_routes(self, kernel: Kernel, placed: Placed, outcome: _Outcome) -> None:
        present: dict[Place, bool] = {}
        for route in kernel.own_routes():
            present[route.place] = route.is_ours or present.get(route.place, False)
        remove, add = difference(placed.routes, present)
        behind = frozenset(outcome.wanted.behind if self._is_of_fleet else ())
        metrics = [FLEET_METRIC if place.network in behind else 0 for place in add]
        faults = kernel.change([*map(SetRoute, add, repeat(False), metrics)])
        for number, place in enumerate(add):
            if number not in faults:
                outcome.make("route", place.network)
                continue
            why = self._why_not(faults[number], SetRoute(place), outcome)
            outcome.refuse("route", place.network, *why)
            full_tunnel.block(placed, place.network)
        # What moves is in its new place, and led there, before it leaves the old one.
        self._set_rules(placed.levels, outcome)
        kernel.change([SetRoute(place, is_removal=True) for place in remove])
        self._levels = placed.levels

    def _set_rules(self, levels: set[RuleKind], outcome: _Outcome) -> None:
        """Make the rules that are missing, and remove those that are of no use any more."""
        mark = self._settings.fwmark
        if not (levels or self._levels):
            return
        with IPRoute() as netlink:
            for level in sorted(routing_rules.missing(netlink, mark, levels), key=repr):
                try:
                    with self._journal.changing(RoutingRules(mark)):
                        routing_rules.install(netlink, level, mark)
                except NetlinkError as error:
                    if settings_of_host.is_without(level.version):
                        continue
                    reason = f"the kernel refuses it: {os.strerror(error.code)}"
                    outcome.refuse("routing rules", f"IPv{level.version}", reason)
                else:
                    if level in self._levels or self._is_new:  # else it is wanted only now
                        outcome.make("routing rules", f"IPv{level.version}")
            if self._levels - levels:
                routing_rules.keep(netlink, mark, levels, self._levels)

    def _why_not(self, fault: Fault, step: Step, outcome: _Outcome) -> tuple[str, str]:
        """Return why the kernel refuses an item, and what to do, as far as errno says it."""
        if isinstance(step, SetRoute) and fault.code == errno.EEXIST:
            return permitted.has_it()
        version = step.address.version if isinstance(step, SetAddress) else 0
        if isinstance(step, SetRoute):
            version = step.place.network.version
        if version == 6:  # noqa: PLR2004
            return settings_of_host.why_no_ipv6(fault, outcome.link.name)
        return str(fault), ""
