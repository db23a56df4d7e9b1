"""Root's commands on what the services' user owns: read as its own, and made for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fastun import private_file, service_user, state_file
from fastun.errors import ConfigError
from fastun.host.journal.journal_file import Header, JournalFile
from fastun.peers.store import FILE_NAME, PeerStore
from fastun.session import keys

if TYPE_CHECKING:
    from pathlib import Path

SERVICE, OTHER = service_user.Numbers(12345, 12346), 23456

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of the service's."""
    passwd = tmp_path / "passwd"
    passwd.write_text("root:x:0:0::/:\nfastun:x:12345:12346::/:\n")
    monkeypatch.setattr(service_user, "_PASSWD", passwd)
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    os.chown(directory, *SERVICE)
    return directory


def test_what_root_makes_in_the_services_directory_is_the_services(state: Path) -> None:
    keys.load_or_make_private(state / "private.key")
    state_file.replace(state / "counters", b"1")
    with PeerStore(state) as store:
        assert store.peers() == ()
    names = {path.name: path.stat() for path in state.iterdir()}
    assert names.keys() >= {"private.key", "counters", FILE_NAME}
    assert {(each.st_uid, each.st_gid) for each in names.values()} == {SERVICE}


def test_a_journal_s_directory_and_lock_are_the_service_s_and_the_file_is_root_s(
    state: Path,
) -> None:
    directory = state / "journal"
    file = JournalFile.create(directory, Header(boot="b", netns=1, interface="ft0"))
    try:
        owners = {path.name: path.stat().st_uid for path in (directory, *directory.iterdir())}
        assert owners.pop(file.path.name) == 0
        assert owners == {"journal": SERVICE.user, ".lock": SERVICE.user}
    finally:
        file.remove()


def test_a_link_to_a_file_of_root_s_is_not_given_away(state: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(0o600)
    os.link(secret, state / "linked")
    with secret.open() as opened:
        service_user.give(opened.fileno(), state)
    assert secret.stat().st_uid == 0


def test_in_another_user_s_directory_root_s_files_stay_root_s(state: Path) -> None:
    os.chown(state, OTHER, OTHER)
    state_file.replace(state / "counters", b"1")
    assert (state / "counters").stat().st_uid == 0


def test_root_reads_what_the_service_has_made_and_nothing_of_others(state: Path) -> None:
    key = state / "private.key"
    keys.load_or_make_private(key)
    keys.load_private(key)
    os.chown(key, OTHER, OTHER)
    with pytest.raises(ConfigError, match="belongs to user"):
        keys.load_private(key)


def test_only_the_services_group_may_read_a_key(state: Path) -> None:
    key = state / "private.key"
    keys.store_private(key, keys.generate_private())
    os.chown(key, 0, SERVICE.group)
    key.chmod(0o640)
    keys.load_private(key)
    for mode, group in ((0o660, SERVICE.group), (0o644, SERVICE.group), (0o640, OTHER)):
        os.chown(key, 0, group)
        key.chmod(mode)
        with pytest.raises(ConfigError, match="open to other users"):
            keys.load_private(key)


def test_a_service_that_may_not_read_its_settings_says_how_it_may(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = state / "office.toml"
    assert service_user.how_to_let_it_read(file) == ""
    monkeypatch.setattr(os, "geteuid", lambda: SERVICE.user)
    advice = service_user.how_to_let_it_read(file)
    assert advice == f"; run: chgrp fastun {file} && chmod 640 {file}"


def test_root_executes_nothing_of_the_service(state: Path) -> None:
    assert state.stat().st_uid in private_file.trusted_users()
    assert state.stat().st_uid not in private_file.own_users()


@pytest.mark.parametrize("text", ["", "fastun:x:0:0::/:\n", "fastun:x:a:b\n", "fastun\n", ":::\n"])
def test_without_such_a_user_none_is_trusted(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    passwd = tmp_path / "passwd"
    passwd.write_text(text)
    assert service_user.find() is None
    monkeypatch.setattr(service_user, "_PASSWD", tmp_path / "none")
    assert service_user.find() is None
    assert state.stat().st_uid not in private_file.trusted_users()
