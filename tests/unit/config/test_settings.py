"""Settings: defaults, file under options, and refusals that name the place and the fix."""

import json
from dataclasses import fields, replace
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastun.config.push_settings import Pushed
from fastun.config.settings import (
    CommonSettings,
    ConnectSettings,
    Options,
    Role,
    ServeSettings,
    Settings,
    load,
)
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError, FastunError
from fastun.peers.peer import Peer
from fastun.session import keys

PLAIN = Options(wire="plain", insecure=True)
SERVER = "tcp://vpn.example.net"


def file(directory: Path, text: str) -> Path:
    path = directory / "fastun.toml"
    path.write_text(text)
    return path


def complaint(role: Role, target: str | None, options: Options) -> str:
    with pytest.raises(ConfigError) as caught:
        load(role, target, options)
    assert caught.value.exit_code == 2
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_serve_needs_nothing_but_leave_to_be_unencrypted() -> None:
    assert load("serve", None, PLAIN) == ServeSettings(
        interface="fastun0",
        mode="tun",
        addresses=(),
        mtu=1500,
        gso=True,
        udp_offload=True,
        mss_clamp=False,
        wire="plain",
        listen=(Endpoint("tcp", "::", 55555),),
        fwmark=0,
        table="off",
        strong_host="auto",
        peer_name="peer",
        private_key=None,
        peers=(),
        push=Pushed(),
        metrics=("127.0.0.1", 10055),
        state_dir=Path("/var/lib/fastun"),
        run_dir=Path("/run/fastun"),
        log_format="console",
        verbosity=0,
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
    assert not loaded.gso
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
    assert not loaded.gso, "what no option says stays as the file has it"


def test_serve_listens_where_the_file_says_unless_told_otherwise(tmp_path: Path) -> None:
    options = replace(PLAIN, config=file(tmp_path, '[listen]\ntcp = ["tcp://192.0.2.1:443"]'))
    assert load("serve", None, options).listen == (Endpoint("tcp", "192.0.2.1", 443),)
    told = replace(options, listen=("tcp://[::1]:1", "tcp://127.0.0.1:1"))
    assert load("serve", None, told).listen == (
        Endpoint("tcp", "::1", 1),
        Endpoint("tcp", "127.0.0.1", 1),
    )


def test_the_encrypted_wire_is_the_default() -> None:
    for options in (Options(), Options(insecure=True), Options(wire="wireguard")):
        assert load("serve", None, options).wire == "wireguard"


@pytest.mark.parametrize("wire", ["plain", "simpletun"])
def test_an_unencrypted_wire_needs_insecure_and_is_told_why(wire: str) -> None:
    line = complaint("connect", SERVER, Options(wire=wire))
    assert "anyone on the path can read and inject packets" in line
    assert "add --insecure" in line


def test_more_lanes_than_there_can_be_are_refused_by_name(tmp_path: Path) -> None:
    path = file(tmp_path, "[interface]\nlanes = 2")
    line = complaint("serve", None, replace(PLAIN, config=path))
    assert line == f"{path}: interface.lanes: 2 lanes are not supported; use 1"


MISWRITTEN = {
    "[interface]\nmtuu = 1": "'interface.mtuu': unknown field; did you mean mtu?",
    "[interfaces]": "'interfaces': unknown field; did you mean interface?",
    "[[peer]]\nendpiont = 'x'": "endpiont': unknown field; did you mean endpoint?",
    "[metrics]\nzzz = 1": "'metrics.zzz': unknown field; use one of listen",
    "[interface]\nmtu = '1500'": "interface.mtu: Expected int, got str",
    "[interface]\nmtu = 1500.0": "interface.mtu: Expected int, got float",
    "[interface]\nmtu = 100000000000000000000": "interface.mtu: Expected int <=",
    "[interface]\naddress = '10.9.0.1/24'": "interface.address: Expected array, got str",
    "[interface]\nmode = 'tpa'": "interface.mode: 'tpa' is not one of tun, tap",
    "[interface]\nname = 'a/b'": "interface.name: 'a/b' is not a valid interface name",
    "[interface]\nmtu = 100": "interface.mtu: MTU 100 is out of range",
    "[listen]\ntcp = []": "listen.tcp: nothing to listen on",
    "[listen]\nudp = []": "listen.udp: nothing to listen on; write udp://[::]:51820",
    "[listen]\ntcp = ['a', 'b']": "listen.tcp: 'a' has no scheme",
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
    "peer = 3": "peer: Expected array, got int",
    "[interface": "not TOML:",
    "a = 0x" + "f" * 9999: "'a': unknown field",
    "a = " + "9" * 9999: "not TOML:",
    "a = " + "[" * 9999: "not TOML:",
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
    (replace(PLAIN, lanes=2), "lanes are not supported; use 1"),
    (replace(PLAIN, lanes=0), "lanes are not supported; use 1"),
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
    (replace(PLAIN, config=Path("/dev/zero")), "/dev/zero: longer than 1 MiB"),
]


@pytest.mark.parametrize(("options", "named"), REFUSED)
def test_what_is_wrong_on_the_command_line_is_named_with_its_option(
    options: Options, named: str
) -> None:
    assert named in complaint("serve", None, options)


@pytest.mark.parametrize(
    "name",
    [".", "..", "all", "default", "a b", "a\tb", "a/b", "a:b", "tun%d", "a\n", "\0", "\udcff"],
)
def test_a_name_that_the_kernel_refuses_or_fills_in_is_no_interface(name: str) -> None:
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
def test_an_address_of_nobody_or_of_many_is_no_address_of_a_device(address: str) -> None:
    assert "cannot be the address of a host" in complaint(
        "serve", None, replace(PLAIN, address=(address,))
    )


def test_an_address_stands_there_once_whatever_its_prefix() -> None:
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


# -- the wireguard wire -----------------------------------------------------------------------

OWN_KEY, KEY, OTHER_KEY = (keys.generate_private() for _ in range(3))
PUBLIC, OTHER_PUBLIC = (keys.format_key(keys.public_of(key)) for key in (KEY, OTHER_KEY))
SECRET = keys.format_key(keys.generate_preshared())
LINES = {
    "name": "'branch'",
    "public_key": f"'{PUBLIC}'",
    "allowed_ips": "['10.9.0.2/32', 'fd00:9::/64']",
}
OTHER_LINES = {
    "name": "'other'",
    "public_key": f"'{OTHER_PUBLIC}'",
    "allowed_ips": "['10.9.0.3', '10.9.0.0/24']",
}
ENDPOINT = {"endpoint": "'tcp://vpn.example.net'"}


def peer_table(lines: dict[str, str], **changed: str | None) -> str:
    fields = {key: value for key, value in {**lines, **changed}.items() if value is not None}
    return "\n".join(["[[peer]]", *(f"{key} = {value}" for key, value in fields.items()), ""])


def test_serve_needs_nothing_at_all_when_it_is_encrypted() -> None:
    loaded = load("serve", None, Options(state=Path("/state")))
    assert loaded.wire == "wireguard"
    assert loaded.addresses == (ip_interface("10.55.0.1/24"),)
    assert loaded.private_key is None
    assert loaded.private_key_file == Path("/state/private.key")
    assert loaded.peers == ()
    own = load("serve", None, Options(address=("fd00:9::1/64",)))
    assert own.addresses == (ip_interface("fd00:9::1/64"),)
    assert load("serve", None, Options(mode="tap")).addresses == ()


def test_serve_takes_its_peers_from_the_file(tmp_path: Path) -> None:
    keys.store_private(tmp_path / "psk", keys.parse_key(SECRET, "psk"))
    text = peer_table(LINES, preshared_key_file="'psk'", keepalive="65535")
    path = file(tmp_path, text + peer_table(OTHER_LINES))
    first, second = load("serve", None, Options(config=path)).peers
    assert first == Peer(
        name="branch",
        public_key=keys.public_of(KEY),
        preshared_key=keys.parse_key(SECRET, "psk"),
        allowed_ips=(ip_network("10.9.0.2/32"), ip_network("fd00:9::/64")),
        keepalive_s=65535,
    )
    assert second.preshared_key is None
    assert second.allowed_ips == (ip_network("10.9.0.3/32"), ip_network("10.9.0.0/24"))


def test_connect_knows_the_one_that_it_dials(tmp_path: Path) -> None:
    path = file(tmp_path, peer_table(LINES, endpoints="['tcp://a', 'tcp://[::1]:1']"))
    loaded = load("connect", str(path), Options())
    (peer,) = loaded.peers
    assert peer.endpoints == (Endpoint("tcp", "a", 55555), Endpoint("tcp", "::1", 1))
    assert loaded.endpoint == peer.endpoints[0]
    assert loaded.peer_name == "branch"
    told = load("connect", "tcp://b", Options(config=path))
    assert told.endpoint == Endpoint("tcp", "b", 55555)
    assert told.peers[0].endpoints == (told.endpoint,)


def test_connect_without_the_key_of_the_other_end_is_told_where_to_get_it(tmp_path: Path) -> None:
    line = complaint("connect", SERVER, Options())
    assert "the public key of tcp://vpn.example.net:55555 is unknown" in line
    assert "'fastun peer add NAME' prints on the server" in line
    assert "'fastun peer add NAME'" in complaint("connect", None, Options())
    path = file(tmp_path, "")
    assert complaint("connect", str(path), Options()).startswith(f"{path}: peer: missing")


@pytest.mark.parametrize("where", ["field", "file"])
def test_the_own_key_stands_in_the_file_or_in_one_of_its_own(tmp_path: Path, where: str) -> None:
    keys.store_private(tmp_path / "own.key", OWN_KEY)
    line = {
        "field": f"private_key = '{keys.format_key(OWN_KEY)}'",
        "file": "private_key_file = 'own.key'",  # relative to the file that names it
    }
    path = file(tmp_path, f"[interface]\n{line[where]}\n")
    path.chmod(0o600)
    loaded = load("serve", None, Options(config=path))
    assert loaded.private_key == OWN_KEY
    assert repr(OWN_KEY) not in repr(loaded)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644])
