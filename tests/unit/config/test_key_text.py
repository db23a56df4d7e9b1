"""No complaint shows a piece of a key, wherever in a file or on a command line the key is."""

from __future__ import annotations

import random
import re
import sys
import traceback
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastun import ending
from fastun.command.cli import main
from fastun.config.key_text import without_keys
from fastun.config.settings import Options, Role, load
from fastun.errors import ConfigError
from fastun.session import keys
from tests.support.configuration import SECRET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OWN = keys.format_key(keys.generate_private())
PUBLIC, OTHER_PUBLIC = (keys.format_key(keys.public_of(bytes([n] * 32))) for n in (1, 2))
PIECE_CHARS = 6

TOML = f"""
[interface]
name = "office0"
address = ["10.9.0.2/24"]
mtu = 1400
dns = ["10.9.0.1", "example.net"]
private_key = "{OWN}"

[[peer]]
name = "server"
endpoint = "udp://vpn.example.net:51820"
public_key = "{PUBLIC}"
preshared_key = "{SECRET}"
allowed_ips = ["10.9.0.0/24"]

[[peer]]
name = "branch"
public_key = "{OTHER_PUBLIC}"
allowed_ips = ["10.8.0.0/24"]
keepalive = 25
"""
WG_QUICK = f"""
[Interface]
PrivateKey = {OWN}
Address = 10.9.0.2/24, fd00:9::2
ListenPort = 51900
DNS = 10.9.0.1
Table = 1000
MTU = 1400

[Peer]
PublicKey = {PUBLIC}
PresharedKey = {SECRET}
AllowedIPs = 0.0.0.0/0
Endpoint = vpn.example.net:51820

[Peer]
PublicKey = {OTHER_PUBLIC}
AllowedIPs = 10.8.0.0/24
PersistentKeepalive = 25
"""
FILES = {"any.toml": TOML, "any.conf": WG_QUICK}


def shows_a_piece(shown: str, key: str) -> bool:
    """Whether six letters in a row of the key are there, in whatever case."""
    shown, key = shown.lower(), key.lower().rstrip("=")
    pieces = (key[n : n + PIECE_CHARS] for n in range(len(key) - PIECE_CHARS + 1))
    return any(piece in shown for piece in pieces)


def outcome(path: Path, role: Role) -> str:
    """What a person, a log or a traceback is shown of a file."""
    try:
        load(role, None, Options(config=path))
    except ConfigError as error:
        return f"{error} {''.join(traceback.format_exception(error))}"
    return ""  # What it takes for a name, a host or a public key is not a secret any more.


RANDOM = st.integers(0, 2**64).map(random.Random)  # Not Hypothesis's own, which shrinks to zeros.
# Whole, without its end, without its beginning, or as another program writes it.
WRITTEN = (
    str,
    lambda key: key[:-1],
    lambda key: key[:-6],
    lambda key: key[7:],
    lambda key: f"'{key}'",
    lambda key: f'"{key}"',
    lambda key: f"\n{key}\n",
    lambda key: f" {key} ",
)


@settings(max_examples=6 * settings().max_examples)
@given(
    st.sampled_from(sorted(FILES)),
    st.sampled_from(["connect", "serve"]),
    RANDOM,
    st.sampled_from(WRITTEN),
)
def test_a_key_anywhere_in_a_file_is_shown_nowhere(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    role: Role,
    chance: random.Random,
    written: Callable[[str], str],
) -> None:
    key, text = keys.format_key(chance.randbytes(32)), FILES[name]
    start = chance.randrange(len(text))
    end = start + chance.choice([0, 0, 1, 5, 20, 50])
    text = text[:start] + written(key) + text[end:]
    is_public = re.search(f'public_?key *= *"?{re.escape(key)}', text, re.IGNORECASE)
    path = tmp_path_factory.getbasetemp() / name
    path.touch(0o600)
    path.write_text(text)
    shown = outcome(path, role)
    for secret in (key, OWN, SECRET):
        if not (secret == key and is_public):
            assert not shows_a_piece(shown, secret), shown


