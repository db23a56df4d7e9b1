"""Links on UDP: sockets, handshakes, sessions, the path MTU."""
