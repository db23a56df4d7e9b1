"""The control socket: what it answers, whom it cuts off, and how it comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import platform
import random
import re
import socket
import stat
import struct
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import msgpack
import msgspec
import pytest
import structlog

from fastun import log
from fastun.config.settings import Options, Settings, load
from fastun.errors import RuntimeFailure
from fastun.gateway.gateway import Gateway, LinkCounts
from fastun.lane.lane import Lane
from fastun.link import hello
from fastun.link.datagram import sockets as udp
from fastun.link.peer_slots import PeerSlots
from fastun.link.stream.sessions import SessionCounts
from fastun.link.table import LinkTable
from fastun.native import DROPS, PEER_SLOTS, Mode, Wire
from fastun.peers.peer import Peer
from fastun.status import control, report
from fastun.status.reply import INNER_ADDRESSES_MAX, LinkStatus, PeerStatus, Tcp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


INTERFACE = "unit0"


def settings_for(run_dir: Path, interface: str = INTERFACE) -> Settings:
    options = Options(wire="plain", insecure=True, run_dir=run_dir, interface=interface)
    return load("serve", None, options)


@contextlib.contextmanager
def serving(
    run_dir: Path,
    interface: str = INTERFACE,
    peer_names: Sequence[str] = ("ant", "bee"),
) -> Iterator[Path]:
    """Serve the socket of an idle gateway from a thread; yield the socket's path."""
    settings = settings_for(run_dir, interface)
    lane = Lane(
        0,
        -1,
        Wire.PLAIN,
        Mode.TUN,
        holds=False,
        on_start=lambda *_: None,
        on_message=lambda *_: None,
        on_death=lambda *_: None,
        on_failure=lambda *_: None,
    )
    peer_slots = PeerSlots(lane)
    peers = [Peer(name=name, public_key=name.encode().ljust(32)) for name in peer_names]
    peer_slots.replace(peers)
    gateway = cast(
        "Gateway",
        SimpleNamespace(
            settings=settings,
            device=SimpleNamespace(has_frames=lambda: False, mtu=1400),
            sockets=udp.UdpSockets((), offload=False),
            lane=lane,
            links=LinkTable(lane, hello.format_without_peer(settings)),
            peer_slots=peer_slots,
            # The first has been removed from the directory meanwhile.
            peer_sync=SimpleNamespace(refresh=lambda: peer_slots.replace(peers[1:])),
            sessions=None,
            session_counts=SessionCounts(),
            counts=LinkCounts(refused=3),
            started=1.5,
        ),
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    context = control.serve(gateway, settings)
    try:
        asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(5)
        try:
            yield control.socket_path(run_dir, interface)
        finally:
            asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(5)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        lane.stats.close()
        lane.peers.close()
        for ring in lane.rings.values():
            ring.close()


@pytest.fixture(autouse=True)
def _log_to_stderr() -> Iterator[None]:
    """Keep events out of what `status` prints: unconfigured, structlog writes to stdout."""
    log.configure("console", 1)
    yield
    structlog.reset_defaults()


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    with serving(tmp_path / "run") as served:
        yield served


def connected(name: str) -> PeerStatus:
    """A peer with everything as wide as it gets in practice."""
    return PeerStatus(
        name=name,
        inner_addresses=INNER_ADDRESSES_MAX * ["fd00:1234:5678:9abc:def0:1234:5678:9abc"],
        up=True,
        remote="[2001:db8:1234:5678:9abc:def0:1234:5678]:55555",
        since_unix_seconds=time.time() - 3599,
        last_handshake_unix_seconds=time.time() - 59,
        receive_packets=2**53,
        receive_bytes=2**53,
        transmit_packets=2**53,
        transmit_bytes=2**53,
        dropped_packets=2**53,
        link=LinkStatus(
            software="s" * 64,
            transport="tcp",
            super_packets_outbound=True,
            super_packets_inbound=True,
            tcp=Tcp(rtt_seconds=0.98765, retransmits=2**31, notsent_bytes=2**31),
        ),
    )


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
    assert reply == {"error": f"request of {too_long} bytes is too long (maximum 65536)"}
    longest = framed({"command": "x" * (control.REQUEST_BYTES_MAX - 12)})
    assert len(longest) == 4 + control.REQUEST_BYTES_MAX
    reply = exchange(path, longest)
    assert reply is not None
    assert str(reply["error"]).startswith("unknown command 'xxx")
    assert len(str(reply["error"])) < 200


def test_a_client_that_hangs_up_early_disturbs_nobody(path: Path) -> None:
    for sent in (b"", b"\x00", b"\x00\x00\x00\x20", framed({"command": "status"})):
        with connect(path) as connection:
            connection.sendall(sent)
    assert control.request(path, "status").interface == INTERFACE


def test_slow_clients_are_cut_off_and_bounded_in_number(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "EXCHANGE_TIMEOUT_S", 0.5)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(connect(path)) for _ in range(control.CLIENTS_MAX)]
        slow[0].sendall(framed({"command": "status"})[:-1])
        time.sleep(0.1)
        with pytest.raises(RuntimeFailure, match="closed the connection; try again"):
            control.request(path, "status")
        began = time.monotonic()
        for connection in slow:
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        assert time.monotonic() - began < 1
    assert control.request(path, "status").interface == INTERFACE


# -- the file ---------------------------------------------------------------------------------


