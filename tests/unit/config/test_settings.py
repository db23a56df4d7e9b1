"""Settings: defaults, file under options, and refusals that name the place and the fix."""

from dataclasses import fields, replace
from ipaddress import ip_interface
from pathlib import Path

import pytest

from fastun.config.data_path import DataPath
from fastun.config.hooks import Hooks
from fastun.config.host import DevicePlace
from fastun.config.observing import LogSettings
from fastun.config.push_settings import Pushed
from fastun.config.settings import (
    CommonSettings,
    ConnectSettings,
    Options,
    ServeSettings,
    load,
)
from fastun.endpoint import Endpoint
from tests.support.configuration import (
    PLAIN,
    SERVER,
    complaint,
    file,
)


def test_serve_needs_nothing_but_leave_to_be_unencrypted() -> None:
    assert load("serve", None, PLAIN) == ServeSettings(
        interface="fastun0",
        mode="tun",
        addresses=(),
        mtu=1500,
        data_path=DataPath(),
        mss_clamp=False,
        wire="plain",
        listen=(Endpoint("tcp", "::", 55555),),
        fwmark=0,
        table="off",
        place=DevicePlace(),
        forward=None,
        lanes=1,
        hooks=Hooks(),
        peer_name="peer",
        private_key=None,
        peers=(),
        push=Pushed(),
        metrics=("127.0.0.1", 10055),
        state_dir=Path("/var/lib/fastun"),
        run_dir=Path("/run/fastun"),
        log=LogSettings(),
    )


def test_connect_dials_its_argument() -> None:
    loaded = load("connect", SERVER, PLAIN)
    assert isinstance(loaded, ConnectSettings)
    assert loaded.endpoint == Endpoint("tcp", "vpn.example.net", 55555)


def test_either_role_has_at_most_twenty_fields_in_common_and_none_of_the_other() -> None:
    common, serve, connect = (
        {each.name for each in fields(kind)}
        for kind in (CommonSettings, ServeSettings, ConnectSettings)
    )
    assert len(common) <= 20
    assert serve & connect == common


FILE = """
[interface]
name = "office"
mode = "tap"
address = ["10.9.0.1/24", "fd00:9::1/64"]
mtu = 1400
lanes = 1
wire = "simpletun"
gso = false
[metrics]
listen = "off"
[[peer]]
name = "branch"
endpoint = "tcp://[2001:db8::1]:443"
"""


@pytest.mark.parametrize("by_argument", [True, False])
def test_connect_takes_everything_from_a_file(tmp_path: Path, by_argument: bool) -> None:
    path = file(tmp_path, FILE)
    insecure = Options(insecure=True)
    loaded = (
        load("connect", str(path), insecure)
        if by_argument
        else load("connect", None, replace(insecure, config=path))
    )
    assert loaded.interface == "office"
    assert loaded.mode == "tap"
    assert loaded.addresses == (ip_interface("10.9.0.1/24"), ip_interface("fd00:9::1/64"))
    assert loaded.mtu == 1400
    assert loaded.wire == "simpletun"
    assert not loaded.data_path.gso
    assert loaded.metrics is None
    assert loaded.peer_name == "branch"
    assert loaded.endpoint == Endpoint("tcp", "2001:db8::1", 443)


def test_what_the_command_line_says_wins_over_the_file(tmp_path: Path) -> None:
    loaded = load(
        "connect",
        SERVER,
        Options(
            config=file(tmp_path, FILE),
            interface="branch0",
            mode="tun",
            address=("192.0.2.7/31",),
            mtu=1300,
            wire="plain",
            insecure=True,
            metrics="[::1]:9000",
        ),
    )
    assert loaded.interface == "branch0"
    assert loaded.mode == "tun"
    assert loaded.addresses == (ip_interface("192.0.2.7/31"),)
    assert loaded.mtu == 1300
    assert loaded.wire == "plain"
    assert loaded.metrics == ("::1", 9000)
    assert loaded.endpoint == Endpoint("tcp", "vpn.example.net", 55555)
    assert not loaded.data_path.gso, "what no option says stays as the file has it"


