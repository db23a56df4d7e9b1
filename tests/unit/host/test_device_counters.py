"""fastun.host.device_counters, on this host's own devices, against psutil."""

from __future__ import annotations

import socket

import psutil

from fastun.host import device_counters


def test_the_counters_of_the_loopback_device_rise_and_are_those_that_psutil_reads() -> None:
    before = device_counters.read("lo")
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", 9))
    low = psutil.net_io_counters(pernic=True, nowrap=False)["lo"]._asdict()
    now = device_counters.read("lo")
    high = psutil.net_io_counters(pernic=True, nowrap=False)["lo"]._asdict()
    assert list(now) == list(low)
    assert all(low[name] <= now[name] <= high[name] for name in low)
    assert now["packets_sent"] > before["packets_sent"]


def test_a_device_that_is_not_there_has_none() -> None:
    assert device_counters.read("l") == {}
