"""Links on TCP: sockets, handshakes, sessions."""