def test_serve_listens_where_the_file_says_unless_an_option_says_otherwise(tmp_path: Path) -> None:
    options = replace(PLAIN, config=file(tmp_path, '[listen]\ntcp = ["tcp://192.0.2.1:443"]'))
    assert load("serve", None, options).listen == (Endpoint("tcp", "192.0.2.1", 443),)
    given = replace(options, listen=("tcp://[::1]:1", "tcp://127.0.0.1:1"))
    assert load("serve", None, given).listen == (
        Endpoint("tcp", "::1", 1),
        Endpoint("tcp", "127.0.0.1", 1),
    )


def test_the_encrypted_wire_is_the_default() -> None:
    for options in (Options(), Options(insecure=True), Options(wire="wireguard")):
        assert load("serve", None, options).wire == "wireguard"


@pytest.mark.parametrize("wire", ["plain", "simpletun"])
def test_an_unencrypted_wire_needs_insecure_and_the_error_says_why(wire: str) -> None:
    line = complaint("connect", SERVER, Options(wire=wire))
    assert "anyone on the path can read and inject packets" in line
    assert "add --insecure" in line


def test_more_lanes_than_there_can_be_are_refused_by_name(tmp_path: Path) -> None:
    path = file(tmp_path, "[interface]\nlanes = 17")
    line = complaint("serve", None, replace(PLAIN, config=path))
    assert line == f"{path}: interface.lanes: 17 is out of range (1-16, or 'auto')"


MISWRITTEN = {
    "[interface]\nmtuu = 1": "'interface.mtuu': unknown field; did you mean mtu?",
    "[interfaces]": "'interfaces': unknown field; did you mean interface?",
    "[[peer]]\nendpiont = 'x'": "endpiont': unknown field; did you mean endpoint?",
    "[metrics]\nzzz = 1": "'metrics.zzz': unknown field; use one of listen",
    "[interface]\nmtu = '1500'": "interface.mtu: must be an integer; it is a string in quotes",
    "[interface]\nmtu = 1500.0": "interface.mtu: must be an integer; it is a number with",
    "[interface]\nmtu = 100000000000000000000": "interface.mtu: is out of range",
    "[interface]\naddress = '10.9.0.1/24'": "interface.address: must be a list in brackets; it is",
    "[interface]\nmode = 'tpa'": "interface.mode: 'tpa' is not one of tun, tap",
    "[interface]\nname = 'a/b'": "interface.name: 'a/b' is not a valid interface name",
    "[interface]\nmtu = 100": "interface.mtu: MTU 100 is out of range",
    "[listen]\ntcp = []": "listen.tcp: nothing to listen on",
    "[listen]\nudp = []": "listen.udp: nothing to listen on; write udp://[::]:51820",
    "[listen]\ntcp = ['a', 'b']": "listen.tcp: 'a' has no scheme; write tcp://a:55555",
    "[listen]\nudp = ['[::]:7']": "listen.udp: '[::]:7' has no scheme; write udp://[::]:7",
    "[listen]\ntcp = ['udp://[::]']": "listen.tcp: udp://[::]: belongs in listen.udp",
    "[listen]\nudp = ['tcp://[::]']": "listen.udp: tcp://[::]: belongs in listen.tcp",
    "[listen]\nudp = ['udp://[::]']": "udp://[::]:51820: the plain wire is for tcp only",
    "[metrics]\nlisten = '127.0.0.1'": "metrics.listen: '127.0.0.1' has no port",
    "[[peer]]\nname = ''": "peer.name: '' is not a valid peer name; use 1 to 64 letters",
    "[[peer]]\nendpoint = 'tcp://a'": "peer.endpoint: serve only accepts TCP connections",
    "[[peer]]\nendpoints = ['tcp://a']": "peer.endpoints: serve only accepts TCP connections",
    "[[peer]]\n[[peer]]": "peer: the plain wire allows only one peer; keep one",
    **{
        f"{heading}\n{field} = {value}": f"{field}: has no effect on the plain wire"
        for heading, field, value in (
            ("[interface]", "private_key_file", "'x'"),
            ("[interface]", "accept", "[]"),
            ("[interface]", "listen_port", "1"),
            ("[interface]", "table", "'auto'"),
            ("[[peer]]", "public_key", "'x'"),
            ("[[peer]]", "preshared_key_file", "'x'"),
            ("[[peer]]", "allowed_ips", "['10.0.0.0/8']"),
            ("[[peer]]", "keepalive", "0"),
        )
    },
    "peer = 3": "peer: must be a list in brackets; it is an integer",
    "forward = true": "forward: must be a section; it is true or false",
    "[forward]\nmasquerade = 'eth0'": "must be true or false, or a list in brackets; it is a str",
    "[forward]\npeers = 'no'": "forward.peers: must be true or false; it is a string in quotes",
    "[metrics]\nlisten = 2026-11-30": "metrics.listen: must be a string in quotes; it is a date",
    "[interface]\nbridge = ['br0']": "interface.bridge: must be a string in quotes; it is a list",
    "[interface": "not TOML:",
    "a = 0x" + "f" * 9999: "'a': unknown field",
    "a = " + "9" * 9999: "a number has too many digits; write a shorter one",
    "a = " + "[" * 9999: "brackets are nested too deeply; use fewer",
    '"x` - at `$y" = 1': "unknown field",
}


