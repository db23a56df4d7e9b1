"""wg-quick files: what wg(8) takes is taken, and what is refused is named by its own keys."""

import os
import subprocess
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastun.config.settings import ConnectSettings, Options, Role, Settings, load
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError
from fastun.session import keys

OWN_KEY, KEY, OTHER_KEY = (keys.generate_private() for _ in range(3))
OWN = keys.format_key(OWN_KEY)
PUBLIC, OTHER_PUBLIC = (keys.format_key(keys.public_of(key)) for key in (KEY, OTHER_KEY))
PRESHARED_KEY = keys.generate_preshared()
PRESHARED = keys.format_key(PRESHARED_KEY)

INTERFACE = f"""
# A client of the office.
[Interface]
PrivateKey = {OWN}
Address = 10.9.0.2/24, fd00:9::2
address=10.8.0.2/32   # the old network
DNS = 10.9.0.1, fd00:9::1 example.net
dns = office.example.net
"""
PEER = f"""
[Peer]
PublicKey = {PUBLIC}
PresharedKey={PRESHARED}
AllowedIPs = 0.0.0.0/0
AllowedIPs = ::/0,10.9.0.7/24
Endpoint = vpn.example.net:51821
PersistentKeepalive = 25
"""
OTHER_PEER = f"""
[peer]
publickey = {OTHER_PUBLIC}
allowedips = 10.7.0.9
"""


def file(directory: Path, text: str, name: str = "wg0.conf") -> Path:
    path = directory / name
    path.touch(0o600)
    path.write_text(text)
    return path


def connect(directory: Path, text: str, options: Options | None = None) -> Settings:
    return load("connect", str(file(directory, text)), options or Options())


def complaint(directory: Path, text: str, role: Role = "connect") -> str:
    path = file(directory, text)
    with pytest.raises(ConfigError) as caught:
        load(role, None, Options(config=path))
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    for secret in (OWN, PRESHARED):
        assert secret[:20] not in line
    return line


def test_a_file_of_wg_quick_is_read_as_it_is(tmp_path: Path) -> None:
    loaded = connect(tmp_path, INTERFACE + PEER)
    assert loaded.interface == "wg0"
    assert loaded.private_key == OWN_KEY
    assert loaded.addresses == tuple(
        map(ip_interface, ("10.9.0.2/24", "fd00:9::2/128", "10.8.0.2/32"))
    )
    assert loaded.dns == ("10.9.0.1", "fd00:9::1")
    assert loaded.dns_search == ("example.net", "office.example.net")
    assert (loaded.mtu, loaded.table, loaded.fwmark, loaded.udp_port) == (1420, "auto", 0, None)
    (peer,) = loaded.peers
    assert peer.name == loaded.peer_name == "wg0"
    assert peer.public_key == keys.public_of(KEY)
    assert peer.preshared_key == PRESHARED_KEY
    assert peer.allowed_ips == tuple(map(ip_network, ("0.0.0.0/0", "::/0", "10.9.0.0/24")))
    assert peer.keepalive_s == 25
    assert loaded.endpoints == peer.endpoints == (Endpoint("udp", "vpn.example.net", 51821),)


def test_its_numbers_may_be_written_in_every_way_that_wg_takes(tmp_path: Path) -> None:
    for line, attribute, value in (
        ("ListenPort = 51900", "udp_port", 51900),
        ("FwMark = 51820", "fwmark", 51820),
        ("FwMark = 0xCa6c", "fwmark", 51820),
        ("fwmark = off", "fwmark", 0),
        ("MTU=1280", "mtu", 1280),
        ("Table = off", "table", "off"),
        ("Table = Auto", "table", "auto"),
        ("Table = 4242", "table", 4242),
        ("Table = 0x10", "table", 16),
        ("Table = main", "table", 254),
        ("Table =", "table", "auto"),
        ("MTU =", "mtu", 1420),
        ("MTU = 1400\n[Interface]\nmtu = 1400 # again", "mtu", 1400),
        ("PostUp =", "mtu", 1420),
        ("SaveConfig = false", "mtu", 1420),
    ):
        assert getattr(connect(tmp_path, INTERFACE + line + PEER), attribute) == value
    off = PEER.replace("PersistentKeepalive = 25", "PersistentKeepalive = OFF")
    assert connect(tmp_path, INTERFACE + off).peers[0].keepalive_s == 0


