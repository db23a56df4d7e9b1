"""Settings from a file or a command line, for the tests of what each may say."""

from pathlib import Path

import pytest

from fastun.config.settings import (
    Options,
    Role,
    load,
)
from fastun.errors import ConfigError
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
UDP = {"endpoint": "'udp://vpn.example.net'"}


def peer_table(lines: dict[str, str], **changed: str | None) -> str:
    fields = {key: value for key, value in {**lines, **changed}.items() if value is not None}
    return "\n".join(["[[peer]]", *(f"{key} = {value}" for key, value in fields.items()), ""])