@pytest.mark.parametrize(("text", "named"), MISWRITTEN.items())
def test_what_is_wrong_in_a_file_is_named_with_file_and_field(
    tmp_path: Path, text: str, named: str
) -> None:
    path = file(tmp_path, text)
    line = complaint("serve", None, replace(PLAIN, config=path))
    assert line.startswith(f"{path}: ")
    assert named in line


REFUSED = [
    (replace(PLAIN, interface=""), "--interface: '' must be 1 to 15 bytes long"),
    (replace(PLAIN, interface="a" * 16), "--interface: 'aaaaaaaaaaaaaaaa' must be 1 to 15"),
    (replace(PLAIN, interface="é" * 8), "must be 1 to 15 bytes long"),
    (replace(PLAIN, mode="l2"), "--mode: 'l2' is not one of tun, tap"),
    (replace(PLAIN, wire="plane"), "--wire: 'plane' is not one of"),
    (replace(PLAIN, log_format="xml"), "--log-format: 'xml' is not one of console, json"),
    (replace(PLAIN, lanes="2"), "the plain wire has 1 lane only; use 1 or 'auto'"),
    (replace(PLAIN, lanes="0"), "0 is out of range (1-16, or 'auto')"),
    (replace(PLAIN, listen=("tcp://a", "tcp://a:55555")), "tcp://a:55555 is listed twice"),
    (replace(PLAIN, listen=("udp://[::]",)), "--listen: udp://[::]:51820: the plain wire is for"),
    (replace(PLAIN, metrics="localhost:0"), "--metrics: 'localhost:0': port '0' is out"),
    (replace(PLAIN, metrics="on"), "--metrics: 'on' has no port; write HOST:PORT, or off"),
    (replace(PLAIN, run_dir=Path("/" + "a" * 100)), "the control socket's path"),
    (
        replace(PLAIN, config=Path("/nonexistent")),
        "cannot read configuration '/nonexistent': No such file",
    ),
    (replace(PLAIN, config=Path("/")), "cannot read configuration '/': Is a directory"),
    (replace(PLAIN, config=Path("/dev/zero")), "/dev/zero: longer than 16 MiB"),
]


@pytest.mark.parametrize(("options", "named"), REFUSED)
def test_what_is_wrong_on_the_command_line_is_named_with_its_option(
    options: Options, named: str
) -> None:
    assert named in complaint("serve", None, options)


