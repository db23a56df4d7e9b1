"""Keys as text and as files."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

import pytest

from fastun.errors import ConfigError, RuntimeFailure
from fastun.session import keys
from tests.support.parties import CLIENT, LOW_ORDER_POINTS

if TYPE_CHECKING:
    from pathlib import Path

TEXT = keys.format_key(CLIENT.private)


def test_a_key_survives_being_written_and_read() -> None:
    for key in (bytes(32), bytes([255] * 32), CLIENT.public):
        text = keys.format_key(key)
        assert len(text) == 44
        assert keys.parse_key(text, "field") == key


def test_generated_keys_are_clamped_and_differ() -> None:
    generated = {keys.generate_private() for _ in range(64)}
    assert len(generated) == 64
    for key in generated:
        assert (len(key), key[0] & 7, key[31] >> 6) == (32, 0, 1)
    assert len({keys.generate_preshared() for _ in range(64)}) == 64


def test_generated_keys_use_all_their_other_bits() -> None:
    generated = [keys.generate_private() for _ in range(200)]
    for position in range(32):
        assert len({key[position] for key in generated}) > 20, position


def test_a_public_key_is_that_of_the_pair() -> None:
    assert keys.public_of(CLIENT.private) == CLIENT.public == keys.pair_of(CLIENT.private).public


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT[:-1],
        TEXT + "=",
        TEXT + "\n",
        " " + TEXT[:-1],
        TEXT[:10] + "\n" + TEXT[11:],
        TEXT[:10] + "-" + TEXT[11:],  # URL-safe base64
        TEXT[:42] + "F=",  # unused bits set: another spelling of one key
        base64.b64encode(bytes(31)).decode(),
        base64.b64encode(bytes(33)).decode(),
        "é" + TEXT[1:],
        "A" * 5000,
    ],
)
def test_a_malformed_key_is_named_by_its_field_and_never_shown(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        keys.parse_key(text, "peer 'office' public_key")
    complaint = str(caught.value)
    assert complaint.startswith("peer 'office' public_key: not a key")
    assert TEXT[5:15] not in complaint
    assert "fastun keygen" in complaint


@pytest.mark.parametrize("point", LOW_ORDER_POINTS, ids=bytes.hex)
def test_a_public_key_that_no_session_can_have_is_refused(point: bytes) -> None:
    with pytest.raises(ConfigError, match=r"^public_key: no private key has this public key"):
        keys.parse_public(keys.format_key(point), "public_key")


def test_a_sound_public_key_is_taken() -> None:
    assert keys.parse_public(keys.format_key(CLIENT.public), "public_key") == CLIENT.public


# Files


def test_a_stored_key_is_the_owners_alone_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "private.key"
    keys.store_private(path, CLIENT.private)
    assert path.stat().st_mode & 0o7777 == 0o600
    assert path.read_text(encoding="ascii") == TEXT + "\n"
    assert keys.load_private(path) == CLIENT.private
    assert [entry.name for entry in tmp_path.iterdir()] == ["private.key"]


def test_a_stored_key_is_the_owners_alone_under_any_umask(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        keys.store_private(tmp_path / "private.key", CLIENT.private)
    finally:
        os.umask(previous)
    assert (tmp_path / "private.key").stat().st_mode & 0o7777 == 0o600


def test_a_key_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "private.key"
    keys.store_private(path, CLIENT.private)
    with pytest.raises(ConfigError, match="exists"):
        keys.store_private(path, bytes(32))
    assert keys.load_private(path) == CLIENT.private
    assert len(list(tmp_path.iterdir())) == 1


def test_a_key_that_cannot_be_written_is_one_line_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailure, match=r"private\.key.*No such file or directory"):
        keys.store_private(tmp_path / "none" / "private.key", CLIENT.private)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_a_key_file_open_to_others_is_refused_with_the_fix(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "private.key"
    path.write_text(TEXT, encoding="ascii")
    path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        keys.load_private(path)
    assert str(caught.value).endswith(f"run: chmod 600 {path}")
    assert TEXT not in str(caught.value)
    path.chmod(0o400)
    assert keys.load_private(path) == CLIENT.private


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_line_end_is_not_a_part_of_the_key(tmp_path: Path, end: str) -> None:
    path = tmp_path / "private.key"
    path.write_bytes((TEXT + end).encode())
    path.chmod(0o600)
    assert keys.load_private(path) == CLIENT.private


@pytest.mark.parametrize(
    "content", ["", "\n", "rubbish", TEXT + "\n" + TEXT, TEXT + " ", "\x00\xff", TEXT + "x"]
)
def test_a_key_file_without_a_key_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "private.key"
    path.write_bytes(content.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=r"private\.key'?: not a key") as caught:
        keys.load_private(path)
    assert TEXT not in str(caught.value)


def test_a_missing_file_a_directory_and_a_fifo_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.key.*No such file"):
        keys.load_private(tmp_path / "missing.key")
    with pytest.raises(ConfigError, match="not a file"):
        keys.load_private(tmp_path)
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(ConfigError, match=r"fifo'?: not a file"):
        keys.load_private(tmp_path / "fifo")
