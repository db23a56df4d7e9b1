"""Files that hold keys: whose they are and where they stand."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fastun import private_file, state_file
from fastun.config.settings import Options, load
from fastun.errors import ConfigError
from fastun.peers.store import FILE_NAME, PeerStore
from fastun.session import keys

if TYPE_CHECKING:
    from pathlib import Path

STRANGER = 12345

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")


@pytest.fixture(autouse=True)
def no_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "private.key"
    path.parent.mkdir(mode=0o700)
    keys.store_private(path, keys.generate_private())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        keys.load_private(path)
    (line,) = str(caught.value).splitlines()
    return line


def test_a_key_of_another_user_is_refused_with_the_fix(key: Path) -> None:
    os.chown(key, STRANGER, 0)
    assert refusal(key).startswith("key file '")
    assert refusal(key).endswith(f"/private.key' belongs to user {STRANGER}; run: chown root {key}")


def test_a_group_does_not_matter_as_long_as_it_may_nothing(key: Path) -> None:
    os.chown(key, 0, STRANGER)
    assert len(keys.load_private(key)) == 32
    for mode in (0o640, 0o620, 0o604, 0o602, 0o601):
        key.chmod(mode)
        assert refusal(key).endswith(f"is open to other users; run: chmod 600 {key}")


@pytest.mark.parametrize("mode", [0o770, 0o720, 0o707, 0o777])
def test_a_directory_in_which_others_may_write_is_refused(key: Path, mode: int) -> None:
    key.parent.chmod(mode)
    assert refusal(key).endswith(f"can be replaced by other users; run: chmod go-w {key.parent}")


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o711, 0o1777])
def test_others_may_look_into_a_directory_and_write_where_it_is_sticky(
    key: Path, mode: int
) -> None:
    key.parent.chmod(mode)
    keys.load_private(key)


def test_a_directory_of_another_user_is_refused_sticky_or_not(key: Path) -> None:
    os.chown(key.parent, STRANGER, 0)
    for mode in (0o700, 0o1777):
        key.parent.chmod(mode)
        assert f"can be replaced by user {STRANGER}" in refusal(key)
        # It may be someone's home: to take it from its owner would be no advice.
        assert refusal(key).endswith("; move it to a directory that belongs to root")


def test_of_a_link_its_target_is_looked_at_and_both_directories(key: Path, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir(mode=0o700)
    link = links / "link.key"
    link.symlink_to(key)
    keys.load_private(link)
    links.chmod(0o777)
    assert "chmod go-w" in refusal(link)
    links.chmod(0o700)
    key.parent.chmod(0o777)
    assert str(key.parent) in refusal(link)
    key.parent.chmod(0o700)
    os.chown(key, STRANGER, 0)
    assert f"user {STRANGER}" in refusal(link)


def test_who_has_become_root_by_sudo_may_have_the_file(
    key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chown(key, STRANGER, 0)
    os.chown(key.parent, STRANGER, 0)
    monkeypatch.setenv("SUDO_UID", str(STRANGER))
    keys.load_private(key)
    for other in (str(STRANGER + 1), "x", "", "\u0663"):
        monkeypatch.setenv("SUDO_UID", other)
        refusal(key)
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER + 2)
    monkeypatch.setenv("SUDO_UID", str(STRANGER))
    assert private_file.trusted_users() == {0, STRANGER + 2}


PRIVATE = keys.format_key(keys.generate_private())
PUBLIC = keys.format_key(keys.public_of(keys.generate_private()))
TOML = f"""
[interface]
private_key = "{PRIVATE}"
[[peer]]
public_key = "{PUBLIC}"
allowed_ips = ["10.9.0.0/24"]
endpoint = "udp://192.0.2.1"
"""
WG_QUICK = f"""
[Interface]
PrivateKey = {PRIVATE}
[Peer]
PublicKey = {PUBLIC}
AllowedIPs = 10.9.0.0/24
Endpoint = 192.0.2.1:51820
"""


@pytest.mark.parametrize(("name", "text"), [("wg0.toml", TOML), ("wg0.conf", WG_QUICK)])
def test_a_configuration_with_a_key_is_looked_at_like_a_key(
    tmp_path: Path, name: str, text: str
) -> None:
    file = tmp_path / name
    file.touch(0o600)
    file.write_text(text)
    load("connect", str(file), Options())
    os.chown(file, STRANGER, 0)
    with pytest.raises(ConfigError, match=f"belongs to user {STRANGER}; run: chown root"):
        load("connect", str(file), Options())
    os.chown(file, 0, 0)
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="can be replaced by other users"):
        load("connect", str(file), Options())


def test_a_configuration_without_a_key_may_be_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "plain.toml"
    file.write_text("[interface]\nname = 'a'\n")
    os.chown(file, STRANGER, 0)
    load("serve", None, Options(config=file))


@pytest.mark.parametrize("suffix", ["", "-journal", "-wal", "-shm"])
def test_a_peer_directory_is_ours_alone_and_what_sqlite_has_beside_it(
    tmp_path: Path, suffix: str
) -> None:
    PeerStore(tmp_path).close()
    file = tmp_path / f"{FILE_NAME}{suffix}"
    file.touch(0o600)
    PeerStore(tmp_path).close()
    file.touch(0o600)  # SQLite removes what it need not keep
    os.chown(file, STRANGER, 0)
    with pytest.raises(ConfigError, match=f"belongs to user {STRANGER}"):
        PeerStore(tmp_path)
    os.chown(file, 0, 0)
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="open to other users"):
        PeerStore(tmp_path)


def test_a_state_directory_in_which_others_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    with pytest.raises(ConfigError, match="can be replaced by other users; run: chmod go-w"):
        PeerStore(tmp_path)


def test_a_link_in_place_of_a_half_written_file_is_not_followed(tmp_path: Path) -> None:
    file, victim = tmp_path / "endpoints", tmp_path / "victim"
    victim.write_bytes(b"kept")
    planted = file.with_name(f".{file.name}.{os.getpid()}")
    for plant in (planted.symlink_to, planted.hardlink_to):
        plant(victim)
        state_file.replace(file, b"content")
        assert (victim.read_bytes(), file.read_bytes()) == (b"kept", b"content")
        assert victim.stat().st_nlink == 1
