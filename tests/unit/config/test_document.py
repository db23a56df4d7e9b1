"""The configuration file as text: what is written is read back, and keys are kept from others."""

import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from fastun import input_file
from fastun.config import document, written
from fastun.config.document import Document, InterfaceSection, PeerSection, Secret
from fastun.errors import ConfigError

SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3I="  # noqa: S105 (a test's)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "laptop.toml"
    made = Document(
        interface=InterfaceSection(
            name="office",
            mode="tap",
            address=("10.9.0.2/24", "fd00:9::2/64"),
            mtu=1400,
            gso=False,
            private_key=Secret(SECRET),
            accept=(),
        ),
        peer=(
            PeerSection(name="a", endpoint="tcp://[::1]:1", keepalive=0),
            PeerSection(name="b", endpoints=("tcp://a:1", "tcp://b:2"), public_key=SECRET),
        ),
    )
    path.touch(0o600)
    path.write_text(written.write(made))
    with document.reading(path) as read:
        pass
    assert read.peer == made.peer
    held = read.interface.private_key
    assert held is not None
    assert held.reveal() == SECRET
    fields = set(InterfaceSection.__struct_fields__) - {"private_key"}
    for field in fields:
        assert getattr(read.interface, field) == getattr(made.interface, field)


def test_a_secret_is_in_no_repr() -> None:
    section = InterfaceSection(private_key=Secret(SECRET))
    assert SECRET not in f"{section!r} {section} {Document(interface=section)!r}"


@pytest.mark.parametrize(
    "text",
    [
        f"[interface]\nprivate_key = 3\naddress = '{SECRET}'",
        f"[interface]\nprivate_key = ['{SECRET}']",
        f"[interface]\nprivate_key = '{SECRET}",
        f"[interface]\nprivate_key = {SECRET}",
        f"[interface]\nprivate_key = '{SECRET}'\nprivate_key = '{SECRET}'",
        f"[[peer]]\npreshared_key = '{SECRET}'\nx = 1",
        f"{SECRET}",
    ],
)
def test_no_complaint_about_a_file_shows_its_keys(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fastun.toml"
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(ConfigError) as caught, document.reading(path):
        pass
    assert SECRET[:8] not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_not_a_text_is_refused_by_position_alone(tmp_path: Path) -> None:
    path = tmp_path / "fastun.toml"
    path.write_bytes(b"ab\xff\xfe")
    with pytest.raises(ConfigError, match="byte 2 is not UTF-8"), document.reading(path):
        pass


def test_the_file_that_was_read_is_the_one_whose_mode_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, private = tmp_path / "client.toml", tmp_path / "private.toml"
    for file, mode in ((path, 0o644), (private, 0o600)):
        file.write_text('[interface]\nprivate_key = "x"\n')
        file.chmod(mode)

    def loads_and_swaps(text: str) -> dict[str, object]:
        private.replace(path)
        return loads(text)

    loads = tomllib.loads
    monkeypatch.setattr(tomllib, "loads", loads_and_swaps)
    with pytest.raises(ConfigError, match="open to other users"), document.reading(path):
        pass


def test_a_client_file_may_come_through_a_pipe() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, f"[interface]\nprivate_key = '{SECRET}'".encode())
    os.close(write_end)
    with document.reading(Path(f"/dev/fd/{read_end}")) as read:
        held = read.interface.private_key
    os.close(read_end)
    assert held is not None
    assert held.reveal() == SECRET


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.write_text(""), "empty; write the settings to it, then reload again"),
        (lambda path: path.symlink_to("/dev/null"), "not a file that can be read again"),
        (os.mkfifo, "not a file that can be read again; restart the gateway"),
    ],
)
def test_what_would_read_as_nothing_does_not_replace_what_runs(
    tmp_path: Path, make: Callable[[Path], object], why: str
) -> None:
    path = tmp_path / "gateway.toml"
    make(path)
    refused = pytest.raises(ConfigError, match=re.escape(f"{path}: {why}"))
    with refused, document.reading(path, is_again=True):
        pass


def test_a_pipe_without_a_writer_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_file, "_FOR_A_WRITER_MS", 1)
    os.mkfifo(tmp_path / "a.toml", 0o600)
    refused = pytest.raises(ConfigError, match=r"cannot read .*a pipe that nothing writes to")
    with refused, document.reading(tmp_path / "a.toml"):
        pass


def test_a_pipe_that_was_read_at_the_start_is_not_read_again() -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    refused = pytest.raises(ConfigError, match="not a file that can be read again")
    with refused, document.reading(Path(f"/dev/fd/{read_end}"), is_again=True):
        pass
    os.close(read_end)
