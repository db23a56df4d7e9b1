"""The metric families of peers, their handshakes and their links."""

from __future__ import annotations

from fastun.metrics import peer_readings, readings
from fastun.metrics.family import Family

_FROM_PEER = "came from the peer and were passed on"
_TO_PEER = "went out on the link"
_BARE = "without any header of fastun"
_SEALED_ONLY = "Only on the wireguard wire."

PEER_FAMILIES: tuple[Family, ...] = (
    Family(
        "fastun_peer_info",
        "gauge",
        ("peer", "wire", "software", "transport"),
        "1 while there is a link to the peer; the labels describe its other end "
        "(software is 'other' if it is unknown, or if the peer has changed it often).",
        peer_readings.peer_info,
    ),
    Family(
        "fastun_peer_up",
        "gauge",
        ("peer",),
        "1 while there is a link to the peer.",
        peer_readings.of_peers(lambda peer: peer.view.link is not None),
    ),
    Family(
        "fastun_peers_max",
        "gauge",
        (),
        "How many peers there is room for; further ones cannot connect.",
        peer_readings.peers_max,
    ),
    *(
        Family(
            f"fastun_peer_{field}_total",
            "counter",
            ("peer",),
            text,
            peer_readings.of_peer_table(field),
        )
        for field, text in (
            ("receive_bytes", f"Bytes of the frames that {_FROM_PEER}, {_BARE}."),
            ("receive_packets", f"Packets that {_FROM_PEER}."),
            ("transmit_bytes", f"Bytes of the frames that {_TO_PEER}, {_BARE}."),
            ("transmit_packets", f"Packets that {_TO_PEER}."),
        )
    ),
    Family(
        "fastun_peer_mac_addresses",
        "gauge",
        ("peer",),
        "Ethernet addresses seen behind the peer in the last five minutes, where fastun switches "
        "(mode tap). It has room for 1,024 a peer.",
        peer_readings.mac_addresses,
    ),
    Family(
        "fastun_peer_dropped_packets_total",
        "counter",
        ("peer",),
        "Packets for the peer that did not go out: it was not connected, or does not read.",
        peer_readings.of_peer_table("no_session_packets", "dropped_packets"),
    ),
    Family(
        "fastun_peer_path_mtu_bytes",
        "gauge",
        ("peer",),
        "Longest packet that the network takes to the peer, outer headers included. Only on UDP.",
        peer_readings.path_mtu,
    ),
    Family(
        "fastun_path_mtu_narrowings_total",
        "counter",
        ("cause",),
        "Path MTUs lowered, by cause: this host's route, probes, or an ICMP hint. Only on UDP.",
        readings.path_narrowings,
    ),
    Family(
        "fastun_path_mtu_hints_total",
        "counter",
        ("result",),
        "ICMP 'packet too big' about our datagrams, genuine or forged, by result. Only on UDP.",
        readings.path_hints,
    ),
    Family(
        "fastun_peer_last_handshake_timestamp_seconds",
        "gauge",
        ("peer",),
        f"Unix time of the last handshake that succeeded, 0 for never. {_SEALED_ONLY}",
        peer_readings.last_handshake,
    ),
    Family(
        "fastun_peer_last_error_timestamp_seconds",
        "gauge",
        ("peer", "reason"),
        "Unix time of what last kept the peer from connecting; gone once a handshake succeeds.",
        peer_readings.last_errors,
    ),
    Family(
        "fastun_peer_errors_total",
        "counter",
        ("peer", "reason"),
        "Attempts to connect, by us or by the peer, that failed, by reason.",
        peer_readings.peer_errors,
    ),
    Family(
        "fastun_handshakes_total",
        "counter",
        ("result",),
        f"Handshakes, rekeys included: ok, or the reason why one was refused. {_SEALED_ONLY}",
        readings.handshakes,
    ),
    Family(
        "fastun_rekeys_total",
        "counter",
        (),
        f"How often the session of a link got new keys. {_SEALED_ONLY}",
        readings.rekeys,
    ),
    Family(
        "fastun_reconnects_total",
        "counter",
        (),
        "Links of peers that had one before.",
        readings.count("reconnects"),
    ),
    Family(
        "fastun_connections_refused_total",
        "counter",
        (),
        "Connections closed unanswered, and SYNs dropped: too many from one source or in all; "
        "through the tunnel; or, without encryption, while another client has the link.",
        readings.count("refused"),
    ),
    Family(
        "fastun_hello_failures_total",
        "counter",
        (),
        "Accepted connections that did not become a link: no handshake or hello, or a bad one.",
        readings.count("failed_hellos"),
    ),
    Family(
        "fastun_tcp_rtt_seconds",
        "gauge",
        ("peer",),
        "The link's smoothed round trip time, as TCP measures it.",
        peer_readings.of_tcp(lambda tcp: tcp.rtt_s),
    ),
    Family(
        "fastun_tcp_retransmits_total",
        "counter",
        ("peer",),
        "Segments that TCP sent again, of this link and, as far as scrapes saw them, those before.",
        peer_readings.of_peers(lambda peer: peer.n_retransmits),
    ),
    Family(
        "fastun_tcp_notsent_bytes",
        "gauge",
        ("peer",),
        "Bytes in the link's socket that TCP has not sent yet.",
        peer_readings.of_tcp(lambda tcp: tcp.notsent_bytes),
    ),
    Family(
        "fastun_socket_receive_queue_bytes",
        "gauge",
        ("peer",),
        "Bytes in the link's socket that the link-reader has not read yet.",
        peer_readings.socket_receive_queue,
    ),
    Family(
        "fastun_socket_drops_total",
        "counter",
        ("peer",),
        "The kernel's own count of the link's sockets: what came in and was thrown away.",
        peer_readings.of_peers(lambda peer: peer.n_drops),
    ),
    Family(
        "fastun_udp_receive_queue_bytes",
        "gauge",
        ("socket",),
        "Memory of what the link-reader has not read yet from a UDP socket, known by its number.",
        readings.of_udp_sockets(lambda state: state.receive_queue_bytes),
    ),
    Family(
        "fastun_udp_drops_total",
        "counter",
        ("socket",),
        "The kernel's own count of a UDP socket: datagrams that found its queue full.",
        readings.of_udp_sockets(lambda state: state.n_drops),
    ),
)
