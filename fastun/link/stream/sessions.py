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
from collections.abc import Iterator

import msgspec

from fastun import log
from fastun.lane.messages import SendKeepalive, SendMessage
from fastun.lane.worker_process import WorkerProcess
from fastun.link.established import Established
from fastun.link.hello import HelloError
from fastun.link.key_installer import KeyInstaller
from fastun.link.local_end import LocalEnd
from fastun.link.peer_slots import SlottedPeer
from fastun.link.table import Link
from fastun.link.traffic_observer import TICK_S, Observer
from fastun.native import Aead, SendingCounter
from fastun.session import clock, messages
from fastun.session.messages import MessageType
from fastun.session.noise import InitiatorState
from fastun.session.refusal import HandshakeError, Refusal
from fastun.session.timers import Action, PeerTimers
from fastun.session.transport import SessionKeys


class Sealing(msgspec.Struct, frozen=True):
    """What all is sealed by now. The keys are in the region for as long as they are here."""

    keys: SessionKeys
    aead: Aead
    counter: SendingCounter


class StreamPeer(msgspec.Struct):
    """A peer on a stream, and the session of its link."""

    slotted: SlottedPeer
    link: Link
    sealing: Sealing
    timers: PeerTimers
    observer: Observer
    initiator: InitiatorState | None = None
    # Keys whose receiving half is on its way to the link-reader, or waits to be confirmed.
    pending: SessionKeys | None = msgspec.field(default=None)
    response: bytes | None = None  # to be sent when `pending` can be opened


