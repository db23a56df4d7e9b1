"""The sessions of stream links: keys handed down, rekeyed, let go.

The workers seal and open; here is decided under which keys. Rekeying loses nothing, because a key
is used only when the other side is known to open under it:

    initiator                                     responder
    timer: initiation        ------------------>  new keys; the link-reader gets the receiving one
                                                  and says so (KeyAdded); only then:
    new keys; the link-reader <-----------------  response
    gets the receiving one, says so;
    then the tun-reader seals under
    the new one, a keepalive first  ----------->  opens: KeyConfirmed; the tun-reader seals anew

Old receiving keys stay for what is still under way; the link-reader keeps three. A session that
reaches its end takes the link along, and the dialling side makes a new one.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field

from fastun import log
from fastun.lane.lane import Lane
from fastun.lane.messages import SendKeepalive, SendMessage
from fastun.link.key_installer import KeyInstaller
from fastun.link.peer_slots import SlottedPeer
from fastun.link.stream.handshake import Established, SealedHandshaker
from fastun.link.table import Link, LinkTable
from fastun.link.traffic_observer import Observer
from fastun.native import Aead
from fastun.session import clock, messages, noise
from fastun.session.messages import MessageType
from fastun.session.noise import InitiatorState
from fastun.session.protocol import NO_PRESHARED_KEY
from fastun.session.refusal import HandshakeError, Refusal
from fastun.session.timer_constants import TimerConstants
from fastun.session.timers import Action, PeerTimers
from fastun.session.transport import SessionKeys


@dataclass
class SessionCounts:
    """What happened to sessions since the start, of either kind of link."""

    n_rekeys: int = 0
    last_handshake: dict[int, float] = field(default_factory=dict)  # by slot, Unix time


# What the timers are told comes from the peer table, and this is how often it is read: a tenth of
# the shortest timer (5 s) is near enough, and a thousand peers cost some milliseconds.
TICK_S = 0.5


@dataclass
class Carried:
    """One link's session."""

    slotted: SlottedPeer
    link: Link
    aead: Aead
    timers: PeerTimers
    observer: Observer
    initiator: InitiatorState | None = None
    # Keys whose receiving half is on its way to the link-reader, or waits to be confirmed.
    pending: SessionKeys | None = field(default=None, repr=False)
    response: bytes | None = None  # to be sent when `pending` can be opened


