"""What is run at which event, and what of `[hooks]` is refused before anything is touched."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fastun.config.hooks import Hooks
from fastun.config.settings import Options, load
from fastun.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def loaded(directory: Path, text: str) -> Hooks:
    file = directory / "gateway.toml"
    file.write_text(text)
    return load("serve", None, Options(config=file, state=directory)).hooks


def test_no_section_is_not_a_hook(tmp_path: Path) -> None:
    assert loaded(tmp_path, "") == Hooks()
    assert not loaded(tmp_path, "[hooks]").are_there


def test_programs_are_found_and_arguments_are_left_as_they_are(tmp_path: Path) -> None:
    program = tmp_path / "a b"
    program.touch(0o755)
    text = (
        f"[hooks]\nup = ['{program}', '$(x)', '']\ndown = ['sh', '-c', 'a b; c']\n"
        "peer_up = ['true']\npeer_down = ['/bin/false']\ntimeout = 3"
    )
    hooks = loaded(tmp_path, text)
    assert hooks.are_there
    assert hooks.up == ((str(program), "$(x)", ""),)
    ((shell, *arguments),) = hooks.down
    assert os.path.isabs(shell)  # noqa: PTH117 (a text)
    assert shell.endswith("/sh")
    assert arguments == ["-c", "a b; c"]
    assert hooks.peer_up[0][0].endswith("/true")
    assert hooks.peer_down == (("/bin/false",),)
    assert hooks.timeout_s == 3


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("up = 'true'", "hooks.up: must be a list in brackets"),
        ("up = []", "hooks.up: names no program; write"),
        ("peer_up = ['']", "hooks.peer_up: names no program; write"),
        ("down = ['no-such-program']", "program 'no-such-program' not found; install it, or"),
        ("down = ['./x']", "hooks.down: './x' is a relative path; give it from / on"),
        ("down = ['/etc']", "hooks.down: '/etc' is not a file; give"),
        ("down = ['/nowhere/x']", "hooks.down: '/nowhere/x' does not exist; give"),
        ("down = ['/etc/passwd']", "is not executable; run: chmod +x /etc/passwd"),
        ('up = ["true", "a\\u0000"]', "hooks.up: contains a NUL; remove it"),
        (
            "up = ['true', '" + "x" * 20000 + "']",
            "hooks.up: 2 words of 20004 bytes (maximum 64 and",
        ),
        ("up = [" + "'true', " * 65 + "]", "hooks.up: 65 words of 260 bytes"),
        ("timeout = 0", "hooks.timeout: 0 s is out of range (0.1-300)"),
        ("timeout = nan", "hooks.timeout: nan s is out of range"),
        ("timeout = '5s'", "hooks.timeout: must be a number"),
        ("pre_up = ['true']", "'hooks.pre_up': unknown field; did you mean peer_up?"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(
    tmp_path: Path, line: str, complaint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"[hooks]\n{line}")
    assert complaint in str(caught.value)
    assert "gateway.toml" in str(caught.value)


def test_what_every_user_can_change_is_not_run(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.touch(0o755)
    text = f"[hooks]\nup = ['{program}']"
    program.chmod(0o777)
    with pytest.raises(ConfigError, match=f"changed by every user; run: chmod o-w {program}"):
        loaded(tmp_path, text)
    program.chmod(0o755)
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match=f"every user; run: chmod o-w {tmp_path}$"):
        loaded(tmp_path, text)
    tmp_path.chmod(0o700)
    (tmp_path / "gateway.toml").chmod(0o666)
    with pytest.raises(ConfigError, match="runs programs and can be changed by every user"):
        loaded(tmp_path, text)
    (tmp_path / "gateway.toml").chmod(0o644)
    assert loaded(tmp_path, text).up
