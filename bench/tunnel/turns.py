"""Cases compared in turns: each round starts all anew, and what counts is a ratio within it.

All are up at once, and the one that is started and measured first changes from round to round: a
machine that is busy for a while is so for all. They are started anew each round since a start is a
throw of dice (where memory lies, which processes meet on a core): of two tunnels that are the same
in everything one had 0.98 to 1.07 of the other's goodput, for as long as they were up. Rounds with
one start would repeat one throw, and an interval over them would be too narrow.
"""

from __future__ import annotations

import math
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench.tunnel.measures import socket_buffer_bytes
from bench.tunnel.results import CaseResult, Settings
from bench.tunnel.rounds import Run
from fastun.errors import RuntimeFailure
from fastun.lab.network import Lab

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from bench.tunnel.cases import Case
    from bench.tunnel.measures import Measure

# With six rounds the whole span is 97 % sure; with nine the least and the most can be left out.
ROUNDS = 9
ROUNDS_MIN = 6
_UNSURE = 0.05


def parse_turns(
    parser: argparse.ArgumentParser, arguments: Sequence[str], *, n_trials: int
) -> tuple[argparse.Namespace, Settings]:
    """Read the command line of a comparison that takes turns; SystemExit(2) if it is wrong.

    `parser` gets the options that all of them have, beside its own.
    """
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    parser.add_argument("--seconds", type=int, default=1, metavar="S", help="of one transfer")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < ROUNDS_MIN or chosen.seconds < 1:
        parser.error(f"--rounds must be {ROUNDS_MIN} or more, --seconds 1 or more")
    return chosen, Settings(
        is_quick=True,
        n_rounds=chosen.rounds,
        seconds=chosen.seconds,
        n_trials=n_trials,
        socket_buffer_bytes=socket_buffer_bytes(),
    )


def take_turns(
    cases: Sequence[Case],
    measures: Sequence[Measure],
    settings: Settings,
    say: Callable[[str], None],
) -> dict[str, CaseResult]:
    """Return the figures of all cases by their names, a value a round.

    Raises RuntimeFailure when a case fails: without it a round compares nothing.
    """
    taken = {
        case.name: CaseResult(name=case.name, title=case.title, kind=case.kind) for case in cases
    }
    for number in range(settings.n_rounds):
        with ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastun-bench-"))
            lab = stack.enter_context(Lab())
            run = Run(lab, Path(directory), settings, say)
            run.bring_up(cases[:: -1 if number % 2 else 1])
            run.take_round(number, measures)
        if failed := [f"{case.title}: {reason}" for case in run.cases for reason in case.reasons]:
            raise RuntimeFailure("; ".join(failed))
        for case in run.cases:
            for name, values in case.values.items():
                taken[case.name].values.setdefault(name, []).extend(values)
    return taken


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Return where the median of what `ratios` are drawn from lies, with a confidence of 95 %.

    Order statistics, so whatever the distribution: each ratio is above the true median or below
    it, like the fall of a coin. That takes ROUNDS_MIN of them; fewer give their span.
    """
    ordered, n = sorted(ratios), len(ratios)
    n_left_out, unsure = 0, 2 * 0.5**n
    while n_left_out + 1 < n / 2:
        unsure += 2 * math.comb(n, n_left_out + 1) * 0.5**n
        if unsure > _UNSURE:
            break
        n_left_out += 1
    return ordered[n_left_out], ordered[-1 - n_left_out]
