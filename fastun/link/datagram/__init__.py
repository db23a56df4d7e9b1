"""Links on UDP: sockets, handshakes, sessions, the path MTU.

sessions         keys handed down, rekeyed, dropped; goodbye: a side that stops says so
peers, peer      where each peer is, and what is known of it between its messages
handshakes       from the first message to keys that both sides hold; handshake_queue: their cost
hellos           said and heard under the keys of a session
initiator        where initiations are sent: to all addresses of a peer (address_race)
handshake_probe  whether another gateway answers
remembered       where clients were, kept over a restart of the server
fresh_worker     what a successor of a worker hears

Sockets: sockets, handed over by socket_passing; socket_choice and source_pin say which is sent by,
port_change when another port is tried; tuning, what is set on each.

Silence: liveness asks a peer that does not answer, for silence_watch; unreachable says why none
does.

The path MTU: path_mtu; by probe, hints, hinted, local_mtu, from path_listener and icmp_quote.

Further lanes of a peer: ways; way is one, way_links what the workers know of it, held who may have
none.
"""