@pytest.mark.parametrize("held", ["interface.private_key", "peer.preshared_key"])
def test_a_file_that_holds_a_key_and_is_open_to_others_is_refused(
    tmp_path: Path, held: str, mode: int
) -> None:
    section, _, field = held.partition(".")
    text = peer_table(LINES) if section == "peer" else "[interface]\n"
    path = file(tmp_path, f"{text}{field} = '{SECRET}'\n")
    path.chmod(mode)
    line = complaint("serve", None, Options(config=path))
    assert line == f"{path}: holds a key and is open to other users; run: chmod 600 {path}"
    path.chmod(0o600)
    assert load("serve", None, Options(config=path))


@pytest.mark.parametrize("role", ["serve", "connect"])
@pytest.mark.parametrize(
    ("text", "named"),
    [
        (peer_table(LINES, public_key=None), "peer.public_key: missing"),
        (peer_table(LINES, public_key="'x'"), "peer.public_key: not a key"),
        (peer_table(LINES, public_key=f"'{PUBLIC[:-1]}'"), "peer.public_key: not a key"),
        (peer_table(LINES, public_key=f"'{'A' * 43}='"), "peer.public_key: no private key has"),
        (peer_table(LINES, preshared_key=f"'{PUBLIC}x'"), "peer.preshared_key: not a key"),
        (peer_table(LINES, preshared_key_file="'none'"), "peer.preshared_key_file: key file"),
        (peer_table(LINES, preshared_key_file="'open'"), "chmod 600"),
        (peer_table(LINES, preshared_key_file="'empty'"), "empty': not a key"),
        (peer_table(LINES, preshared_key_file="'.'"), "not a file"),
        (peer_table(LINES, preshared_key_file='"a\\u0000"'), "'a\\x00' is not a path"),
        (peer_table(LINES, preshared_key_file="''"), "'' is not a path"),
        (
            peer_table(LINES, preshared_key_file="'x'", preshared_key=f"'{SECRET}'"),
            "conflicts with preshared_key",
        ),
        (peer_table(LINES, allowed_ips=None), "peer.allowed_ips: missing"),
        (peer_table(LINES, allowed_ips="[]"), "peer.allowed_ips: missing"),
        (peer_table(LINES, allowed_ips="['x']"), "peer.allowed_ips: 'x' is not a prefix"),
        (peer_table(LINES, allowed_ips="['10.9.0.2/33']"), "'10.9.0.2/33' is not a prefix"),
        (
            peer_table(LINES, allowed_ips="['10.9.0.2/24']"),
            "write 10.9.0.0/24 for the network, or 10.9.0.2/32 for this host",
        ),
        (peer_table(LINES, allowed_ips="['::/0', '::/0']"), "::/0 is listed twice"),
        (peer_table(LINES, keepalive="-1"), "peer.keepalive: -1 is out of range"),
        (peer_table(LINES, keepalive="65536"), "peer.keepalive: 65536 is out of range"),
        (peer_table(LINES, name="'a b'"), "peer.name: 'a b' is not a valid peer name"),
        (peer_table(LINES) + peer_table(LINES), "peer: two peers are named 'branch'"),
        (
            peer_table(LINES) + peer_table(LINES, name="'b'"),
            "peer: peers 'branch' and 'b' have the same public key",
        ),
        (
            peer_table(LINES) + peer_table(OTHER_LINES, allowed_ips="['fd00:9::/64']"),
            "peer: peers 'branch' and 'other' both have fd00:9::/64",
        ),
        (
            peer_table(LINES) + peer_table(OTHER_LINES, keepalive="99999"),
            "peer[1].keepalive: 99999 is out of range",
        ),
        (
            peer_table(LINES, allowed_ips="['10.9.0.1/32']"),
            "peer 'branch' has 10.9.0.1/32, our own address",
        ),
        (
            f"[interface]\nprivate_key = '{keys.format_key(KEY)}'\n" + peer_table(LINES),
            "peer.public_key: this is our own public key",
        ),
        ("[interface]\nprivate_key = 'x'\n" + peer_table(LINES), "interface.private_key: not"),
        ("[interface]\nprivate_key_file = 'x'\n" + peer_table(LINES), "No such file"),
    ],
)
def test_a_peer_that_cannot_be_is_named_with_its_field(
    tmp_path: Path, role: Role, text: str, named: str
) -> None:
    (tmp_path / "open").write_text(SECRET)
    (tmp_path / "empty").touch(0o600)
    path = file(tmp_path, text)
    path.chmod(0o600)
    line = complaint(role, None, Options(config=path, address=("10.9.0.1/24",)))
    assert line.startswith(f"{path}: ")
    assert named in line
    assert SECRET not in line
    assert keys.format_key(KEY) not in line


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (peer_table(LINES), "peer.endpoint: missing"),
        (peer_table(LINES, endpoint="'tcp://[::]'"), "cannot be dialled"),
        (peer_table(LINES, endpoint="'tcp://a'", endpoints="[]"), "keep one of the two"),
        (
            peer_table(LINES | ENDPOINT) + peer_table(OTHER_LINES),
            "peer[0].endpoint: tcp://vpn.example.net:55555: connect dials only one peer over tcp",
        ),
        (
            "[interface]\naccept = ['dsn']\n" + peer_table(LINES | ENDPOINT),
            "interface.accept: 'dsn' is not one of addresses, routes, dns, mtu",
        ),
    ],
)
def test_what_connect_cannot_use_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = file(tmp_path, text)
    line = complaint("connect", str(path), Options())
    assert line.startswith(f"{path}: ")
    assert named in line


