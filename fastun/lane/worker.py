"""The entry of a worker process: ``python -I -m fastun.worker ROLE/LANE CHANNEL_FD PARENT_PID``.

Imports only what it needs, because a restart has to be over within a second. Python runs between
two runs of the C loop: it reads the control channel, reports, and goes back in.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys

import setproctitle

from fastun import ending, native
from fastun.errors import FastunError
from fastun.lane.channel import (
    AddReceivingKey,
    AddSocket,
    AllowIps,
    AnyMessage,
    AttachLink,
    AwaitReply,
    BlockLink,
    Boot,
    Channel,
    ClampMss,
    ControlCame,
    DatagramCame,
    DescriptorsLost,
    DetachLink,
    DeviceGone,
    ForgetIps,
    ForgetReceivingKeys,
    HandshakeCame,
    KeyAdded,
    KeyConfirmed,
    LinkEnded,
    OffloadChanged,
    PathTooNarrow,
    Ready,
    SendKeepalive,
    SendMessage,
    SessionWanted,
    SetEndpoint,
    SetGateKeys,
    SetPathMtu,
    SetSendingKey,
    ToGateway,
    close_all,
)
from fastun.native import Offload, Wire
from fastun.native import loop as _loop
from fastun.native.loop import Event, EventKind, LoopEnd

# What anybody can send, or has sent again in a moment: the loop does not wait for the gateway.
_OF_ANYBODY = (EventKind.DATAGRAM, EventKind.CONTROL)
_REPEATED = (EventKind.NO_SESSION, EventKind.TOO_LONG, EventKind.OFFLOAD)


class Worker:
    """One role's process: its loop, its channel and the links it carries."""

    def __init__(self, role: str, channel: Channel) -> None:
        """Wait for the boot message and prepare the loop."""
        boot, fds = _receive_boot(channel)
        stats_fd, ring_fd, peers_fd, device_fd, wake_fd = fds
        self._channel = channel
        self._link_fds: dict[int, int] = {}
        self._socket_fds: list[int] = []
        self._loop = _loop.Loop(
            role,
            native.Ring.attach(ring_fd, boot.ring_bytes),
            native.Stats.attach(stats_fd),
            native.PeerTable.attach(peers_fd),
            wire=boot.wire,
            mode=boot.mode,
            device_fd=device_fd,
            channel_fd=channel.fileno(),
            wake_fd=wake_fd,
        )
        close_all([stats_fd, ring_fd, peers_fd])
        if boot.holds and boot.wire == Wire.WIREGUARD:
            self._loop.hold_without_session()
        self._loop.coalesce(Offload(boot.coalesce))
        self._loop.clamp_mss(boot.mss_mtu)
        channel.set_blocking(False)
        self._send(Ready())

    def run(self) -> None:
        """Work until the gateway closes the channel."""
        gateway_lives = True
        while gateway_lives:
            end = self._loop.run()
            if end is LoopEnd.DOORBELL:
                gateway_lives = self._read_channel()
            elif end is LoopEnd.EVENT:
                self._report(self._loop.event())
            else:
                self._send(DeviceGone(self._loop.error()))
                gateway_lives = self._await_channel()

    def _send(self, message: ToGateway) -> None:
        """Tell the gateway, waiting for it if it is behind."""
        self._channel.set_blocking(True)
        self._channel.send(message)
        self._channel.set_blocking(False)

    def _report(self, event: Event) -> None:
        """Tell the gateway of an event, but do not wait with what anybody can send."""
        may_wait = event.kind not in (*_OF_ANYBODY, *_REPEATED)
        if may_wait:
            self._send(_message_of(event))
            return
        try:
            self._channel.send(_message_of(event))
        except BlockingIOError:
            if event.kind in _OF_ANYBODY:
                self._loop.drop_event()

    def _await_channel(self) -> bool:
        self._channel.set_blocking(True)
        more = self._channel.receive() is not None
        self._channel.set_blocking(False)
        return more

    def _read_channel(self) -> bool:
        """Act on all waiting messages; False when the gateway closed the channel."""
        self._loop.take_bell()
        while True:
            try:
                received = self._channel.receive()
            except BlockingIOError:
                return True
            except DescriptorsLost as error:
                self._end_unattached(error)
                continue
            if received is None:
                return False
            # What is for a link that has gone meanwhile is of no use any more.
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                self._act(*received)

    def _act(self, message: AnyMessage, fds: list[int]) -> None:  # noqa: C901, PLR0912 (a table)
        match message:
            case AttachLink(slot=slot):
                self._detach(slot)
                if fds:
                    self._link_fds[slot] = fds[0]
                fd = fds[0] if fds else -1
                self._loop.attach_link(slot, message.link_id, fd, message.link_format)
            case DetachLink(slot=slot):
                self._detach(slot)
            case AllowIps(slot=slot):
                for address, prefix_length in message.networks:
                    self._loop.allow_ip(slot, address, prefix_length)
            case ForgetIps(slot=slot):
                self._loop.forget_ips(slot)
            case SetSendingKey(slot=slot):
                self._loop.set_sending_key(
                    slot,
                    message.aead,
                    message.key,
                    receiver_index=message.receiver_index,
                    counter=message.counter,
                    expires_ns=message.expires_ns,
                )
            case SendKeepalive(slot=slot):
                self._loop.send_keepalive(slot)
            case AddReceivingKey(slot=slot):
                self._add_receiving_key(message)
            case ForgetReceivingKeys(slot=slot):
                self._loop.forget_receiving_keys(slot)
            case AddSocket(index=index):
                self._socket_fds += fds  # kept open
                self._loop.add_socket(index, fds[0], has_offload=message.has_offload)
            case SetGateKeys():
                self._loop.set_gate_keys(message.mac1_key, message.cookie_key)
            case AwaitReply(slot=slot):
                self._loop.await_reply(slot, message.index)
            case SetEndpoint(slot=slot):
                self._loop.set_endpoint(slot, message.endpoint)
            case SetPathMtu(slot=slot):
                self._loop.set_path_mtu(slot, message.path_mtu, message.whole)
            case BlockLink(slot=slot):
                self._loop.block_link(slot, is_blocked=message.is_blocked)
            case ClampMss(mtu=mtu):
                self._loop.clamp_mss(mtu)
            case SendMessage(slot=slot):
                self._loop.send_message(slot, message.message)

    def _end_unattached(self, error: DescriptorsLost) -> None:
        """Tell the gateway of a link whose socket did not come; the others go on."""
        if not isinstance(error.message, AttachLink):
            raise error
        slot = error.message.slot
        self._detach(slot)
        self._send(LinkEnded(slot, error.message.link_id, "a worker has too many open files"))

    def _add_receiving_key(self, message: AddReceivingKey) -> None:
        for aead, key in message.keys:
            self._loop.add_receiving_key(
                message.slot,
                aead,
                key,
                index=message.index,
                counter=message.counter,
                expires_ns=message.expires_ns,
            )
        self._send(KeyAdded(message.slot, message.index))

    def _detach(self, slot: int) -> None:
        self._loop.detach_link(slot)
        fd = self._link_fds.pop(slot, None)
        if fd is not None:
            os.close(fd)


