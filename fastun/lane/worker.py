"""What a worker does once it has started (worker_start.py).

Python runs between two runs of the C loop: it reads the control channel, reports, and goes back in.
What is imported here is in the memory of all workers.
"""

from __future__ import annotations

import contextlib
import os
from functools import singledispatchmethod

from fastun import native
from fastun.errors import RuntimeFailure
from fastun.lane import crossing, session_memory
from fastun.lane.channel import Channel, DescriptorsLost, close_all
from fastun.lane.endpoint_messages import SetEndpoint
from fastun.lane.events import message_of
from fastun.lane.heartbeat import Heartbeat
from fastun.lane.messages import (
    AddReceivingKey,
    AddSocket,
    AllowIps,
    AttachLink,
    AwaitReply,
    Begin,
    BlockLink,
    Boot,
    CaptureFrames,
    ChangeIps,
    ClampMss,
    DetachLink,
    DeviceGone,
    ForgetIps,
    ForgetReceivingKeys,
    KeyAdded,
    LinkEnded,
    Message,
    Ready,
    RemoveSocket,
    SendControl,
    SendKeepalive,
    SendMessage,
    SetGateKeys,
    SetPacketMax,
    SetSendingKey,
    SetTerms,
    ToGateway,
)
from fastun.lane.switch import attach_switch
from fastun.lane.ways import SetWays, WaysSet
from fastun.lane.written import writers_of
from fastun.native import Wire
from fastun.native import loop as _loop
from fastun.native.loop import Event, EventKind, LoopEnd

# A bell that was heard twice finds nothing to read, once for each message at most. If that goes on,
# the channel has something and cannot be read for now.
_NOTHING_READ_MAX = 5

# What any host can send, or what comes again in a moment: the loop does not wait for the gateway.
_OF_ANY_HOST = (EventKind.UDP_HANDSHAKE, EventKind.CONTROL)
_REPEATED = (EventKind.NO_SESSION, EventKind.TOO_LONG)


