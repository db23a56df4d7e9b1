"""`fastun doctor`: what fastun needs of this host, and how to fix what is missing.

examination  the list of checks
listing      how findings are printed
finding      one finding, and what the checks look at
kernel       the kernel, the processor and the libraries
network      ports and settings of the network
workers      what this host confines a gateway's workers to
confinement  the same of the gateway, and what the host process keeps
files        the state and the run directory; services: units of systemd
kill_switch  whether one is set; resolving: whether a tunnel's DNS servers answer
probe        what this kernel does to super-packets, tried
gcrypt       what libgcrypt can do, asked in a process of its own

Why one peer is not connected:

connection   `fastun connect --check`: the client's side
way          the way to an address: route, other tunnels, MTU
trial        a handshake tried over UDP and TCP
peer_check   `fastun doctor --peer`: the server's side
running      what a running gateway knows of a peer
firewall     whether this host lets a port's packets in
clock        whether the clock can be right
"""
