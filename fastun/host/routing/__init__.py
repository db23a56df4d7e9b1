"""Routes and rules: which networks lead into the tunnel, and what keeps its own packets out.

placing          in which table each route goes; `tables` says which have routes
permitted        what other interfaces have (other_networks) no push may beat; prefixes: an index
pushable         what a server may push, whatever is accepted
outer_addresses  where our own packets go, which no route may lead back
routing_rules    the rules that go with a default route, of the kinds of rule_kinds
full_tunnel      a tunnel that takes everything, and what stays beside it
routes           a mark for our own packets, before there is a device
route_lookup     which interface leads to an address
"""
