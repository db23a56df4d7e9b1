"""The measures: each looks at one case for some seconds; what it returns is named in figures.py."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from bench.tunnel import outage, requests, wakeups
from bench.tunnel.cpu import IDLE_SHARE_MAX, Spent
from bench.tunnel.pings import percentiles, pinging
from bench.tunnel.search import Trial, highest_rate
from fastun.lab.traffic import IperfResult, iperf3

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.tunnel.addresses import Addresses
    from bench.tunnel.pair import Pair

_KIBIBYTE = 1024
# Datagrams wait here while the receiver does not run. The default of 208 KiB holds some 270 small
# ones, 2 ms of them at 150,000 a second, and the loss would be iperf3's.
SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
# Of a trial in the search for a packet rate.
TRIAL_S = 1
WARM_UP_S = 1
# fastun dials a stream again whose route has another interface; an idle gateway looks each 4 s.
NEW_ROUTE_S = 5


@dataclass(frozen=True, slots=True)
class Subject:
    """A case that is up, and how thoroughly to look at it."""

    pair: Pair
    server: Addresses
    #: Length of one transfer.
    seconds: int
    #: Trials in the search for a packet rate, at most.
    n_trials: int
    #: CPU seconds that the machine spends a second with all cases idle.
    idle_share: float


Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure's name, its function, and whether `--quick` takes it."""

    name: str
    take: Callable[[Subject], Figures]
    is_quick: bool = False


def one_stream(subject: Subject) -> Figures:
    """Goodput of one TCP stream each way, and the CPU time that both ways took together."""
    pair = subject.pair
    spent = Spent(pair.program_pids(), subject.idle_share)
    out, back = (_transfer(subject, reverse=reverse) for reverse in (False, True))
    machine_s, programs_s = spent.so_far()
    n_units = (out.n_bytes + back.n_bytes) / (64 * _KIBIBYTE)
    figures = {
        "goodput-1-out": out.gbit_per_second,
        "goodput-1-back": back.gbit_per_second,
    }
    if subject.idle_share <= IDLE_SHARE_MAX:
        figures["cpu-machine"] = machine_s * 1e6 / n_units
    if pair.programs:
        figures["cpu-programs"] = programs_s * 1e6 / n_units
    return figures


def four_streams(subject: Subject) -> Figures:
    """Goodput of four TCP streams together, each way."""
    return {
        "goodput-4-out": _transfer(subject, n_streams=4).gbit_per_second,
        "goodput-4-back": _transfer(subject, n_streams=4, reverse=True).gbit_per_second,
    }


def inner_ipv6(subject: Subject) -> Figures:
    """Goodput of one TCP stream over IPv6, each way; the outer packets stay IPv4."""
    return {
        "goodput-v6-out": _transfer(subject, version=6).gbit_per_second,
        "goodput-v6-back": _transfer(subject, version=6, reverse=True).gbit_per_second,
    }


def packet_rate(subject: Subject, *, size_bytes: int) -> Figures:
    """Datagrams with this payload that get from client to server in a second."""

    def run_trial(rate: float | None) -> Trial:
        result = iperf3(
            subject.pair.client,
            subject.pair.server,
            subject.server.bare_v4,
            duration_s=TRIAL_S,
            udp_bits_per_second=(rate or 0) * size_bytes * 8,
            size_bytes=size_bytes,
            buffer_bytes=socket_buffer_bytes(),
        )
        n_sent, n_delivered = result.n_bytes_sent / size_bytes, result.n_bytes / size_bytes
        return Trial(
            n_sent / result.duration_s, n_delivered / result.duration_s, result.lost_percent / 100
        )

    rate = highest_rate(run_trial, n_trials_max=subject.n_trials)
    return {f"packets-{size_bytes}": rate / 1000}


def idle_ping(subject: Subject) -> Figures:
    """Round trips while nothing else moves."""
    with pinging(subject.pair.client, subject.server.bare_v4, subject.seconds) as round_trips_ms:
        median, p99 = percentiles(round_trips_ms())
    return {"ping-idle-p50": median, "ping-idle-p99": p99}


def request_response(subject: Subject) -> Figures:
    """One datagram there and one back, as many as there can be one after the other."""
    pair = subject.pair
    with requests.responding(pair.server):
        median = requests.median_ms(pair.client, subject.server.bare_v4, subject.seconds)
    return {"request-response": median}


