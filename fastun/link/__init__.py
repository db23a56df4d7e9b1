"""Links: the outer transports to a peer.

What both transports use:

    names                the names of endpoints: looked up, cached, and waited for
    outside              how our own packets get past the tunnel
    listening            what serve listens on, as soon as it can; by binding
    source_limits        what counts as one source, and how often it may come
    inside               addresses inside the tunnel, which cannot be endpoints
    endpoint_watch       routes that begin to lead our packets into the tunnel
    stream_path          streams whose route has changed to another interface
    hello                what each side can do, said before the first frame
    peer_slots           the peers that may connect, each in its slot
    key_exchange         WireGuard's handshake messages, and which peers may connect
    local_end            what sessions work with: lane, keys, limits
    key_installer        a session's keys on their way to the workers
    traffic_observer     what the workers have sent and received, for a session's timers
    table                the links that the lane carries
    address_turns        peers that are heard from two addresses in turns: one key on two hosts
    preference           UDP or TCP, where a server has both
    offload_log          offloads that the kernel refuses

On streams (stream/) and on UDP (datagram/) alike:

    sockets              opened, tuned and read
    handshake(s)         from the first message to keys that both sides hold
    sessions             their keys handed down, rekeyed, dropped

Only streams have connections:

    racing               which address of a server is connected to
    acceptor, dialler    how serve and connect get them, from what owns the links (owner)
    arrivals             connections without a handshake yet, and which is closed first
    listener_filter      sources whose SYNs the kernel drops
    framing              frames of a stream before the lane takes over
    (established)        what a handshake on a stream has established

Only UDP has sessions that outlive an address:

    peers, peer          where each peer is, and what is known of it between its messages
    goodbye              a side that stops tells its peers
    remembered           where clients were, kept over a restart of the server
    hellos               said and heard under the keys of a session
    handshake_queue      what handshake messages may cost
    initiator            where initiations are sent
    path_mtu             the MTU of the path to a peer; by probe, hints, hinted, local_mtu,
                         path_listener
"""
