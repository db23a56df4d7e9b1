"""The laboratory of the demo, the tests and the benchmarks: hosts that are network namespaces.

network     the hosts and the wires between them
host        one host, and running programs in it
entry       the way in for those who are not root
tunnel      `fastun serve` on one host, `fastun connect` on another
traffic     ping and iperf3, with their figures as values
transfer    exact transfers and exact outages
stall       workers that are made slow
prometheus  a real Prometheus beside a gateway
demo        `./run demo`
"""
