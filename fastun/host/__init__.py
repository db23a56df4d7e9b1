"""What fastun changes of its host, through netlink and programs, undone at its end.

device      the TUN or TAP interface: made, followed, and gone at the end
wanted      what a tunnel wants of the host, as data; `reconcile` makes the host have it
monitor     what others change back: made again, or said
routing/    routes and rules: what leads into the tunnel, and what keeps its own packets out
firewall/   nftables tables of our own: forwarding, kill switch, strong host
dns/        the DNS servers of this host while connected; looking up names past the tunnel
journal/    what was changed, and undoing it, also after a SIGKILL
netlink/    the kernel: questions, changes in bulk, and notice of changes by others
"""
