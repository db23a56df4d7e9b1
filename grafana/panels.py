"""The rows of the dashboard: what each panel shows, of which metrics, and what to do.

``python -m grafana.dashboard`` makes dashboards/fastun.json and the table in README.md of these.
"""

from __future__ import annotations

from grafana.directions import INBOUND, OUTBOUND
from grafana.panel import (
    BITS,
    PACKETS,
    PER_S,
    SECONDS,
    SHARE,
    STATE_WINDOW,
    WINDOW,
    Panel,
    Row,
    quantile,
    rate,
)
from grafana.peers import PEERS

# The share of time in which a worker had work and room, or the processor time it took: whichever
# is greater. A full link counts as "network", since no worker causes it: the only link is full.
UTILISATION = (
    'max by (role) (avg_over_time(fastun_worker_state{$at,state="busy"}' + STATE_WINDOW + ")"
    " or rate(fastun_worker_cpu_seconds_total{$at}" + STATE_WINDOW + "))"
    ' or label_replace(max(avg_over_time(fastun_worker_state{$at,role="link-writer",'
    'state="blocked"}' + STATE_WINDOW + ')), "role", "network", "", "")'
)
BOTTLENECK = f"topk(1, ({UTILISATION}) > 0.7)"


OVERVIEW = Row(
    "Overview",
    (
        Panel(
            "Answers",
            "1 while Prometheus reaches the gateway, else 0.",
            "0: check that fastun runs and its metrics address can be reached (FastunDown).",
            (("up{$at}", "up"),),
            kind="stat",
            width=3,
        ),
        Panel(
            "Bottleneck",
            "The stage that limited the tunnel in the last 5 minutes, and its share of them. "
            "Network: the only link is full, or there is none.",
            "Go to the direction's row and look at the queue before that stage; see "
            "[the bottleneck](#the-bottleneck).",
            ((BOTTLENECK, "{{role}}"),),
            unit=SHARE,
            kind="stat",
            width=5,
            warn=0.7,
            alarm=0.9,
            none="no stage",
            names=True,
        ),
        Panel(
            "Utilisation of the stages",
            "Share of the last 5 minutes in which the stage had work and room for it, or its "
            "processor time if that is more.",
            "One near 100 %: that stage is the bottleneck. All far below under load: the senders, "
            "or the machine's processors together, are the limit.",
            ((UTILISATION, "{{role}}"),),
            unit=SHARE,
            kind="bargauge",
            width=8,
            warn=0.7,
            alarm=0.9,
            most=1,
        ),
        Panel(
            "Peers connected",
            "Peers with a link now, all that may connect, and for how many there is room.",
            "Fewer than expected: see the row Peers. Known beyond the limit: some cannot connect.",
            (
                ("sum(fastun_peer_up{$at})", "connected"),
                ("count(fastun_peer_up{$at})", "known"),
                ("max(fastun_peers_max{$at})", "limit"),
            ),
            kind="stat",
            width=4,
            names=True,
        ),
        Panel(
            "What runs",
            "Version, wire and interface of the gateway.",
            "After an update: is it the new version everywhere?",
            (("fastun_info{$at}", "{{version}} {{wire}} {{mode}} {{interface}}"),),
            kind="stat",
            width=4,
            names=True,
        ),
        Panel(
            "Throughput",
            "Bits of the packets inside the tunnel that were delivered, by direction.",
            "Less than expected: look at Bottleneck.",
            (
                (
                    "8 * "
                    + rate("fastun_bytes_total", 'role=~"link-writer|tun-writer"', "direction"),
                    "{{direction}}",
                ),
            ),
            unit=BITS,
        ),
        Panel(
            "Packets",
            "Packets delivered, by direction; a super-packet of 40 counts 40.",
            "Many packets and few bits: small packets cost as much as super-packets.",
            (
                (
                    rate("fastun_packets_total", 'role=~"link-writer|tun-writer"', "direction"),
                    "{{direction}}",
                ),
            ),
            unit=PACKETS,
        ),
        Panel(
            "Drop ratio",
            "Packets dropped of those taken in, by direction; no_peer is left out.",
            "Above 1 %: the direction's row shows the reason.",
            (
                (
                    rate("fastun_dropped_packets_total", 'reason!="no_peer"', "direction")
                    + " / clamp_min("
                    + rate("fastun_packets_total", 'role=~"tun-reader|link-reader"', "direction")
                    + ", 1)",
                    "{{direction}}",
                ),
            ),
            unit=SHARE,
            warn=0.001,
            alarm=0.01,
        ),
        Panel(
            "Queue delay",
            "Time in the ring until delivered, 99th percentile, by direction.",
            "Above 100 ms: the stage after the ring is too slow (FastunQueueDelayHigh).",
            ((quantile(0.99, "fastun_queue_delay_seconds", "", "le, direction"), "{{direction}}"),),
            unit=SECONDS,
            warn=0.02,
            alarm=0.1,
        ),
    ),
)


