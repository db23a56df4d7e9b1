"""The control channel between gateway and worker: one message a datagram, with descriptors.

A ``SOCK_SEQPACKET`` pair. Each datagram is one msgpack map ``{"type": …, …}``, validated into one
of the structs below; file descriptors ride along as SCM_RIGHTS. Either end closes the channel by
dying, which the other reads as end of file.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from typing import Any

import msgpack
import msgspec

from fastun.errors import RuntimeFailure

# A control message is a handful of small fields; SEQPACKET truncates what is longer, and a
# truncated message is an error.
MESSAGE_BYTES_MAX = 8192
FDS_MAX = 8

# What may wait in a channel: as many handshake messages as the link-reader's gate lets through at
# once (csrc/inbound/handshake_gate.h). The kernel counts some 1 KiB a message.
BUFFER_BYTES = 1024 * 1024
_SO_SNDBUFFORCE = 32  # linux/socket.h


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """Base of all control messages."""


class LinkFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which messages a link may carry: ``struct link_format`` of csrc/fastun.h."""

    wire: int
    mode: int
    super_outbound: bool
    super_inbound: bool
    message_max: int
    is_datagram: bool = False
    mtu: int = 0
    splits_udp: bool = False


class Boot(Message, frozen=True, tag="boot"):
    """Gateway to worker, first. Descriptors: [statistics, ring, peer table, device, eventfd]."""

    ring_bytes: int
    wire: int
    mode: int
    holds: bool
    coalesce: int
    mss_mtu: int


class AttachLink(Message, frozen=True, tag="attach-link"):
    """Carry the peer's link from now on.

    Descriptors: [socket]; none for the tun-reader, and for a peer on UDP.
    """

    slot: int
    link_id: int
    link_format: LinkFormat


class DetachLink(Message, frozen=True, tag="detach-link"):
    """The peer has no link any more; the key to seal with goes as well."""

    slot: int


class AddSocket(Message, frozen=True, tag="add-socket"):
    """To link-reader and link-writer: a UDP socket, the descriptor, known by this index."""

    index: int
    has_offload: bool


class SetGateKeys(Message, frozen=True, tag="set-gate-keys"):
    """To the link-reader: what handshake messages on UDP must know, and what cookies are sealed by.

    Both are hashes of our public key (whitepaper 5.4.4, 5.4.7).
    """

    mac1_key: bytes
    cookie_key: bytes


class AwaitReply(Message, frozen=True, tag="await-reply"):
    """To the link-reader: the index of the last initiation to the peer; a cookie reply names it."""

    slot: int
    index: int


class SetEndpoint(Message, frozen=True, tag="set-endpoint"):
    """To the link-reader: where the peer is on UDP, a packed UdpAddress."""

    slot: int
    endpoint: bytes


class SetPathMtu(Message, frozen=True, tag="set-path-mtu"):
    """To the tun-reader: the longest packet that fits the path to the peer; bytes, 0 for any.

    Packets longer than ``whole`` go without "don't fragment", so that routers may fragment them;
    0: none.
    """

    slot: int
    path_mtu: int
    whole: int = 0


class BlockLink(Message, frozen=True, tag="block-link"):
    """To the link-writer: send nothing to the peer on UDP, whose route leads into the tunnel."""

    slot: int
    is_blocked: bool


class ClampMss(Message, frozen=True, tag="clamp-mss"):
    """To tun-reader and link-reader: TCP's segments are to fit packets of ``mtu`` bytes; 0: any."""

    mtu: int


class AllowIps(Message, frozen=True, tag="allow-ips"):
    """These addresses, each 4 or 16 bytes with a prefix length, belong to the peer as well."""

    slot: int
    networks: tuple[tuple[bytes, int], ...]


class ForgetIps(Message, frozen=True, tag="forget-ips"):
    """The peer has no addresses any more."""

    slot: int


class SetSendingKey(Message, frozen=True, tag="set-sending-key"):
    """To the tun-reader: seal for the peer with this from now on; then send a keepalive."""

    slot: int
    aead: int
    key: bytes
    receiver_index: int
    counter: int
    expires_ns: int

    def __repr__(self) -> str:
        """Leave the key out."""
        return f"SetSendingKey(slot={self.slot})"


class SendKeepalive(Message, frozen=True, tag="send-keepalive"):
    """To the tun-reader: an empty message to the peer."""

    slot: int


class AddReceivingKey(Message, frozen=True, tag="add-receiving-key"):
    """To the link-reader: open with these what names ``index``; answered by KeyAdded.

    ``keys`` has an Aead and its key, for each that the session may use; ``expires_ns`` is
    CLOCK_BOOTTIME.
    """

    slot: int
    keys: tuple[tuple[int, bytes], ...]
    index: int
    counter: int
    expires_ns: int

    def __repr__(self) -> str:
        """Leave the keys out."""
        return f"AddReceivingKey(slot={self.slot})"


class ForgetReceivingKeys(Message, frozen=True, tag="forget-receiving-keys"):
    """To the link-reader: open nothing of the peer's any more."""

    slot: int


class SendMessage(Message, frozen=True, tag="send-message"):
    """To the link-writer: a message for the peer as it stands.

    On a stream a handshake message, which goes between two frames. On UDP a probe, which only the
    link-writer can send so that it is never fragmented: it switches that on and off for its socket.
    """

    slot: int
    message: bytes


class Ready(Message, frozen=True, tag="ready"):
    """Worker to gateway: booted, the loop begins."""