def limited_link(subject: Subject, *, mbit_per_second: int) -> Figures:
    """Goodput of one stream on a slow link, and round trips beside it."""
    pair, address = subject.pair, subject.server.bare_v4
    with pair.detour.limited(mbit_per_second * 1e6):
        _get_used_to_the_link(subject)
        with pinging(pair.client, address, subject.seconds) as round_trips_ms:
            transfer = _transfer(subject)
            median, p99 = percentiles(round_trips_ms())
    at = f"at-{mbit_per_second}m"
    return {
        f"goodput-{at}": transfer.bits_per_second / 1e6,
        f"ping-{at}-p50": median,
        f"ping-{at}-p99": p99,
    }


def lossy_link(subject: Subject, *, per_thousand: int) -> Figures:
    """Goodput of one stream on a link that loses packets at random, in both directions."""
    with subject.pair.detour.lossy(per_thousand):
        _get_used_to_the_link(subject)
        transfer = _transfer(subject)
    return {f"goodput-loss-{per_thousand / 10:g}": transfer.gbit_per_second}


def _get_used_to_the_link(subject: Subject) -> None:
    """Let a tunnel's own TCP connection, which comes from a faster link, find what this one takes.

    Its congestion window would flood the queue at first, as no tunnel does that was always there.
    One that is dialled again because its route is another is so before it is measured.
    """
    if subject.pair.programs:
        time.sleep(NEW_ROUTE_S)
    iperf3(subject.pair.client, subject.pair.server, subject.server.bare_v4, duration_s=WARM_UP_S)


def worker_killed(subject: Subject) -> Figures:
    """How long nothing passes after a worker was killed: each of both ends, as often as trials."""
    median = outage.median_ms(subject.pair, subject.server.bare_v4, n_rounds=subject.n_trials)
    return {} if median is None else {"worker-killed": median}


def idle_wakeups(subject: Subject) -> Figures:
    """How often a tunnel wakes up that nothing goes through."""
    return {"idle-wakeups": wakeups.per_second(subject.pair)} if subject.pair.programs else {}


def memory(subject: Subject) -> Figures:
    """Resident memory of the programs of both ends, after what they have carried so far."""
    if not subject.pair.programs:
        return {}
    usage = [psutil.Process(pid).memory_full_info() for pid in subject.pair.program_pids()]
    return {
        "memory-rss": sum(one.rss for one in usage) / _KIBIBYTE**2,
        "memory-pss": sum(one.pss for one in usage) / _KIBIBYTE**2,
    }


def _transfer(
    subject: Subject, *, n_streams: int = 1, version: int = 4, reverse: bool = False
) -> IperfResult:
    address = subject.server.bare_v4 if version == 4 else subject.server.bare_v6
    return iperf3(
        subject.pair.client,
        subject.pair.server,
        address,
        duration_s=subject.seconds,
        n_streams=n_streams,
        reverse=reverse,
    )


def socket_buffer_bytes() -> int:
    """Return the size of iperf3's socket buffers in the search: what this machine lets it have."""
    limits = (Path(f"/proc/sys/net/core/{name}") for name in ("rmem_max", "wmem_max"))
    return min(SOCKET_BUFFER_BYTES, *(int(path.read_text(encoding="ascii")) for path in limits))


#: In the order in which they are taken. Memory is what the load has made of it; after that workers
#: are new.
MEASURES: tuple[Measure, ...] = (
    Measure("one-stream", one_stream, is_quick=True),
    Measure("four-streams", four_streams),
    Measure("ipv6", inner_ipv6),
    Measure("idle-ping", idle_ping, is_quick=True),
    Measure("request-response", request_response, is_quick=True),
    Measure("packets-64", partial(packet_rate, size_bytes=64), is_quick=True),
    Measure("packets-1200", partial(packet_rate, size_bytes=1200)),
    Measure("link-50m", partial(limited_link, mbit_per_second=50)),
    Measure("link-500m", partial(limited_link, mbit_per_second=500)),
    Measure("loss-0", partial(lossy_link, per_thousand=0)),
    Measure("loss-0.1", partial(lossy_link, per_thousand=1)),
    Measure("loss-1", partial(lossy_link, per_thousand=10)),
    Measure("idle-wakeups", idle_wakeups),
    Measure("memory", memory, is_quick=True),
    Measure("worker-killed", worker_killed),
)