class StreamSessions:
    """The sessions of all streams. Event loop only."""

    def __init__(
        self,
        lane: Lane,
        links: LinkTable,
        handshaker: SealedHandshaker,
        constants: TimerConstants,
        counts: SessionCounts,
    ) -> None:
        """Begin without any. ``constants``: the protocol's, or compressed ones for a test."""
        self._counts = counts
        self.tick_s = min(TICK_S, constants.rekey_after_time_s / 10)
        self._by_slot: dict[int, Carried] = {}
        self._lane = lane
        self._links = links
        self._handshaker = handshaker
        self._constants = constants
        self._installer = KeyInstaller(lane, constants)
        self._log = log.get("session")

    def attach(self, established: Established, connection: socket.socket, remote: str) -> Link:
        """Carry a connection under the greeting's keys. OSError as from ``attach_stream``.

        The peer may send data right behind its hello, so the link-reader has the key first: once it
        has the connection, it reads.
        """
        keys = established.take_keys()
        # The peer's hello has used up counter 0, and so has ours.
        self._installer.add_receiving(established.slotted.slot, keys, counter=established.n_opened)
        link = self._links.attach_stream(established, connection, remote)
        self._begin(established, keys, link)
        return link

    def _begin(self, established: Established, keys: SessionKeys, link: Link) -> None:
        push = None if established.hello is None else established.hello.push
        keepalive_s = established.slotted.peer.keepalive_s or (push.keepalive if push else 0)
        timers = PeerTimers(self._constants, persistent_keepalive_s=keepalive_s or None)
        now_s = clock.boottime_s()
        timers.on_handshake_complete(now_s, is_initiator=keys.is_initiator)
        timers.on_keepalive_sent(now_s)  # the hello
        observer = Observer(self._lane.peers, link.slot, timers)
        observer.skip()
        carried = Carried(established.slotted, link, established.aead, timers, observer)
        self._by_slot[link.slot] = carried
        self._counts.last_handshake[link.slot] = time.time()
        self._installer.use_for_sending(link.slot, keys, established.aead, counter=1)

    def _present(self, slot: int) -> Carried | None:
        """Return the slot's session, unless its link has been replaced since."""
        carried = self._by_slot.get(slot)
        is_present = carried is not None and self._links.by_slot.get(slot) is carried.link
        return carried if is_present else None

    # -- what the workers report --------------------------------------------------------------

    def on_handshake(self, slot: int, link_id: int, message: bytes) -> None:
        """Answer or conclude a rekey. A wrong message is counted, and else as if it never came."""
        carried = self._present(slot)
        if carried is None or carried.link.id != link_id:
            return
        try:
            kind = messages.type_of(message)
            if kind is MessageType.INITIATION:
                self._respond(carried, message)
            elif kind is MessageType.RESPONSE:
                self._conclude(carried, message)
        except HandshakeError as error:
            self._log.debug("handshake refused", peer=carried.slotted.peer.name, reason=str(error))

    def on_key_added(self, slot: int, index: int) -> None:
        """Go on with a rekey: the link-reader can open what comes under the new keys."""
        carried = self._present(slot)
        if carried is None or carried.pending is None or carried.pending.local_index != index:
            return
        if carried.response is not None:
            self._lane.send("link-writer", SendMessage(slot, carried.response))
            carried.response = None
            carried.timers.on_response_sent(clock.boottime_s())
        elif carried.pending.is_initiator:
            self._switch(carried)
            self._lane.send("tun-reader", SendKeepalive(slot))

    def on_key_confirmed(self, slot: int, index: int) -> None:
        """Seal under the keys that the initiator has proved to hold."""
        carried = self._present(slot)
        if carried is None or carried.pending is None:
            return
        if carried.pending.local_index == index and not carried.pending.is_initiator:
            self._switch(carried)

    # -- time ---------------------------------------------------------------------------------

    def tick(self) -> None:
        """Tell every timer what the workers have counted, and do what is due."""
        now_s = clock.boottime_s()
        for slot, carried in list(self._by_slot.items()):
            if self._links.by_slot.get(slot) is not carried.link:
                del self._by_slot[slot]
                continue
            carried.observer.observe()
            for action in carried.timers.due(now_s):
                self._do(carried, action)

    def _do(self, carried: Carried, action: Action) -> None:
        slot = carried.link.slot
        match action:
            case Action.INITIATE:
                initiation, carried.initiator = self._handshaker.initiate(carried.slotted)
                self._lane.send("link-writer", SendMessage(slot, initiation))
            case Action.KEEPALIVE:
                self._lane.send("tun-reader", SendKeepalive(slot))
            case Action.EXPIRE_SESSION | Action.GIVE_UP | Action.ZERO_KEYS:
                self._links.end(slot, "the session is too old", carried.link.id)

    # -- rekeying -----------------------------------------------------------------------------

    def _respond(self, carried: Carried, initiation: bytes) -> None:
        slotted, consumed = self._handshaker.admit(initiation)
        if slotted is not carried.slotted:
            raise HandshakeError(Refusal.UNKNOWN_PEER)
        preshared_key = slotted.peer.preshared_key or NO_PRESHARED_KEY
        carried.response, carried.pending = noise.respond(consumed, preshared_key)
        self._installer.add_receiving(carried.link.slot, carried.pending, counter=0)

    def _conclude(self, carried: Carried, response: bytes) -> None:
        if carried.initiator is None:
            raise HandshakeError(Refusal.UNKNOWN_INDEX)
        keys = self._handshaker.conclude(carried.slotted, carried.initiator, response)
        carried.initiator, carried.response, carried.pending = None, None, keys
        self._installer.add_receiving(carried.link.slot, keys, counter=0)

    def _switch(self, carried: Carried) -> None:
        keys, carried.pending = carried.pending, None
        assert keys is not None  # noqa: S101 (the callers looked)
        self._installer.use_for_sending(carried.link.slot, keys, carried.aead, counter=0)
        carried.timers.on_handshake_complete(clock.boottime_s(), is_initiator=keys.is_initiator)
        self._handshaker.results["ok"] += 1
        self._counts.n_rekeys += 1
        self._counts.last_handshake[carried.link.slot] = time.time()
        self._log.debug("rekeyed", peer=carried.slotted.peer.name)