class StreamSessions:
    """The sessions of all streams. Event loop only."""

    def __init__(self, end: LocalEnd) -> None:
        """Begin without any."""
        self.tick_s = min(TICK_S, end.constants.rekey_after_time_s / 10)
        self._peers: dict[tuple[int, int], StreamPeer] = {}  # by slot and lane
        self._links = end.links
        self._exchange = end.exchange
        self._constants = end.constants
        self._counts = end.counts
        self._installers = [KeyInstaller(lane, end.constants) for lane in end.links.lanes.all]
        self._log = log.get("session")

    def attach(self, established: Established, connection: socket.socket, remote: str) -> Link:
        """Carry a connection under the keys of its handshake. OSError as from ``attach_stream``.

        The peer may send data right behind its hello, so the link-reader has the key first: once it
        has the connection, it reads.
        """
        self._check_bundle(established)
        keys = established.take_keys()
        # The peer's hello has used up counter 0, and so has ours.
        slot = established.slotted.slot
        lane = self._links.lanes.of_stream(slot, established.number)
        installer = self._installers[lane.index]
        installer.add_receiving(slot, keys, counter=established.n_opened)
        link = self._links.attach_stream(established, connection, remote)
        self._begin(established, keys, link)
        self._links.of_peers.announce(link)
        return link

    def _check_bundle(self, established: Established) -> None:
        """Raise HelloError for a connection of several whose first one is not here, or gone."""
        first = self._links.by_slot.get(established.slotted.slot)
        if established.number > 0 and (first is None or first.bundle != established.bundle):
            raise HelloError("it is one of several connections, and the others are not here")

    def _begin(self, established: Established, keys: SessionKeys, link: Link) -> None:
        timers = PeerTimers(self._constants, persistent_keepalive_s=established.slotted.keepalive_s)
        now_s = clock.boottime_s()
        timers.on_handshake_complete(now_s, is_initiator=keys.is_initiator)
        timers.on_keepalive_sent(now_s)  # the hello
        observer = Observer(link.lane.peers, link.slot, timers)
        observer.skip()
        sealing = Sealing(keys, established.aead, link.lane.sending.begin(link.slot, n_used=1))
        stream_peer = StreamPeer(established.slotted, link, sealing, timers, observer)
        self._peers[link.slot, link.lane.index] = stream_peer
        self._counts.last_handshake[link.slot] = time.time()
        self._seal(stream_peer)

    def _seal(self, stream_peer: StreamPeer) -> None:
        sealing = stream_peer.sealing
        self._installer_of(stream_peer).use_for_sending(
            stream_peer.link.slot, sealing.keys, sealing.aead, sealing.counter
        )

    def _installer_of(self, stream_peer: StreamPeer) -> KeyInstaller:
        return self._installers[stream_peer.link.lane.index]

    def tell_keys(self, worker: WorkerProcess) -> None:
        """Tell a fresh tun-reader, which knows the links, of their sessions: they go on."""
        if worker.role != "tun-reader":
            return
        for (_, lane), stream_peer in self._peers.items():
            if lane == worker.lane and self._links.of_peers.carries(stream_peer.link):
                self._seal(stream_peer)

    def _present(self, slot: int) -> Iterator[StreamPeer]:
        """Yield the slot's sessions, but for those whose links have been replaced since."""
        for link in self._links.of_peers.of(slot):
            stream_peer = self._peers.get((slot, link.lane.index))
            if stream_peer is not None and stream_peer.link is link:
                yield stream_peer

    def _with_pending(self, slot: int, index: int) -> StreamPeer | None:
        """Return that of the slot's sessions which waits for news of these keys."""
        for stream_peer in self._present(slot):
            if stream_peer.pending is not None and stream_peer.pending.local_index == index:
                return stream_peer
        return None

    def is_current(self, slot: int, index: int) -> bool:
        """Return whether keys of this index are those of a link that the slot has now."""
        for stream_peer in self._present(slot):
            pending = stream_peer.pending
            in_use = [stream_peer.sealing.keys, *([] if pending is None else [pending])]
            if any(keys.local_index == index for keys in in_use):
                return True
        return False

    def timers(self) -> Iterator[PeerTimers]:
        """Return those of all sessions."""
        return (stream_peer.timers for stream_peer in self._peers.values())

    # -- what the workers report --------------------------------------------------------------

    def on_handshake(self, slot: int, link_id: int, message: bytes) -> None:
        """Answer or conclude a rekey. A wrong message is counted, and else as if it never came."""
        stream_peer = next((p for p in self._present(slot) if p.link.id == link_id), None)
        if stream_peer is None:
            return
        try:
            kind = messages.type_of(message)
            if kind is MessageType.INITIATION:
                self._respond(stream_peer, message)
            elif kind is MessageType.RESPONSE:
                self._conclude(stream_peer, message)
        except HandshakeError as error:
            name = stream_peer.slotted.peer.name
            self._log.debug("handshake refused", peer=name, reason=str(error))

    def on_key_added(self, slot: int, index: int) -> None:
        """Go on with a rekey: the link-reader can open what comes under the new keys."""
        stream_peer = self._with_pending(slot, index)
        if stream_peer is None or stream_peer.pending is None:
            return
        if stream_peer.response is not None:
            stream_peer.link.lane.send("link-writer", SendMessage(slot, stream_peer.response))
            stream_peer.response = None
            stream_peer.timers.on_response_sent(clock.boottime_s())
        elif stream_peer.pending.is_initiator:
            self._switch(stream_peer)
            stream_peer.link.lane.send("tun-reader", SendKeepalive(slot))

    def on_key_confirmed(self, slot: int, index: int) -> None:
        """Seal under the keys that the initiator has proved to hold."""
        stream_peer = self._with_pending(slot, index)
        pending = None if stream_peer is None else stream_peer.pending
        if stream_peer is not None and pending is not None and not pending.is_initiator:
            self._switch(stream_peer)

    # -- time ---------------------------------------------------------------------------------

    def tick(self) -> None:
        """Give every timer what the workers have counted, and do what is due."""
        now_s = clock.boottime_s()
        initiated: set[int] = set()  # slots: a peer admits one initiation at a time
        for key, stream_peer in list(self._peers.items()):
            if not self._links.of_peers.carries(stream_peer.link):
                del self._peers[key]
                continue
            stream_peer.observer.observe()
            stream_peer.timers.set_persistent_keepalive(stream_peer.slotted.keepalive_s, now_s)
            if stream_peer.link.slot in initiated:
                continue
            actions = stream_peer.timers.due(now_s)
            if Action.INITIATE in actions:
                initiated.add(stream_peer.link.slot)
            for action in actions:
                self._do(stream_peer, action)

    def _do(self, stream_peer: StreamPeer, action: Action) -> None:
        slot = stream_peer.link.slot
        match action:
            case Action.INITIATE:
                initiation, stream_peer.initiator = self._exchange.initiate(stream_peer.slotted)
                stream_peer.link.lane.send("link-writer", SendMessage(slot, initiation))
            case Action.KEEPALIVE:
                stream_peer.link.lane.send("tun-reader", SendKeepalive(slot))
            case Action.EXPIRE_SESSION | Action.GIVE_UP | Action.ZERO_KEYS:
                self._links.end(slot, "the session is too old", stream_peer.link.id)

    # -- rekeying -----------------------------------------------------------------------------

    def _respond(self, stream_peer: StreamPeer, initiation: bytes) -> None:
        slotted, consumed = self._exchange.admit(initiation, stream_peer.link.remote)
        if slotted is not stream_peer.slotted:
            raise HandshakeError(Refusal.UNKNOWN_PEER)
        stream_peer.response, stream_peer.pending = self._exchange.respond(
            slotted, consumed, remote=stream_peer.link.remote
        )
        self._installer_of(stream_peer).add_receiving(
            stream_peer.link.slot, stream_peer.pending, counter=0
        )

    def _conclude(self, stream_peer: StreamPeer, response: bytes) -> None:
        if stream_peer.initiator is None:
            raise HandshakeError(Refusal.UNKNOWN_INDEX)
        keys = self._exchange.conclude(stream_peer.slotted, stream_peer.initiator, response)
        stream_peer.initiator, stream_peer.response, stream_peer.pending = None, None, keys
        self._installer_of(stream_peer).add_receiving(stream_peer.link.slot, keys, counter=0)

    def _switch(self, stream_peer: StreamPeer) -> None:
        keys, stream_peer.pending = stream_peer.pending, None
        assert keys is not None  # noqa: S101 (the callers looked)
        counter = stream_peer.link.lane.sending.begin(stream_peer.link.slot)
        stream_peer.sealing = Sealing(keys, stream_peer.sealing.aead, counter)
        self._seal(stream_peer)
        stream_peer.timers.on_handshake_complete(clock.boottime_s(), is_initiator=keys.is_initiator)
        self._exchange.succeeded(stream_peer.slotted)
        self._counts.n_rekeys += 1
        self._counts.last_handshake[stream_peer.link.slot] = time.time()
        self._log.debug("rekeyed", peer=stream_peer.slotted.peer.name)
