"""What one side of a tunnel must not be given, because it could not or would not do it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun.config import settings
from fastun.errors import ConfigError
from fastun.session import keys

if TYPE_CHECKING:
    from pathlib import Path

OWN = keys.format_key(keys.generate_private())
PEER = keys.format_key(keys.public_of(keys.generate_private()))
PEER_SECTION = f"""
[[peer]]
name = "other"
public_key = "{PEER}"
allowed_ips = ["10.9.0.2/32"]
endpoint = "tcp://192.0.2.1:55555"
"""


def complaint(role: settings.Role, path: Path, text: str, *, insecure: bool = False) -> str:
    path.touch(mode=0o600)
    path.write_text(text)
    options = settings.Options(wire="plain" if insecure else None, insecure=insecure)
    if role == "serve":
        options = settings.Options(wire=options.wire, insecure=insecure, config=path)
    with pytest.raises(ConfigError) as caught:
        settings.load(role, str(path) if role == "connect" else None, options)
    return str(caught.value)


def test_a_sealed_client_does_not_listen(tmp_path: Path) -> None:
    text = f'[interface]\nprivate_key = "{OWN}"\n[listen]\ntcp = ["tcp://[::]:55555"]\n'
    said = complaint("connect", tmp_path / "client.toml", text + PEER_SECTION)
    assert "'listen' applies only to serve" in said


def test_a_sealed_server_is_dialled_over_tcp_and_does_not_dial(tmp_path: Path) -> None:
    said = complaint("serve", tmp_path / "server.toml", PEER_SECTION)
    assert "serve only accepts TCP connections" in said


def test_an_unsealed_wire_has_one_endpoint(tmp_path: Path) -> None:
    text = '[[peer]]\nendpoints = ["tcp://192.0.2.1:1", "tcp://192.0.2.2:1"]\n'
    said = complaint("connect", tmp_path / "client.toml", text, insecure=True)
    assert "the plain wire has one endpoint" in said


def test_a_key_on_an_unsealed_wire_would_protect_nothing(tmp_path: Path) -> None:
    text = f'[interface]\nprivate_key = "{OWN}"\n'
    said = complaint("serve", tmp_path / "server.toml", text, insecure=True)
    assert "has no effect on the plain wire" in said
