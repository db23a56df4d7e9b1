"""``fastun bench``: this machine, or a live tunnel, measured with fastun's own source and sink.

Progress goes to stderr, the figures to stdout: tables of 80 columns, or JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fastun.bench import live, machine, report
from fastun.bench.model.grid import View
from fastun.bench.model.measured import N_STEPS as N_STEPS_OF_MODEL
from fastun.bench.model.measured import measured_model
from fastun.bench.model.report import of_model
from fastun.errors import ConfigError, RuntimeFailure
from fastun.lab import entry
from fastun.lab.network import Lab
from fastun.lab.tunnel import GatewayFailed
from fastun.native import LANES_MAX

if TYPE_CHECKING:
    from fastun.bench.figures import Machine
    from fastun.bench.model.figures import Model

_N_STEPS_OF_PEER = 4


def run(
    *,
    peer: str | None,
    served: bool,
    interface: str | None,
    run_dir: Path,
    seconds: float,
    reverse: bool,
    model: bool,
    nic: float | None,
    lanes: int | None,
    as_json: bool,
) -> None:
    """Measure this machine, the tunnel to `peer`, or what a model needs; or serve the second.

    Raises FastunError.
    """
    _check(peer=peer, served=served, interface=interface, reverse=reverse)
    _check_model(model=model, is_live=served or peer is not None, nic=nic, lanes=lanes)
    if served:
        live.serve(interface, run_dir)
        return
    try:
        if model:
            view = View(lanes=lanes) if nic is None else View(nic, lanes)
            _print(_model(seconds, view), of_model, as_json)
            return
        if peer is None:
            _print(_machine(seconds), report.of_machine, as_json)
            return
        with _steps(_N_STEPS_OF_PEER - reverse) as step:
            figures = live.measure(peer, interface, run_dir, seconds, step, only_receiving=reverse)
        _print(figures, report.of_peer, as_json)
    except KeyboardInterrupt:  # A script that waits for figures has got none.
        raise RuntimeFailure("interrupted before any measurement was complete") from None


def _check(*, peer: str | None, served: bool, interface: str | None, reverse: bool) -> None:
    if served and peer is not None:
        raise ConfigError("--serve and --peer are the two ends; give one of them on each host")
    if reverse and peer is None:
        raise ConfigError("--reverse needs --peer")
    if interface is not None and not served and peer is None:
        raise ConfigError("--interface needs --peer or --serve; remove it")


def _check_model(*, model: bool, is_live: bool, nic: float | None, lanes: int | None) -> None:
    is_chosen = nic is not None or lanes is not None
    if model and is_live:
        raise ConfigError("--model measures this machine only; remove --peer or --serve")
    if is_chosen and not model:
        raise ConfigError("--nic and --lanes need --model")
    if lanes is not None and not 1 <= lanes <= LANES_MAX:
        raise ConfigError(f"--lanes: {lanes} is out of range (1-{LANES_MAX})")


def _machine(seconds: float) -> Machine:
    with _laboratory("sudo fastun bench", machine.N_STEPS) as (lab, directory, step):
        return machine.Bench(lab, directory, seconds, step).run()


def _model(seconds: float, view: View) -> Model:
    with _laboratory("sudo fastun bench --model", N_STEPS_OF_MODEL) as (lab, directory, step):
        return measured_model(lab, directory, seconds, view, step)


@contextlib.contextmanager
def _laboratory(as_root: str, n_steps: int) -> Iterator[tuple[Lab, Path, Callable[[str], None]]]:
    """Have a laboratory meanwhile, a directory of its own, and what is called with each step."""
    again = (sys.executable, "-m", "fastun", *sys.argv[1:])
    entry.enter(entry.PROGRAMS, again, as_root)
    try:
        with (
            _steps(n_steps) as step,
            tempfile.TemporaryDirectory(prefix="fastun-bench-") as directory,
            Lab() as lab,
        ):
            yield lab, Path(directory), step
    except GatewayFailed as error:
        last = error.log_lines[-1] if error.log_lines else "it wrote no log"
        raise RuntimeFailure(f"{error}: {last}") from error


@contextlib.contextmanager
def _steps(n_steps: int) -> Iterator[Callable[[str], None]]:
    """Show on stderr what is being done: a bar on a terminal, else a line a step."""
    console = Console(stderr=True, highlight=False)
    columns = (SpinnerColumn("line"), BarColumn(20), TimeElapsedColumn())
    text = TextColumn("{task.description}", markup=False)
    is_terminal = console.is_terminal
    with Progress(
        *columns, text, console=console, transient=True, disable=not is_terminal
    ) as progress:
        task = progress.add_task("", total=n_steps)
        n_begun = 0

        def step(what: str) -> None:
            nonlocal n_begun
            progress.update(task, completed=n_begun, description=what)
            n_begun += 1
            if not is_terminal:
                sys.stderr.write(f"{what}\n")

        yield step


def _print(figures: Any, render: Callable[[Any], Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(msgspec.to_builtins(figures), indent=2) + "\n")
        return
    console = Console(highlight=False)
    with console.capture() as capture:
        console.print(*render(figures), sep="\n")
    # rich fills every line up to the table's width.
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())