@settings(max_examples=3 * settings().max_examples)
@given(
    st.sampled_from(sorted(FILES)),
    st.sampled_from(["PrivateKey", "private_key", "PresharedKey", "preshared_key"]),
    RANDOM,
)
def test_a_piece_of_a_key_below_a_misspelt_name_is_not_shown(
    tmp_path_factory: pytest.TempPathFactory, name: str, field: str, chance: random.Random
) -> None:
    key = keys.format_key(chance.randbytes(32))[: chance.randint(6, 44)]
    at = chance.randrange(1, len(field))
    misspelt = chance.choice([field, field[:at] + field[at + 1 :], f"{field[:at]}x{field[at:]}"])
    line = f"{misspelt}{chance.choice(['=', ' = ', ': ', ' '])}{chance.choice(['', chr(34)])}{key}"
    lines = FILES[name].split("\n")
    lines.insert(chance.randrange(len(lines)), line)
    path = tmp_path_factory.getbasetemp() / name
    path.touch(0o600)
    path.write_text("\n".join(lines))
    shown = outcome(path, "connect")
    assert not shows_a_piece(shown, key), shown


@given(RANDOM)
def test_what_is_loaded_shows_no_key_when_it_is_printed(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random
) -> None:
    name = chance.choice(sorted(FILES))
    path = tmp_path_factory.getbasetemp() / name
    path.touch(0o600)
    path.write_text(FILES[name])
    shown = repr(load("connect", str(path), Options()))
    assert not shows_a_piece(shown, OWN)
    assert not shows_a_piece(shown, SECRET)


@pytest.mark.parametrize(
    "arguments",
    [
        ("connect", OWN),
        ("connect", f"udp://{OWN}"),
        ("connect", "--address", OWN, "udp://a"),
        ("connect", "--interface", OWN, "udp://a"),
        ("connect", "--mtu", OWN, "udp://a"),
        ("connect", "--wire", OWN, "udp://a"),
        ("connect", "--metrics", OWN, "udp://a"),
        ("connect", "udp://a", OWN),
        ("connect", f"--{OWN}"),
        ("connect", "--private-key", OWN[:20], OWN[20:], "x"),
        ("serve", "--listen", OWN),
        ("peer", "add", OWN),
        ("peer", "add", "a", "--endpoint", OWN),
        ("peer", "add", "a", "--address", f"{OWN}/24"),
        ("peer", "show", OWN),
        ("peer", "remove", OWN[:-1]),
        ("status", "-i", OWN),
        ("top", "--interval", OWN),
        ("bench", "--peer", OWN),
        (OWN,),
    ],
)
def test_a_key_on_the_command_line_is_not_repeated(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fastun", *arguments])
    monkeypatch.setattr(ending, "handle", lambda *_: None)
    with pytest.raises(SystemExit) as end:
        main()
    shown = "".join(capsys.readouterr())
    assert end.value.code in (1, 2)
    assert shown.startswith("fastun: ")
    assert not shows_a_piece(shown, OWN), shown


def test_a_message_keeps_what_is_not_a_key() -> None:
    for text in (
        "/home/Alice/VPN/Office1/client.toml",
        "vpn-gateway.Frankfurt.example.net:51820",
        "fd00:9:dead:beef:1:2:3:4/64",
        "PersistentKeepalive = 25",
        f"[Peer]\nPublicKey = {PUBLIC}",
        "# The keys of laptop: keep the file at mode 0600, and use it on one host.",
    ):
        assert without_keys(f"a: {text!r} is wrong", text) == f"a: {text!r} is wrong"


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("PrivateKey = abcdefgh", "abcdefgh"),
        ("  privatekey=abcdefgh", "abcdefgh"),
        ("private_key: abcdefgh", "abcdefgh"),
        ("'private_key' = 'abcdefgh'", "abcdefgh"),
        ("PrivateKey abcdefgh", "abcdefgh"),
        ("Private Key = abcdefgh", "abcdefgh"),
        ("prvatekey = abcdefgh", "abcdefgh"),
        ("PresharedKy = abcdefgh", "abcdefgh"),
        ("PSK = abcdefgh", "abcdefgh"),
        ("x = { name = 'a', private_key = 'abcdefgh' }", "abcdefgh"),
        ("PrivateKey = abc defghijk", "defghijk"),
        ("MTU = 1Efghijk9lmn=", "1Efghijk9lmn"),
        ("1Efghijk9lmn=\n", "1Efghijk9lmn"),
        ("MTU = /some/path/or/so/but/as/long/as/a/key/is/ab=", "/some/path/or/so"),
        ("MTU = 00112233445566778899aabbccddeeff", "00112233445566778899aabbccddeeff"),
        ("PrivateKey = ABCDEFGH", "abcdefgh"),
    ],
)
def test_what_follows_a_secrets_name_or_ends_like_a_key_is_hidden(text: str, piece: str) -> None:
    hidden = without_keys(f"x: '{piece}' is not a number", text)
    assert hidden == "x: '(hidden)' is not a number"
