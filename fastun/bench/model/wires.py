"""The wires of the model, what they make of a frame, and in how many lanes a peer is on each.

A NIC counts a packet's 38 bytes of Ethernet (preamble, header, check sequence and gap) as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastun.bench.model.load import PAYLOAD_BYTES
from fastun.bench.model.prediction import NOT_CROWDED, Crowding, Ends, Frame, StageCost
from fastun.native import LANES_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastun.lab.tunnel import Transport

#: What the device gives at once of a TCP stream, and what it gives of small datagrams.
SUPER_PACKET, SMALL_PACKET = "64 KiB", "64 bytes"

_PAYLOAD_BYTES = 64 * 1024
_ETHERNET_BYTES = 38
_OUTER_MTU = 1500
#: IPv4 and TCP with timestamps; IPv4 and UDP.
_TCP_BYTES, _UDP_BYTES = 52, 28
_MESSAGE_BYTES = 32  # type, index, counter and tag
_OFFLOAD_BYTES = 12  # virtio_net_hdr
_LENGTH_BYTES = 2
_PIECE_BYTES = 8
_PADDED_TO = 16


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """A wire over a transport; ``lanes_*`` are those of one peer.

    ``is_whole``: a super-packet goes as it is, over UDP in pieces; else each packet by itself.
    ``says_hello``: its ends are fastun to each other.
    """

    name: str
    wire: str
    transport: Transport
    mtu: int
    is_whole: bool = True
    says_hello: bool = True
    has_lanes: bool = True
    lanes_sending_max: int = 1
    lanes_receiving_max: int = 1

    @property
    def frames(self) -> dict[str, Frame]:
        """What the model knows of: frames by name."""
        n_packets = _PAYLOAD_BYTES / (self.mtu - _TCP_BYTES)
        small_bytes = PAYLOAD_BYTES + _UDP_BYTES
        return {
            SUPER_PACKET: Frame(
                packets=n_packets,
                bytes=_PAYLOAD_BYTES + _TCP_BYTES,
                payload_bytes=_PAYLOAD_BYTES,
                wire_bytes=self._wire_bytes(_PAYLOAD_BYTES + _TCP_BYTES, n_packets),
            ),
            SMALL_PACKET: Frame(
                packets=1,
                bytes=small_bytes,
                payload_bytes=PAYLOAD_BYTES,
                wire_bytes=self._wire_bytes(small_bytes, 1),
                is_answered=False,
            ),
        }

    def ends(
        self,
        sender: Mapping[str, StageCost],
        receiver: Mapping[str, StageCost],
        *,
        crossing_ns: float = 0.0,
        busy_share: float = 1.0,
        crowding: Crowding = NOT_CROWDED,
    ) -> Ends:
        """Return what the model needs of this wire, with what its stages cost."""
        return Ends(
            sender=sender,
            receiver=receiver,
            crossing_ns=crossing_ns,
            busy_share=busy_share,
            crowding=crowding,
            lanes_sending_max=self.lanes_sending_max,
            lanes_receiving_max=self.lanes_receiving_max,
            has_lanes=self.has_lanes,
        )

    def _wire_bytes(self, frame_bytes: float, n_packets: float) -> float:
        """Return what a NIC carries for a frame of so many packets."""
        sealed = _MESSAGE_BYTES if self.wire == "wireguard" else 0
        if self.transport == "tcp":
            stream_bytes = frame_bytes + sealed + _OFFLOAD_BYTES + _LENGTH_BYTES
            return stream_bytes * (_OUTER_MTU + _ETHERNET_BYTES) / (_OUTER_MTU - _TCP_BYTES)
        each_bytes = _UDP_BYTES + _ETHERNET_BYTES + _MESSAGE_BYTES
        if n_packets == 1:
            return each_bytes + -(-frame_bytes // _PADDED_TO) * _PADDED_TO
        if self.is_whole:
            n_pieces = (frame_bytes + _OFFLOAD_BYTES) / (self.mtu - _PIECE_BYTES)
            return n_pieces * (each_bytes + self.mtu)
        return n_packets * (each_bytes + self.mtu)


# fmt: off
WIRES: tuple[Wire, ...] = (
    Wire(name="secure TCP", wire="wireguard", transport="tcp", mtu=1500,
         lanes_sending_max=LANES_MAX, lanes_receiving_max=LANES_MAX),
    Wire(name="secure UDP", wire="wireguard", transport="udp", mtu=1420,
         lanes_sending_max=LANES_MAX, lanes_receiving_max=LANES_MAX),
    Wire(name="plain WireGuard", wire="wireguard", transport="udp", mtu=1420,
         is_whole=False, says_hello=False),
    Wire(name="plain TCP", wire="plain", transport="tcp", mtu=1500, has_lanes=False),
)
# fmt: on
