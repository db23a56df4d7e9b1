"""A capture by the control socket of an idle gateway: who gets one, and when it ends."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from fastun.errors import ConfigError, RuntimeFailure
from fastun.gateway.captures import Captures
from fastun.native import CaptureStage
from fastun.native.capture import CaptureReader, layout
from fastun.status import capture_service, control
from fastun.status.capture_service import CaptureService
from fastun.status.control import CaptureWanted, Reply
from tests.support.control_socket import serving

if TYPE_CHECKING:
    from pathlib import Path

PEER = "laptop"
DEVICE = CaptureWanted(("device",), None, 256)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a gateway with the peer, which is gone when it reads its directory again."""
    with serving(tmp_path, peer_names=(PEER, "other")) as path:
        yield path


def begin(path: Path, wanted: CaptureWanted = DEVICE) -> tuple[socket.socket, CaptureReader]:
    connection, begun, fds = control.capture(path, wanted)
    assert begun.layout == layout()
    assert begun.mode == "tun"
    numbers = {stage: stage.value for stage in CaptureStage}
    return connection, CaptureReader(fds, begun.ring_bytes, numbers)


def test_its_rings_are_there_and_empty(path: Path) -> None:
    connection, reader = begin(path)
    assert bytes(reader.read(10)) == b""
    assert [reader.n_lost(stage) for stage in CaptureStage] == [0, 0, 0]
    reader.close()
    connection.close()


def test_there_is_one_at_a_time_until_its_connection_ends(path: Path) -> None:
    connection, reader = begin(path)
    with pytest.raises(RuntimeFailure, match="another capture runs"):
        begin(path)
    connection.close()
    reader.close()
    deadline = time.monotonic() + 5
    while True:
        try:
            connection, reader = begin(path)
            break
        except RuntimeFailure:
            assert time.monotonic() < deadline
    reader.close()
    connection.close()


def test_one_of_a_peer_ends_when_the_peer_is_removed(path: Path) -> None:
    connection, reader = begin(path, CaptureWanted(("sealed", "opened"), PEER, 64))
    control.request(path, "peers-changed")
    connection.settimeout(5)
    assert connection.recv(1) == b""
    reader.close()
    connection.close()


@pytest.mark.parametrize(
    ("wanted", "line"),
    [
        (CaptureWanted(("device",), "missing", 64), "--peer 'missing': no such peer"),
        (CaptureWanted(("device",), None, 0), "--snaplen 0 is out of range"),
        (CaptureWanted(("device",), None, 10**6), "--snaplen 1000000 is out of range"),
        (CaptureWanted(("wire",), None, 64), "--stage 'wire': no such stage"),
    ],
)
def test_what_cannot_be_captured_is_said_and_leaves_room_for_another(
    path: Path, wanted: CaptureWanted, line: str
) -> None:
    with pytest.raises(ConfigError, match=line):
        begin(path, wanted)
    connection, reader = begin(path)
    reader.close()
    connection.close()


def test_status_is_answered_beside_it(path: Path) -> None:
    connection, reader = begin(path)
    for _ in range(20):
        assert control.request(path, "status").interface
    connection.setblocking(False)
    with pytest.raises(BlockingIOError):
        connection.recv(1)
    reader.close()
    connection.close()


def test_one_that_begins_too_late_for_its_client_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capture_service, "EXCHANGE_TIMEOUT_S", 0.05)
    may_begin = threading.Event()
    has_ended = asyncio.Event()

    class SlowLanes:
        def capture(self, make: object) -> list[object]:
            may_begin.wait(5)
            if make is None:
                has_ended.set()
            return []

    async def serve() -> None:
        captures = Captures(SlowLanes(), None)  # type: ignore[arg-type]
        service = CaptureService(captures, "tun", asyncio.get_running_loop())
        near, far = socket.socketpair()

        def of_client() -> Reply | None:
            try:
                return service.serve(near, DEVICE, lambda: None)
            finally:
                may_begin.set()

        with near, far:
            reply = await asyncio.to_thread(of_client)
        assert reply is not None
        assert "too long" in (reply.error or "")
        await asyncio.wait_for(has_ended.wait(), 5)
        await captures.begin(DEVICE.stages, None, 64)

    asyncio.run(serve())
