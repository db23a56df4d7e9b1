"""Hosts that are network namespaces: for `fastun bench`, the demo, the tests and the benchmarks.

network     the hosts and the wires between them
host        one host, and running programs in it
entry       the way in for those who are not root
tunnel      `fastun serve` on one host, `fastun connect` on another
traffic     ping and iperf3, with their figures as values
"""
