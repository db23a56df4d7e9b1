"""Any file and any command line give settings, or one line that says what is wrong."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastun.config.settings import (
    Options,
    Role,
    Settings,
    load,
)
from fastun.errors import ConfigError
from tests.support.configuration import (
    PLAIN,
)

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


@given(st.sampled_from(["serve", "connect"]), st.none() | WORDS, OPTIONS)
def test_any_command_line_gives_settings_or_one_line(
    role: Role, target: str | None, options: Options
) -> None:
    assert settles_or_complains(role, target if role == "connect" else None, options)


@settings(max_examples=3 * settings().max_examples)
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
