"""The metric families of a gateway as a whole: its lanes, workers, device, and log."""

from __future__ import annotations

from fastun.metrics import readings
from fastun.metrics.family import Family

_WORKER = ("direction", "role", "lane")
_COUNTED = "that the reader took in, dropped then or not, or that the writer delivered"
_NOT_QUEUED = "without what a full link kept waiting"
_KERNEL = "The kernel's own count of the device:"

GATEWAY_FAMILIES: tuple[Family, ...] = (
    Family(
        "fastun_info",
        "gauge",
        ("version", "wire", "mode", "interface"),
        "Always 1; the labels tell what runs.",
        readings.info,
    ),
    Family(
        "fastun_packets_total",
        "counter",
        _WORKER,
        f"Packets {_COUNTED}, as the network counts: a super-packet of 40 counts 40.",
        readings.counter("packets"),
    ),
    Family(
        "fastun_frames_total",
        "counter",
        _WORKER,
        f"Frames {_COUNTED}, as the device counts: a super-packet counts 1.",
        readings.counter("frames"),
    ),
    Family(
        "fastun_bytes_total",
        "counter",
        _WORKER,
        f"Bytes of the frames {_COUNTED}, without any header of fastun.",
        readings.counter("bytes"),
    ),
    Family(
        "fastun_dropped_packets_total",
        "counter",
        ("direction", "role", "reason"),
        "Packets not passed on, by reason.",
        readings.dropped,
    ),
    Family(
        "fastun_ring_used_bytes",
        "gauge",
        ("direction", "lane"),
        "Ring memory that waits for the writer. Near the capacity, the writer is the bottleneck.",
        readings.of_rings(lambda ring: ring.used_bytes),
    ),
    Family(
        "fastun_ring_capacity_bytes",
        "gauge",
        ("direction", "lane"),
        "Size of the ring.",
        readings.of_rings(lambda ring: ring.capacity_bytes),
    ),
    Family(
        "fastun_batch_frames",
        "histogram",
        _WORKER,
        f"Frames that the worker passed on at once, {_NOT_QUEUED}.",
        readings.of_workers(lambda worker: worker.batch_frames),
    ),
    Family(
        "fastun_queue_delay_seconds",
        "histogram",
        _WORKER,
        "Time from a frame's entry into the ring to its delivery by the writer.",
        readings.queue_delay,
    ),
    Family(
        "fastun_syscalls_total",
        "counter",
        ("role", "call"),
        "System calls of the data path.",
        readings.syscalls,
    ),
    Family(
        "fastun_in_place_packets_total",
        "counter",
        ("role",),
        "Packets that the reader gave out itself, since its writer slept: both count them, as "
        "always.",
        readings.of_roles(readings.READERS, "in_place"),
    ),
    Family(
        "fastun_refused_offloads_total",
        "counter",
        ("role",),
        "Trains of datagrams and super-packets that the kernel refused and that were sent "
        "packet by packet instead: slower, but nothing is lost.",
        readings.of_roles(readings.WRITERS, "refused_offloads"),
    ),
    Family(
        "fastun_ecn_marked_packets_total",
        "counter",
        ("role",),
        'Packets with the ECN mark "congestion experienced", which their senders answer by sending '
        "slower: set by the tun-reader for a queue of fastun's that stays long, by the link-reader "
        "for a router on the path.",
        readings.of_roles(readings.READERS, "ecn_marked"),
    ),
    Family(
        "fastun_icmp_answers_total",
        "counter",
        (),
        "ICMP errors that fastun wrote to the device for packets that it dropped: no peer has the "
        "destination, the peer has no session, or the packet is too long for the path.",
        readings.summed("answers"),
    ),
    Family(
        "fastun_switched_packets_total",
        "counter",
        (),
        "Packets that came from one peer of a TAP device for others. The link-reader took them in; "
        "the tun-reader takes them in again, a copy for each peer.",
        readings.summed("switched"),
    ),
    Family(
        "fastun_crossed_packets_total",
        "counter",
        ("lane",),
        "Packets that a lane's tun-reader took in for a peer of another lane, which takes them in "
        "again: the first of each flow, and those of flows without answers.",
        readings.crossed,
    ),
    Family(
        "fastun_mac_moves_total",
        "counter",
        (),
        "How often an Ethernet address was seen behind another peer than before. Many: a loop, or "
        "two hosts with one address.",
        readings.summed("mac_moves"),
    ),
    Family(
        "fastun_worker_cpu_seconds_total",
        "counter",
        ("role", "lane"),
        "User and system time of the worker and of those that it replaced.",
        readings.of_processes(lambda worker: worker.cpu_seconds),
    ),
    Family(
        "fastun_config_last_reload_successful",
        "gauge",
        (),
        "1 if the configuration is in effect as it was last read, else 0: the log says why.",
        readings.is_reloaded,
    ),
    Family(
        "fastun_worker_restarts_total",
        "counter",
        ("role", "lane"),
        "How often the worker died and was replaced.",
        readings.of_processes(lambda worker: worker.restarts),
    ),
    Family(
        "fastun_worker_forbidden_calls_total",
        "counter",
        ("role", "lane", "call"),
        "Workers killed by seccomp for a system call that their role may not make, by its number. "
        "Never 0 after an attack that got that far; otherwise a bug.",
        readings.forbidden_calls,
    ),
    Family(
        "fastun_worker_unresponsive_total",
        "counter",
        ("role", "lane", "reason"),
        "Workers replaced because a signal had stopped them, or because they did not answer "
        "(stuck). They count as restarts, too.",
        readings.unresponsive,
    ),
    Family(
        "fastun_worker_up",
        "gauge",
        ("role", "lane"),
        "1 while the worker is at work.",
        readings.of_processes(lambda worker: worker.is_ready),
    ),
    Family(
        "fastun_worker_state",
        "gauge",
        (*_WORKER, "state"),
        "1 for the state at the scrape: idle (nothing waits for the worker), busy, or blocked "
        "(what comes after it is full). The worker that is always busy is the bottleneck.",
        readings.worker_states,
    ),
    *(
        Family(
            f"fastun_device_{name}_total",
            "counter",
            ("device",),
            text,
            readings.of_device(kernel_field),
        )
        for kernel_field, name, text in (
            ("bytes_recv", "receive_bytes", f"{_KERNEL} bytes that fastun wrote to it."),
            ("packets_recv", "receive_packets", f"{_KERNEL} frames that fastun wrote to it."),
            ("errin", "receive_errors", f"{_KERNEL} frames from fastun that were faulty."),
            ("dropin", "receive_drop", f"{_KERNEL} frames from fastun that it did not take."),
            ("bytes_sent", "transmit_bytes", f"{_KERNEL} bytes that it handed to fastun."),
            ("packets_sent", "transmit_packets", f"{_KERNEL} frames that it handed to fastun."),
            ("errout", "transmit_errors", f"{_KERNEL} frames that it could not hand to fastun."),
            ("dropout", "transmit_drop", f"{_KERNEL} frames that found its queue to fastun full."),
        )
    ),
    Family(
        "fastun_device_up",
        "gauge",
        ("device",),
        "1 while the device is up, 0 while it was set down by another program.",
        readings.device_up,
    ),
    Family(
        "fastun_host_repairs_total",
        "counter",
        ("kind",),
        "What other programs removed of what the tunnel needs of this host, and was made again.",
        readings.host_repairs,
    ),
    Family(
        "fastun_dns_up",
        "gauge",
        (),
        "0 while the tunnel's DNS servers cannot be set or do not answer, else 1; only where it "
        "has any. The log and 'fastun status' say what is wrong.",
        readings.dns_up,
    ),
    Family(
        "fastun_fleet_up",
        "gauge",
        (),
        "0 while changes of the fleet's directory do not reach this gateway, else 1; only where it "
        "belongs to a fleet. Peers are those of the last time, and 'fastun status' says why.",
        readings.of_fleet(lambda fleet: not fleet.fault),
    ),
    Family(
        "fastun_fleet_failures_total",
        "counter",
        (),
        "Failed attempts to reach or to read the fleet's directory.",
        readings.of_fleet(lambda fleet: fleet.n_failures),
    ),
    Family(
        "fastun_fleet_changes_total",
        "counter",
        (),
        "Looks at the fleet's directory that found other peers than before.",
        readings.of_fleet(lambda fleet: fleet.n_changes),
    ),
    Family(
        "fastun_fleet_peers_left_out",
        "gauge",
        (),
        "Peers of the fleet's directory that break a rule and are left out.",
        readings.of_fleet(lambda fleet: fleet.left_out),
    ),
    Family(
        "fastun_draining",
        "gauge",
        (),
        "1 while this server is drained ('fastun drain'), else 0; only of servers.",
        readings.draining,
    ),
    Family(
        "fastun_log_lines_dropped_total",
        "counter",
        ("reason",),
        "Log lines not written: one source caused too many (rate_limit), or stderr is not read "
        "(stderr_blocked).",
        readings.log_lines_dropped,
    ),
)
