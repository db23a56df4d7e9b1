"""The kernel by netlink.

netlink    dumps that the kernel filters, and many changes in one message
kernel     what the kernel has of a device, and what it is asked to change
notices    what others change
half_open  connections whose handshake has only begun
rtnetlink  which way a packet of our own would go, and notice of changed routes
iproute    pyroute2's, without the rest of pyroute2
"""
