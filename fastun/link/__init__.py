"""Links: the outer transports to a peer."""
