"""Workers are killed while UDP carries a transfer; see tests/conftest.py for the topology.

Its successor goes on where it was killed, with the same keys: no handshake, no counter used twice.
"""

from __future__ import annotations

import signal
import struct
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.tunnel import UDP_PORT
from tests.fault.test_worker_killed import ROLES
from tests.support.accounting import assert_adds_up
from tests.support.processes import kill_worker
from tests.support.transfer import probing, start_transfer

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from tests.conftest import StartTunnel
    from tests.support.figures import Figures

SNAPPED_BYTES = 65535
ETHERNET_IPV4_UDP = 14 + 20 + 8


def start_capture(host: Host, file: Path) -> subprocess.Popen[bytes]:
    """Capture what goes over UDP, each way."""
    capture = host.spawn(
        *("tcpdump", "-i", "to-client", "-s", str(SNAPPED_BYTES), "-B", "65536", "-U"),
        *("--immediate-mode", "-Z", "root", "-w", str(file), "udp", "port", str(UDP_PORT)),
    )
    wait_until(lambda: file.exists() and file.stat().st_size > 0, "tcpdump captures")
    return capture


def end_capture(capture: subprocess.Popen[bytes], file: Path) -> None:
    """End it when it has written all that was under way."""
    n_bytes = -1

    def rests() -> bool:
        nonlocal n_bytes
        before, n_bytes = n_bytes, file.stat().st_size
        return before == n_bytes

    wait_until(rests, "tcpdump has written everything", timeout_s=20, interval_s=0.5)
    capture.send_signal(signal.SIGINT)
    capture.wait(10)


def captured_payloads(file: Path) -> Iterator[bytes]:
    """The UDP payloads of a capture."""
    return Recording(file).more()


class Recording:
    """A capture, read while it is being written (pcap, IETF draft-ietf-opsawg-pcap)."""

    def __init__(self, file: Path) -> None:
        self._file, self._at = file, 24

    def more(self) -> Iterator[bytes]:
        """The UDP payloads that are whole, and have not been given yet."""
        with self._file.open("rb") as opened:
            opened.seek(self._at)
            data = opened.read()
        at = 0
        while at + 16 <= len(data):
            (length,) = struct.unpack_from("=I", data, at + 8)
            end = at + 16 + length
            if end > len(data):
                return
            self._at += end - at
            yield data[at + 16 + ETHERNET_IPV4_UDP : end]
            at = end


def data_messages(payload: bytes) -> Iterator[bytes]:
    """The data messages of a payload.

    The kernel cuts datagrams behind where tcpdump sees them, and then they stand in one payload:
    all of one session, so each begins with the same type and index.
    """
    begins = 0 if len(payload) >= 32 and payload[0] in (4, 5) else -1
    while begins >= 0:
        ends = payload.find(payload[:8], begins + 32)
        yield payload[begins : ends if ends >= 0 else None]
        begins = ends


@pytest.mark.promise("However often workers are killed, no counter seals two messages")
@pytest.mark.parametrize(
    "n_kills", [pytest.param(4, id="4"), pytest.param(40, id="40", marks=pytest.mark.soak)]
)
@pytest.mark.parametrize("role", ROLES)
def test_a_killed_worker_is_replaced_and_no_counter_seals_two_messages(
    tunnel: StartTunnel, tmp_path: Path, role: str, n_kills: int, figures: Figures
) -> None:
    pair = tunnel(transport="udp")
    client, server, address = pair.client.host, pair.server.host, pair.server.inner_address
    rekeys = pair.client.scrape().total("fastun_handshakes_total", result="ok")
    file = tmp_path / "outer.pcap"
    capture = start_capture(server, file)
    kills_go_on = True
    outages = []
    transfer = start_transfer(client, server, address, n_bytes=10**6, goes_on=lambda: kills_go_on)
    with probing(client, server, address) as probe:
        for n in range(n_kills):
            kill_worker((pair.client, pair.server)[n % 2], role)
            outages.append(probe.seconds_until_answer())
            time.sleep(0.3)  # one that dies young again and again is replaced without haste
    kills_go_on = False
    assert transfer.result(timeout=60).is_exact
    assert_adds_up((pair.client, pair.server))
    end_capture(capture, file)
    print(f"{role}: outages", *(f"{outage * 1000:.0f}" for outage in outages), "ms")  # noqa: T201
    new_handshakes = pair.client.scrape().total("fastun_handshakes_total", result="ok") - rekeys
    assert new_handshakes == 0
    assert max(outages) < 1.0
    messages = [each for payload in captured_payloads(file) for each in data_messages(payload)]
    assert len(messages) > 100 * n_kills
    # A link-writer's successor may send a datagram again, and then it is the very same.
    figures.worst("longest outage", max(outages), "s")
    figures.total("kills", n_kills)
    assert len({each[4:16] for each in messages}) == len(set(messages)), "a counter came twice"
