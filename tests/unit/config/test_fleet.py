"""`[fleet]`: which directory, without a password in any line."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from fastun.config.fleet import Fleet, parse_directory
from fastun.config.settings import Options, ServeSettings, load
from fastun.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

URL = "postgresql://fastun@db.example.net/fastun?sslmode=verify-full"


def load_file(tmp_path: Path, text: str, role: str = "serve", **options: object) -> ServeSettings:
    file = tmp_path / "ft0.toml"
    file.write_text(text)
    loaded = load(role, None, Options(config=file, **options))  # type: ignore[arg-type]
    assert isinstance(loaded, ServeSettings)
    return loaded


def test_a_gateway_has_a_directory_and_a_name(tmp_path: Path) -> None:
    settings = load_file(tmp_path, f'[fleet]\ndirectory = "{URL}"\nname = "gw1"')
    assert settings.fleet == Fleet(directory=URL, name="gw1")
    assert load_file(tmp_path, "").fleet is None


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://fastun:hunter2@db/fastun",
        "postgresql://:hunter2@db/fastun",
        "postgresql://db/fastun?password=hunter2",
        "postgresql://db/fastun?sslmode=require&PASSWORD=hunter2",
        "postgresql://db/fastun?sslpassword=hunter2",
    ],
)
def test_a_password_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="has a password") as caught:
        parse_directory(url, "fleet.directory")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "1 to 1024 printable"),
        ("postgresql://" + "a" * 1024, "1 to 1024 printable"),
        ("postgresql://db/fas tun", "without spaces"),
        ("mysql://db/fastun", "must begin with postgresql://"),
        ("db.example.net", "must begin with postgresql://"),
        ("postgresql://[::1/fastun", "not a URL"),
        ("postgresql://db/fastun#x", "unexpected '#'"),
    ],
)
def test_what_cannot_be_a_directory_is_one_line(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_directory(url, "fleet.directory")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[fleet]", "fleet.directory: missing"),
        (f'[fleet]\ndirectory = "{URL}"\nname = "gw 1"', "fleet.name: 'gw 1' cannot name"),
        (f'[fleet]\ndirectory = "{URL}"\nnme = "x"', "did you mean name"),
    ],
)
def test_a_section_that_is_wrong_names_its_field(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_file(tmp_path, text)


def test_a_client_and_an_unencrypted_wire_have_no_fleet(tmp_path: Path) -> None:
    text = f'[fleet]\ndirectory = "{URL}"\nname = "gw1"'
    with pytest.raises(ConfigError, match="'fleet' applies only to serve"):
        load_file(tmp_path, text, "connect")
    with pytest.raises(ConfigError, match="the plain wire has no peer directory"):
        load_file(tmp_path, text, wire="plain", insecure=True)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"psycopg is not installed; install fastun\[fleet\]"):
        load_file(tmp_path, f'[fleet]\ndirectory = "{URL}"')
