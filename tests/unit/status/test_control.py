"""The control socket: what it answers, which clients it cuts off, and how one asks."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

import msgpack
import msgspec
import pytest

from fastun import bounded_server
from fastun.errors import ConfigError, FastunError, RuntimeFailure
from fastun.gateway.reload import Reloaded
from fastun.native import DROPS, PEER_SLOTS
from fastun.status import control
from tests.support.control_socket import INTERFACE, connected, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def framed(message: object) -> bytes:
    body: bytes = msgpack.packb(message)
    return struct.pack(">I", len(body)) + body


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(5)
    connection.connect(str(path))
    return connection


def exchange(path: Path, sent: bytes) -> dict[str, object] | None:
    """Return the reply to raw bytes; None when the gateway hangs up without one."""
    with connect(path) as connection:
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(sent)
        try:
            prefix = connection.recv(4, socket.MSG_WAITALL)
        except ConnectionResetError:
            return None
        if not prefix:
            return None
        return dict(
            msgpack.unpackb(connection.recv(struct.unpack(">I", prefix)[0], socket.MSG_WAITALL))
        )


# -- answering --------------------------------------------------------------------------------


def test_a_reload_says_what_it_did(tmp_path: Path) -> None:
    done = Reloaded(("push.routes: +10.7.0.0/16",), ("interface.mode",), ("route 10.7.0.0/16: no",))
    with serving(tmp_path, reloaded=lambda: done) as path:
        answer = control.reload(path)
    assert (answer.changes, answer.needs_restart, answer.left_out) == (
        done.changes,
        done.needs_restart,
        done.left_out,
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigError("gateway.toml: not TOML (at line 3)"), "gateway.toml: not TOML (at line 3)"),
        (
            RuntimeFailure("the port is in use; nothing was changed"),
            f"the gateway of {INTERFACE} refused: the port is in use; nothing was changed",
        ),
    ],
)
def test_a_reload_that_fails_says_why_with_its_exit_code(
    tmp_path: Path, error: FastunError, said: str
) -> None:
    def fail() -> Reloaded:
        raise error

    with serving(tmp_path, reloaded=fail) as path, pytest.raises(type(error)) as failure:
        control.reload(path)
    assert (str(failure.value), failure.value.exit_code) == (said, error.exit_code)


def test_a_reload_may_take_longer_than_other_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_server, "EXCHANGE_TIMEOUT_S", 0.2)

    def slowly() -> Reloaded:
        time.sleep(0.8)
        return Reloaded(("done",))

    with serving(tmp_path, reloaded=slowly) as path:
        assert control.reload(path).changes == ("done",)


def test_status_comes_back_as_the_struct_that_was_sent(path: Path) -> None:
    answer = control.request(path, "status")
    assert (answer.interface, answer.role, answer.wire) == (INTERFACE, "serve", "plain")
    assert answer.mtu_bytes == 1400, "the device's, which need not be that of the settings"
    assert answer.pid == os.getpid()
    assert [(peer.name, peer.up, peer.link) for peer in answer.peers] == [
        ("ant", False, None),
        ("bee", False, None),
    ]
    assert answer.links.refused == 3
    (lane,) = answer.lanes
    assert [lane.outbound.reader.role, lane.outbound.writer.role] == ["tun-reader", "link-writer"]
    assert [lane.inbound.reader.role, lane.inbound.writer.role] == ["link-reader", "tun-writer"]
    assert lane.outbound.writer.drops == {
        drop.reason: 0 for drop in DROPS if drop.role == "link-writer"
    }
    assert not lane.outbound.reader.up
    assert lane.outbound.reader.state == lane.outbound.writer.state == "idle"


def test_as_many_peers_as_there_are_slots_fit_in_the_reply(tmp_path: Path) -> None:
    names = [f"{n:04}" + 60 * "n" for n in range(PEER_SLOTS)]
    with serving(tmp_path, peer_names=names) as path:
        answer = control.request(path, "status")
    assert [peer.name for peer in answer.peers] == names
    # Each connected, and all that can be long about it as long as it gets.
    longest = msgspec.structs.replace(answer, peers=[connected(name) for name in names])
    assert len(msgspec.msgpack.encode(control.Reply(longest))) < control.REPLY_BYTES_MAX / 2


def test_a_change_of_the_peers_is_taken_up_before_the_reply(path: Path) -> None:
    assert [peer.name for peer in control.request(path, "status").peers] == ["ant", "bee"]
    assert [peer.name for peer in control.request(path, "peers-changed").peers] == ["bee"]


def test_an_unknown_command_gets_an_error_that_names_the_known(path: Path) -> None:
    with pytest.raises(RuntimeFailure, match="unknown command 'stop'; use one of: status, peers-"):
        control.request(path, "stop")


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"command": 1},
        {"command": "status", "more": 1},
        ["status"],
        "status",
        None,
        {"command": b"status"},
    ],
)
def test_a_request_of_another_shape_gets_an_error(path: Path, message: object) -> None:
    reply = exchange(path, framed(message))
    assert reply is not None
    assert set(reply) == {"error"}
    assert str(reply["error"]).startswith("malformed request: ")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x81\xa7command",
        b"\x91" * 60000,  # nested arrays
        b"\x81\xa7command\xa6\xff\xff\xff\xff\xff\xff",  # not UTF-8
        b"\xdf\xff\xff\xff\xff",  # a map of four thousand million entries
        random.Random(1).randbytes(1000),
    ],
)
def test_garbage_of_a_proper_length_gets_an_error(path: Path, body: bytes) -> None:
    reply = exchange(path, struct.pack(">I", len(body)) + body)
    assert reply is not None
    assert "malformed request" in str(reply["error"])
    assert control.request(path, "status").interface == INTERFACE


def test_an_oversized_request_is_refused_unread(path: Path) -> None:
    too_long = control.REQUEST_BYTES_MAX + 1
    reply = exchange(path, struct.pack(">I", too_long) + bytes(too_long))
    assert reply == {"error": f"a request of {too_long} bytes; at most 65536"}
    longest = framed({"command": "x" * (control.REQUEST_BYTES_MAX - 12)})
    assert len(longest) == 4 + control.REQUEST_BYTES_MAX
    reply = exchange(path, longest)
    assert reply is not None
    assert str(reply["error"]).startswith("unknown command 'xxx")
    assert len(str(reply["error"])) < 200


def test_a_client_that_hangs_up_early_disturbs_no_other(path: Path) -> None:
    for sent in (b"", b"\x00", b"\x00\x00\x00\x20", framed({"command": "status"})):
        with connect(path) as connection:
            connection.sendall(sent)
    assert control.request(path, "status").interface == INTERFACE


def test_slow_clients_are_cut_off_and_do_not_keep_others_from_an_answer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_server, "EXCHANGE_TIMEOUT_S", 0.5)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(path)) for _ in range(bounded_server.CLIENTS_MAX)]
        for connection in slow:
            connection.sendall(framed({"command": "status"})[:-1])
        time.sleep(0.1)
        assert control.request(path, "status").interface == INTERFACE
        for connection in slow[1:]:  # the oldest made room
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(1)
            connection.settimeout(5)
        began = time.monotonic()
        for connection in slow:
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        assert time.monotonic() - began < 1
    assert control.request(path, "status").interface == INTERFACE


# -- asking -----------------------------------------------------------------------------------


def test_no_gateway_is_one_line_with_the_fix(tmp_path: Path) -> None:
    path = tmp_path / "ft0.sock"
    with pytest.raises(RuntimeFailure) as error:
        control.request(path, "status")
    assert str(error.value) == (
        f"no gateway is running with interface ft0 (no socket {path}); start one, or give --run-dir"
    )
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with pytest.raises(RuntimeFailure, match="no gateway is running with interface ft0"):
        control.request(path, "status")


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (None, "does not answer"),
        (b"", "closed the connection"),
        (b"\x00\x00\x00\x05abc", "closed the connection"),
        (b"\xff\xff\xff\xff", "cannot read"),
        (framed({"status": {"version": "9"}}), "cannot read"),
        (framed({"error": "no\nsuch"}), r"refused: no\\nsuch"),
    ],
)
def test_a_gateway_that_answers_badly_is_one_line(
    tmp_path: Path, answer: bytes | None, what: str
) -> None:
    with (
        answering(tmp_path / "ft0.sock", answer) as path,
        pytest.raises(RuntimeFailure, match=f"^the gateway of ft0 .*{what}"),
    ):
        control.request(path, "status", timeout_s=0.2)


@contextlib.contextmanager
def answering(path: Path, answer: bytes | None) -> Iterator[Path]:
    """What gives any bytes to one client: a gateway in an attacker's hands, for example."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def reply() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                if answer is None:
                    time.sleep(0.5)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        yield path
        thread.join()


def test_no_text_of_a_gateway_controls_the_terminal_that_shows_it(
    path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    true = msgspec.to_builtins(control.request(path, "status"))
    true["peers"][0]["name"] = true["fault"] = "ant\x1b]0;mine\x07\x1b[2J\nall is well"
    forged = framed({"status": true})
    with answering(tmp_path_factory.mktemp("run") / "ft0.sock", forged) as other:
        status = control.request(other, "status")
    assert status.peers[0].name == r"ant\x1b]0;mine\x07\x1b[2J\nall is well"
    assert str(msgspec.to_builtins(status)).isprintable()


@pytest.mark.parametrize("ring_bytes", [-1, 0, 2**40, 2**63])
def test_a_capture_whose_rings_are_of_an_impossible_size_is_refused(
    tmp_path: Path, ring_bytes: int
) -> None:
    begun = framed({"capture": {"mode": "tun", "ring_bytes": ring_bytes, "layout": 1}})
    with (
        answering(tmp_path / "ft0.sock", begun) as path,
        pytest.raises(RuntimeFailure, match="cannot read"),
    ):
        control.capture(path, control.CaptureWanted(("device",), None, 100))