def test_the_ends_of_its_lines_and_its_comments_may_be_of_any_system(tmp_path: Path) -> None:
    path = file(tmp_path, "")
    content = "\ufeff" + (INTERFACE + PEER).replace("\n", "\r\n")
    path.write_bytes(content.encode() + b"# caf\xe9")
    assert load("connect", str(path), Options()) == connect(tmp_path, INTERFACE + PEER)


def test_a_file_may_be_in_utf_16(tmp_path: Path) -> None:
    path = file(tmp_path, "")
    for codec, mark in (("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")):
        path.write_bytes(mark + (INTERFACE + PEER).replace("\n", "\r\n").encode(codec))
        assert load("connect", str(path), Options()) == connect(tmp_path, INTERFACE + PEER)
        path.write_bytes((INTERFACE + PEER).encode(codec))
        with pytest.raises(ConfigError, match="not a text file; save it as UTF-8"):
            load("connect", str(path), Options())


def test_an_address_that_is_there_twice_has_the_larger_network(tmp_path: Path) -> None:
    text = "Address = 10.7.0.2, 10.7.0.2/24\nAddress = 10.7.0.2/32, 10.7.0.2/24, fd00::2\n"
    loaded = connect(tmp_path, f"[Interface]\nPrivateKey = {OWN}\n{text}{PEER}")
    assert loaded.addresses == (ip_interface("10.7.0.2/24"), ip_interface("fd00::2/128"))


def test_a_domain_may_be_for_routing_only(tmp_path: Path) -> None:
    loaded = connect(tmp_path, INTERFACE + "DNS = ~corp.example, ~.\n" + PEER)
    assert isinstance(loaded, ConnectSettings)
    assert loaded.dns_search[2:] == ("~corp.example", "~.")


def test_peers_have_names_that_are_no_addresses(tmp_path: Path) -> None:
    loaded = connect(tmp_path, INTERFACE + PEER + OTHER_PEER)
    names = [peer.name for peer in loaded.peers]
    for name, public in zip(names, (PUBLIC, OTHER_PUBLIC), strict=True):
        assert name == "peer-" + public[:8].replace("+", "_").replace("/", "_")
    assert loaded.peers[1].endpoints == ()
    assert loaded.peers[1].allowed_ips == (ip_network("10.7.0.9/32"),)


def test_a_key_in_a_name_has_only_signs_that_a_name_can_have(tmp_path: Path) -> None:
    publics = (keys.format_key(keys.public_of(bytes([n] * 32))) for n in range(1, 255))
    public = next(public for public in publics if "/" in public[:8] or "+" in public[:8])
    loaded = connect(tmp_path, INTERFACE + PEER.replace(PUBLIC, public) + OTHER_PEER)
    assert loaded.peers[0].name == "peer-" + public[:8].replace("+", "_").replace("/", "_")


def test_the_device_has_the_files_name_unless_the_command_line_says_another(tmp_path: Path) -> None:
    text = INTERFACE + PEER
    for name, interface, peer in (
        ("office.conf", "office", "office"),
        ("a-name-of-more-than-15.conf", None, "a-name-of-more-than-15"),
        ("my vpn.conf", None, "peer-" + PUBLIC[:8].replace("+", "_").replace("/", "_")),
    ):
        path = str(file(tmp_path, text, name))
        if interface is None:
            with pytest.raises(ConfigError, match="the file's name, which is the interface's"):
                load("connect", path, Options())
        loaded = load("connect", path, Options(interface=None if interface else "tun8"))
        assert (loaded.interface, loaded.peer_name) == (interface or "tun8", peer)
    assert connect(tmp_path, text, Options(interface="tun9", mtu=1300)).interface == "tun9"


