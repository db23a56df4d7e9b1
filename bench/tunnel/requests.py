"""Requests and responses: one small datagram there and one back, the next when it has come.

Unlike pings, which rest between two, these find all that they wake still warm.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
from typing import TYPE_CHECKING

from fastun.lab.host import LabError, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host

PORT = 7007
REQUEST_BYTES = 64

_RESPONDER = f"""
import socket
served = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
served.bind(("0.0.0.0", {PORT}))
while True:
    request, sender = served.recvfrom(2048)
    served.sendto(request, sender)
"""

_REQUESTER = f"""
import socket, sys, time
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(1)
asking.connect((sys.argv[1], {PORT}))
end = time.perf_counter() + float(sys.argv[2])
while (sent := time.perf_counter()) < end:
    asking.send(bytes({REQUEST_BYTES}))
    try:
        asking.recv(2048)
    except TimeoutError:
        continue
    print(f"{{(time.perf_counter() - sent) * 1e3:.4f}}")
"""


@contextlib.contextmanager
def responding(host: Host) -> Iterator[None]:
    """Answer requests on a host meanwhile."""
    process = host.spawn(sys.executable, "-c", _RESPONDER)
    with process:
        try:
            wait_until(lambda: host.listens(PORT, udp=True), "the responder")
            yield
        finally:
            process.kill()


def median_ms(source: Host, address: str, duration_s: float) -> float:
    """Ask for so long; return the median. LabError if there was no response."""
    done = source.run(sys.executable, "-c", _REQUESTER, address, str(duration_s))
    times = [float(line) for line in done.stdout.split()]
    if not times:
        raise LabError(f"requests to {address}: no response")
    return statistics.median(times)
