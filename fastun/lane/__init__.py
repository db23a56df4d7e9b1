"""A lane: its rings, its four workers, and the messages between gateway and workers.

lane            rings, statistics and workers; replaces those that die
worker_process  one worker as the gateway sees it
worker          one worker as it sees itself: the entry of its process
channel         the socket between them: one message a datagram, with descriptors
messages        every message
"""
