"""What fastun changes of its host, through netlink and programs, undone at its end.

process/    the host process, which does all this for the gateway
routing/    routes and rules: what leads into the tunnel, and what keeps its own packets out
firewall/   nftables tables of our own: forwarding, kill switch, strong host
dns/        the DNS servers of this host while connected; looking up names past the tunnel
hooks/      programs of the operator's
journal/    what was changed, and undoing it, also after a SIGKILL
netlink/    the kernel: questions, changes in bulk, and notice of changes by others
sockets/    sockets that take a privilege; socket_state: what the kernel says of one

The device, and what is on it:

    device            made, followed, and gone at the end, by tun; prepared: made by others before
    link_settings     what it gets for its life; link_state: what is restored; inner_mtu
    configured        what the settings want; wanted: all that a tunnel wants of the host, as data
    reconcile         makes the host have it, with settings_of_host; refusal_log: what it refuses
    monitor           what others change: made again, or said; moved: to another namespace
    condition         whether it is up; device_counters: what the kernel has counted
    bridge            what a TAP device is a port of; bridge_mtu, own_macs

Beside it:

    run_directory     control sockets; served_peers: the peer directory, by this process's rights
    state_claim       one server a state directory
    users             which users gateway and workers are; template_start: starts their template
    programs          programs of the host, run so that none can block
"""
