"""Frames laid out as messages, carried by a stream that is cut anywhere, and taken apart again."""

from __future__ import annotations

import os
import select
import socket
import struct
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

ETHERNET = 14
VNET = 12
TCP = 6
RING_BYTES = 1 << 20  # holds all that one example sends


@dataclass(frozen=True)
class Format:
    wire: str
    mode: str

    @property
    def carries_super(self) -> bool:
        return self.wire == "plain"

    def to_c(self, internals: Any) -> Any:
        ffi, lib = internals
        return ffi.new(
            "struct link_format *",
            {
                "wire": lib.WIRE_PLAIN if self.wire == "plain" else lib.WIRE_SIMPLETUN,
                "mode": lib.MODE_TAP if self.mode == "tap" else lib.MODE_TUN,
                "super_outbound": self.carries_super,
                "super_inbound": self.carries_super,
                "message_max": lib.MESSAGE_MAX if self.carries_super else lib.SIMPLETUN_MESSAGE_MAX,
            },
        )


FORMATS = [Format(wire, mode) for wire in ("plain", "simpletun") for mode in ("tun", "tap")]
# Super-packets that amplify nothing (csrc/packet/amplification.h): these go whole.
SUPER_BYTES_MIN, SEGMENT_BYTES_MIN = 137, 273

every_format = pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: f"{fmt.wire}-{fmt.mode}")


@st.composite
def device_frames(draw: st.DrawFn, fmt: Format) -> bytes:
    """virtio_net_hdr and frame, as a device of this mode hands them over."""
    l3 = ETHERNET if fmt.mode == "tap" else 0
    version = draw(st.sampled_from([4, 6]))
    transport = l3 + (20 if version == 4 else 40)
    payload = draw(st.one_of(st.integers(1, 100), st.integers(1, 1900)))
    content = draw(st.integers(0, 255))
    frame = bytearray([content]) * (transport + 20 + payload)
    frame[l3] = version << 4 | 5
    if l3:
        frame[l3 - 2 : l3] = b"\x08\x00" if version == 4 else b"\x86\xdd"
    if version == 4:
        frame[l3 + 2 : l3 + 4] = (len(frame) - l3).to_bytes(2)
        frame[l3 + 6 : l3 + 8] = bytes(2)  # no fragment
        frame[l3 + 9] = TCP
    else:
        frame[l3 + 4 : l3 + 6] = (len(frame) - l3 - 40).to_bytes(2)
        frame[l3 + 6] = TCP
    frame[transport + 12] = 5 << 4
    kinds = ["plain", "checksum"] if fmt.carries_super else ["plain"]
    kinds += ["super"] if fmt.carries_super and len(frame) >= SUPER_BYTES_MIN else []
    kind = draw(st.sampled_from(kinds))
    header = struct.pack("<BBHHHHH", *vnet_fields(kind, version, transport, draw))
    return header + bytes(frame)


def vnet_fields(kind: str, version: int, transport: int, draw: st.DrawFn) -> tuple[int, ...]:
    if kind == "plain":
        return (0,) * 7
    if kind == "checksum":
        return (1, 0, 0, 0, transport, 16, 0)
    gso_type = {4: 1, 6: 4}[version]
    return (
        1,
        gso_type,
        transport + 20,
        draw(st.integers(SEGMENT_BYTES_MIN, 1500)),
        transport,
        16,
        0,
    )


