"""The gateway: the supervising process, and what it does for all peers together."""