def _message_of(event: Event) -> ToGateway:  # noqa: C901, PLR0911 (a table)
    """Return what the gateway is told."""
    slot, link_id = event.slot, event.link_id
    match event.kind:
        case EventKind.HANDSHAKE:
            return HandshakeCame(slot, link_id, event.message)
        case EventKind.DATAGRAM:
            return DatagramCame(event.endpoint, event.message)
        case EventKind.CONTROL:
            return ControlCame(slot, event.index, event.message)
        case EventKind.NO_SESSION:
            return SessionWanted(slot)
        case EventKind.TOO_LONG:
            return PathTooNarrow(slot)
        case EventKind.OFFLOAD:
            return OffloadChanged(slot, event.index, event.error)
        case EventKind.CONFIRMED:
            return KeyConfirmed(slot, link_id, event.index)
        case EventKind.LINK_CLOSED:
            return LinkEnded(slot, link_id, "the peer closed the connection")
        case EventKind.LINK_FAULT:
            return LinkEnded(slot, link_id, "the peer broke the framing")
        case EventKind.LINK_ERROR:
            return LinkEnded(slot, link_id, event.error)


def _receive_boot(channel: Channel) -> tuple[Boot, list[int]]:
    received = channel.receive()
    if received is None or not isinstance(received[0], Boot):
        raise SystemExit(1)
    return received[0], received[1]


def main() -> None:
    """Run one worker until its gateway lets it go or dies."""
    name, channel_fd, parent_pid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    setproctitle.setproctitle(f"fastun: {name}")
    # A service manager may signal all processes of a service; stopping is the gateway's decision.
    for number in ending.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    try:
        native.hide_memory()
        native.die_with_parent(parent_pid)
        channel = Channel(socket.socket(fileno=channel_fd))
        Worker(name.partition("/")[0], channel).run()
    except (BrokenPipeError, ConnectionResetError, ProcessLookupError):
        pass  # the gateway is gone, and there is nobody to tell
    except FastunError as error:
        sys.stderr.write(f"fastun: {name}: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
