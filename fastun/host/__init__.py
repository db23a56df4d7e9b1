"""What fastun changes of its host, through netlink and programs, and takes back at its end.

device          the TUN or TAP interface, with its addresses
routes          the ways to what is behind the peers
pushed          what a server's push has made of the device, replaced by the next as a whole
other_networks  what other interfaces have, which no push may beat
outer_addresses where our own packets go, which no route may lead back
routing_rules   what a default route needs besides, so that the tunnel's own packets stay out
name_servers    DNS
"""
