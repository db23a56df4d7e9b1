"""A key that a service manager has given: named by $CREDENTIALS_DIRECTORY in a file's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fastun.config.settings import Options, load
from fastun.errors import ConfigError
from fastun.private_file import CREDENTIALS
from fastun.session import keys

if TYPE_CHECKING:
    from pathlib import Path

KEY = keys.generate_private()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "office.toml"
    path.write_text(f'[interface]\nprivate_key_file = "${CREDENTIALS}/key"\n')
    return path


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "credentials"
    directory.mkdir(mode=0o750)
    file = directory / "key"
    file.write_text(keys.format_key(KEY) + "\n")
    file.chmod(0o440)  # the mask of an access list; its only entry is the service's user
    monkeypatch.setenv(CREDENTIALS, str(directory))
    return file


def private_key(config: Path) -> bytes | None:
    return load("serve", None, Options(config=config)).private_key


@pytest.mark.usefixtures("given")
def test_a_credential_is_read_where_the_service_manager_has_put_it(config: Path) -> None:
    assert private_key(config) == KEY


def test_one_that_all_may_read_is_refused(config: Path, given: Path) -> None:
    given.chmod(0o444)
    with pytest.raises(ConfigError, match=r"interface\.private_key_file: .*open to other users"):
        private_key(config)


def test_a_way_out_of_the_directory_is_a_file_like_any_other(config: Path, given: Path) -> None:
    given.rename(given.parent.parent / "key")
    config.write_text(f'[interface]\nprivate_key_file = "${CREDENTIALS}/../key"\n')
    with pytest.raises(ConfigError, match="open to other users"):
        private_key(config)


@pytest.mark.parametrize("directory", ["", "relative"])
def test_without_credentials_the_line_says_what_is_missing(
    config: Path, monkeypatch: pytest.MonkeyPatch, directory: str
) -> None:
    monkeypatch.setenv(CREDENTIALS, directory)
    with pytest.raises(ConfigError, match="private_key_file: this start has no credentials"):
        private_key(config)


def test_one_that_was_not_given_is_named(config: Path, given: Path) -> None:
    given.unlink()
    with pytest.raises(ConfigError, match=r"key file .*credentials/key': No such file"):
        private_key(config)