UDP = {"endpoint": "'udp://vpn.example.net'"}


def test_connect_dials_many_over_udp_and_waits_for_some(tmp_path: Path) -> None:
    path = file(tmp_path, peer_table(LINES) + peer_table(OTHER_LINES | UDP))
    loaded = load("connect", str(path), Options())
    assert [peer.name for peer in loaded.peers] == ["branch", "other"]
    assert loaded.endpoints == (Endpoint("udp", "vpn.example.net", 51820),)
    line = complaint("connect", "udp://a", Options(config=path))
    assert line == f"endpoint: {path} has several peers; set it there"


def test_the_one_peer_may_have_endpoints_of_both_kinds_in_its_own_order(tmp_path: Path) -> None:
    urls = "['tcp://a', 'udp://b', 'udp://[::1]:1']"
    loaded = load("connect", str(file(tmp_path, peer_table(LINES, endpoints=urls))), Options())
    assert list(map(str, loaded.endpoints)) == ["tcp://a:55555", "udp://b:51820", "udp://[::1]:1"]
    assert loaded.endpoint == loaded.peers[0].endpoints[0]


def test_serve_listens_on_both_unless_told_or_written_otherwise(tmp_path: Path) -> None:
    udp, tcp = Endpoint("udp", "::", 51820), Endpoint("tcp", "::", 55555)
    assert load("serve", None, Options()).listen == (udp, tcp)
    assert load("serve", None, Options(listen=("udp://[::]",))).listen == (udp,)
    for text, listen in (
        ("[listen]", (udp, tcp)),
        ("[listen]\nudp = ['udp://[::]']", (udp,)),
        ("[listen]\ntcp = ['tcp://[::]']", (tcp,)),
        ("[listen]\ntcp = ['tcp://[::]']\nudp = []", (tcp,)),
        ("[listen]\ntcp = ['tcp://[::]']\nudp = ['udp://[::]']", (udp, tcp)),
    ):
        assert load("serve", None, Options(config=file(tmp_path, text))).listen == listen


