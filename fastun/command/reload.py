"""`fastun reload`: what a running gateway has applied of its file."""

import contextlib
from pathlib import Path

import click

from fastun.errors import ConfigError, RuntimeFailure
from fastun.status import control
from fastun.status.report import living, socket_of


def run(interface: str | None, run_dir: Path, pid: int | None = None) -> None:
    """Print it. Raises ConfigError for a fault in the file, and RuntimeFailure."""
    if pid is not None and interface is not None:
        raise ConfigError("--pid: conflicts with --interface; give one of the two")
    path = socket_of(interface, run_dir) if pid is None else _socket_of_process(pid, run_dir)
    done = control.reload(path)
    lines = [*done.changes]
    lines += [f"not applied: {line}" for line in done.left_out]
    lines += [f"needs a restart: {field}" for field in done.needs_restart]
    for line in done.remarks:
        click.echo(f"{path.stem}: warning: {line}", err=True)
    for line in lines or ["nothing has changed"]:
        click.echo(f"{path.stem}: {line}")


def _socket_of_process(pid: int, run_dir: Path) -> Path:
    for path in living(run_dir):
        with contextlib.suppress(RuntimeFailure):  # another one that hangs
            if control.request(path, "status").pid == pid:
                return path
    raise RuntimeFailure(f"--pid {pid}: not a gateway in {run_dir}; 'fastun status' lists them")