@pytest.mark.parametrize(
    "name",
    [
        ".",
        "..",
        "all",
        "default",
        "a b",
        "a\tb",
        "a/b",
        "a:b",
        "tun%d",
        "a\n",
        "\0",
        "\udcff",
        "-a",
    ],
)
def test_a_name_that_the_kernel_or_a_program_takes_otherwise_is_not_an_interface(name: str) -> None:
    assert "is not a valid interface name" in complaint(
        "serve", None, replace(PLAIN, interface=name)
    )


@pytest.mark.parametrize("name", ["a", "a" * 15, "tun0", "eth0.100", "wg-office_1", "$&9;@~"])
def test_a_name_that_the_kernel_takes_is_an_interface(name: str) -> None:
    assert load("serve", None, replace(PLAIN, interface=name)).interface == name


@pytest.mark.parametrize(
    "address",
    [
        "10.9.0.1",
        "10.9.0.1/33",
        "10.9.0.1/255.255.255.0",
        "fe80::1%eth0/64",
        "a/24",
        "/24",
        "",
        " ",
    ],
)
def test_an_address_needs_its_prefix_length(address: str) -> None:
    line = complaint("serve", None, replace(PLAIN, address=(address,)))
    assert "is not an address with its prefix length" in line


@pytest.mark.parametrize("address", ["0.0.0.0/0", "::/0", "224.0.0.1/24", "ff02::1/64"])
def test_an_address_of_no_host_or_of_many_is_refused_for_a_device(address: str) -> None:
    assert "cannot be the address of a host" in complaint(
        "serve", None, replace(PLAIN, address=(address,))
    )


def test_an_address_is_there_once_whatever_its_prefix() -> None:
    options = replace(PLAIN, address=("10.9.0.1/24", "fd00::1/64", "10.9.0.1/32"))
    assert "10.9.0.1 is listed twice" in complaint("serve", None, options)


@pytest.mark.parametrize(
    ("mode", "wire", "address", "smallest", "largest"),
    [
        ("tun", "plain", "10.9.0.1/24", 576, 65000),
        ("tap", "plain", "fd00:9::1/64", 1280, 65000),
        ("tun", "simpletun", "10.9.0.1/24", 576, 2000),
        ("tap", "simpletun", "fd00:9::1/64", 1280, 1982),
    ],
)
def test_the_mtu_fits_addresses_and_wire(
    mode: str, wire: str, address: str, smallest: int, largest: int
) -> None:
    options = Options(mode=mode, wire=wire, insecure=True, address=(address,))
    for mtu in (smallest, largest):
        assert load("serve", None, replace(options, mtu=mtu)).mtu == mtu
    for mtu in (smallest - 1, largest + 1, -1, 0):
        line = complaint("serve", None, replace(options, mtu=mtu))
        assert line.endswith(f"({smallest}-{largest})")


@pytest.mark.parametrize(
    ("target", "named"),
    [
        (None, "endpoint: missing; give the URL to dial"),
        ("vpn.example.net", "write tcp://vpn.example.net:55555"),
        (
            "udp://vpn.example.net",
            "endpoint: udp://vpn.example.net:51820: the plain wire is for tcp",
        ),
        ("nonexistent.conf", "No such file"),
        ("nonexistent.toml", "No such file"),
        ("no/such/file", "No such file"),
        ("a/\0", "embedded null byte"),
        ("tcp://[::]", "cannot be dialled"),
        ("tcp://0.0.0.0:55555", "cannot be dialled"),
    ],
)
def test_what_connect_cannot_dial_is_named(target: str | None, named: str) -> None:
    assert named in complaint("connect", target, PLAIN)


def test_connect_takes_one_file(tmp_path: Path) -> None:
    path = file(tmp_path, FILE)
    line = complaint("connect", str(path), Options(config=path, insecure=True))
    assert line.endswith("give only one file")


def test_connect_refuses_a_file_that_listens(tmp_path: Path) -> None:
    path = file(tmp_path, "[listen]")
    assert "listen: 'listen' applies only to serve" in complaint("connect", str(path), PLAIN)
