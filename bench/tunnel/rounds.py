"""One run: bring all cases up, take the measures round by round, and go on where one fails.

    for each round: for each measure: A B C ...; the next round begins one case further

A failure belongs to its case alone. What the case has measured stays; if its tunnel still answers
it goes on with the next measure, else it has ended for this run.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from bench.tunnel.cpu import idle_share
from bench.tunnel.measures import Measure, Subject
from bench.tunnel.pair import START_TIMEOUT_S, Pair, make_pair
from bench.tunnel.results import ABSENT, CaseResult
from fastun.errors import FastunError
from fastun.lab.host import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.tunnel.cases import Case
    from bench.tunnel.results import Settings
    from fastun.lab.network import Lab

# Between the end of a measure and the next one: queues drain, retransmissions end.
SETTLE_S = 0.2
IDLE_WATCH_S = 1.0
# What can go wrong in one case: a laboratory or program that fails, a process that is gone.
FAILURES = (FastunError, OSError, subprocess.SubprocessError, psutil.Error)


@dataclass(slots=True)
class _Running:
    case: Case
    result: CaseResult
    pair: Pair


class Run:
    """The cases of one run, from their start to their last figure."""

    def __init__(
        self, lab: Lab, directory: Path, settings: Settings, say: Callable[[str], None]
    ) -> None:
        """Prepare; `directory` takes the programs' files, `say` is called with every step."""
        self._lab = lab
        self._directory = directory
        self._settings = settings
        self._say = say
        self._running: list[_Running] = []
        self.cases: list[CaseResult] = []
        self.idle_shares: list[float] = []

    def bring_up(self, cases: Sequence[Case]) -> None:
        """Start the programs of all cases, one case after the other."""
        for case in cases:
            self._say(f"starting {case.title}")
            result = CaseResult(name=case.name, title=case.title, kind=case.kind)
            self.cases.append(result)
            if absent := case.absent_programs():
                result.status = ABSENT
                result.reasons.append(f"not installed: {', '.join(absent)}")
            else:
                self._start(case, result)

    def measure(self, measures: Sequence[Measure]) -> None:
        """Take all measures of all cases, as many rounds as the settings say."""
        for number in range(self._settings.n_rounds):
            first = number % len(self._running) if self._running else 0
            self.take_round(number, measures, first=first)

    def take_round(self, number: int, measures: Sequence[Measure], *, first: int = 0) -> None:
        """Take all measures of all cases once, each measure beginning with case ``first``."""
        self.idle_shares.append(idle_share(IDLE_WATCH_S))
        in_turn = self._running[first:] + self._running[:first]
        for measure in measures:
            for running in in_turn:
                if running in self._running:
                    what = f"round {number + 1}/{self._settings.n_rounds}, {measure.name}"
                    self._say(f"{what}: {running.case.title}")
                    self._take(running, measure, what)

    def _start(self, case: Case, result: CaseResult) -> None:
        pair = None
        try:
            pair = make_pair(self._lab, case.name, self._directory)
            case.start(pair)
            started_s = _wait_answer(case, pair)
        except FAILURES as error:
            result.fail(f"start: {error}")
            if pair is not None:
                pair.end()
            return
        if started_s is not None:
            result.values["start-up"] = [started_s]
        self._running.append(_Running(case, result, pair))

    def _take(self, running: _Running, measure: Measure, what: str) -> None:
        case, pair = running.case, running.pair
        subject = Subject(
            pair=pair,
            server=case.addresses.server,
            seconds=self._settings.seconds,
            n_trials=self._settings.n_trials,
            idle_share=self.idle_shares[-1],
        )
        try:
            pair.check_alive()
            for name, value in measure.take(subject).items():
                running.result.values.setdefault(name, []).append(value)
            time.sleep(SETTLE_S)
        except FAILURES as error:
            running.result.fail(f"{what}: {error}")
            self._end_if_dead(running)

    def _end_if_dead(self, running: _Running) -> None:
        """Let a case go whose tunnel does not answer any more: each measure would wait for it."""
        try:
            _wait_answer(running.case, running.pair)
        except FAILURES as error:
            running.result.fail(f"given up: {error}")
            running.pair.end()
            self._running.remove(running)


def _wait_answer(case: Case, pair: Pair) -> float | None:
    """Wait until both inner addresses of the server answer.

    Return the seconds from the first program's start to the first answer over IPv4; None for a
    case without programs.
    """
    answered_s: list[float] = []
    for address in (case.addresses.server.bare_v4, case.addresses.server.bare_v6):

        def answers(address: str = address) -> bool:
            pair.check_alive()
            # fmt: off
            done = pair.client.run("ping", "-n", "-q", "-c", "1", "-W", "0.2", address,
                                   check=False)
            # fmt: on
            return done.returncode == 0

        wait_until(answers, f"ping of {address}", timeout_s=START_TIMEOUT_S)
        answered_s.append(time.monotonic())
    return None if pair.started_s is None else answered_s[0] - pair.started_s
