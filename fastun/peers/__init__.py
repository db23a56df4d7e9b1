"""Peers: which may connect, where they are stored, and what a new one is given.

peer         a peer, and what several must not have in common
directory    what can be done with the peers of a server
store        the directory in SQLite, STATE/peers.sqlite
rows         its contents, as values
client_file  the file that `fastun peer add` prints
peer_sync   who belongs to a running gateway, and what they are pushed
pushes       what is taken of what a server pushes
peer_slots       the slot by which the data path knows each
"""
