"""What the kernel says about sockets."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import cast

import pytest

from fastun import native
from fastun.host.socket_state import SocketState, socket_state
from tests.support.idle_gateway import fill, tcp_pair


def test_tcp_info_has_what_is_unsent_in_the_socket() -> None:
    with tcp_pair() as (one, _):
        quiet = native.tcp_info(one)
        assert quiet.notsent_bytes == 0
        assert 0 < quiet.rtt_s < 1
        fill(one)
        assert native.tcp_info(one).notsent_bytes > 65536


def test_tcp_info_of_a_closed_connection_is_an_error() -> None:
    with tcp_pair() as (one, _):
        one.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            native.tcp_info(one)


def test_a_sockets_state_has_what_waits_in_it_and_what_it_dropped() -> None:
    with tcp_pair() as (one, other):
        assert socket_state(one) == SocketState(0, 0)
        other.sendall(bytes(1234))
        assert socket_state(one) == SocketState(1234, 0)
        one.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            socket_state(one)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        receiver.bind(("127.0.0.1", 0))
        for _ in range(100):
            sender.sendto(bytes(1000), receiver.getsockname())
        n_drops = socket_state(receiver).n_drops
        receiver.setblocking(False)
        n_received = 0
        with suppress(BlockingIOError):
            while receiver.recv(2000):
                n_received += 1
        assert n_drops == 100 - n_received > 0


def test_what_an_older_kernel_does_not_report_reads_as_zero() -> None:
    with tcp_pair() as (one, _):
        fill(one)

        class OlderKernel:
            """Ends struct tcp_info as Linux 3.15 did, before tcpi_notsent_bytes."""

            def getsockopt(self, level: int, option: int, _length: int) -> bytes:
                return one.getsockopt(level, option, 104)

        info = native.tcp_info(cast("socket.socket", OlderKernel()))
        assert info.rtt_s > 0
        assert info.notsent_bytes == 0