def test_serve_takes_a_file_of_a_server(tmp_path: Path) -> None:
    text = f"[Interface]\nPrivateKey = {OWN}\nAddress = 10.9.0.1/24\nListenPort = 51900\n"
    path = file(tmp_path, text + OTHER_PEER)
    loaded = load("serve", None, Options(config=path))
    assert loaded.listen == (Endpoint("udp", "::", 51900),)
    given = load("serve", None, Options(config=path, listen=("tcp://[::]",)))
    assert given.listen == (Endpoint("tcp", "::", 55555),)


@pytest.mark.parametrize("mode", [0o604, 0o640])
@pytest.mark.parametrize("text", [INTERFACE, PEER])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, text: str, mode: int) -> None:
    path = file(tmp_path, text)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="open to other users; run: chmod 600"):
        load("connect", str(path), Options())


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[Interface]\nAdress = 10.9.0.2", "Interface.Adress: unknown key; did you mean Address?"),
        (
            "[Interface]\nzzz = 1",
            "line 2: unknown key in [Interface]; use one of PrivateKey, Address,",
        ),
        ("[Peer]\nallowedip = ::", "Peer.allowedip: unknown key; did you mean AllowedIPs?"),
        ("[Interface]\nEndpoint = a:1", "Interface.Endpoint: belongs in [Peer]"),
        ("[Peer]\nAddress = 10.9.0.2", "Peer.Address: belongs in [Interface]"),
        ("[Interface]\nSaveConfig = yes", "line 2: Interface.SaveConfig: use true or false"),
        ("[Peer]\nPostUp = a", "Peer.PostUp: belongs in [Interface]"),
        ("[Interfaces]", "line 1: '[Interfaces]' is not a section; use [Interface] or [Peer]"),
        ("\n[peer", "line 2: '[peer' is not a section"),
        ("MTU = 1", "line 1: expected [Interface], [Peer], or KEY = VALUE below one"),
        (f"[Interface]\n{OWN}", "line 2: expected"),
        ("[Interface]\nMTU", "line 2: expected"),
        ("[Interface]\nMTU = 1\nmtu = 2", "Interface.MTU: is listed twice; remove one"),
    ],
)
def test_what_is_not_such_a_file_is_named_by_its_line_or_key(
    tmp_path: Path, text: str, named: str
) -> None:
    assert named in complaint(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("MTU = x", "Interface.MTU: 'x' is not a number"),
        ("MTU = -1", "Interface.MTU: '-1' is not a number"),
        ("MTU = " + "9" * 9999, "is not a number"),
        ("MTU = 0x500", "Interface.MTU: '0x500' is not a number"),
        ("FwMark = 0xg", "Interface.FwMark: '0xg' is not a number"),
        ("FwMark = 4294967296", "Interface.FwMark: mark 4294967296 is out of range"),
        ("ListenPort = 65536", "Interface.ListenPort: port 65536 is out of range"),
        (
            "Table = mian",
            "Interface.Table: 'mian' is not auto, all, off, the number of a table, or a name",
        ),
        ("Table = local", "Interface.Table: table 255 is out of range"),
        ("Address = 10.9.0.9/0", "Interface.Address: 10.9.0.9/0 makes all addresses its network"),
        ("DNS = a_!b", "Interface.DNS: 'a_!b' is neither the address of a DNS server"),
        (
            "DNS = fe80::1%$(touch${IFS}PWNED;id>OUT)",
            "Interface.DNS: zone '$(touch${IFS}PWNED;id>OUT)' is not",
        ),
        ("DNS = fd00::1%eth0", "Interface.DNS: zone 'eth0' applies only to link-local"),
        ("Address = 10.9.0.2/33", "Interface.Address: '10.9.0.2/33' is not an"),
        ("MTU = 100", "Interface.MTU: MTU 100 is out of range"),
        ("PrivateKey = x", "Interface.PrivateKey: not a key"),
        ("PrivateKey =", "Interface.PrivateKey: not a key"),
    ],
)
def test_what_an_interface_cannot_be_is_named_by_its_key(
    tmp_path: Path, line: str, named: str
) -> None:
    assert named in complaint(tmp_path, f"{INTERFACE.replace('PrivateKey', '#')}{line}\n{PEER}")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "Peer: missing; give the file that"),
        (OTHER_PEER, "Peer.Endpoint: missing; give the URL to dial"),
        ("[Peer]", "Peer.PublicKey: missing"),
        ("[Peer]\nPublicKey = x", "Peer.PublicKey: not a key"),
        (PEER.replace("::/0", "::/129"), "Peer.AllowedIPs: '::/129' is not a prefix"),
        (PEER.replace(":51821", ":0"), "Peer.Endpoint: 'udp://vpn.example.net:0': port '0' is"),
        (PEER.replace("vpn.example.net", "::1"), "an IPv6 address needs brackets"),
        (PEER.replace("= 25", "= 65536"), "Peer.PersistentKeepalive: 65536 is out of range"),
        (PEER.replace("= 25", "= never"), "Peer.PersistentKeepalive: 'never' is not a number"),
        (PEER + OTHER_PEER.replace("10.7.0.9", "::/0"), "both have ::/0; remove it from one of"),
        (PEER + PEER, "have the same public key"),
        (PEER + OTHER_PEER + "PersistentKeepalive = 99999", "Peer[1].PersistentKeepalive: 99999"),
    ],
)
def test_what_a_peer_cannot_be_is_named_by_its_key(tmp_path: Path, text: str, named: str) -> None:
    assert named in complaint(tmp_path, INTERFACE + text)