def test_only_its_user_may_open_the_socket(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_socket_never_had_another_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    bind = socket.socket.bind

    class Watched(socket.socket):
        def bind(self, address: str) -> None:  # type: ignore[override]
            bind(self, address)
            modes.append(stat.S_IMODE(Path(address).stat().st_mode))

    monkeypatch.setattr(socket, "socket", Watched)
    old = os.umask(0)
    try:
        with serving(tmp_path):
            pass
    finally:
        os.umask(old)
    assert modes == [0o600]


def test_the_socket_goes_with_the_gateway(tmp_path: Path) -> None:
    with serving(tmp_path) as path:
        assert path.is_socket()
    assert list(tmp_path.iterdir()) == []


def test_a_socket_that_took_our_place_stays(tmp_path: Path) -> None:
    with serving(tmp_path) as path:
        path.unlink()
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(path))
    assert path.is_socket()
    other.close()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = control.socket_path(tmp_path, INTERFACE)
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with serving(tmp_path):
        assert control.request(path, "status").interface == INTERFACE


def test_a_gateway_too_busy_to_accept_is_alive(tmp_path: Path) -> None:
    path = control.socket_path(tmp_path, INTERFACE)
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(str(path))
        busy.listen(0)
        error = 0
        while error == 0:
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            error = client.connect_ex(str(path))
        assert error == errno.EAGAIN
        assert control.is_alive(path)


def test_a_second_gateway_on_the_socket_is_refused_and_the_first_goes_on(path: Path) -> None:
    with (
        pytest.raises(RuntimeFailure, match=f"^another gateway listens on {path}; stop it, or "),
        serving(path.parent),
    ):
        pass
    assert control.request(path, "status").interface == INTERFACE


@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
def test_what_is_no_socket_is_not_removed(tmp_path: Path, kind: str) -> None:
    path = control.socket_path(tmp_path, INTERFACE)
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    with (
        pytest.raises(RuntimeFailure, match=f"^{path} is not a socket; remove it"),
        serving(tmp_path),
    ):
        pass
    assert path.lstat()


def test_a_run_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(RuntimeFailure, match=r"^--run-dir .*/file/run: unit0.sock cannot be made "),
        serving(tmp_path / "file" / "run"),
    ):
        pass


# -- asking -----------------------------------------------------------------------------------


def test_no_gateway_is_one_line_with_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "ft0.sock"
    with pytest.raises(RuntimeFailure) as error:
        control.request(path, "status")
    assert str(error.value) == (
        f"no gateway runs with interface ft0 (no socket {path}); start one, or give --run-dir"
    )
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with pytest.raises(RuntimeFailure, match="no gateway runs with interface ft0"):
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
    path = tmp_path / "ft0.sock"
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
        with pytest.raises(RuntimeFailure, match=f"^the gateway of ft0 .*{what}"):
            control.request(path, "status", timeout_s=0.2)
        thread.join()


# -- choosing ---------------------------------------------------------------------------------


def test_the_only_living_gateway_need_not_be_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "killed.sock"))
    (tmp_path / "notes.sock").write_text("no socket at all")
    with serving(tmp_path):
        report.show(None, tmp_path, as_json=False)
    assert capsys.readouterr().out.startswith(f"{INTERFACE}  ")


def test_of_several_gateways_one_has_to_be_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path, "b.2"), serving(tmp_path, "a1"):
        with pytest.raises(RuntimeFailure) as error:
            report.show(None, tmp_path, as_json=False)
        assert str(error.value) == "several gateways run; choose one with --interface: a1, b.2"
        report.show("b.2", tmp_path, as_json=False)
    assert capsys.readouterr().out.startswith("b.2  ")


@pytest.mark.parametrize("run_dir", ["there", "not-there"])
def test_without_a_gateway_there_is_nothing_to_choose(tmp_path: Path, run_dir: str) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(RuntimeFailure, match=r"^no gateway runs .*; start one"):
        report.show(None, tmp_path / run_dir, as_json=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_who_may_not_read_the_run_directory_is_told_so(path: Path) -> None:
    errors = []

    def as_nobody() -> None:
        # Of this thread only: the raw call, where os.seteuid would change the whole process.
        syscall_setresuid(65534)
        for interface in (INTERFACE, None):
            try:
                report.show(interface, path.parent, as_json=False)
            except RuntimeFailure as error:
                errors.append(str(error))

    thread = threading.Thread(target=as_nobody)
    thread.start()
    thread.join()
    assert len(errors) == 2
    assert all("run as root, or as the user that runs the gateway" in error for error in errors)


def syscall_setresuid(uid: int) -> None:
    number = {"x86_64": 117, "aarch64": 147}.get(platform.machine())
    if number is None:
        pytest.skip("needs x86_64 or aarch64")
    assert ctypes.CDLL(None, use_errno=True).syscall(number, uid, uid, -1) == 0


# -- showing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("wire", "n_down"), [("plain", 9), ("plain", 10), ("wireguard", 10)])
def test_of_many_peers_only_the_connected_get_a_line_and_all_fit_in_80_columns(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wire: str,
    n_down: int,
) -> None:
    answer = control.request(path, "status")
    (down, _) = answer.peers
    absent = [msgspec.structs.replace(down, name=f"absent{n}") for n in range(n_down)]
    answer = msgspec.structs.replace(answer, wire=wire, peers=[connected("p" * 64), *absent])
    monkeypatch.setattr(control, "request", lambda *_: answer)
    monkeypatch.setenv("COLUMNS", "80")
    report.show(INTERFACE, path.parent, as_json=False)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert f"peers    1 connected, {n_down} not\n" in shown
    assert shown.count("p") >= 64
    assert ("absent0" in shown) == (n_down == 9)
    assert ("handshake" in shown) == (wire == "wireguard")
    assert re.search(r" tcp +\[2001:", shown)
    assert "987.65 ms" in shown
    assert "59 min" in shown
