"""Traffic between the hosts of the laboratory: ping and iperf3, with their figures as values."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass

from fastun.lab.host import Host, LabError, wait_until

# Besides the transfer itself: starting, connecting and exchanging the results.
IPERF_SLACK_S = 20.0


@dataclass(frozen=True, slots=True)
class PingResult:
    """One ``ping`` run; the times are of the answered requests."""

    n_sent: int
    n_received: int
    min_ms: float
    avg_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class IperfResult:
    """One ``iperf3`` run as its receiver saw it.

    `lost_percent` is about UDP datagrams, `n_retransmits` about TCP segments of the sender, and
    `n_bytes_sent` is what the sender counted.
    """

    bits_per_second: float
    n_bytes: int
    n_bytes_sent: int
    duration_s: float
    n_retransmits: int
    lost_percent: float
    congestion_control: str

    @property
    def gbit_per_second(self) -> float:
        """The goodput in Gbit/s."""
        return self.bits_per_second / 1e9


def ping(
    source: Host, address: str, *, n: int = 5, interval_s: float = 0.05, size_bytes: int = 56
) -> PingResult:
    """Send `n` echo requests; LabError if not a single answer came within a second."""
    # fmt: off
    done = source.run(
        "ping", "-n", "-q", "-c", str(n), "-i", str(interval_s), "-W", "1", "-s", str(size_bytes),
        address, check=False, timeout_s=n * interval_s + 10,
    )
    # fmt: on
    counts = re.search(r"(\d+) packets transmitted, (\d+) received", done.stdout)
    times = re.search(r"= ([\d.]+)/([\d.]+)/([\d.]+)/", done.stdout)
    if counts is None or times is None:
        raise LabError(f"ping {address} from {source.name}: no answer")
    least, mean, most = (float(text) for text in times.groups())
    return PingResult(int(counts[1]), int(counts[2]), least, mean, most)


def answers_ping(source: Host, address: str) -> bool:
    """Whether an echo request is answered within a second, in which one is sent every 0.2 s.

    A tunnel that comes up within the second drops what was sent before.
    """
    done = source.run("ping", "-n", "-q", "-c1", "-i0.2", "-w1", address, check=False)
    return done.returncode == 0


def iperf3(
    client: Host,
    server: Host,
    address: str,
    *,
    duration_s: int = 2,
    n_bytes: int | None = None,
    n_streams: int = 1,
    reverse: bool = False,
    udp_bits_per_second: float | None = None,
    size_bytes: int | None = None,
    buffer_bytes: int | None = None,
    port: int = 5201,
) -> IperfResult:
    """Transfer from `client` to `address` of `server`, or the other way if `reverse`.

    It lasts `duration_s`, or until `n_bytes` were sent. TCP unless `udp_bits_per_second` is given
    (0: as fast as it can). `size_bytes` is the length of a write, for UDP of a datagram's payload;
    `buffer_bytes` the size of the socket buffers, which iperf3 refuses above net.core.rmem_max.
    LabError if iperf3 fails or stops moving.
    """
    options = ["-t", str(duration_s)] if n_bytes is None else ["-n", str(n_bytes)]
    options += ["-P", str(n_streams)]
    options += ["-R"] if reverse else []
    options += (
        ["-u", "-b", str(int(udp_bits_per_second))] if udp_bits_per_second is not None else []
    )
    options += ["-l", str(size_bytes)] if size_bytes is not None else []
    options += ["-w", str(buffer_bytes)] if buffer_bytes is not None else []
    listener = server.spawn("iperf3", "-s", "-1", "-p", str(port))
    try:
        wait_until(lambda: server.listens(port), f"iperf3 listening on port {port}")
        command = ("iperf3", "--json", "-c", address, "-p", str(port), *options)
        timeout_s = IPERF_SLACK_S + (duration_s if n_bytes is None else 120)
        done = client.run(*command, check=False, timeout_s=timeout_s)
        result = _parse_iperf3(done.stdout, " ".join(command))
        listener.wait(2)
    except subprocess.TimeoutExpired as error:
        raise LabError(f"iperf3 -s on {server.name} does not end") from error
    finally:
        listener.kill()
        listener.wait()
    return result


def _parse_iperf3(text: str, command: str) -> IperfResult:
    """Read ``iperf3 --json``; on failure it prints JSON as well, with the reason in it."""
    try:
        report = json.loads(text)
    except ValueError as error:
        raise LabError(f"{command}: no JSON but {text[-200:]!r}") from error
    if "error" in report:
        raise LabError(f"{command}: {report['error']}")
    end = report["end"]
    # Before 3.15 the UDP figures of the receiver are in `sum` only.
    received = end.get("sum_received") or end["sum"]
    return IperfResult(
        bits_per_second=received["bits_per_second"],
        n_bytes=received["bytes"],
        n_bytes_sent=(end.get("sum_sent") or end["sum"])["bytes"],
        duration_s=received["seconds"],
        n_retransmits=end.get("sum_sent", {}).get("retransmits", 0),
        lost_percent=end.get("sum", {}).get("lost_percent", 0.0),
        congestion_control=end.get("receiver_tcp_congestion", ""),
    )
