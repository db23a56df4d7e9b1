"""What goes between gateway and host process, and what ends the conversation."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import signal
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastun import codec, ending
from fastun.config.settings import Options, load
from fastun.ending import AskedToStop
from fastun.errors import ConfigError, RuntimeFailure
from fastun.host.process import client, messages
from fastun.host.process.channel import DESCRIPTORS_MAX, MESSAGE_BYTES_MAX, HostChannel
from fastun.host.process.client import HostClient
from fastun.host.process.gateway_device import GatewayDevice
from fastun.host.process.messages import Begun, Changed
from fastun.host.process.server import HostServer
from fastun.native import LANES_MAX
from tests.support.descriptors import open_descriptors
from tests.support.hijacked import held_by_another
from tests.support.host_serving import host_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.host.process.messages import HostNow

END = "the gateway has asked for what it may not: it is ended"


@pytest.fixture
def host() -> Iterator[HostClient]:
    with host_process() as (end, pid, _), HostClient(end, pid) as asked:
        yield asked


# -- an honest gateway --------------------------------------------------------------------------


def test_an_answer_brings_its_descriptor(host: HostClient) -> None:
    host.begin(messages.Begin())
    begun, (reader,) = host.begun(Begun)
    assert (begun.index, begun.fwmark) == (7, 9)
    assert os.read(reader, 100) == b"device"
    os.close(reader)


def test_descriptors_that_are_not_expected_are_closed(host: HostClient) -> None:
    before = open_descriptors()
    for _ in range(3):
        host.call(messages.Begin(), Begun)
    with pytest.raises(RuntimeFailure, match="answered by Begun"):
        host.call(messages.Begin(), Changed)
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("what", "expected", "said"),
    [
        ("config", ConfigError, "interface.mtu: 7 is out of range"),
        ("runtime", RuntimeFailure, "device ft0 was deleted"),
        ("asked", AskedToStop, "asked to stop"),
        ("bug", RuntimeFailure, "unexpected error: ValueError.'7'.; please report it"),
    ],
)
def test_a_failure_is_the_same_on_the_other_side(
    host: HostClient, what: str, expected: type[Exception], said: str
) -> None:
    with pytest.raises(expected, match=said) as raised:
        host.have(messages.KeepOut(outer=(what,)))
    assert type(raised.value) is expected
    host.have(messages.KeepOut())  # and the next one is done


def test_a_failure_of_the_system_keeps_its_number(host: HostClient) -> None:
    with pytest.raises(OSError, match="No such device") as raised:
        host.have(messages.KeepOut(outer=("system",)))
    assert raised.value.errno == 19


def test_fifty_thousand_networks_are_one_request(host: HostClient) -> None:
    networks = tuple(f"10.{n >> 8}.{n & 255}.0/24" for n in range(50_000))
    host.have(messages.RouteBehind(networks=networks))
    assert host.now is not None
    assert host.now.n_changes == 50_000
    with pytest.raises(RuntimeFailure, match="too many for the host process"):
        host.have(messages.RouteBehind(networks=("x" * MESSAGE_BYTES_MAX,)))
    host.have(messages.RouteBehind())


def test_more_networks_than_it_has_memory_for_are_refused_before_they_are_asked_for(
    host: HostClient,
) -> None:
    host.begin(messages.Begin())
    device = GatewayDevice(host, load("serve", None, Options(wire="plain", insecure=True)))
    too_many = range(messages.NETWORKS_MAX + 1)
    with pytest.raises(RuntimeFailure, match="524,289 networks behind peers are too many"):
        device.route_also(too_many)  # type: ignore[arg-type]
    os.close(device.fds[0])
    with pytest.raises(RuntimeFailure, match="the host process has ended"):
        host.have(messages.RouteBehind(networks=("10.0.0.0/8",) * (messages.NETWORKS_MAX + 1)))


def test_what_is_handled_at_once_is_bounded_in_all(host: HostClient) -> None:
    many = tuple(f"10.{n >> 8}.{n & 255}.0/24" for n in range(400_000))  # 5 MiB
    host.have(messages.RouteBehind(networks=many))  # alone it may be as long as it is
    held = host.tell(messages.FollowEndpoints())  # waits for three others
    with pytest.raises(RuntimeFailure, match="more than 4 MiB of requests"):
        host.have(messages.RouteBehind(networks=many))
    host.have(messages.RouteBehind(networks=many[:100_000]))
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: host.have(messages.FollowEndpoints()), range(3)))
    assert held.exception(5) is None
    host.have(messages.RouteBehind(networks=many))


def test_several_threads_ask_at_once(host: HostClient) -> None:
    with ThreadPoolExecutor(4) as threads:  # each waits for the others
        list(threads.map(lambda _: host.have(messages.FollowEndpoints()), range(4)))


def test_how_the_host_is_now_comes_before_the_answer(host: HostClient) -> None:
    seen: list[HostNow] = []
    host.follow(seen.append, lambda _: None)
    for n in (1, 2):
        host.have(messages.KeepOut())
        assert [each.n_changes for each in seen] == list(range(1, n + 1))


def test_what_ends_because_of_the_end_is_not_a_loss() -> None:
    async def asked() -> None:
        raise AskedToStop

    async def lost() -> None:
        raise RuntimeFailure("device ft0 was deleted")

    async def claim() -> None:
        end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        beside = iter([asked(), lost()])
        handlers = {messages.Ping: lambda _: None}
        server = HostServer(theirs, handlers, lambda: None, lambda: beside)
        running = asyncio.create_task(server.run(os.eventfd(0)))
        gateway = HostChannel(end, messages.by_tag(*messages.ANSWERS, *messages.NOTICES))
        await asyncio.to_thread(gateway.send, 1, messages.Ping())
        received = [await asyncio.to_thread(gateway.receive) for _ in range(2)]
        said = {each.number: each.message for each in received if each is not None}
        assert said == {1: messages.Done(), 0: messages.Lost(text="device ft0 was deleted")}
        gateway.shut()
        await running
        gateway.close()

    with patch.object(ending, "_asked_by", []):
        asyncio.run(claim())


def test_a_host_process_that_dies_is_said_once_and_nothing_waits_for_it(host: HostClient) -> None:
    lost: list[RuntimeFailure] = []
    said = threading.Event()
    host.follow(lambda _: None, lambda error: (lost.append(error), said.set()))  # type: ignore[func-returns-value]
    for _ in range(2):
        with pytest.raises(RuntimeFailure, match="the host process has ended by SIGKILL"):
            host.have(messages.Close())
    assert said.wait(5)
    assert len(lost) == 1
    host.follow(lambda _: None, lost.append)
    assert len(lost) == 2, "who follows later hears of it, too"


def test_one_that_dies_in_a_debuggers_hands_does_not_hold_up_the_end() -> None:
    with host_process() as (end, pid, _):
        asked = HostClient(end, pid)
        with held_by_another(pid):
            os.kill(pid, signal.SIGKILL)
            begun_s = time.monotonic()
            asked.close()
            assert time.monotonic() - begun_s < client.END_LIMIT_S


def test_one_that_hangs_is_not_waited_for_for_ever(
    host: HostClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "END_LIMIT_S", 0.3)
    os.kill(host.pid, signal.SIGSTOP)
    began_s = time.monotonic()
    with pytest.raises(RuntimeFailure, match="the host process does not end; the next start"):
        host.end()
    host.close()
    assert 0.3 <= time.monotonic() - began_s < 30


def test_an_answer_comes_where_the_loop_cannot_be_woken() -> None:
    """As without memory for the byte by which asyncio wakes itself."""

    def deaf() -> dict[Any, Any]:
        vars(asyncio.get_running_loop())["_write_to_self"] = lambda: None
        return {}

    with host_process(deaf) as (end, pid, _), HostClient(end, pid) as asked:
        for _ in range(3):
            asked.call_soon(messages.Ping(), messages.Done, limit_s=10)


# -- a gateway in the wrong hands ---------------------------------------------------------------


def raw(content: bytes, number: int = 1) -> bytes:
    return struct.pack("=I", number) + content


def of(message: object, **more: object) -> bytes:
    return msgpack.packb({**msgpack.unpackb(codec.pack(message)), **more})


def said_at_its_end(end: socket.socket, pid: int, reader: int) -> str:
    """Return what the host process has logged when it has ended, which it does at once."""
    end.settimeout(5)
    while end.recv(1 << 16):  # how it is now, and answers to what was allowed
        pass
    assert os.waitpid(pid, 0)[1] == 0
    return os.read(reader, 1 << 16).decode()


@pytest.mark.parametrize(
    "content",
    [
        b"\0",
        b"\0\0\0",
        raw(b""),
        raw(b"\xc1"),
        raw(msgpack.packb([])),
        raw(msgpack.packb({})),
        raw(msgpack.packb({"type": "Reboot"})),
        raw(msgpack.packb({"type": "Done"})),
        raw(of(messages.Begin()), number=0),
        raw(of(messages.Begin(), more=1)),
        raw(of(messages.KeepOut(), outer="10.0.0.1")),
        raw(of(messages.KeepOut(), outer=[1])),
        raw(of(messages.KeepOut(), outer=["1" * 65])),
        raw(of(messages.FollowEndpoints(), endpoints=[["tcp", "1", 1]] * 8193)),
        raw(of(messages.KeepOut(outer=("unasked",)))),
        raw(of(messages.FollowEndpoints(), endpoints=[["icmp", "::1", 1]])),
        raw(of(messages.FollowEndpoints(), endpoints=[["tcp", "::1", 65536]])),
        raw(of(messages.Begin()) + b"\0"),
        raw(bytes(40_000)),
    ],
)
def test_what_is_not_a_request_ends_it_with_a_line(content: bytes) -> None:
    with host_process() as (end, pid, reader):
        end.send(content)
        assert END in said_at_its_end(end, pid, reader)


def test_descriptors_are_not_taken() -> None:
    for n_given in (1, DESCRIPTORS_MAX + 1):
        with host_process() as (end, pid, reader), open(os.devnull) as null:  # noqa: PTH123
            rights = array.array("i", [null.fileno()] * n_given)
            content = [raw(of(messages.Begin()))]
            end.sendmsg(content, [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            assert END in said_at_its_end(end, pid, reader)


@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "empty", "too long", "not packed"])
def test_a_message_is_read_from_no_file_but_one_in_memory(kind: str) -> None:
    with host_process() as (end, pid, reader):
        if kind == "pipe":
            given, writer = os.pipe()
            os.close(writer)
        elif kind in ("device", "directory"):
            given = os.open("/dev/zero" if kind == "device" else "/", os.O_RDONLY)
        else:
            given = os.memfd_create("message")
            os.truncate(given, {"empty": 0, "too long": MESSAGE_BYTES_MAX + 1}.get(kind, 100))
        rights = array.array("i", [given])
        end.sendmsg([raw(b"")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        os.close(given)
        assert END in said_at_its_end(end, pid, reader)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(raw))
@settings(max_examples=settings().max_examples * 2 // 5)
def test_no_bytes_are_taken_for_a_request(content: bytes) -> None:
    with host_process() as (end, pid, reader):
        end.send(content or b"\0")
        assert END in said_at_its_end(end, pid, reader)


def test_one_that_asks_without_reading_is_waited_for_and_holds_no_memory() -> None:
    with host_process() as (end, pid, _):
        end.setblocking(False)
        asked, n_sent = of(messages.KeepOut(outer=("runtime",))), 0
        with contextlib.suppress(BlockingIOError):
            for number in range(1, 100_000):
                n_sent += end.send(raw(asked, number)) > 0
        assert n_sent < 10_000
        end.settimeout(5)
        for _ in range(n_sent):  # once it is read, all is answered
            while struct.unpack_from("=I", end.recv(1 << 16))[0] == 0:
                pass
        os.kill(pid, signal.SIGKILL)


def test_a_message_has_room_for_the_queues_of_all_lanes_and_for_itself() -> None:
    assert DESCRIPTORS_MAX >= LANES_MAX + 1
