"""What packages are made of: manual pages, pinned libraries, scripts, and one version."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click
import pytest
from packaging.requirements import Requirement

import fastun
from fastun.command.cli import cli
from fastun.metrics import readings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
PACKAGING = ROOT / "packaging"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SCRIPTS = sorted(
    path
    for path in PACKAGING.rglob("*")
    if path.is_file() and path.read_bytes().startswith(b"#!/bin/sh")
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("man")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1796000000", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, PACKAGING / "man.py", out], check=True, env=environment)
    return {path.name: path.read_text(encoding="utf-8") for path in out.iterdir()}


def below(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    for each in getattr(command, "commands", {}).values():
        yield from below(each, f"{name}-{each.name}")


COMMANDS = dict(below(cli, "fastun"))


def test_each_command_has_a_manual_page(pages: dict[str, str]) -> None:
    assert set(pages) == {f"{name}.1" for name in COMMANDS} | {"fastun.toml.5"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_manual_page_has_every_option_and_example(name: str, pages: dict[str, str]) -> None:
    text = pages[f"{name}.1"].replace(r"\-", "-").replace(r"\e", "\\")
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option):
            assert all(rf"\fB{option}\fP" in text for option in parameter.opts)
    for example in re.findall(r"^ +(fastun .*)$", COMMANDS[name].help or "", re.MULTILINE):
        assert example in text


def test_manual_pages_are_of_the_day_of_the_sources(pages: dict[str, str]) -> None:
    commands = [text for name, text in pages.items() if name.endswith(".1")]
    assert all('"2026-11-30"' in text.split("\n", 1)[0] for text in commands)


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is missing")
def test_manual_pages_render_without_a_warning(pages: dict[str, str]) -> None:
    for name, text in pages.items():
        # fmt: off
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww"], input=text,
            capture_output=True, text=True, check=True,
        )
        # fmt: on
        assert not done.stderr, name


@pytest.mark.parametrize("name", ["runtime.txt", "tools.txt"])
def test_libraries_are_pinned_with_hashes(name: str) -> None:
    lines = (PACKAGING / name).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    pins = [line for line in lines if line and not line.lstrip().startswith("#")]
    assert pins
    assert all(re.match(r"[\w.-]+==\S+ .*--hash=sha256:", pin) for pin in pins)


def test_the_pinned_libraries_are_those_that_fastun_needs() -> None:
    text = (PACKAGING / "runtime.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
    for needed in map(Requirement, PROJECT["project"]["dependencies"]):
        assert needed.specifier.contains(pins[needed.name.lower()]), needed


@pytest.mark.parametrize("script", SCRIPTS, ids=[str(path.name) for path in SCRIPTS])
def test_scripts_are_of_the_plainest_shell(script: Path) -> None:
    subprocess.run(["sh", "-n", script], check=True)


def test_command_metrics_and_installation_have_one_version() -> None:
    # fmt: off
    said = subprocess.run(
        [sys.executable, "-m", "fastun", "--version"], capture_output=True, text=True, check=True,
    )
    # fmt: on
    assert said.stdout == f"fastun {fastun.__version__}\n"
    configuration = SimpleNamespace(wire="wireguard", mode="tun", interface="fastun0")
    source: Any = SimpleNamespace(gateway=SimpleNamespace(configuration=configuration))
    ((labels, _),) = readings.info(source)
    assert labels[0] == fastun.__version__
    assert importlib.metadata.version("fastun") == fastun.__version__


def test_the_version_is_written_in_one_place() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "fastun.__version__"}
    for path in PACKAGING.rglob("*"):
        if path.is_file() and path.suffix not in (".txt", ".pyc"):
            text = path.read_text("utf-8")
            tags = re.findall(r"fastun:(\d[\w.]*)", text)  # images that examples name
            assert set(tags) <= {fastun.__version__}, path
            assert text.count(fastun.__version__) == len(tags), path
