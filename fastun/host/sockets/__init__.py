"""The sockets for which a process needs privileges, made in one place.

address       where a socket is bound or sent from
binding       binding to addresses that may be absent, or beside another socket of ours
icmp_filter   what the kernel lets through to a raw socket
syn_filter    which sources a listening socket does not hear
steering      which of several sockets at a port gets a datagram
socket_program  how a socket gets these three
maker         all of them: what the gateway asks for, and this process's own way to make it
"""
