"""Settings that change the host, what a client accepts, and the metrics address."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun.config.data_path import DataPath
from fastun.config.settings import (
    Options,
    load,
)
from fastun.errors import ConfigError, FastunError
from tests.support.configuration import ENDPOINT, LINES, PLAIN, UDP, complaint, file, peer_table

HOST = """
[interface]
listen_port = 51821
fwmark = 51820
table = 4242
dns = ["10.9.0.1", "example.net", "fd00:9::1", "Example.NET", "10.9.0.1", "fe80::1%eth0.7"]
udp_offload = false
mss_clamp = true
[workers]
hand_over = false
"""


def test_what_connect_changes_of_its_host_is_read_from_the_file(tmp_path: Path) -> None:
    path = file(tmp_path, HOST + peer_table(LINES | UDP))
    loaded = load("connect", str(path), Options())
    assert (loaded.udp_port, loaded.fwmark, loaded.table) == (51821, 51820, 4242)
    assert (loaded.dns, loaded.dns_search) == (
        ("10.9.0.1", "fd00:9::1", "fe80::1%eth0.7"),
        ("example.net",),
    )
    assert (loaded.data_path, loaded.mss_clamp) == (
        DataPath(udp_offload=False, hand_over=False),
        True,
    )


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("listen_port = 65536", "listen_port: port 65536 is out of range"),
        ("listen_port = -1", "listen_port: port -1 is out of range"),
        ("fwmark = -1", "fwmark: mark -1 is out of range"),
        ("fwmark = 4294967296", "fwmark: mark 4294967296 is out of range"),
        ("table = 'mian'", "table: 'mian' is not auto, all, off, the number of a table, or a name"),
        ("table = 'default'", "table: table 253 is out of range"),
        ("table = 0", "table: table 0 is out of range"),
        ("table = 255", "table: table 255 is out of range"),
        ("table = 4294967296", "table: table 4294967296 is out of range"),
        ("table = true", "table: must be"),
        ("strong_host = 'yes'", "strong_host: 'yes' is not one of true, false, \"auto\""),
        ("strong_host = 1", "strong_host: must be"),
        ("kill_switch = 1", "kill_switch: must be true or false"),
        ("name = 'ft*'\nkill_switch = true", "kill_switch: nftables cannot name the interface"),
        ("mode = 'tap'\ntable = 'auto'", "table: routes on a TAP device need gateways"),
        ("bridge = 'br0'", "bridge: only a TAP device can be a port of a bridge"),
        ("bridge = ''", "bridge: '' must be 1 to 15 bytes"),
        ("bridge = 'a/b'", "bridge: 'a/b' is not a valid interface name"),
        ("mode = 'tap'\nname = 'x'\nbridge = 'x'", "bridge: x is the device itself"),
        (
            "mode = 'tap'\nbridge = 'br0'\naddress = ['10.9.7.2/24']",
            "bridge: an address of a bridge's port is of no use; give 10.9.7.2/24 to br0",
        ),
        ("dns = ['10.9.0.300']", "dns: '10.9.0.300' is neither the address of a DNS server nor"),
        ("dns = ['fd00::1%eth0x/']", "is neither the address of a DNS server nor"),
        ("dns = ['a:53']", "dns: 'a:53' is neither"),
        ("dns = ['']", "dns: '' is neither"),
        ("dns = ['a b']", "dns: 'a b' is neither"),
        ("dns = ['0.0.0.0']", "dns: 0.0.0.0 cannot be a DNS server"),
        ("dns = ['ff02::fb']", "dns: ff02::fb cannot be a DNS server"),
        ("dns = ['fe80::1%$(id>OUT)']", "dns: zone '$(id>OUT)' is not an interface"),
        ('dns = ["fe80::1%a\\nb"]', "dns: zone 'a\\nb' is not an interface"),
        ("dns = ['fe80::1%0123456789abcdef']", "dns: zone '0123456789abcdef' is not an"),
        ("dns = ['fd00::1%eth0']", "dns: zone 'eth0' applies only to link-local addresses"),
        ("dns = ['a;b']", "dns: 'a;b' is neither"),
    ],
)
def test_what_connect_cannot_change_of_its_host_is_named(
    tmp_path: Path, line: str, named: str
) -> None:
    path = file(tmp_path, f"[interface]\n{line}\n{peer_table(LINES | UDP)}")
    said = complaint("connect", str(path), Options())
    assert said.startswith(f"{path}: interface.")
    assert named in said


@pytest.mark.parametrize("line", ["listen_port = 1", "dns = ['10.9.0.1']", "kill_switch = true"])
def test_serve_refuses_what_is_for_connect(tmp_path: Path, line: str) -> None:
    path = file(tmp_path, f"[interface]\n{line}")
    assert "remove it" in complaint("serve", None, Options(config=path))


@pytest.mark.parametrize(
    ("line", "option", "expected"),
    [
        ("", False, False),
        ("", True, True),
        ("kill_switch = false", True, True),
        ("kill_switch = true", False, True),
    ],
)
def test_a_kill_switch_is_asked_for_by_file_or_option(
    tmp_path: Path, line: str, option: bool, expected: bool
) -> None:
    path = file(tmp_path, f"[interface]\n{line}\n" + peer_table(LINES | UDP))
    loaded = load("connect", str(path), Options(kill_switch=option))
    assert loaded.role == "connect"
    assert loaded.kill_switch == expected


def test_the_lan_may_be_allowed_beside_a_kill_switch(tmp_path: Path) -> None:
    path = file(tmp_path, "[interface]\nallow_lan = true\n" + peer_table(LINES | UDP))
    assert "add --all" in complaint("connect", str(path), Options())
    loaded = load("connect", str(path), Options(kill_switch=True))
    assert loaded.role == "connect"
    assert loaded.allow_lan


def test_serve_is_pushed_nothing(tmp_path: Path) -> None:
    path = file(tmp_path, "[interface]\naccept = []")
    assert "interface.accept: 'accept' applies only to connect" in complaint(
        "serve", None, Options(config=path)
    )


@pytest.mark.parametrize(
    ("text", "options", "accepted"),
    [
        ("", Options(), ("addresses", "routes", "mtu", "keepalive")),
        ("address = ['10.9.0.7/24']", Options(), ("routes", "mtu", "keepalive")),
        ("mtu = 1400", Options(), ("addresses", "routes", "keepalive")),
        ("", Options(mtu=1400, address=("10.9.0.7/24",)), ("routes", "keepalive")),
        ("accept = ['mtu', 'dns']\nmtu = 1400", Options(), ("dns", "mtu")),
        ("accept = []", Options(), ()),
    ],
)
def test_a_client_accepts_what_it_does_not_say_itself_and_dns_only_when_asked(
    tmp_path: Path, text: str, options: Options, accepted: tuple[str, ...]
) -> None:
    path = file(tmp_path, f"[interface]\n{text}\n{peer_table(LINES | ENDPOINT)}")
    assert load("connect", str(path), options).accept == accepted


@pytest.mark.parametrize(
    ("listen", "exposed"),
    [
        ("off", False),
        ("127.0.0.1:1", False),
        ("127.9.9.9:1", False),
        ("[::1]:1", False),
        ("localhost:1", False),
        ("[::]:1", True),
        ("0.0.0.0:1", True),
        ("10.0.0.1:1", True),
        ("node.example:1", True),
    ],
)
def test_metrics_are_exposed_unless_on_loopback(listen: str, exposed: bool) -> None:
    assert load("serve", None, replace(PLAIN, metrics=listen)).metrics_are_exposed is exposed


@given(st.text(), st.sampled_from([FastunError, ConfigError]))
def test_an_error_is_one_printable_line_whatever_is_put_into_it(
    text: str, kind: type[FastunError]
) -> None:
    assert str(kind(text)).isprintable()
