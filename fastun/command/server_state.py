"""The options that say where a server's keys and peers are (running_server.py)."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click

from fastun.command.options import DIRECTORY, gateway_option, run_dir_option
from fastun.command.running_server import DEFAULT_STATE, find

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def server_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command` the options that find the server; it is called with `state`, the directory."""

    @functools.wraps(command)
    def found(*, state: Path | None, interface: str | None, run_dir: Path, **rest: Any) -> None:
        command(state=find(state, interface, run_dir), **rest)

    options = (
        click.option(
            "--state",
            type=DIRECTORY,
            metavar="DIR",
            help="Directory for keys and peers."
            f"  [default: that of the running gateway, else {DEFAULT_STATE}]",
        ),
        gateway_option,
        run_dir_option,
    )
    for option in reversed(options):
        found = option(found)
    return found