class LinkEnded(Message, frozen=True, tag="link-ended"):
    """Worker to gateway: the link is over. ``reason`` is for the log."""

    slot: int
    link_id: int
    reason: str


class KeyAdded(Message, frozen=True, tag="key-added"):
    """The link-reader opens what names ``index`` from now on."""

    slot: int
    index: int


class HandshakeCame(Message, frozen=True, tag="handshake-came"):
    """The link-reader read a handshake message."""

    slot: int
    link_id: int
    message: bytes


class KeyConfirmed(Message, frozen=True, tag="key-confirmed"):
    """The link-reader opened the first message that names ``index``."""

    slot: int
    link_id: int
    index: int


class DatagramCame(Message, frozen=True, tag="datagram-came"):
    """The link-reader read a handshake message on UDP, from a packed UdpAddress."""

    endpoint: bytes
    message: bytes


class ControlCame(Message, frozen=True, tag="control-came"):
    """The link-reader opened a control message on UDP, under ``index``."""

    slot: int
    index: int
    message: bytes


class SessionWanted(Message, frozen=True, tag="session-wanted"):
    """The tun-reader has packets for a peer without a session."""

    slot: int


class PathTooNarrow(Message, frozen=True, tag="path-too-narrow"):
    """A datagram of the link-writer did not fit the MTU of this host's device or route."""

    slot: int


class OffloadChanged(Message, frozen=True, tag="offload-changed"):
    """The kernel refuses an offload for the peer, because of ``error``; "": accepted again.

    ``kind`` is ``enum offload_kind`` of csrc/fastun.h.
    """

    slot: int
    kind: int
    error: str


class DeviceGone(Message, frozen=True, tag="device-gone"):
    """Worker to gateway: the interface was deleted under us."""

    reason: str


ToWorker = (
    Boot
    | AttachLink
    | DetachLink
    | AddSocket
    | SetGateKeys
    | AwaitReply
    | SetEndpoint
    | SetPathMtu
    | BlockLink
    | ClampMss
    | AllowIps
    | ForgetIps
    | SetSendingKey
    | SendKeepalive
    | AddReceivingKey
    | ForgetReceivingKeys
    | SendMessage
)
ToGateway = (
    Ready
    | LinkEnded
    | KeyAdded
    | HandshakeCame
    | DatagramCame
    | ControlCame
    | KeyConfirmed
    | SessionWanted
    | PathTooNarrow
    | OffloadChanged
    | DeviceGone
)
AnyMessage = ToWorker | ToGateway


class DescriptorsLost(RuntimeFailure):
    """A message came without all of its descriptors: this process may open no more (EMFILE)."""

    def __init__(self, message: AnyMessage) -> None:
        """Keep the message."""
        super().__init__("control channel: too many open files for what a message brings")
        self.message = message


class Channel:
    """One end of a control channel. Not thread-safe; owns its socket."""

    def __init__(self, end: socket.socket) -> None:
        """Take over ``end``, a SEQPACKET socket."""
        self._socket = end

    def fileno(self) -> int:
        """Return the descriptor, for a selector or for passing on."""
        return self._socket.fileno()

    def send(self, message: AnyMessage, fds: tuple[int, ...] = ()) -> None:
        """Send one message; the descriptors are duplicated to the receiver.

        Raises BrokenPipeError or ConnectionResetError when the other end is gone and
        BlockingIOError when it does not read (a full channel on a non-blocking socket).
        """
        data: bytes = msgpack.packb(msgspec.to_builtins(message, builtin_types=(bytes,)))
        socket.send_fds(self._socket, [data], list(fds))

    def receive(self) -> tuple[AnyMessage, list[int]] | None:
        """Return one message and its descriptors (the caller's to close), or None at the end.

        Raises BlockingIOError when there is none now, RuntimeFailure for an invalid message and
        DescriptorsLost for one whose descriptors did not all come.
        """
        data, fds, flags = _receive(self._socket)
        if not data:
            return None
        if flags & socket.MSG_TRUNC:
            close_all(fds)
            raise RuntimeFailure("control channel: a message was longer than the limit")
        try:
            message: AnyMessage = msgspec.convert(_unpack(data), AnyMessage)
        except (msgspec.ValidationError, ValueError, msgpack.UnpackException) as error:
            close_all(fds)
            raise RuntimeFailure(f"control channel: {error}") from error
        if flags & socket.MSG_CTRUNC:
            close_all(fds)
            raise DescriptorsLost(message)
        return message, fds

    def set_blocking(self, blocking: bool) -> None:
        """Choose between waiting in receive and BlockingIOError."""
        self._socket.setblocking(blocking)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def pair() -> tuple[Channel, socket.socket]:
    """Return the gateway's end, not blocking, and the raw end for a worker to inherit."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    for end in (ours, theirs):
        with contextlib.suppress(OSError):  # without CAP_NET_ADMIN the usual 200 KiB do
            end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, BUFFER_BYTES)
    return Channel(ours), theirs


def close_all(fds: list[int]) -> None:
    """Close received descriptors."""
    for fd in fds:
        os.close(fd)


def _unpack(data: bytes) -> Any:
    return msgpack.unpackb(data)


def _receive(end: socket.socket) -> tuple[bytes, list[int], int]:
    """As socket.recv_fds, but with MSG_CMSG_CLOEXEC: no descriptor leaks into a spawned child."""
    fds = array.array("i")
    space = socket.CMSG_SPACE(FDS_MAX * fds.itemsize)
    data, ancillary, flags, _ = end.recvmsg(MESSAGE_BYTES_MAX, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, list(fds), flags
