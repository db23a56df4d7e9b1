"""Notices that two hosts seem to use one key: the peer is heard from two addresses in turns.

Each of them ends the other's link, and dials again. A peer that moves is heard from an address, and
then from another; it does not go back to the first and then move to the other again, at least not
all within a minute or two. Two hosts behind one NAT have one address: there it is the links that
end each other.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from typing import Final

import msgspec

from fastun import log

# There, elsewhere, back, and elsewhere again. From one address it is more often: a client on a bad
# network, too, dials again before its old link has been noticed to be dead.
TURNS: Final = 4
TURNS_OF_ONE_ADDRESS: Final = 6
WINDOW_S: Final = 120.0
WARNING_INTERVAL_S: Final = 60.0

# Peers that are remembered; the one without a change for longest is forgotten.
PEERS_MAX: Final = 1024


class _Changes(msgspec.Struct):
    last: deque[tuple[str, float]]  # hosts, and when they were heard
    warned_s: float = float("-inf")


class AddressTurns:
    """The last changes of all peers. Event loop only."""

    def __init__(self) -> None:
        """Begin without any."""
        self._by_peer: OrderedDict[str, _Changes] = OrderedDict()
        self._log = log.get("link")

    def note(self, peer: str, before: str, after: str) -> None:
        """Note that a peer with a link is heard from elsewhere; each is ``host:port``."""
        now_s = time.monotonic()
        changes = self._of(peer)
        if not changes.last or changes.last[-1][0] != _host(before):
            changes.last.append((_host(before), now_s))
        changes.last.append((_host(after), now_s))
        hosts = _in_turn([host for host, when_s in changes.last if now_s - when_s <= WINDOW_S])
        if hosts and now_s - changes.warned_s >= WARNING_INTERVAL_S:
            changes.warned_s = now_s
            self._warn(peer, *hosts)

    def _of(self, peer: str) -> _Changes:
        changes = self._by_peer.setdefault(peer, _Changes(deque(maxlen=TURNS_OF_ONE_ADDRESS)))
        self._by_peer.move_to_end(peer)
        if len(self._by_peer) > PEERS_MAX:
            self._by_peer.popitem(last=False)
        return changes

    def _warn(self, peer: str, first: str, second: str) -> None:
        if first == second:
            how, addresses = "again and again while it is connected", first
        else:
            how, addresses = "from two addresses in turns", f"{first} {second}"
        self._log.warning(
            f"the peer connects {how}: is its file used on two hosts? Each host needs a peer of "
            "its own (fastun peer add)",
            peer=peer,
            addresses=addresses,
        )


def _in_turn(hosts: list[str]) -> tuple[str, str] | None:
    """Return the two between which the last changes went to and fro, which may be one."""
    last = hosts[-TURNS:]
    if len(last) == TURNS and last[0] != last[1] and last[:2] == last[2:]:
        return last[0], last[1]
    if len(hosts) == TURNS_OF_ONE_ADDRESS and len(set(hosts)) == 1:
        return hosts[0], hosts[0]
    return None


def _host(remote: str) -> str:
    return remote.rpartition(":")[0].strip("[]")
