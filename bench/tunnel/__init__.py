"""fastun beside the bare wire and beside other tunnels, measured in one run on one machine.

    python -m bench.tunnel [--quick]      measure; write JSON, a table and plots
    python -m bench.tunnel show FILE      render the table of a stored result

Every case (cases.py) is two hosts joined by a veth pair, with a program's two ends on them:

    client-NAME                           server-NAME
    10.0.0.2, fd00::2    ==== veth ====   10.0.0.1, fd00::1
    10.99.0.2, fd99::2   ... tunnel ...   10.99.0.1, fd99::1

Where a measure wants a slow or lossy link, the hosts reach each other through a router instead
(detour.py).

All cases are brought up first and stay up. Then each round takes one measure after the other
(measures.py), and each measure one case after the other, so that what changes on the machine
meanwhile meets all cases alike (rounds.py).
"""
