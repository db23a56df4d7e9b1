"""A lane: its rings, its four workers, and the messages between gateway and workers.

lane              rings, statistics and workers; replaces those that die
lanes             all lanes of a gateway; crossing: rings between them; opening: one more of them?
ways              which lanes carry a peer; session_lane: where its sessions on UDP are
switch            what the switch of a TAP device shares
capture           the rings of a capture

The gateway's side of a worker:

    template          forks it; template_process: the program that does
    boot              what it gets first
    worker_process    it, as the gateway sees it; predecessors: those that are dead
    cpu_clock         what it has run
    watch             whether it is stopped or stuck, by its heartbeat

Between them:

    channel           the socket: one message a datagram, with descriptors
    messages          every message, as bytes by packing; endpoint_messages: where a peer is

Its own side:

    worker_start      from its fork to its end
    worker            what it does
    session_memory    what it maps of sessions; written: as which roles it writes figures
    events            what it reports of its loop
"""