def test_serve_dials_a_site_over_udp_only_and_from_a_udp_port(tmp_path: Path) -> None:
    path = file(tmp_path, peer_table(LINES | UDP))
    loaded = load("serve", None, Options(config=path))
    assert loaded.peers[0].endpoints == (Endpoint("udp", "vpn.example.net", 51820),)
    line = complaint("serve", None, Options(config=path, listen=("tcp://[::]",)))
    assert line.startswith(f"{path}: peer.endpoint: serve has no udp port")
    path = file(tmp_path, peer_table(LINES | ENDPOINT))
    line = complaint("serve", None, Options(config=path))
    assert line.startswith(f"{path}: peer.endpoint: serve only accepts TCP connections")


@pytest.mark.parametrize(
    ("role", "endpoints", "mode", "mtu"),
    [
        ("serve", "", "tun", 1420),
        ("serve", "", "tap", 1398),
        ("connect", "['tcp://a']", "tun", 1500),
        ("connect", "['tcp://a']", "tap", 1500),
        ("connect", "['tcp://a', 'udp://a']", "tun", 1420),
        ("connect", "['udp://a']", "tap", 1398),
    ],
)
def test_the_default_mtu_fits_a_datagram_where_a_link_can_be_udp(
    tmp_path: Path, role: Role, endpoints: str, mode: str, mtu: int
) -> None:
    path = file(tmp_path, peer_table(LINES, endpoints=endpoints or None))
    assert load(role, None, Options(config=path, mode=mode)).mtu == mtu
    assert load(role, None, Options(config=path, mode=mode, mtu=1280)).mtu == 1280
    assert load("serve", None, Options(listen=("tcp://[::]",))).mtu == 1500


