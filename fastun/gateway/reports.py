"""What the lane's workers report, and what their starts and deaths mean for links and sessions.

Each method of :class:`Reports` with ``@handle.register`` acts on the messages of its parameter's
type (fastun/lane/messages.py). Event loop only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatchmethod
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from fastun import log
from fastun.errors import FastunError, RuntimeFailure
from fastun.host import tun
from fastun.lane.messages import (
    ControlCame,
    DeviceGone,
    KeyAdded,
    KeyConfirmed,
    LinkEnded,
    PathTooNarrow,
    RefusalChanged,
    SessionWanted,
    StreamHandshakeCame,
    ToGateway,
    UdpHandshakeCame,
    WorkerFailed,
)
from fastun.lane.ways import WaysSet
from fastun.lane.worker_process import WorkerProcess
from fastun.link.datagram.sessions import DatagramSessions
from fastun.link.kernel_refusals import KernelRefusals
from fastun.link.peer_slots import PeerSlots
from fastun.link.push_updates import PushUpdates
from fastun.link.stream.sessions import StreamSessions
from fastun.link.table import WORKER_DIED, LinkTable
from fastun.native import UdpAddress
from fastun.native.loop import RefusalKind

if TYPE_CHECKING:
    from fastun.link.draining import Draining
    from fastun.link.leaving import Leaving

# Which workers report what. One in an attacker's hands may send any message; it has no say about
# what only another can know, such as what a peer pushes.
SENDERS: Final[dict[type[ToGateway], tuple[str, ...]]] = {
    StreamHandshakeCame: ("link-reader",),
    KeyAdded: ("link-reader",),
    KeyConfirmed: ("link-reader",),
    UdpHandshakeCame: ("link-reader",),
    ControlCame: ("link-reader",),
    SessionWanted: ("tun-reader",),
    PathTooNarrow: ("link-writer",),
    RefusalChanged: ("link-writer", "tun-writer"),
    LinkEnded: ("link-reader", "link-writer", "tun-reader"),  # whoever gets its socket
    DeviceGone: ("tun-reader", "tun-writer"),
    WaysSet: ("tun-reader",),
}

REASON_CHARS_MAX: Final = 200

_REFUSAL_KINDS: Final = frozenset(map(int, RefusalKind))


class Interface(NamedTuple):
    """The device: its configured name, and our descriptor of it."""

    name: str
    fd: int


class Sessions(msgspec.Struct, frozen=True):
    """The sessions of the wireguard wire: on streams, and on UDP where there is a port for it."""

    streams: StreamSessions
    datagrams: DatagramSessions | None
    updates: PushUpdates
    moves: Draining | Leaving


class UnexpectedMessage(Exception):  # noqa: N818 (it is the message that is unexpected)
    """A worker reports what its wire does not have, or what no worker reports."""


class Reports:
    """The owner of a lane (lane.LaneOwner): acts on what happens in it."""

    def __init__(
        self,
        interface: Interface,
        peer_slots: PeerSlots,
        links: LinkTable,
        sessions: Sessions | None,
        *,
        on_link_writer_death: Callable[[], None],
        on_failure: Callable[[FastunError], None],
    ) -> None:
        """Act on ``peer_slots``, ``links`` and ``sessions``, of which an unsealed wire has none."""
        self._interface = interface
        self._peer_slots = peer_slots
        self._links = links
        self._sessions = sessions
        self._datagrams = None if sessions is None else sessions.datagrams
        self._on_link_writer_death = on_link_writer_death
        self.on_failure = on_failure
        self._refusals = KernelRefusals()
        self._handle = self.handle  # bound once: binding costs more than the call
        self._log = log.get("gateway")

    # -- a worker's start and death -----------------------------------------------------------

    def on_start(self, worker: WorkerProcess) -> None:
        """Send a fresh worker the peers, the UDP sockets, the links and the sessions' keys."""
        datagrams = self._datagrams
        self._peer_slots.tell_worker(worker)
        if datagrams is not None:
            datagrams.tell_worker(worker)
        self._links.tell_worker(worker)
        if self._sessions is not None:
            self._sessions.streams.tell_keys(worker)
        if datagrams is not None:
            datagrams.tell_keys(worker)

    def on_death(self, worker: WorkerProcess) -> None:
        """End the links whose state has died with the worker.

        A link-writer may have stopped inside a stream's frame, a link-reader has taken bytes with
        it: streams end. Sessions do not, so on UDP all go on (link/datagram/fresh_worker.py).
        """
        if worker.role not in ("link-writer", "link-reader"):
            return
        if worker.role == "link-writer":
            self._on_link_writer_death()
        self._links.end_streams(worker.role + WORKER_DIED, worker.lane)

    # -- messages -----------------------------------------------------------------------------

    def on_message(self, worker: WorkerProcess, message: ToGateway) -> None:
        """Act on a worker's message; end one that sends what its role never sends.

        Its words go no further than a line of the log, and that line is cut.
        """
        try:
            _check_sender(worker, message)
            if isinstance(message, WorkerFailed):
                self._log.error("worker failed", worker=worker.name, error=_cut(message.reason))
            elif isinstance(message, WaysSet):
                self._links.of_peers.on_set(message.slot, message.number, worker.lane)
            elif self._is_of_its_lane(worker, message):
                self._handle(message)
        except UnexpectedMessage:
            worker.kill(f"unexpected message: {type(message).__name__}")

    def _is_of_its_lane(self, worker: WorkerProcess, message: ToGateway) -> bool:
        """Return whether its lane has to do with the peer that it speaks of. UnexpectedMessage.

        No worker ever learns the number of another lane's link. A peer it may have known until a
        moment ago, so what it says of one that is not its lane's comes to nothing, and no more.
        """
        slot = getattr(message, "slot", None)
        if slot is None:
            return True
        link_id = getattr(message, "link_id", 0)
        if link_id != 0 and self._links.is_of_another_lane(slot, link_id, worker.lane):
            raise UnexpectedMessage
        return self._links.concerns(slot, worker.lane)

    @singledispatchmethod
    def handle(self, message: ToGateway) -> None:
        """Act on one message. Raises UnexpectedMessage."""
        raise UnexpectedMessage(repr(message))

    @handle.register
    def _link_ended(self, message: LinkEnded) -> None:
        self._links.end(message.slot, _cut(message.reason), message.link_id)

    @handle.register
    def _device_gone(self, message: DeviceGone) -> None:
        if not tun.is_deleted(self._interface.fd):  # a worker's word alone ends no gateway
            raise UnexpectedMessage
        self.on_failure(RuntimeFailure(tun.deleted(self._interface.name, _cut(message.reason))))

    @handle.register
    def _refusal_changed(self, message: RefusalChanged) -> None:
        slotted = self._peer_slots.by_slot.get(message.slot)
        if message.kind not in _REFUSAL_KINDS:
            raise UnexpectedMessage
        if slotted is not None:
            kind = RefusalKind(message.kind)
            self._refusals.note(message.slot, slotted.peer.name, kind, message.error)

    # -- messages of the wireguard wire -------------------------------------------------------

    def _sealed(self, message: ToGateway) -> Sessions:
        if self._sessions is None:
            raise UnexpectedMessage(repr(message))
        return self._sessions

    @handle.register
    def _stream_handshake_came(self, message: StreamHandshakeCame) -> None:
        streams = self._sealed(message).streams
        streams.on_handshake(message.slot, message.link_id, message.message)

    @handle.register
    def _key_added(self, message: KeyAdded) -> None:
        self._sealed(message).streams.on_key_added(message.slot, message.index)
        if self._datagrams is not None:
            self._datagrams.on_key_added(message.slot, message.index)

    @handle.register
    def _key_confirmed(self, message: KeyConfirmed) -> None:
        self._sealed(message).streams.on_key_confirmed(message.slot, message.index)
        if self._datagrams is not None:
            self._datagrams.on_key_confirmed(message.slot, message.index)

    # -- messages of UDP: without its sessions there is nothing to do ---------------------------

    @handle.register
    def _udp_handshake_came(self, message: UdpHandshakeCame) -> None:
        try:
            address = UdpAddress.unpack(message.endpoint)
        except ValueError:
            raise UnexpectedMessage from None
        if datagrams := self._sealed(message).datagrams:
            datagrams.on_handshake(address, message.message)

    @handle.register
    def _control_came(self, message: ControlCame) -> None:
        slot, index, sealed = message.slot, message.index, self._sealed(message)
        if sealed.updates.receive(slot, message.message) or sealed.moves.receive(
            slot, index, message.message
        ):  # and it proves that the key is theirs
            self._key_confirmed(KeyConfirmed(slot, 0, index))
        elif sealed.datagrams is not None:
            sealed.datagrams.on_control(slot, index, message.message)

    @handle.register
    def _session_wanted(self, message: SessionWanted) -> None:
        if datagrams := self._sealed(message).datagrams:
            datagrams.begin(message.slot)

    @handle.register
    def _path_too_narrow(self, message: PathTooNarrow) -> None:
        if datagrams := self._sealed(message).datagrams:
            datagrams.on_path_too_narrow(message.slot)


def _cut(reason: str) -> str:
    """Return a worker's words as far as a line of the log has room for them."""
    return reason if len(reason) <= REASON_CHARS_MAX else f"{reason[:REASON_CHARS_MAX]}..."


def _check_sender(worker: WorkerProcess, message: ToGateway) -> None:
    senders = SENDERS.get(type(message))
    if senders is not None and worker.role not in senders:
        raise UnexpectedMessage