class Worker:
    """One role's process: its loop, its channel and the links it carries."""

    def __init__(self, role: str, channel: Channel, boot: Boot, fds: list[int]) -> None:
        """Prepare the loop, from the boot message and its descriptors."""
        stats_fd, ring_fd, peers_fd, device_fd, wake_fd, *more_fds = fds
        session_fds, other_fds = session_memory.take(role, boot, more_fds)
        n_switch = len(other_fds) - crossing.n_of(boot)
        switch_fds, crossing_fds = other_fds[:n_switch], other_fds[n_switch:]
        self._channel = channel
        self._link_fds: dict[int, int] = {}
        self._socket_fds: dict[int, int] = {}  # by the socket's index
        self._has_begun = False
        self._n_nothing_read = 0  # in a row
        if role == "link-writer":  # all that it could do with it is to write packets to this host
            os.close(device_fd)
            device_fd = -1
        writers = writers_of(role, boot)
        macs, hairpin = attach_switch(switch_fds, boot.hairpin_bytes) or (None, None)
        self.stats = native.Stats.attach(stats_fd, writers)
        self._loop = _loop.Loop(
            role,
            _loop.SharedMemory(
                native.Ring.attach(ring_fd, boot.ring_bytes),
                self.stats,
                native.PeerTable.attach(peers_fd, writers),
                session_memory.attach(role, boot, session_fds),
                macs,
                hairpin,
                crossing.attach(boot, crossing_fds),
            ),
            _loop.Descriptors(
                device_fd, channel.fileno(), wake_fd, boot.device_index, *switch_fds[2:]
            ),
            wire=boot.wire,
            mode=boot.mode,
            waiting=boot.waiting,
        )
        mapped = (*session_fds, *switch_fds[:2], *crossing.of_rings(boot, crossing_fds))
        close_all([stats_fd, ring_fd, peers_fd, *mapped])
        if boot.holds and boot.wire == Wire.WIREGUARD:
            self._loop.hold_without_session()
        self._loop.coalesce(boot.coalesce)
        self._loop.clamp_mss(boot.mss_mtu)
        channel.set_blocking(False)

    def run(self, confined: native.Confined) -> None:
        """Work until the gateway closes the channel."""
        self._send(Ready(confined))
        gateway_lives = self._await_begin()
        while gateway_lives:
            end = self._loop.run()
            if end is LoopEnd.DOORBELL:
                gateway_lives = self._read_channel()
            elif end is LoopEnd.EVENT:
                self._report(self._loop.event())
            else:
                self._send(DeviceGone(self._loop.error()))
                gateway_lives = self._await_channel()

    def _await_begin(self) -> bool:
        """Act on all that comes before the start; False when the gateway closed the channel.

        A tun-reader that read sooner would refuse packets for peers that it has not heard of.
        """
        gateway_lives = True
        while gateway_lives and not self._has_begun:
            self._channel.set_blocking(True)
            gateway_lives = self._receive()
        self._channel.set_blocking(False)
        return gateway_lives

    def _send(self, message: ToGateway | Heartbeat) -> None:
        """Send a message, waiting for the gateway if it is behind."""
        self._channel.set_blocking(True)
        self._channel.send(message)
        self._channel.set_blocking(False)

    def _report(self, event: Event) -> None:
        """Report an event, but do not wait with what any host can send."""
        message = message_of(event)
        may_wait = event.kind not in (*_OF_ANY_HOST, *_REPEATED)
        if may_wait:
            self._send(message)
            return
        try:
            self._channel.send(message)
        except BlockingIOError:
            if event.kind in _OF_ANY_HOST:
                self._loop.drop_event()

    def _await_channel(self) -> bool:
        self._channel.set_blocking(True)
        more = self._channel.receive() is not None
        self._channel.set_blocking(False)
        return more

    def _read_channel(self) -> bool:
        """Act on all waiting messages; False when the gateway closed the channel."""
        self._loop.take_bell()
        self._n_nothing_read += 1
        try:
            while self._receive():
                self._n_nothing_read = 0
        except BlockingIOError:
            if self._n_nothing_read > _NOTHING_READ_MAX:
                native.rest()
            return True
        return False

    def _receive(self) -> bool:
        """Act on one message; False when the gateway closed the channel."""
        try:
            received = self._channel.receive()
        except DescriptorsLost as error:
            self._end_unattached(error)
            return True
        if received is None:
            return False
        # What is for a link that has gone meanwhile is of no use any more.
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            self.act(*received)
        return True

    def _end_unattached(self, error: DescriptorsLost) -> None:
        """Report a link whose socket did not come; all else goes on, without a capture too."""
        if isinstance(error.message, CaptureFrames):
            return
        if not isinstance(error.message, AttachLink):
            raise error
        slot, link_id = error.message.slot, error.message.link_id
        self._detach(slot)
        self._send(LinkEnded(slot, link_id, "a worker has too many open files"))

    def _detach(self, slot: int) -> None:
        self._loop.detach_link(slot)
        fd = self._link_fds.pop(slot, None)
        if fd is not None:
            os.close(fd)

    # -- what the gateway orders: each method acts on messages of its parameter's type -----------

    @singledispatchmethod
    def act(self, message: Message, fds: list[int]) -> None:
        """Act on one message; the descriptors are this worker's to keep or close.

        Raises FileNotFoundError or FileExistsError for a link that has gone meanwhile.
        """
        close_all(fds)
        raise RuntimeFailure(f"control channel: unexpected {type(message).__name__}")

    @act.register
    def _begin(self, _: Begin, __: list[int]) -> None:
        self._has_begun = True

    @act.register
    def _heartbeat(self, message: Heartbeat, _: list[int]) -> None:
        self._send(message)

    @act.register
    def _attach_link(self, message: AttachLink, fds: list[int]) -> None:
        self._detach(message.slot)
        if fds:
            self._link_fds[message.slot] = fds[0]
        fd = fds[0] if fds else -1
        self._loop.attach_link(message.slot, message.link_id, fd, message.link_format)

    @act.register
    def _detach_link(self, message: DetachLink, _: list[int]) -> None:
        self._detach(message.slot)

    @act.register
    def _allow_ips(self, message: AllowIps, _: list[int]) -> None:
        for address, prefix_length in message.networks:
            self._loop.allow_ip(message.slot, address, prefix_length)

    @act.register
    def _change_ips(self, message: ChangeIps, _: list[int]) -> None:
        for slot, address, prefix_length in message.added:
            self._loop.allow_ip(slot, address, prefix_length)
        for slot, address, prefix_length in message.removed:
            self._loop.forget_ip(slot, address, prefix_length)

    @act.register
    def _forget_ips(self, message: ForgetIps, _: list[int]) -> None:
        self._loop.forget_ips(message.slot)

    @act.register
    def _set_terms(self, message: SetTerms, _: list[int]) -> None:
        rate, burst = message.rate, message.burst_bytes
        self._loop.set_rate_limit(message.slot, rate, burst, is_cut_off=message.is_cut_off)
        self._loop.set_reach(message.slot, message.networks)

    @act.register
    def _set_ways(self, message: SetWays, _: list[int]) -> None:
        ways, sealed_for = message.lanes, message.sealed_for
        self._loop.set_ways(message.slot, ways, by_flow=message.by_flow, sealed_for=sealed_for)
        if message.number:
            self._send(WaysSet(message.slot, message.number))

    @act.register
    def _set_sending_key(self, message: SetSendingKey, _: list[int]) -> None:
        self._loop.set_sending_key(
            message.slot,
            message.aead,
            message.key,
            receiver_index=message.receiver_index,
            source=message.source,
            expires_ns=message.expires_ns,
        )

    @act.register
    def _send_keepalive(self, message: SendKeepalive, _: list[int]) -> None:
        self._loop.send_keepalive(message.slot)

    @act.register
    def _send_control(self, message: SendControl, _: list[int]) -> None:
        self._loop.send_control(message.slot, message.content)

    @act.register
    def _add_receiving_key(self, message: AddReceivingKey, _: list[int]) -> None:
        if message.is_known:
            self._loop.take_over_receiving_key(message.slot, message.index)
        for aead in message.aeads:
            self._loop.add_receiving_key(
                message.slot,
                aead,
                message.key,
                index=message.index,
                counter=message.counter,
                expires_ns=message.expires_ns,
            )
        self._send(KeyAdded(message.slot, message.index))

    @act.register
    def _forget_receiving_keys(self, message: ForgetReceivingKeys, _: list[int]) -> None:
        self._loop.forget_receiving_keys(message.slot)

    @act.register
    def _add_socket(self, message: AddSocket, fds: list[int]) -> None:
        self._loop.add_socket(message.index, fds[0], has_offload=message.has_offload)
        retired = self._socket_fds.get(message.index)
        self._socket_fds[message.index] = fds[0]  # kept open
        if retired is not None:
            os.close(retired)

    @act.register
    def _remove_socket(self, message: RemoveSocket, _: list[int]) -> None:
        self._loop.remove_socket(message.index)
        retired = self._socket_fds.pop(message.index, None)
        if retired is not None:
            os.close(retired)

    @act.register
    def _set_gate_keys(self, message: SetGateKeys, _: list[int]) -> None:
        self._loop.set_gate_keys(message.mac1_key, message.cookie_key)

    @act.register
    def _await_reply(self, message: AwaitReply, _: list[int]) -> None:
        self._loop.await_reply(message.slot, message.index)

    @act.register
    def _set_endpoint(self, message: SetEndpoint, _: list[int]) -> None:
        self._loop.set_endpoint(message.slot, message.endpoint, message.only_by)

    @act.register
    def _set_packet_max(self, message: SetPacketMax, _: list[int]) -> None:
        self._loop.set_packet_max(message.slot, message.packet_max, message.whole_max)
        self._loop.join_pieces(message.slot, message.joins_pieces)

    @act.register
    def _block_link(self, message: BlockLink, _: list[int]) -> None:
        self._loop.block_link(message.slot, is_blocked=message.is_blocked)

    @act.register
    def _clamp_mss(self, message: ClampMss, _: list[int]) -> None:
        self._loop.clamp_mss(message.mtu)

    @act.register
    def _capture(self, message: CaptureFrames, fds: list[int]) -> None:
        self._loop.capture(fds, message)

    @act.register
    def _send_message(self, message: SendMessage, _: list[int]) -> None:
        self._loop.send_message(message.slot, message.message)
