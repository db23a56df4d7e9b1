"""Our keys, our peers, and what each peer is pushed.

Of a serving gateway the peer directory may change at any time (``fastun peer add``); it is looked
at twice a second, more rarely while the tunnel is quiet; `fastun peer` tells the gateway.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

from msgspec import structs

from fastun import log, native
from fastun.config import push as push_form
from fastun.config.push import Push
from fastun.config.served import pushed_to_all
from fastun.config.settings import Options, ServeSettings, Settings
from fastun.errors import FastunError
from fastun.gateway.fleet_watch import FleetWatch
from fastun.gateway.peer_terms import PeerTerms
from fastun.gateway.quotas import Quotas
from fastun.link.peer_slots import PeerSlots, SlottedPeer
from fastun.native import Wire
from fastun.peers.peer import Network, Peer, check_together, refuse_own_key
from fastun.session import keys
from fastun.session.keys import KeyPair

if TYPE_CHECKING:
    from fastun.host.served_peers import PeersSource, ServedPeers

# The one peer of an unsealed wire has no key; the slots tell peers apart by it.
_NO_KEY = bytes(32)

# Looks in a row that fail before it is logged. One may just have met a change.
_FAILED_LOOKS = 2


class PeerSync:
    """Keeps the peer slots in step with the configuration. Event loop only; a context manager."""

    REFRESH_S = 0.5

    def __init__(
        self,
        settings: Settings,
        peer_slots: PeerSlots,
        source: PeersSource | None = None,
    ) -> None:
        """Load or make our private key where the wire needs one. Raises FastunError.

        ``source`` has the peer directory of a gateway that serves; by default it is used with the
        rights of this process.
        """
        self._source = source or _own_source()
        self.own = _own_keys(settings, self._source)
        self._settings = settings
        self._peer_slots = peer_slots
        self._store: ServedPeers | None = None
        self._terms = PeerTerms(peer_slots)
        self._quotas: Quotas | None = None
        self.fleet: FleetWatch | None = None  # what keeps the directory in step with a fleet's
        self.n_fills = 0  # looks that found a change
        self._version = -1  # of the directory that the slots are in step with
        self._is_settled = True  # all peers have got their slots
        self._directory: dict[str, Peer] = {}  # all of it, by name
        self._admitted: dict[bytes, Peer] = {}  # that may connect now, by key
        self._behind: dict[bytes, tuple[Network, ...]] = {}
        self.behind: tuple[Network, ...] = ()  # networks of the directory's peers, to be routed
        self._cut_short: set[str] = set()  # peers that are not pushed all of their addresses
        self._routeless: set[str] = set()  # peers without allowed IPs, warned of
        self._n_failed = 0  # looks since the last that succeeded
        self._log = log.get("peers")

    def __enter__(self) -> Self:
        """Open the peer directory of a serving gateway and fill the slots."""
        settings = self._settings
        if settings.wire != "wireguard":
            self._peer_slots.replace([Peer(name=settings.peer_name, public_key=_NO_KEY)])
            return self
        refuse_own_key(settings.peers, self.own.public)
        if settings.role == "serve":
            self._store = self._source.open(settings, self.own.public)
        self.fill()
        if self._store is not None:
            self._quotas = Quotas(self._peer_slots, self._store.usage())
        return self

    def __exit__(self, *_: object) -> None:
        """Close the directory."""
        if self._store is not None:
            self._follow_quotas(self._store, at_once=True)
            self._store.close()
            self._store = None

    def check(self, settings: Settings) -> None:
        """Raise ConfigError where these settings do not go with the directory."""
        if settings.wire == "wireguard":
            refuse_own_key(settings.peers, self.own.public)
        if settings.wire == "wireguard" and self._store is not None:
            check_together([*settings.peers, *self._store.peers()], settings.addresses)

    async def change(self, settings: Settings) -> None:
        """Have the peers of these settings, and push what they say. Raises FastunError."""
        before, self._settings = self._settings, settings
        try:
            self.fill()
            if isinstance(settings, ServeSettings) and self._store is not None:
                await asyncio.to_thread(self._store.announce, settings)
        except FastunError:
            self._settings = before
            raise

    @property
    def settings(self) -> Settings:
        """Those that peers and pushes are of at the moment."""
        return self._settings

    def refresh(self) -> None:
        """Follow the directory; keep slots free where not all peers have one."""
        try:
            if self._terms.is_due(time.time()):
                self.fill()
            elif self._store is not None and self._store.version() != self._version:
                self._follow(self._store)
            elif not self._is_settled:
                self._settle(self._peer_slots.replace(self._admitted.values()))
            else:
                self._peer_slots.make_room()
            if self._store is not None:
                self._follow_quotas(self._store)
        except FastunError as error:  # connected peers stay; the next look may succeed
            self._n_failed += 1
            if self._n_failed == _FAILED_LOOKS:
                self._log.warning("cannot read the peer directory", error=str(error))
            return
        self._n_failed = 0

    def _follow_quotas(self, store: ServedPeers, *, at_once: bool = False) -> None:
        if self._quotas is not None:
            now = time.time()
            self._quotas.tick(now)
            try:
                self._quotas.save(store, now, at_once=at_once)
            except FastunError as error:
                self._log.warning("cannot save what peers have used", error=str(error))

    def fill(self) -> None:
        """Have exactly the peers of the file and the directory. Raises FastunError."""
        if self._settings.wire != "wireguard":
            return
        directory: tuple[Peer, ...] = ()
        version = self._version
        if self._store is not None:
            version = self._store.version()  # first: what is changed meanwhile is seen next time
            directory = self._store.peers()
        peers = [*self._settings.peers, *directory]
        check_together(peers, self._settings.addresses)
        self._warn(peers)
        admitted = self._terms.admitted(peers, time.time())
        self._directory = {peer.name: peer for peer in directory}
        self._admitted = {peer.public_key: peer for peer in admitted}
        self._lead_behind(admitted, None)
        self._version = version
        self._settle(self._peer_slots.replace(admitted))

    def _follow(self, store: ServedPeers) -> None:
        """Apply what has changed in the directory, whose own peers go together. As `fill`."""
        changes = store.changes_since(self._version)
        if changes is None:
            self.fill()
            return
        peers = [peer for peer in changes.peers if self._directory.get(peer.name) != peer]
        names = (*changes.gone, *(peer.name for peer in peers))
        check_together([*self._settings.peers, *peers], self._settings.addresses)
        self._warn(peers)
        before = [self._directory[name] for name in names if name in self._directory]
        gone = {peer.public_key for peer in before} - {peer.public_key for peer in peers}
        admitted = self._terms.also_admitted(peers, gone, time.time())
        gone |= {peer.public_key for peer in peers} - {peer.public_key for peer in admitted}
        for name in names:
            self._directory.pop(name, None)
        for key in gone:
            self._admitted.pop(key, None)
        self._directory |= {peer.name: peer for peer in peers}
        self._admitted |= {peer.public_key: peer for peer in admitted}
        self._lead_behind(admitted, gone)
        self._version = changes.version
        self._settle(self._peer_slots.change(admitted, gone))

    def _settle(self, are_all_in: bool) -> None:
        """Note whether all have got their slots: else the next look tries again."""
        self._is_settled = are_all_in
        self.n_fills += are_all_in

    def _warn(self, peers: list[Peer]) -> None:
        self._check_pushes(peers)
        self._warn_of_routeless(peers)

    @property
    def routes_connected(self) -> bool:
        """Whether routes are to the peers that are connected, and to no others."""
        settings = self._settings
        fleet = settings.fleet if settings.role == "serve" else None
        return fleet is not None and fleet.has_routes and settings.table != "off"

    def behind_of(self, connected: frozenset[bytes]) -> tuple[Network, ...]:
        """Return all networks of the directory's peers that have these keys, in order."""
        in_file = {peer.public_key for peer in self._settings.peers}
        keys = sorted((connected & self._admitted.keys()) - in_file)
        return tuple(network for key in keys for network in self._admitted[key].allowed_ips)

    def _lead_behind(self, peers: list[Peer], gone: Iterable[bytes] | None) -> None:
        """Have routes to what is behind these as well, or as it is now; gone None: to no other."""
        if self.routes_connected:
            return
        kept = {} if gone is None else self._behind
        for key in gone or ():
            kept.pop(key, None)
        self._behind = kept | self._networks_behind(peers)
        self.behind = tuple(network for each in self._behind.values() for network in each)

    def _networks_behind(self, peers: list[Peer]) -> dict[bytes, tuple[Network, ...]]:
        """Return what needs a route to the device: not what is in its own networks.

        Nor what is in the file, and so in the settings that the device has.
        """
        if self._settings.table == "off":
            return {}
        own = [address.network for address in self._settings.addresses]
        in_file = {peer.public_key for peer in self._settings.peers}
        return {
            peer.public_key: tuple(
                network
                for network in peer.allowed_ips
                if not any(
                    each.version == network.version and network.subnet_of(each)  # type: ignore[arg-type]
                    for each in own
                )
            )
            for peer in peers
            if peer.public_key not in in_file
        }

    def first_steps(self) -> list[str]:
        """Return what to do when no peer may connect yet."""
        settings = self._settings
        if settings.role == "serve" and settings.fleet is not None:
            return []  # the directory is read only now
        is_alone = self._store is not None and self._peer_slots.n_peers == 0
        return first_steps(settings) if is_alone else []

    # -- what is pushed -----------------------------------------------------------------------

    def push_to(self, slotted: SlottedPeer) -> Push:
        """Return what a connecting peer is given: its addresses, the way to ours, and the like."""
        return self._pushed_to(slotted.peer)

    def _pushed_to(self, peer: Peer) -> Push:
        """Return as much of it as fits a hello; all but the addresses was checked at the start."""
        settings = self._settings
        if settings.role == "connect":
            return Push()
        own, room = settings.addresses, push_form.room_for(settings.listen)
        addresses = push_form.addresses_of(peer.allowed_ips, own)
        few = addresses[: push_form.ADDRESSES_MAX]
        push = structs.replace(pushed_to_all(settings), addresses=few)
        while push.addresses and not push_form.fits(push, room):
            push = structs.replace(push, addresses=push.addresses[:-1])
        if len(push.addresses) < len(addresses) and peer.name not in self._cut_short:
            self._cut_short.add(peer.name)
            self._log.warning(
                "the peer has more addresses than fit a hello; only the first ones are pushed",
                peer=peer.name,
                pushed=len(push.addresses),
                addresses=len(addresses),
            )
        return push

    def _warn_of_routeless(self, peers: list[Peer]) -> None:
        """Warn once of a peer that may connect, but has no address behind it (wg(8) allows it)."""
        if self._settings.mode == "tap":
            return
        for name in {peer.name for peer in peers if not peer.allowed_ips} - self._routeless:
            self._routeless.add(name)
            self._log.warning("no allowed IPs: nothing is routed to the peer", peer=name)

    def _check_pushes(self, peers: list[Peer]) -> None:
        """Warn of peers whose addresses do not fit a hello; one in each network always does."""
        if self._settings.role == "serve":
            for peer in peers:
                if len(peer.allowed_ips) > len(self._settings.addresses):
                    self._pushed_to(peer)


