"""Links on TCP: sockets, handshakes, sessions.

acceptor, dialler  how serve and connect get connections, from what owns the links (owner)
racing             which address of a server is connected to
beside             further connections, for further lanes
handshake          from the first message to a link; framing: until the lane takes over
sessions           keys handed down, rekeyed, dropped
silence            whether a stream still gets through
sockets            listened for, accepted, dialled and tuned
arrivals           connections without a handshake yet, and which is closed first
listener_filter    sources whose SYNs the kernel drops
half_open          clients whose own address is in a network that is routed to the device
"""
