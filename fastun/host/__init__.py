"""What fastun changes of its host, through netlink and programs, and takes back at its end.

device         the TUN or TAP interface, with its addresses
routes         the ways to what is behind the peers
routing_rules  what a default route needs besides, so that the tunnel's own packets stay out
name_servers   DNS
"""
