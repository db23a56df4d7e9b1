"""`fastun reload`: what a running gateway has applied of its file."""

from pathlib import Path

import click

from fastun.status import control
from fastun.status.report import socket_of


def run(interface: str | None, run_dir: Path) -> None:
    """Print it. Raises ConfigError for a fault in the file, and RuntimeFailure."""
    path = socket_of(interface, run_dir)
    done = control.reload(path)
    lines = [*done.changes]
    lines += [f"not applied: {line}" for line in done.left_out]
    lines += [f"needs a restart: {field}" for field in done.needs_restart]
    for line in done.remarks:
        click.echo(f"{path.stem}: warning: {line}", err=True)
    for line in lines or ["nothing has changed"]:
        click.echo(f"{path.stem}: {line}")
