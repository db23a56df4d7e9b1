"""The row of the peers: each panel has the twenty that have the most."""

from __future__ import annotations

from grafana.panel import BITS, BYTES, PACKETS, PER_S, SECONDS, SHARE, Panel, Row, rate


def _of_peers(
    title: str, description: str, what_to_do: str, expr: str, unit: str, *, width: int = 6
) -> Panel:
    shown = ((f"topk(20, {expr})", "{{peer}}"),)
    return Panel(title, description, what_to_do, shown, unit=unit, width=width)


PEERS = Row(
    "Peers: the 20 with the most",
    (
        _of_peers(
            "Received from peers",
            "Bits of the packets that came from the peer.",
            "Which peers use the tunnel.",
            "8 * " + rate("fastun_peer_receive_bytes_total", by="peer"),
            BITS,
        ),
        _of_peers(
            "Sent to peers",
            "Bits of the packets that went out on the peer's link.",
            "Which peers use the tunnel.",
            "8 * " + rate("fastun_peer_transmit_bytes_total", by="peer"),
            BITS,
        ),
        Panel(
            "Peers' packets",
            "Packets from and to the peer.",
            "Many packets and few bits: small packets.",
            (
                (
                    f"topk(20, {rate('fastun_peer_receive_packets_total', by='peer')})",
                    "from {{peer}}",
                ),
                (
                    f"topk(20, {rate('fastun_peer_transmit_packets_total', by='peer')})",
                    "to {{peer}}",
                ),
            ),
            unit=PACKETS,
        ),
        _of_peers(
            "Dropped for peers",
            "Packets for the peer that were not sent.",
            "It is not connected, or does not read; other peers are not delayed by it.",
            rate("fastun_peer_dropped_packets_total", by="peer"),
            PACKETS,
        ),
        _of_peers(
            "Round trip time",
            "The smoothed round trip time of the link, as TCP measures it.",
            "It grows with throughput: a queue in the network, outside the tunnel.",
            "fastun_tcp_rtt_seconds{$at}",
            SECONDS,
        ),
        _of_peers(
            "Retransmits",
            "Segments that TCP sent again.",
            "A lossy or overloaded network to that peer.",
            rate("fastun_tcp_retransmits_total", by="peer"),
            PER_S,
        ),
        _of_peers(
            "Socket drops",
            "Packets received on the link's socket and dropped by the kernel.",
            "Duplicates, or the socket's memory was full: raise net.ipv4.tcp_rmem if the "
            "link-reader is not busy.",
            rate("fastun_socket_drops_total", by="peer")
            + " or label_replace("
            + rate("fastun_udp_drops_total", by="socket")
            + ', "peer", "udp $1", "socket", "(.*)")',
            PER_S,
            width=4,
        ),
        _of_peers(
            "Path MTU",
            "The path MTU to the peer on UDP, outside the tunnel, as far as it is known.",
            "Below 1420 + 80: packets inside must be shorter than the device's MTU; lower that, or "
            "fix the path.",
            "fastun_peer_path_mtu_bytes{$at} or fastun_peer_up{$at} * 0",
            BYTES,
            width=4,
        ),
        _of_peers(
            "Age of the last handshake",
            "Time since the peer's keys were last made; connected peers only.",
            "Above 3 minutes with traffic: the keys are not renewed, and the link will end.",
            "(time() - fastun_peer_last_handshake_timestamp_seconds{$at})"
            " and on (peer) fastun_peer_info{$at}",
            SECONDS,
            width=4,
        ),
        Panel(
            "Held to their terms",
            "Packets dropped by a peer's rate limit or quota, by direction, or because of where "
            "they were to go. 0 without any.",
            "Meant so, or raise the peer's limit: 'fastun peer limit', 'quota', 'to'.",
            (
                (
                    rate("fastun_peer_limited_packets_total", by="peer, direction")
                    + " or fastun_peer_up{$at} * 0",
                    "{{peer}} {{direction}}",
                ),
                (
                    rate("fastun_peer_not_permitted_packets_total", by="peer")
                    + " or fastun_peer_up{$at} * 0",
                    "destinations of {{peer}}",
                ),
            ),
            unit=PACKETS,
            width=8,
        ),
        _of_peers(
            "Quota used",
            "The part of the month's quota that the peer has used; 0 without one.",
            "At 1 it is cut off or slowed until the month ends.",
            "fastun_peer_quota_used_bytes{$at} / fastun_peer_quota_bytes{$at}"
            " or fastun_peer_up{$at} * 0",
            SHARE,
            width=8,
        ),
        _of_peers(
            "Time left",
            "Time until the peer's access ends; 0 without an end.",
            "'fastun peer expire' extends it.",
            "fastun_peer_expiry_timestamp_seconds{$at} - time() or fastun_peer_up{$at} * 0",
            SECONDS,
            width=8,
        ),
        Panel(
            "Packets between lanes",
            "Packets that a lane's tun-reader took in for a peer that another lane carries.",
            "Few beside those of the lanes. Many: flows that get no answers.",
            (
                (
                    "sum by (lane) (rate(fastun_crossed_packets_total{$at}[$__rate_interval]))",
                    "lane {{lane}}",
                ),
            ),
            width=24,
        ),
        Panel(
            "Switch of a TAP device",
            "Ethernet addresses behind the peer, packets from peer to peer, and addresses that "
            "moved to another peer.",
            "1,024 addresses: its oldest are forgotten. Moves that go on: a loop, or two hosts "
            "with one address. Empty on a TUN device.",
            (
                ("topk(20, fastun_peer_mac_addresses{$at})", "{{peer}} addresses"),
                (rate("fastun_switched_packets_total"), "packets a second"),
                (rate("fastun_mac_moves_total"), "moves a second"),
            ),
            width=24,
        ),
    ),
)