def n_packets(frame: bytes) -> int:
    _, gso_type, hdr_len, gso_size, *_ = struct.unpack_from("<BBHHHHH", frame)
    return -(-(len(frame) - VNET - hdr_len) // gso_size) if gso_type else 1


def encapsulate(internals: Any, fmt: Format, device_frame: bytes) -> bytes:
    """Return the message with its length prefix."""
    ffi, lib = internals
    slot = ffi.new("uint8_t[]", bytes(lib.MESSAGE_HEADROOM) + device_frame)
    outbound = ffi.new("struct message_outbound *")
    fault = lib.message_encapsulate(
        fmt.to_c(internals), slot + lib.MESSAGE_HEADROOM, len(device_frame) - VNET, outbound
    )
    assert fault == lib.MESSAGE_OK
    assert outbound.n_packets == n_packets(device_frame)
    lib.message_prefix(outbound)
    return ffi.buffer(outbound.start, outbound.length)[:]


# -- one message -----------------------------------------------------------------------------------


@every_format
@given(data=st.data())
def test_a_frame_laid_out_and_taken_apart_is_the_frame(
    internals: Any, fmt: Format, data: st.DataObject
) -> None:
    ffi, lib = internals
    device_frame = data.draw(device_frames(fmt))
    message = encapsulate(internals, fmt, device_frame)
    assert int.from_bytes(message[:2], "big") == len(message) - 2
    body, inbound = ffi.new("uint8_t[]", message[2:]), ffi.new("struct message_inbound *")
    fault = lib.message_decapsulate(fmt.to_c(internals), body, len(message) - 2, inbound)
    assert fault == lib.MESSAGE_OK
    vnet = ffi.new("uint8_t[12]")
    lib.vnet_write(ffi.addressof(inbound, "vnet"), vnet)
    frame = ffi.buffer(inbound.frame, inbound.length)[:]
    assert bytes(vnet) + frame == device_frame
    assert inbound.n_packets == n_packets(device_frame)


@every_format
@given(data=st.data())
def test_a_message_is_the_documented_bytes(
    internals: Any, fmt: Format, data: st.DataObject
) -> None:
    device_frame = data.draw(device_frames(fmt))
    vnet, frame = device_frame[:VNET], device_frame[VNET:]
    message = encapsulate(internals, fmt, device_frame)[2:]
    if any(vnet):
        assert message == b"\x02\0\0\0" + vnet + frame
    elif fmt == Format("plain", "tap"):
        assert message == b"\x03\0\0\0" + frame
    else:
        assert message == frame


# -- a stream --------------------------------------------------------------------------------------


class LinkReader:
    """The link-reader's loop in this thread. A second link that ends right behind each piece has it
    return when it has read that piece.
    """

    def __init__(self, internals: Any, fmt: Format) -> None:
        self.ffi, self.lib = internals
        ring_fd, stats_fd, peers_fd = (self.ffi.new("int *") for _ in range(3))
        self.producer = self.lib.ring_create(RING_BYTES, ring_fd)
        self.consumer = self.lib.ring_attach(ring_fd[0], RING_BYTES)
        self.stats = self.lib.stats_create(stats_fd)
        self.peers = self.lib.peer_table_create(peers_fd)
        self.fds = [ring_fd[0], stats_fd[0], peers_fd[0]]
        self.channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.stream = socket.socketpair()
        self.stream[1].setblocking(False)
        c = fmt.to_c(internals)
        parts = {
            "role": self.lib.ROLE_link_reader,
            "wire": c.wire,
            "mode": c.mode,
            "ring": self.producer,
            "stats": self.stats,
            "peers": self.peers,
            "device_fd": -1,
            "channel_fd": self.channel[1].fileno(),
            "wake_fd": -1,
        }
        self.loop = self.lib.loop_new(self.ffi.new("struct loop_parts *", parts))
        assert self.loop != self.ffi.NULL, os.strerror(self.ffi.errno)
        self.format = c
        self.attach(0, self.stream[1])

    def attach(self, slot: int, end: socket.socket) -> None:
        assert self.lib.loop_attach_link(self.loop, slot, 1, end.fileno(), self.format) == 0

    def close(self) -> None:
        self.lib.loop_free(self.loop)
        self.lib.ring_detach(self.producer)
        self.lib.ring_detach(self.consumer)
        self.lib.stats_detach(self.stats)
        self.lib.peer_table_detach(self.peers)
        for end in (*self.channel, *self.stream):
            end.close()
        for fd in self.fds:
            os.close(fd)

    def read(self, piece: bytes) -> bool:
        """One read of the loop gets exactly these bytes; False when they end the link."""
        self.stream[0].sendall(piece)
        ours, theirs = socket.socketpair()
        theirs.close()
        with ours:
            self.attach(1, ours)
            slot = self._run()
            self.lib.loop_detach_link(self.loop, 1)
        assert slot == 0 or not select.select([self.stream[1]], [], [], 0)[0]
        return slot == 1

    def end(self) -> int:
        """The stream closes; returns the event_kind that the loop ends the link with."""
        self.stream[0].shutdown(socket.SHUT_WR)
        assert self._run() == 0
        return int(self.lib.loop_event(self.loop).kind)

    def _run(self) -> int:
        assert self.lib.loop_run(self.loop) == self.lib.LOOP_EVENT
        return int(self.lib.loop_event(self.loop).slot)

    def frames(self) -> list[bytes]:
        cursor, corrupt = self.ffi.new("uint64_t *"), self.ffi.new("bool *")
        cursor[0] = self.lib.ring_first(self.consumer)
        frames = []
        while record := self.lib.ring_peek(self.consumer, cursor, corrupt):
            frames.append(self.ffi.buffer(record.payload, record.length)[:])
        assert not corrupt[0]
        return frames

    def taken_in(self) -> int:
        lib = self.lib
        return int(lib.stats_read_counter(self.stats, lib.ROLE_link_reader, lib.COUNTER_packets))

    def drops(self) -> dict[str, int]:
        lib, drops = self.lib, {}
        for drop in range(lib.stats_n_drops()):
            n = lib.stats_read_drop(self.stats, drop)
            if n:
                drops[self.ffi.string(lib.stats_drop_reason(drop)).decode()] = n
        return drops


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:end] for start, end in pairwise(ends)]


