"""How each program is brought up: one module a program, each with a `start` for cases.py.

`start(pair)` writes what the program needs, starts the server and, once that listens, the client,
gives their devices the addresses of `bench.tunnel.addresses.INNER`, and returns without waiting for
the tunnel to carry anything.
"""
