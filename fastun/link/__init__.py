"""Links: the outer transports to a peer. stream/ has those on TCP, datagram/ those on UDP.

Peers and their links:

    hello                what each side can do, said before the first frame
    peer_slots           the peers that may connect, each (slotted_peer) in its slot
    slot_ips             the allowed IPs of the slots; slot_terms: limits and quotas
    table                the links (link) that the lanes carry, and when one has ended
    peer_lanes           which lanes carry a peer
    established          what a handshake on a stream has established
    lingering            streams that UDP has taken over from, read for a moment
    preference           UDP or TCP, where a server has both
    push_updates         pushes in the middle of a session

Sessions:

    local_end            what they work with: lane, keys, limits
    key_exchange         WireGuard's handshake messages, and which peers may connect
    key_installer        a session's keys on their way to the workers
    traffic_observer     what the workers have sent and received, for a session's timers

Where a peer is:

    names                the names of endpoints: looked up, cached, and waited for
    outside              how our own packets get past the tunnel
    inside               addresses inside the tunnel, which cannot be endpoints
    endpoint_watch       routes that begin to lead our packets into the tunnel
    stream_path          streams whose route has changed to another interface
    endpoint_health      which of a peer's addresses is tried first; fail_back: and gone back to
    listening            what serve listens on, as soon as it can

Servers that are to be left: draining (of a server), leaving (of a client), and what they say to
each other, drain_messages.

Why a peer cannot connect:

    attempts, likely     what was tried, what came back, and the likely causes
    refusals             handshakes that were refused; last_error: of each peer
    address_turns        peers that are heard from two addresses in turns: one key on two hosts
    source_limits        what counts as one source, and how often it may come
    kernel_refusals      says what the kernel refuses to send
"""
