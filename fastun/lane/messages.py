"""Every message between gateway and worker. Each is defined here, once.

A new message takes three places. To a worker: its class here, a method of `lane.worker.Worker` that
acts on it, and what sends it. To the gateway: its class here, the line in events.py that makes it
of a loop's event, and a method of `gateway.reports.Reports`. The parameter's type finds the method.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fastun import codec
from fastun.native import (
    Aead,
    Confined,
    CounterSource,
    Joins,
    KeyName,
    Mode,
    Offload,
    Waiting,
    Wire,
)

# A control message is a handful of small fields; SEQPACKET truncates what is longer: an error.
MESSAGE_BYTES_MAX: Final = 8192

# Why most links end (LinkEnded).
CLOSED_BY_PEER: Final = "the peer closed the connection"


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field=codec.TAG):
    """Base of all control messages; a subclass has its name on the wire as ``tag``."""


class ToWorker(Message, frozen=True):
    """Base of what the gateway sends."""


class ToGateway(Message, frozen=True):
    """Base of what a worker sends."""


class LinkFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which messages a link may carry: ``struct link_format`` of csrc/fastun.h."""

    wire: Wire
    mode: Mode
    super_outbound: bool
    super_inbound: bool
    message_max: int
    is_datagram: bool = False
    mtu: int = 0
    splits_udp: bool = False


# -- to a worker ------------------------------------------------------------------------------


class Boot(ToWorker, frozen=True, tag="boot"):
    """Gateway to worker, first. Descriptors: [statistics, ring, peer table, device, eventfd]."""

    # On a sealed wire a reader's: then [area of the key region, sending counters or replay marks].
    ring_bytes: int
    wire: Wire
    mode: Mode
    holds: bool
    coalesce: Offload
    mss_mtu: int
    waiting: Waiting = Waiting()
    secret_keys: bool = False  # memory as by memfd_secret, for tun-reader and link-reader
    hairpin_bytes: int = 0  # > 0: a switch; then [addresses, hairpin, its eventfd]
    lanes: tuple[int, int, bool] = (0, 1, False)  # its number, of how many; as of Crossings
    device_index: int = 0  # what came in by that interface came through the tunnel; 0: unknown


class Begin(ToWorker, frozen=True, tag="begin"):
    """To a fresh worker, when it has been sent what it needs: it touches no packet before."""


class AttachLink(ToWorker, frozen=True, tag="attach-link"):
    """Carry the peer's link from now on. Descriptors: [socket]; none for a peer on UDP."""

    slot: int
    link_id: int
    link_format: LinkFormat


class DetachLink(ToWorker, frozen=True, tag="detach-link"):
    """The peer has no link any more; the key to seal with goes as well."""

    slot: int


class AddSocket(ToWorker, frozen=True, tag="add-socket"):
    """To all but the tun-writer: a UDP socket, the descriptor, known by this index.

    It takes the place of the one that had the index, if there was one.
    """

    index: int
    has_offload: bool


class RemoveSocket(ToWorker, frozen=True, tag="remove-socket"):
    """To all but the tun-writer: the UDP socket of this index is used no more."""

    index: int


class SetGateKeys(ToWorker, frozen=True, tag="set-gate-keys"):
    """To the link-reader: what mac1 of messages on UDP is checked and cookies are sealed with.

    Both are hashes of our public key (whitepaper 5.4.4, 5.4.7).
    """

    mac1_key: bytes
    cookie_key: bytes


class AwaitReply(ToWorker, frozen=True, tag="await-reply"):
    """To the link-reader: the index of the last initiation to the peer; a cookie reply names it."""

    slot: int
    index: int


class SetPacketMax(ToWorker, frozen=True, tag="set-packet-max"):
    """To the tun-reader: the longest packet that fits the path to the peer; bytes, 0 for any.

    Inside the tunnel; the path MTU, of outer packets, is longer. Packets longer than ``whole_max``
    go without "don't fragment", so that routers may fragment them; 0: none. ``joins_pieces``:
    what the peer joins.
    """

    slot: int
    packet_max: int
    whole_max: int = 0
    joins_pieces: Joins = Joins.NONE


class BlockLink(ToWorker, frozen=True, tag="block-link"):
    """To the link-writer: send nothing to the peer on UDP, whose route leads into the tunnel."""

    slot: int
    is_blocked: bool


class CaptureFrames(ToWorker, frozen=True, tag="capture-frames"):
    """Copy as for `loop_capture` (csrc/capture.h) to the ring, the descriptor; none: stop."""

    stages: int = 0
    slot: int = 0
    snap_length: int = 0
    ring_bytes: int = 0


class ClampMss(ToWorker, frozen=True, tag="clamp-mss"):
    """To tun-reader and link-reader: TCP's segments are to fit packets of ``mtu`` bytes; 0: any."""

    mtu: int


