"""Settings of the wireguard wire: keys, peers, and where they are dialled."""

from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from fastun.config.settings import (
    Options,
    Role,
    load,
)
from fastun.endpoint import Endpoint
from fastun.peers.peer import Peer
from fastun.session import keys
from tests.support.configuration import (
    ENDPOINT,
    KEY,
    LINES,
    OTHER_KEY,
    OTHER_LINES,
    OWN_KEY,
    PUBLIC,
    SECRET,
    SERVER,
    UDP,
    complaint,
    file,
    peer_table,
)


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
    given = load("connect", "tcp://b", Options(config=path))
    assert given.endpoint == Endpoint("tcp", "b", 55555)
    assert given.peers[0].endpoints == (given.endpoint,)


def test_connect_without_the_key_of_the_other_end_says_where_to_get_it(tmp_path: Path) -> None:
    line = complaint("connect", SERVER, Options())
    assert "the public key of tcp://vpn.example.net:55555 is unknown" in line
    assert "'fastun peer add NAME' prints on the server" in line
    assert "'fastun peer add NAME'" in complaint("connect", None, Options())
    path = file(tmp_path, "")
    assert complaint("connect", str(path), Options()).startswith(f"{path}: peer: missing")


@pytest.mark.parametrize("where", ["field", "file"])
def test_the_own_key_is_in_the_file_or_in_one_of_its_own(tmp_path: Path, where: str) -> None:
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
            "interface.accept: 'dsn' is not one of addresses, routes, default, dns, mtu, keepalive",
        ),
    ],
)
def test_what_connect_cannot_use_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = file(tmp_path, text)
    line = complaint("connect", str(path), Options())
    assert line.startswith(f"{path}: ")
    assert named in line


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


def test_serve_listens_on_both_unless_an_option_or_the_file_says_otherwise(tmp_path: Path) -> None:
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
        ("serve", "", "tap", 1500),
        ("connect", "['tcp://a']", "tun", 1500),
        ("connect", "['tcp://a']", "tap", 1500),
        ("connect", "['tcp://a', 'udp://a']", "tun", 1420),
        ("connect", "['udp://a']", "tap", 1500),
    ],
)
def test_the_default_mtu_fits_a_datagram_where_a_link_can_be_udp_and_is_ethernets_on_tap(
    tmp_path: Path, role: Role, endpoints: str, mode: str, mtu: int
) -> None:
    path = file(tmp_path, peer_table(LINES, endpoints=endpoints or None))
    assert load(role, None, Options(config=path, mode=mode)).mtu == mtu
    assert load(role, None, Options(config=path, mode=mode, mtu=1280)).mtu == 1280
    assert load("serve", None, Options(listen=("tcp://[::]",))).mtu == 1500


# -- peers that are disabled ------------------------------------------------------------------


def test_a_disabled_peer_is_not_there_and_may_share_the_prefixes_of_another(tmp_path: Path) -> None:
    old = peer_table(LINES, enabled="false", preshared_key_file="'no such file'")
    text = old + peer_table(OTHER_LINES, name="'branch'", allowed_ips=LINES["allowed_ips"])
    (peer,) = load("serve", None, Options(config=file(tmp_path, text))).peers
    assert peer.public_key == keys.public_of(OTHER_KEY)
    text = old + peer_table(OTHER_LINES, **UDP)
    path = file(tmp_path, f"[interface]\nprivate_key = '{keys.format_key(OWN_KEY)}'\n{text}")
    path.chmod(0o600)
    assert [peer.name for peer in load("connect", str(path), Options()).peers] == ["other"]


def test_a_complaint_numbers_a_peer_as_the_file_does(tmp_path: Path) -> None:
    text = peer_table(LINES, enabled="false") + peer_table(OTHER_LINES, keepalive="-1")
    path = file(tmp_path, text)
    assert complaint("serve", None, Options(config=path)).startswith(f"{path}: peer[1].keepalive:")


def test_connect_with_nothing_but_disabled_peers_says_so(tmp_path: Path) -> None:
    path = file(tmp_path, peer_table(LINES, **UDP, enabled="false"))
    assert complaint("connect", str(path), Options()) == (
        f"{path}: peer: none is enabled; set enabled = true in the one to dial"
    )
