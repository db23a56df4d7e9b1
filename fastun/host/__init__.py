"""fastun's changes of its host, through netlink and programs, undone at its end.

journal         what was changed, and undoing it, also after a SIGKILL
changes         the kinds of changes, each with how it is undone
programs        the host's programs, run with a time limit
device          the TUN or TAP interface, with its addresses
routes          the ways to what is behind the peers
pushed          what a server's push has made of the device, replaced by the next as a whole
other_networks  what other interfaces have, which no push may beat
outer_addresses where our own packets go, which no route may lead back
routing_rules   what a default route needs besides, so that the tunnel's own packets stay out
name_servers    DNS
resolver        the program that manages DNS here, and where names are really looked up
nft             nftables tables of our own, all of them through here
own_tables      those of a device, as the journal undoes them
packet_filter   the nft tables of a device, each of a feature
forwarding      the host as a router between the device and its other networks
kill_switch     what may leave beside the tunnel (kill_switch_rules, local_networks); it outlives us
strong_host     packets for the device's addresses that come by other interfaces

It also asks, without changing anything:

rtnetlink       the kernel's routes, and notice of their changes
route_lookup    which interface leads to an address
kill_switch_found   which interfaces have a kill switch, whoever runs
name_lookup     a host name's addresses, past the tunnel where need be; by marked_dns, resolved
"""
