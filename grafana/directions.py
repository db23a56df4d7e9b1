"""The rows of the two directions.

A direction's panels are in the order in which a packet passes the stages, so that a bottleneck
shows: before it the rings are full and the workers blocked, after it all is empty and idle.
"""

from __future__ import annotations

from grafana.panel import BYTES, PACKETS, PER_S, SECONDS, SHARE, WINDOW, Panel, Row, quantile, rate

# Streams have a socket a peer; the peers on UDP share theirs.
SOCKETS = (
    "fastun_socket_receive_queue_bytes{$at} or label_replace("
    'fastun_udp_receive_queue_bytes{$at}, "peer", "udp $1", "socket", "(.*)")'
)


def _worker(role: str, before: str, busy: str, blocked: str) -> Panel:
    """Describe what a worker does with its time."""
    state = f'fastun_worker_state{{$at,role="{role}",state='
    return Panel(
        role,
        f"Shares of time: busy (work in {before}, and room for it), blocked (work, but no room), "
        "and on a processor.",
        f"Busy near 100 %: {busy} Blocked: {blocked} Busy without processor time: it waits for a "
        "processor, or is stopped.",
        (
            (f'avg by (lane) (avg_over_time({state}"busy"}}{WINDOW}))', "busy, lane {{lane}}"),
            (
                f'avg by (lane) (avg_over_time({state}"blocked"}}{WINDOW}))',
                "blocked, lane {{lane}}",
            ),
            (
                rate("fastun_worker_cpu_seconds_total", f'role="{role}"', "lane"),
                "processor, lane {{lane}}",
            ),
        ),
        unit=SHARE,
        width=5,
        most=1,
        warn=0.7,
        alarm=0.9,
    )


def _ring(direction: str, writer: str) -> Panel:
    at = f'{{$at,direction="{direction}"}}'
    used, capacity = f"fastun_ring_used_bytes{at}", f"fastun_ring_capacity_bytes{at}"
    return Panel(
        f"{direction} ring",
        f"How full the ring before the {writer} is, on average and at most.",
        f"Near 100 %: the {writer}, or what comes after it, is the bottleneck. Empty under load: "
        "the bottleneck is before it.",
        (
            (f"avg_over_time({used}{WINDOW}) / {capacity}", "average, lane {{lane}}"),
            (f"max_over_time({used}{WINDOW}) / {capacity}", "most, lane {{lane}}"),
        ),
        unit=SHARE,
        width=5,
        most=1,
        warn=0.5,
        alarm=0.75,
    )


def _inside(direction: str, reader: str, writer: str) -> tuple[Panel, ...]:
    """Return the second line of a direction: what its stages do with the packets."""
    at = f'direction="{direction}"'
    return (
        Panel(
            f"{direction} queue delay",
            "Time from a frame's entry into the ring to its delivery.",
            f"It grows with the ring before a slow {writer}; ping through the tunnel feels it.",
            tuple(
                (quantile(share, "fastun_queue_delay_seconds", at), name)
                for share, name in ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"))
            ),
            unit=SECONDS,
        ),
        Panel(
            f"{direction} batches",
            "Frames passed on at once: the mean, and what 95 % of the batches stay under.",
            "Always 1 under load: every frame pays for its own system calls and wake-ups.",
            (
                (
                    rate("fastun_batch_frames_sum", at, "role")
                    + " / clamp_min("
                    + rate("fastun_batch_frames_count", at, "role")
                    + ", 0.001)",
                    "{{role}}, mean",
                ),
                (quantile(0.95, "fastun_batch_frames", at, "le, role"), "{{role}}, 95 %"),
            ),
        ),
        Panel(
            f"{direction} system calls",
            "System calls a second of the two workers, packets that the reader gave out itself "
            "since the writer slept, and offloads that the kernel refused.",
            "More futex calls than frames: the workers wait for each other at every frame. With "
            "little traffic the reader does it all, in place. Refused offloads: the log names the "
            "peer.",
            (
                (
                    rate("fastun_syscalls_total", f'role=~"{reader}|{writer}"', "role, call"),
                    "{{role}} {{call}}",
                ),
                (rate("fastun_in_place_packets_total", f'role="{reader}"', "role"), "in place"),
                (
                    rate("fastun_refused_offloads_total", f'role="{writer}"', "role"),
                    "{{role}} refused offloads",
                ),
            ),
            unit=PER_S,
        ),
        Panel(
            f"{direction} drops",
            "Packets dropped, by worker and reason, and packets marked in place of a drop (ECN).",
            "docs/metrics.md explains the reasons; the row Faults has all of them. Marks: a queue "
            "or the path is full, and senders are asked to go slower.",
            (
                (rate("fastun_dropped_packets_total", at, "role, reason"), "{{role}} {{reason}}"),
                (rate("fastun_ecn_marked_packets_total", f'role="{reader}"', "role"), "ECN marks"),
            ),
            unit=PACKETS,
            alarm=1,
        ),
    )


OUTBOUND = Row(
    "Outbound: device, tun-reader, ring, link-writer, sockets",
    (
        Panel(
            "device, to fastun",
            "Frames that the kernel put into the device's queue, and those that found it full.",
            "Drops: the tun-reader does not keep up, or is blocked by what comes after it.",
            (
                (rate("fastun_device_transmit_packets_total"), "frames"),
                (rate("fastun_device_transmit_drop_total"), "dropped"),
                (rate("fastun_device_transmit_errors_total"), "errors"),
            ),
            unit=PER_S,
            width=4,
        ),
        _worker(
            "tun-reader",
            "the device's queue",
            "it is the bottleneck; small packets and sealing cost most.",
            "the ring is full, look further right.",
        ),
        _ring("outbound", "link-writer"),
        _worker(
            "link-writer",
            "the ring",
            "it is the bottleneck.",
            "the network or the peer is too slow, or there is no link.",
        ),
        Panel(
            "sockets, to peers",
            "Bytes in the links' sockets that TCP has not sent yet; the 20 fullest.",
            "Near 128 KiB all the time: the network, or the peer, takes no more.",
            (("topk(20, fastun_tcp_notsent_bytes{$at})", "{{peer}}"),),
            unit=BYTES,
            width=5,
        ),
        *_inside("outbound", "tun-reader", "link-writer"),
    ),
)

INBOUND = Row(
    "Inbound: sockets, link-reader, ring, tun-writer, device",
    (
        Panel(
            "sockets, from peers",
            "Bytes received and not read yet; the 20 fullest.",
            "Never empty: the link-reader does not keep up, or is blocked by what comes after it.",
            ((f"topk(20, {SOCKETS})", "{{peer}}"),),
            unit=BYTES,
            width=5,
        ),
        _worker(
            "link-reader",
            "the sockets",
            "it is the bottleneck; opening costs most.",
            "the ring is full, look further right.",
        ),
        _ring("inbound", "tun-writer"),
        _worker(
            "tun-writer",
            "the ring",
            "it is the bottleneck: the kernel's whole receive path runs inside its writes.",
            "does not occur.",
        ),
        Panel(
            "device, from fastun",
            "Frames that the kernel accepted from fastun, and those that it did not.",
            "Drops or errors: the host's own network stack is overloaded, or refuses the packets.",
            (
                (rate("fastun_device_receive_packets_total"), "frames"),
                (rate("fastun_icmp_answers_total"), "of these, ICMP errors of fastun"),
                (rate("fastun_device_receive_drop_total"), "dropped"),
                (rate("fastun_device_receive_errors_total"), "errors"),
            ),
            unit=PER_S,
            width=4,
        ),
        *_inside("inbound", "link-reader", "tun-writer"),
    ),
)
