"""What Tab completes, asked for as the shell does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fastun.command.completion import SHELLS

if TYPE_CHECKING:
    from pathlib import Path

FASTUN = (sys.executable, "-m", "fastun")


def complete(*words: str) -> list[str]:
    """Return what click offers for the last of these words."""
    asked = {"_FASTUN_COMPLETE": "bash_complete", "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        FASTUN,
        env=os.environ | asked | {"COMP_WORDS": " ".join(words)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for number, name in enumerate(("laptop", "lisa", "phone"), 2):
        # fmt: off
        subprocess.run(
            [*FASTUN, "peer", "add", name, "--state", str(tmp_path), "--run-dir", str(tmp_path),
             "--address", f"10.9.0.{number}/24", "--endpoint", "udp://server.example"],
            capture_output=True, check=True,
        )
        # fmt: on
    return tmp_path


def test_commands_and_options_are_completed() -> None:
    assert complete("fastun", "pe") == ["peer"]
    assert "--endpoint" in complete("fastun", "peer", "add", "--end")


@pytest.mark.parametrize("words", [("peer", "show"), ("peer", "limit"), ("doctor",)])
def test_names_of_peers_are_completed(words: tuple[str, ...], state: Path) -> None:
    asked = ("--peer",) if words == ("doctor",) else ()
    assert complete("fastun", *words, "--state", str(state), *asked, "l") == ["laptop", "lisa"]


def test_interfaces_that_run_are_completed(tmp_path: Path) -> None:
    (tmp_path / "office0.sock").touch()
    assert complete("fastun", "reload", "--run-dir", str(tmp_path), "-i", "o") == ["office0"]


def test_a_state_directory_without_peers_is_not_filled(tmp_path: Path) -> None:
    assert complete("fastun", "peer", "show", "--state", str(tmp_path), "l") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_that_the_shell_takes(shell: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*FASTUN, "completion", shell], capture_output=True, text=True, check=True
    )
    assert "_FASTUN_COMPLETE" in done.stdout
    if shutil.which(shell) is None and shell != "bash":
        return  # bash is there, it runs ./run
    script = tmp_path / "script"
    script.write_text(done.stdout)
    subprocess.run([shell, "-n", str(script)], check=True)