@pytest.mark.parametrize("line", ["", "AllowedIPs =\n", "AllowedIPs = # later\n"])
def test_a_peer_may_have_no_allowed_ips(tmp_path: Path, line: str) -> None:
    text = INTERFACE + PEER + OTHER_PEER.replace("allowedips = 10.7.0.9\n", line)
    assert [peer.allowed_ips for peer in connect(tmp_path, text).peers][1] == ()


def test_what_wg_quick_strips_to_is_what_wg_would_be_given(tmp_path: Path) -> None:
    path = file(tmp_path, INTERFACE + "Table = off\nMTU = 1300\n" + PEER + OTHER_PEER)
    stripped = subprocess.run(
        ["wg-quick", "strip", path],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HOME": str(tmp_path)},
    ).stdout
    ours = load("connect", str(path), Options())
    theirs = load("connect", str(file(tmp_path, stripped)), Options())
    assert theirs.peers == ours.peers
    assert theirs.private_key == ours.private_key


KEYS_OF_FILES = st.sampled_from(
    [
        *("PrivateKey", "Address", "ListenPort", "MTU", "DNS", "Table", "FwMark", "PostUp", "mtu"),
        *("PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive", "x"),
    ]
)
VALUES = st.one_of(
    st.text(max_size=20),
    st.integers().map(str),
    st.sampled_from(["off", "auto", "0x1", PUBLIC, OWN, "10.9.0.2/24", "::/0", "a:1", "[::1]:1"]),
)
LINES = st.one_of(
    st.builds("{} = {}".format, KEYS_OF_FILES, VALUES),
    st.sampled_from(["[Interface]", "[Peer]", "[peer]", "[", "# x", f"PublicKey = {PUBLIC}"]),
    st.text(max_size=20),
)


@settings(max_examples=3 * settings().max_examples)
@given(st.one_of(st.lists(LINES).map("\n".join).map(str.encode), st.binary()))
def test_any_file_gives_settings_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.conf"
    path.touch(0o600)
    path.write_bytes(content)
    for role in ("connect", "serve"):
        try:
            load(role, None, Options(config=path))  # type: ignore[arg-type]
        except ConfigError as error:
            assert str(error).isprintable()  # noqa: PT017 (that there is one is no failure)
