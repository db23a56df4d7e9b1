"""What workers, hooks and programs of this host send to the gateway, and it to them."""

from __future__ import annotations

import contextlib
import itertools
import socket
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from fastun import codec
from fastun.errors import RuntimeFailure
from fastun.gateway.reports import Interface, Reports, Sessions
from fastun.gateway.view import ViewClosedError
from fastun.host.hooks import process
from fastun.lane import packing
from fastun.lane.channel import Channel, DescriptorsLost
from fastun.lane.messages import MESSAGE_BYTES_MAX, ToGateway, ToWorker
from fastun.lane.worker_process import WorkerProcess
from fastun.native import ROLES, UdpAddress
from fastun.status import control, server
from tests.fuzz.target import Source, fields, target

_KINDS = (*ToGateway.__subclasses__(), *ToWorker.__subclasses__())
WORDS = (
    codec.TAG,
    *(str(kind.__struct_config__.tag) for kind in _KINDS),
    *{name for kind in _KINDS for name in kind.__struct_fields__},
)
CONTROL_WORDS = (
    *("command", "capture", "status", "reload", "peers-changed", "stages", "peer", "packets"),
    *("bytes", "seconds", "snap_length", "device", "sealed", "opened", "error", "exit_code"),
    *control.Reply.__struct_fields__,
    *control.Reloaded.__struct_fields__,
    *control.CaptureBegun.__struct_fields__,
    *control.CaptureWanted.__struct_fields__,
)


class _Anything:
    """Takes any call; iterating ends at once."""

    def __getattr__(self, _: str) -> _Anything:
        return self

    def __call__(self, *_: object, **__: object) -> _Anything:
        return self

    def get(self, *_: object) -> None:
        return None


class _Links(_Anything):
    """Lane 0 has a say about every peer, and lane 1 about none."""

    def concerns(self, _: int, lane: int) -> bool:
        return lane == 0

    def is_of_another_lane(self, _: int, link_id: int, lane: int) -> bool:
        return link_id % 2 == 0 and lane == 1


_NO_FD = 2**20  # a device that is gone


def _reports() -> Reports:
    anything = cast("Any", _Anything())
    updates = cast("Any", SimpleNamespace(receive=lambda *_: False))
    sessions = Sessions(anything, anything, updates, updates)
    slots = cast("Any", SimpleNamespace(by_slot={}))
    made = Reports(
        Interface("ft0", _NO_FD),
        slots,
        cast("Any", _Links()),
        sessions,
        on_link_writer_death=anything,
        on_failure=anything,
    )
    made._log = anything
    return made


_REPORTS = _reports()


def _packed(data: bytes, words: tuple[str, ...]) -> bytes:
    source = Source(data)
    return codec.pack(fields(source, words)) if source.byte() % 4 else source.rest()


@target
def worker_message(data: bytes) -> None:
    """One message of a known kind and a worker that may send it; or the channel is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(_packed(data, WORDS)[: MESSAGE_BYTES_MAX + 1])
        theirs.close()
        with contextlib.suppress(RuntimeFailure, DescriptorsLost):
            received = Channel(ours).receive()
            assert received is None or packing.unpack(packing.pack(received[0])) == received[0]
            if received is not None and isinstance(received[0], ToGateway):
                for role, lane in itertools.product(ROLES, range(2)):
                    name = f"{role}/{lane}"
                    worker = SimpleNamespace(role=role, lane=lane, name=name, kill=lambda _: None)
                    _REPORTS.on_message(cast("WorkerProcess", worker), received[0])


@target
def packed_address(data: bytes) -> None:
    """What is taken is shown as an address, and packed again is the same where it matters."""
    with contextlib.suppress(ValueError):
        address = UdpAddress.unpack(data)
        assert str(address).isprintable()
        again = UdpAddress.unpack(address.pack())
        assert (again.host, again.port, again.local) == (address.host, address.port, address.local)


@target
def output_of_a_hook(data: bytes) -> None:
    """However it is cut, so many lines at most are shown, and none longer than allowed."""
    source, lines = Source(data), process.Lines()
    shown: list[str] = []
    while not source.is_empty:
        shown += lines.add(source.bytes(source.byte() * 4))
        assert len(lines._rest) <= process.LINE_BYTES_MAX
    shown += lines.end()
    assert len(shown) <= process.LINES_MAX + 1
    assert max(map(len, shown), default=0) <= process.LINE_BYTES_MAX


class _View:
    def __call__(self) -> Any:
        raise ViewClosedError


_CALLS = SimpleNamespace(
    take_view=_View(),
    refresh_peers=lambda: None,
    reload=lambda: SimpleNamespace(changes=(), needs_restart=(), left_out=(), remarks=()),
    captures=SimpleNamespace(serve=lambda *_: None),
)


@target
def control_request(data: bytes) -> None:
    """Any bytes on the control socket are answered, in one line where they are wrong."""
    answering = object.__new__(server._Server)
    answering._calls = cast("Any", _CALLS)
    answering.give_time = lambda *_: None  # type: ignore[method-assign]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(_packed(data, CONTROL_WORDS)[:4096])
        ours.close()
        with contextlib.suppress(ConnectionResetError, control.TooLongError):
            control.receive(theirs, server.REQUEST_BYTES_MAX)
        reply = answering.reply_to(theirs, _packed(data, CONTROL_WORDS))
    if reply is not None:
        assert codec.unpack(codec.pack(reply), control.Reply, control.REPLY_BYTES_MAX) == reply


@target
def control_reply(data: bytes) -> None:
    """What answers at a gateway's socket can be shown by a terminal, or it is refused."""
    with contextlib.suppress(codec.CodecError):
        packed = _packed(data, CONTROL_WORDS)
        reply = codec.unpack_printable(packed, control.Reply, control.REPLY_BYTES_MAX)
        assert str(msgspec.to_builtins(reply)).isprintable()