class AllowIps(ToWorker, frozen=True, tag="allow-ips"):
    """These addresses, each 4 or 16 bytes with a prefix length, belong to the peer as well."""

    slot: int
    networks: tuple[tuple[bytes, int], ...]


class ChangeIps(ToWorker, frozen=True, tag="change-ips"):
    """Addresses, each behind its peer's slot, that change hands in one step."""

    added: tuple[tuple[int, bytes, int], ...]
    removed: tuple[tuple[int, bytes, int], ...]  # where they are not another peer's by now


class ForgetIps(ToWorker, frozen=True, tag="forget-ips"):
    """The peer has no addresses any more."""

    slot: int


class SetTerms(ToWorker, frozen=True, tag="set-terms"):
    """To tun-reader (outbound) and link-reader (inbound): the peer's bytes a second, 0: any number.

    ``is_cut_off``: it has used up its quota, and nothing passes. To the link-reader also the only
    networks that it may send to, as in AllowIps; none: everywhere.
    """

    slot: int
    rate: int
    burst_bytes: int
    is_cut_off: bool
    networks: tuple[tuple[bytes, int], ...] = ()


class SetSendingKey(ToWorker, frozen=True, tag="set-sending-key"):
    """To the tun-reader: seal for the peer with this from now on; then send a keepalive."""

    slot: int
    key: KeyName
    aead: Aead
    receiver_index: int
    source: CounterSource
    expires_ns: int


class SendKeepalive(ToWorker, frozen=True, tag="send-keepalive"):
    """To the tun-reader: an empty message to the peer."""

    slot: int


class SendControl(ToWorker, frozen=True, tag="send-control"):
    """To the tun-reader: a control message to the peer, if there is a session and room."""

    slot: int
    content: bytes


class AddReceivingKey(ToWorker, frozen=True, tag="add-receiving-key"):
    """To the link-reader: open with this what names ``index``; answered by KeyAdded.

    ``aeads``: those that the session may use; ``expires_ns`` is CLOCK_BOOTTIME.
    """

    slot: int
    key: KeyName
    aeads: tuple[Aead, ...]
    index: int
    counter: int
    expires_ns: int
    is_known: bool = False  # a predecessor has opened with it: above its mark only, or not at all


class ForgetReceivingKeys(ToWorker, frozen=True, tag="forget-receiving-keys"):
    """To the link-reader: open nothing of the peer's any more."""

    slot: int


class SendMessage(ToWorker, frozen=True, tag="send-message"):
    """To the link-writer: a message for the peer, sent as it is.

    On a stream a handshake message, which goes between two frames. On UDP a probe, which only the
    link-writer can send so that it is never fragmented: it switches that on and off for its socket.
    """

    slot: int
    message: bytes


# -- to the gateway ---------------------------------------------------------------------------


class Ready(ToGateway, frozen=True, tag="ready"):
    """Worker to gateway: booted and confined, the loop begins."""

    confined: Confined


class WorkerFailed(ToGateway, frozen=True, tag="worker-failed"):
    """The last from a worker that cannot go on; ``reason`` is for the log."""

    reason: str


class LinkEnded(ToGateway, frozen=True, tag="link-ended"):
    """Worker to gateway: the link has ended. ``reason`` is for the log."""

    slot: int
    link_id: int
    reason: str


class KeyAdded(ToGateway, frozen=True, tag="key-added"):
    """The link-reader opens what names ``index`` from now on."""

    slot: int
    index: int


class StreamHandshakeCame(ToGateway, frozen=True, tag="stream-handshake-came"):
    """The link-reader read a handshake message on a stream."""

    slot: int
    link_id: int
    message: bytes


class KeyConfirmed(ToGateway, frozen=True, tag="key-confirmed"):
    """The link-reader opened the first message that names ``index``."""

    slot: int
    link_id: int
    index: int


class UdpHandshakeCame(ToGateway, frozen=True, tag="udp-handshake-came"):
    """The link-reader read a handshake message on UDP, from a packed UdpAddress."""

    endpoint: bytes
    message: bytes


class ControlCame(ToGateway, frozen=True, tag="control-came"):
    """The link-reader opened a control message on UDP, under ``index``."""

    slot: int
    index: int
    message: bytes


class SessionWanted(ToGateway, frozen=True, tag="session-wanted"):
    """The tun-reader has packets for a peer without a session."""

    slot: int


class PathTooNarrow(ToGateway, frozen=True, tag="path-too-narrow"):
    """A datagram of the link-writer did not fit the MTU of this host's device or route."""

    slot: int


class RefusalChanged(ToGateway, frozen=True, tag="refusal-changed"):
    """The kernel refuses something for the peer, because of ``error``; "": accepted again.

    ``kind`` is ``enum refusal_kind`` of csrc/fastun.h.
    """

    slot: int
    kind: int
    error: str


class DeviceGone(ToGateway, frozen=True, tag="device-gone"):
    """Worker to gateway: the interface was deleted under us."""

    reason: str
