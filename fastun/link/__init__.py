"""Links: the outer transports to a peer.

    listening            which addresses an endpoint means to listen on
    hello                what each side can do, said before the first frame
    observer             what the workers have sent and received, told to a session's timers
    key_installer        a session's keys on their way to the workers

On streams:

    tcp                  sockets listened for, accepted, dialled and tuned
    finding              links accepted or dialled, again and again
    frames               frames of a stream before the lane takes over
    greeting             how a connection becomes a link, on each wire
    table                the links that the lane carries
    stream_sessions      their keys handed down, rekeyed, let go

On UDP:

    udp                  the sockets
    datagram_sessions    the peers' sessions, and when something is due
    datagram_handshakes  from a message of anybody to keys that both sides hold
    datagram_hellos      hellos said and heard under these keys
    udp_peers       the peers by their slots, and where each is reached
    udp_peer        what is known of one peer between its messages
    handshake_queue      what handshake messages may cost
    initiating           where initiations are sent
    path, probe          the MTU of the way to a peer
    preference           UDP or TCP, where a server has both
"""