FAULTS = Row(
    "Faults",
    (
        Panel(
            "Why peers cannot connect",
            "Failed attempts to connect a second, by peer and reason; and the age of the last, "
            "while the peer has not connected since. 0 without any.",
            "The table of reasons is in docs/metrics.md, what to do in docs/operations.md.",
            (
                (
                    rate("fastun_peer_errors_total", by="peer, reason")
                    + " or fastun_peer_up{$at} * 0",
                    "{{peer}} {{reason}}",
                ),
                (
                    (
                        "time() - fastun_peer_last_error_timestamp_seconds{$at}"
                        " or fastun_peer_up{$at} * 0"
                    ),
                    "age in s: {{peer}} {{reason}}",
                ),
            ),
            unit=PER_S,
            width=24,
        ),
        Panel(
            "Workers at work",
            "1 while the worker is at work.",
            "0: it does not start; its reason is in the gateway's log (FastunWorkerDown).",
            (("fastun_worker_up{$at}", "{{role}} {{lane}}"),),
            width=5,
        ),
        Panel(
            "Workers replaced",
            "How many workers died and were replaced, in the window.",
            "Any: the log has the exit status; negative is a signal (FastunWorkerRestarting).",
            (
                (
                    "sum by (role, lane) (increase(fastun_worker_restarts_total{$at}"
                    + WINDOW
                    + "))",
                    "{{role}} {{lane}}",
                ),
                (
                    "sum by (role, call) (increase(fastun_worker_forbidden_calls_total{$at}"
                    + WINDOW
                    + "))",
                    "{{role}}: forbidden system call {{call}}",
                ),
                (
                    "sum by (role, reason) (increase(fastun_worker_unresponsive_total{$at}"
                    + WINDOW
                    + "))",
                    "{{role}}: {{reason}}",
                ),
            ),
            alarm=1,
            width=5,
        ),
        Panel(
            "Host",
            "Whether the device is up, the configuration in effect as it was last read, the "
            "tunnel's DNS answering and the fleet's directory followed (with its changes and "
            "failed attempts a second), a drain that is on, and repairs a second of what other "
            "programs have removed of addresses, routes and rules.",
            "Device 0: bring it up with 'ip link set'. DNS 0: FastunDnsDown. Fleet 0: "
            "FastunFleetDown. Repairs without end: another program manages the same interface; "
            "the log names what it removes.",
            (
                ("fastun_device_up{$at}", "device up"),
                (rate("fastun_host_repairs_total", by="kind"), "repaired: {{kind}}"),
                ("min(fastun_config_last_reload_successful{$at})", "configuration"),
                ("fastun_dns_up{$at}", "DNS"),
                ("fastun_fleet_up{$at}", "fleet"),
                ("fastun_draining{$at}", "draining"),
                ("fastun_fleet_peers_left_out{$at}", "peers left out"),
                (rate("fastun_fleet_changes_total"), "changes"),
                (rate("fastun_fleet_failures_total"), "failures"),
            ),
            width=4,
        ),
        Panel(
            "Handshakes",
            "Handshakes a second by result; only on the wireguard wire.",
            "Not ok: a wrong key, a wrong clock, or an attack (FastunHandshakeFailures).",
            ((rate("fastun_handshakes_total", by="result"), "{{result}}"),),
            unit=PER_S,
            width=5,
        ),
        Panel(
            "Connections",
            "Reconnects, rekeys, connections refused, failed links; on UDP also lowered path MTUs "
            "and ICMP messages about them.",
            "Reconnects without end: the network cuts the link; failed links: another program, or "
            "a peer with different settings; much ICMP ignored: it is forged.",
            (
                (rate("fastun_reconnects_total"), "reconnects"),
                (rate("fastun_rekeys_total"), "rekeys"),
                (rate("fastun_connections_refused_total"), "refused"),
                (rate("fastun_hello_failures_total"), "no link made"),
                (rate("fastun_path_mtu_narrowings_total", by="cause"), "narrower: {{cause}}"),
                (rate("fastun_path_mtu_hints_total", by="result"), "ICMP: {{result}}"),
            ),
            unit=PER_S,
            width=5,
        ),
        Panel(
            "All drops",
            "Packets dropped, of both directions, by reason.",
            "bad_tag, replayed, bad_source: forged packets; bad_mac1, cookie_sent: a flood of "
            "handshakes; link_full: a peer does not read; no_peer: no peer has the destination; "
            "emsgsize, exceeds_path_mtu: see Path MTU.",
            ((rate("fastun_dropped_packets_total", by="reason"), "{{reason}}"),),
            unit=PACKETS,
        ),
        Panel(
            "Device bytes",
            "The kernel's own count of what passed the device; it agrees with Throughput.",
            "They differ: packets are dropped between them, see the drops.",
            (
                ("8 * " + rate("fastun_device_transmit_bytes_total"), "to fastun"),
                ("8 * " + rate("fastun_device_receive_bytes_total"), "from fastun"),
            ),
            unit=BITS,
        ),
        Panel(
            "The gateway itself",
            "Processor time of the gateway process, and the time that a scrape takes.",
            "Normally near 0; handshakes and scrapes with many peers cost most.",
            (
                ("rate(process_cpu_seconds_total{$at}" + WINDOW + ")", "processor"),
                ("scrape_duration_seconds{$at}", "scrape"),
            ),
            unit=SECONDS,
        ),
        Panel(
            "Log lines dropped",
            "Log lines not written: one source caused too many, or stderr is blocked.",
            "rate_limit: the log names the source; stderr_blocked: the reader of the log is stuck.",
            ((rate("fastun_log_lines_dropped_total", by="reason"), "{{reason}}"),),
            unit=PER_S,
        ),
    ),
)

ROWS = (OVERVIEW, OUTBOUND, INBOUND, PEERS, FAULTS)