HOST = """
[interface]
listen_port = 51821
fwmark = 51820
table = 4242
dns = ["10.9.0.1", "example.net", "fd00:9::1", "Example.NET", "10.9.0.1", "fe80::1%eth0.7"]
udp_offload = false
mss_clamp = true
"""


def test_what_connect_changes_of_its_host_is_read_from_the_file(tmp_path: Path) -> None:
    path = file(tmp_path, HOST + peer_table(LINES | UDP))
    loaded = load("connect", str(path), Options())
    assert (loaded.udp_port, loaded.fwmark, loaded.table) == (51821, 51820, 4242)
    assert (loaded.dns, loaded.dns_search) == (
        ("10.9.0.1", "fd00:9::1", "fe80::1%eth0.7"),
        ("example.net",),
    )
    assert (loaded.udp_offload, loaded.mss_clamp) == (False, True)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("listen_port = 65536", "listen_port: port 65536 is out of range"),
        ("listen_port = -1", "listen_port: port -1 is out of range"),
        ("fwmark = -1", "fwmark: mark -1 is out of range"),
        ("fwmark = 4294967296", "fwmark: mark 4294967296 is out of range"),
        ("table = 'main'", "table: 'main' is not auto, off or the number of a table"),
        ("table = 0", "table: table 0 is out of range"),
        ("table = 255", "table: table 255 is out of range"),
        ("table = 4294967296", "table: table 4294967296 is out of range"),
        ("table = true", "table: Expected"),
        ("strong_host = 'yes'", "strong_host: 'yes' is not one of true, false, \"auto\""),
        ("strong_host = 1", "strong_host: Expected"),
        ("mode = 'tap'\ntable = 'auto'", "table: routes on a TAP device need gateways"),
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


@pytest.mark.parametrize("line", ["listen_port = 1", "dns = ['10.9.0.1']"])
def test_serve_refuses_what_is_for_connect(tmp_path: Path, line: str) -> None:
    path = file(tmp_path, f"[interface]\n{line}")
    assert "remove it" in complaint("serve", None, Options(config=path))


