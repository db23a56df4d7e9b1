"""What is measured, by name: the words and units of tables, plots and result files."""

from __future__ import annotations

import msgspec

HIGHER, LOWER = "higher", "lower"


class Figure(msgspec.Struct, frozen=True):
    """One figure. `better` is "higher" or "lower"; with a `heading` it is in the short table."""

    name: str
    title: str
    unit: str
    better: str
    heading: str = ""


#: In the order in which they are shown.
FIGURES: tuple[Figure, ...] = (
    Figure("goodput-1-out", "one stream, client to server", "Gbit/s", HIGHER, "Gbit/s out"),
    Figure("goodput-1-back", "one stream, server to client", "Gbit/s", HIGHER, "Gbit/s back"),
    Figure("goodput-4-out", "four streams, client to server", "Gbit/s", HIGHER),
    Figure("goodput-4-back", "four streams, server to client", "Gbit/s", HIGHER),
    Figure("goodput-v6-out", "one stream over IPv6, client to server", "Gbit/s", HIGHER),
    Figure("goodput-v6-back", "one stream over IPv6, server to client", "Gbit/s", HIGHER),
    Figure("packets-64", "UDP of 64 bytes, loss < 0.1 %", "1000/s", HIGHER, "64 B 1000/s"),
    Figure("packets-1200", "UDP of 1200 bytes, loss < 0.1 %", "1000/s", HIGHER),
    Figure("ping-idle-p50", "idle ping, median", "ms", LOWER, "ping ms"),
    Figure("ping-idle-p99", "idle ping, 99th percentile", "ms", LOWER),
    Figure("request-response", "request and response, median", "ms", LOWER, "request ms"),
    Figure("goodput-at-50m", "one stream on a link of 50 Mbit/s", "Mbit/s", HIGHER),
    Figure("ping-at-50m-p50", "ping under that load, median", "ms", LOWER),
    Figure("ping-at-50m-p99", "ping under that load, 99th percentile", "ms", LOWER),
    Figure("goodput-at-500m", "one stream on a link of 500 Mbit/s", "Mbit/s", HIGHER),
    Figure("ping-at-500m-p50", "ping under that load, median", "ms", LOWER),
    Figure("ping-at-500m-p99", "ping under that load, 99th percentile", "ms", LOWER),
    Figure("goodput-loss-0", "one stream, packets of 1500 bytes, none lost", "Gbit/s", HIGHER),
    Figure("goodput-loss-0.1", "one stream, 0.1 % of packets lost", "Gbit/s", HIGHER),
    Figure("goodput-loss-1", "one stream, 1 % of packets lost", "Gbit/s", HIGHER),
    Figure("cpu-machine", "CPU per 64 KiB, whole machine", "us", LOWER, "CPU us 64 KiB"),
    Figure("cpu-programs", "CPU per 64 KiB, the tunnel's processes", "us", LOWER),
    Figure("memory-rss", "resident memory, both ends", "MiB", LOWER, "RSS MiB"),
    Figure("memory-pss", "resident memory, shared pages split", "MiB", LOWER),
    Figure("idle-wakeups", "wake-ups of an idle end", "1/s", LOWER),
    Figure("worker-killed", "worker killed to packets again, median", "ms", LOWER),
    Figure("start-up", "start to first answer", "s", LOWER, "start s"),
)