@every_format
@given(data=st.data(), places=st.lists(st.integers(0, 100_000), max_size=30))
def test_however_the_stream_is_cut_into_reads_the_frames_are_the_same(
    internals: Any, fmt: Format, data: st.DataObject, places: list[int]
) -> None:
    sent = data.draw(st.lists(device_frames(fmt), min_size=1, max_size=8))
    messages = [encapsulate(internals, fmt, frame) for frame in sent]
    # every message's prefix is cut in two as well
    starts = [len(b"".join(messages[:i])) + 1 for i in range(len(messages))]
    with closing(LinkReader(internals, fmt)) as reader:
        for piece in cut(b"".join(messages), places + starts):
            reader.read(piece)
        assert reader.frames() == sent
        assert reader.end() == internals[1].EVENT_LINK_CLOSED
        assert reader.taken_in() == sum(n_packets(frame) for frame in sent)
        assert reader.drops() == {}


@every_format
@given(data=st.data(), place=st.integers(0, 100_000))
def test_what_came_whole_before_a_cut_arrives_and_the_rest_is_counted(
    internals: Any, fmt: Format, data: st.DataObject, place: int
) -> None:
    sent = data.draw(st.lists(device_frames(fmt), min_size=1, max_size=4))
    messages = [encapsulate(internals, fmt, frame) for frame in sent]
    stream = b"".join(messages)[: place % (sum(map(len, messages)) + 1)]
    ends = [len(b"".join(messages[: i + 1])) for i in range(len(messages))]
    whole = [frame for frame, end in zip(sent, ends, strict=True) if end <= len(stream)]
    is_cut = len(stream) not in [0, *ends]
    with closing(LinkReader(internals, fmt)) as reader:
        assert reader.read(stream)
        lib = internals[1]
        assert reader.end() == (lib.EVENT_LINK_FAULT if is_cut else lib.EVENT_LINK_CLOSED)
        assert reader.frames() == whole
        assert reader.drops() == ({"truncated": 1} if is_cut else {})
        assert reader.taken_in() == sum(map(n_packets, whole)) + is_cut


@every_format
@given(stream=st.binary(max_size=400), places=st.lists(st.integers(0, 400), max_size=6))
def test_garbage_is_accounted_for_to_the_last_message_however_it_is_cut(
    internals: Any, fmt: Format, stream: bytes, places: list[int]
) -> None:
    outcomes = []
    for pieces in ([stream], cut(stream, places)):
        with closing(LinkReader(internals, fmt)) as reader:
            for piece in pieces:
                if not reader.read(piece):
                    break
            else:
                reader.end()
            frames, drops = reader.frames(), reader.drops()
            assert reader.taken_in() == sum(map(n_packets, frames)) + sum(drops.values())
            outcomes.append((frames, drops))
    assert outcomes[0] == outcomes[1]
