"""fastun's UDP links against the real wireguard-go; the topology stands in conftest.py."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping, iperf3, ping
from tests.interop.conftest import (
    NAME,
    OUR_INNER,
    OURS,
    PORT,
    THEIR_INNER,
    THEIRS,
    host_port,
)
from tests.support.promised import promised_s
from tests.support.transfer import probing, start_transfer
from tests.support.wireguard_flood import flooding
from tests.support.wireguard_go import wg

if TYPE_CHECKING:
    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from tests.interop.conftest import Interop

INITIATION, RESPONSE, COOKIE_REPLY, DATA, DATA_AES = range(1, 6)
MEGABYTE = 10**6

by_both_families = pytest.mark.parametrize("outer", [4, 6], ids=["outer-v4", "outer-v6"])


# -- what must hold in any case ---------------------------------------------------------------


def assert_packets_pass(interop: Interop, n: int = 20) -> None:
    for source, addresses in ((interop.theirs, OUR_INNER), (interop.ours, THEIR_INNER)):
        for address in addresses:
            assert ping(source, address, n=n, interval_s=0.02).n_received == n


def assert_data_is_exact(interop: Interop) -> None:
    for source, destination, address in (
        (interop.ours, interop.theirs, THEIR_INNER[0]),
        (interop.theirs, interop.ours, OUR_INNER[1]),
    ):
        transfer = start_transfer(source, destination, address, n_bytes=5 * MEGABYTE)
        assert transfer.result(timeout=60).is_exact


def assert_shown(interop: Interop, outer: int) -> None:
    """Both sides say of the other what has happened."""
    shown = interop.peer.show()
    assert shown.endpoint.startswith(f"[{OURS[6]}]:" if outer == 6 else f"{OURS[4]}:")
    assert abs(time.time() - shown.latest_handshake) < 60
    assert min(shown.received_bytes, shown.sent_bytes) > 5 * MEGABYTE
    scrape = interop.gateway.scrape()
    labels = {"peer": NAME, "transport": "udp", "software": "WireGuard"}
    assert scrape.total("fastun_peer_info", **labels) == 1
    assert scrape.total("fastun_peer_receive_bytes_total") > 5 * MEGABYTE


def assert_plain_wireguard(interop: Interop) -> None:
    """wireguard-go was sent nothing but what it knows, and has complained of nothing but hellos."""
    assert interop.messages.came(DATA_AES) == 0
    assert interop.messages.came(DATA) > 0
    assert interop.messages.came_others() == 0
    log = interop.peer.log()
    complaints = [line for line in log.splitlines() if "Packet with invalid" in line]
    assert "ERROR" not in log
    assert len(complaints) <= 5 * interop.messages.came(INITIATION, RESPONSE)


# -- both roles -------------------------------------------------------------------------------


@pytest.mark.usefixtures("compressed")
@by_both_families
@pytest.mark.parametrize("has_psk", [False, True], ids=["no-psk", "psk"])
def test_fastun_dials_wireguard_go_and_rekeys_without_loss(
    interop: Interop, has_psk: bool, outer: int
) -> None:
    gateway = interop.connect(
        psk=wg("genpsk") if has_psk else "", outer=outer, is_toml=has_psk == (outer == 4)
    )
    interop.wait_up(interop.ours, THEIR_INNER[0])
    before, n_times = gateway.scrape(), 0
    assert_data_is_exact(interop)
    while gateway.scrape().total("fastun_rekeys_total") < before.total("fastun_rekeys_total") + 3:
        assert (n_times := n_times + 1) <= 10
        assert_packets_pass(interop)
    assert gateway.scrape().dropped() == before.dropped()
    assert_shown(interop, outer)
    assert_plain_wireguard(interop)


@pytest.mark.alone
@pytest.mark.parametrize(
    ("is_added", "outer"),
    [
        pytest.param(False, 4, id="no-psk-outer-v4"),
        pytest.param(True, 6, id="psk-outer-v6"),
        pytest.param(False, 6, id="no-psk-outer-v6", marks=pytest.mark.soak),
        pytest.param(True, 4, id="psk-outer-v4", marks=pytest.mark.soak),
    ],
)
def test_wireguard_go_dials_fastun_again_and_again(
    interop: Interop, is_added: bool, outer: int
) -> None:
    gateway = interop.serve(has_peer=not is_added)
    if is_added:
        interop.let_join(outer)
    else:
        interop.let_begin(outer)
    interop.wait_up(interop.theirs, OUR_INNER[0])
    before = gateway.scrape().dropped()
    assert_packets_pass(interop)
    assert_data_is_exact(interop)
    assert_shown(interop, outer)
    for n in range(3):
        interop.peer.begin_anew()
        interop.wait_up(interop.theirs, OUR_INNER[0])
        assert_packets_pass(interop, n=2)
        assert gateway.scrape().total("fastun_handshakes_total", result="ok") == n + 2
    assert gateway.scrape().dropped() == before
    assert interop.messages.came(INITIATION) == 0
    assert_plain_wireguard(interop)


def test_iperf3_runs_both_ways(interop: Interop) -> None:
    interop.connect()
    interop.wait_up(interop.ours, THEIR_INNER[0])
    for is_reverse in (False, True):
        result = iperf3(
            interop.ours, interop.theirs, THEIR_INNER[0], duration_s=1, reverse=is_reverse
        )
        # wireguard-go of 2022 moves one packet a system call: some 300 Mbit/s on an idle machine.
        assert result.bits_per_second > 20 * MEGABYTE
        segments = result.n_bytes / 1400
        assert result.n_retransmits < segments / 20
    assert_plain_wireguard(interop)


# -- roaming ----------------------------------------------------------------------------------


def seconds_until_answer(source: Host, address: str) -> float:
    since = time.monotonic()
    wait_until(lambda: answers_ping(source, address), "an answer")
    return time.monotonic() - since


def replace_address(host: Host, device: str, old: str, new: str) -> None:
    host.sysctl(f"net.ipv4.conf.{device}.promote_secondaries", 1)
    nodad = ("nodad",) if ":" in new else ()
    host.ip("address", "add", new, "dev", device, *nodad)
    host.ip("address", "del", old, "dev", device)


def test_fastun_follows_wireguard_go_to_another_address_and_port(interop: Interop) -> None:
    # Not on IPv4: Linux of late says ENETUNREACH to who sends from an address that has gone, and
    # wireguard-go of 2022 waits for EINVAL to let go of it.
    gateway = interop.connect(outer=6)
    interop.wait_up(interop.ours, THEIR_INNER[0])
    replace_address(interop.theirs, "to-ours", f"{THEIRS[6]}/64", "fd00::22/64")
    assert seconds_until_answer(interop.theirs, OUR_INNER[0]) < promised_s(1.5)
    interop.peer.listen(PORT + 1)
    assert seconds_until_answer(interop.theirs, OUR_INNER[0]) < promised_s(1.5)
    assert ping(interop.ours, THEIR_INNER[0], n=20, interval_s=0.02).n_received == 20
    wait_until(
        lambda: f"remote=[fd00::22]:{PORT + 1}" in gateway.log_file.read_text(), "the log says so"
    )
    assert gateway.scrape().total("fastun_handshakes_total", result="ok") == 1, "by a new session"


@by_both_families
def test_wireguard_go_follows_fastun_to_another_address_and_port(
    interop: Interop, outer: int
) -> None:
    gateway = interop.connect(outer=outer)
    interop.wait_up(interop.ours, THEIR_INNER[0])
    port = int(interop.peer.show().endpoint.rpartition(":")[2])
    old, new = {
        4: (f"{OURS[4]}/24", "10.0.0.11/24"),
        6: (f"{OURS[6]}/64", "fd00::11/64"),
    }[outer]
    replace_address(interop.ours, "to-theirs", old, new)
    assert seconds_until_answer(interop.ours, THEIR_INNER[0]) < promised_s(1.5)
    assert interop.peer.show().endpoint == host_port(new.partition("/")[0], port)
    rebind_port(interop.ours, "to-theirs", port, 6000)
    assert seconds_until_answer(interop.ours, THEIR_INNER[0]) < promised_s(1.5)
    assert interop.peer.show().endpoint == host_port(new.partition("/")[0], 6000)
    assert ping(interop.theirs, OUR_INNER[0], n=20, interval_s=0.02).n_received == 20
    assert gateway.scrape().total("fastun_handshakes_total", result="ok") == 1, "by a new session"


def rebind_port(host: Host, device: str, port: int, shown: int) -> None:
    """Let the others see another port, as when a router has forgotten what it translated to."""
    host.run(
        "nft",
        f"""table inet rebound {{
            chain went {{ type filter hook postrouting priority 0;
                oifname "{device}" udp sport {port} udp sport set {shown}
            }}
            chain came {{ type filter hook prerouting priority 0;
                iifname "{device}" udp dport {shown} udp dport set {port}
            }}
        }}""",
    )


# -- cookies ----------------------------------------------------------------------------------


def test_wireguard_go_proves_its_address_to_a_fastun_under_load(interop: Interop, lab: Lab) -> None:
    gateway = interop.serve()
    key = interop.identity.public_key
    # Load is more than 500 a second; each batch is followed by the next when it was answered.
    with flooding(lab, interop.ours, key, PORT, burst=100) as flood:
        wait_until(lambda: flood.n_cookies > 100, "fastun is under load")
        interop.let_begin()
        # The cookie comes at once, and the next initiation after 5 s, or 10.
        interop.wait_up(interop.theirs, OUR_INNER[0], timeout_s=30)
    assert "Receiving cookie response" in interop.peer.log()
    assert interop.messages.went_with_cookie() > 0
    scrape = gateway.scrape()
    assert scrape.total("fastun_handshakes_total", result="ok") == 1
    assert scrape.total("fastun_dropped_packets_total", reason="cookie_sent") > 100


@pytest.mark.usefixtures("compressed")
def test_fastun_proves_its_address_to_a_wireguard_go_under_load(interop: Interop, lab: Lab) -> None:
    interop.let_dial()
    key = interop.peer_identity.public_key
    # Under load are 128 handshakes that wait, of 1024.
    with flooding(lab, interop.theirs, key, PORT, burst=1500) as flood:
        wait_until(lambda: flood.n_cookies > 100, "wireguard-go is under load")
        gateway = interop.dial()
        interop.wait_up(interop.ours, THEIR_INNER[0])
    assert interop.messages.went(COOKIE_REPLY) > 0
    assert interop.messages.came_with_cookie() > 0
    scrape = gateway.scrape()
    assert scrape.total("fastun_handshakes_total", result="ok") >= 1
    assert scrape.total("fastun_handshakes_total", result="bad_cookie") == 0


# -- in real time -----------------------------------------------------------------------------


def test_the_last_answer_is_answered_by_a_keepalive_and_not_by_a_handshake(
    interop: Interop,
) -> None:
    """Whoever got the last data says within 10 s that it lives; after 15 s it would be asked."""
    interop.serve()
    interop.let_begin()  # so no hello is said, which would be data, too
    interop.wait_up(interop.theirs, OUR_INNER[0])
    assert ping(interop.ours, THEIR_INNER[0], n=1).n_received == 1
    messages = interop.messages
    before = messages.came(DATA), messages.went(DATA)
    handshakes = messages.came(INITIATION), messages.went(INITIATION)
    time.sleep(18)
    assert (messages.came(DATA) - before[0], messages.went(DATA) - before[1]) == (1, 0)
    assert (messages.came(INITIATION), messages.went(INITIATION)) == handshakes


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_wireguard_go_rekeys_three_times_without_loss(interop: Interop) -> None:
    gateway = interop.serve()
    interop.let_begin()
    interop.wait_up(interop.theirs, OUR_INNER[0])
    before = gateway.scrape()
    done = interop.theirs.run(
        "ping", "-n", "-q", "-i", "0.05", "-c", "7400", OUR_INNER[0], timeout_s=500
    )
    assert "7400 packets transmitted, 7400 received" in done.stdout
    after = gateway.scrape()
    assert after.total("fastun_rekeys_total") - before.total("fastun_rekeys_total") == 3
    assert after.dropped() == before.dropped()
    assert_plain_wireguard(interop)


@pytest.mark.soak
def test_an_ipv6_that_dies_under_a_link_is_left_for_ipv4(interop: Interop) -> None:
    """wireguard-go answers no questions, so silence alone is what there is to go by."""
    interop.let_dial()
    wait_until(lambda: answers_ping(interop.ours, THEIRS[6]), "IPv6")
    interop.dial_by_both_families()
    interop.wait_up(interop.ours, THEIR_INNER[0])
    assert interop.peer.show().endpoint.startswith(f"[{OURS[6]}]:")
    with probing(interop.ours, interop.theirs, THEIR_INNER[0]) as probe:
        probe.seconds_until_answer()
        interop.theirs.run("nft", "add", "table", "ip6", "dead")
        for hook, port in (("input", "dport"), ("output", "sport")):
            chain = f"{{ type filter hook {hook} priority 0; }}"
            interop.theirs.run("nft", "add", "chain", "ip6", "dead", hook, chain)
            rule = f"add rule ip6 dead {hook} udp {port} {PORT} drop"
            interop.theirs.run("nft", *rule.split())
        lasted_s = probe.seconds_until_answer(40)
    print(f"outage {lasted_s:.2f} s")  # noqa: T201
    assert lasted_s < 8
    assert interop.peer.show().endpoint.startswith(f"{OURS[4]}:")