def first_steps(settings: Settings) -> list[str]:
    """Return what to do when `serve` has no peer at all, a line each."""
    state = settings.state_dir
    option = "" if state == Options().state else f" --state {shlex.quote(str(state))}"
    return [
        "no clients yet; add the first one with",
        f"    fastun peer add laptop{option} > laptop.toml",
        "then copy laptop.toml to the client over a secure channel, and run there",
        "    fastun connect laptop.toml",
    ]


def _own_source() -> PeersSource:
    from fastun.host.served_peers import OwnSource  # noqa: PLC0415 (SQLite, 1.2 MiB)

    return OwnSource()


def _own_keys(settings: Settings, source: PeersSource) -> KeyPair:
    """Return our keys. A server without any makes them; a client has them in its file.

    Raises ConfigError where the peers of a server know it by another key.
    """
    if Wire[settings.wire.upper()] is not Wire.WIREGUARD:
        return KeyPair(_NO_KEY, _NO_KEY)
    native.hide_memory()
    private, file = settings.private_key, settings.private_key_file
    if settings.role == "connect":
        return keys.pair_of(private or keys.load_private(file))
    if private is None and os.path.lexists(file):
        private = keys.load_private(file)
    own = None if private is None else keys.pair_of(private)
    source.check_key(settings, None if own is None else own.public)
    return own or keys.pair_of(keys.load_or_make_private(file))