def test_serve_is_pushed_nothing(tmp_path: Path) -> None:
    path = file(tmp_path, "[interface]\naccept = []")
    assert "interface.accept: 'accept' applies only to connect" in complaint(
        "serve", None, Options(config=path)
    )


@pytest.mark.parametrize(
    ("text", "options", "accepted"),
    [
        ("", Options(), ("addresses", "routes", "mtu")),
        ("address = ['10.9.0.7/24']", Options(), ("routes", "mtu")),
        ("mtu = 1400", Options(), ("addresses", "routes")),
        ("", Options(mtu=1400, address=("10.9.0.7/24",)), ("routes",)),
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


@settings(deadline=None)
@given(st.text(), st.sampled_from([FastunError, ConfigError]))
def test_an_error_is_one_printable_line_whatever_is_put_into_it(
    text: str, kind: type[FastunError]
) -> None:
    assert str(kind(text)).isprintable()


WORDS = st.one_of(
    st.text(),
    st.sampled_from(["tun", "tap", "plain", "simpletun", "off", "10.9.0.1/24", "fd00::1/64"]),
    st.sampled_from(["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "10.9.0.2/32", "mtu"]),
    st.sampled_from(
        [
            "tcp://a",
            "tcp://[::]:1",
            "udp://a",
            "udp://[::1]:1",
            "auto",
            "a.conf",
            "a.toml",
            "x/",
            "a",
            ":1",
        ]
    ),
)
NUMBERS = st.one_of(st.integers(), st.sampled_from([0, 1, 576, 1280, 1500, 2000, 65000]))
LITERALS = st.one_of(
    WORDS.map(json.dumps),
    st.lists(WORDS, max_size=3).map(json.dumps),
    NUMBERS.map(str),
    st.sampled_from(["true", "false", "nan", "1979-05-27", "{}", "[{}]", "[[1]]", "{x = 1}"]),
)
HEADERS = st.sampled_from(
    ["[interface]", "[listen]", "[metrics]", "[[peer]]", "[forward]", "[peer]", "[x]", '["\\n"]']
)
FIELDS = st.sampled_from(
    [
        *("name", "mode", "address", "mtu", "lanes", "wire", "gso"),
        *("listen_port", "fwmark", "table", "strong_host", "dns", "udp_offload", "mss_clamp"),
        *("tcp", "udp", "listen", "endpoint", "keepalive", "nmae", "''", "'a b'"),
        *("private_key", "private_key_file", "accept", "public_key", "preshared_key"),
        *("preshared_key_file", "allowed_ips", "endpoints"),
    ]
)
TOML_LINES = st.one_of(HEADERS, st.builds("{} = {}".format, FIELDS, LITERALS))
TOML = st.one_of(st.lists(TOML_LINES).map("\n".join).map(str.encode), st.binary())
OPTIONS = st.builds(
    Options,
    interface=st.none() | WORDS,
    mode=st.none() | WORDS,
    address=st.lists(WORDS, max_size=3).map(tuple),
    mtu=st.none() | NUMBERS,
    listen=st.lists(WORDS, max_size=3).map(tuple),
    wire=st.none() | st.sampled_from(["plain", "simpletun", "wireguard"]) | WORDS,
    insecure=st.booleans(),
    metrics=st.none() | WORDS,
    lanes=st.none() | NUMBERS,
    log_format=st.just("console") | WORDS,
)


def outcome(role: Role, target: str | None, options: Options) -> Settings | str:
    try:
        return load(role, target, options)
    except ConfigError as error:
        return str(error)


def settles_or_complains(role: Role, target: str | None, options: Options) -> bool:
    result = outcome(role, target, options)
    return isinstance(result, Settings) or (result != "" and result.isprintable())


@settings(deadline=None)
@given(st.sampled_from(["serve", "connect"]), st.none() | WORDS, OPTIONS)
def test_any_command_line_gives_settings_or_one_line(
    role: Role, target: str | None, options: Options
) -> None:
    assert settles_or_complains(role, target if role == "connect" else None, options)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["serve", "connect"]), TOML)
def test_any_file_gives_settings_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, role: Role, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.touch(0o600)
    path.write_bytes(content)
    assert settles_or_complains(role, None, replace(PLAIN, config=path))
    assert settles_or_complains(role, None, Options(config=path, insecure=True))
    assert settles_or_complains(role, None, Options(config=path, wire="wireguard"))
