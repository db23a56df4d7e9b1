"""Pings at a steady pace, and which of them were never answered, and when."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from fastun.lab.host import Host

EVERY_S = 0.1
# Not judged: while they go out, what is behind those before them still comes.
_AFTER = 20
# `ping` numbers its packets with 16 bits.
N_MAX = 65535 - _AFTER

_ANSWER = re.compile(r"^\[(\d+\.\d+)\] .*icmp_seq=(\d+) .*time=", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Lost:
    """A ping without an answer; `near_s` is when one near it was answered, in Unix time."""

    number: int
    near_s: float


class SteadyPings:
    """`n` of them from a host, answered or not: an ICMP error does not end them."""

    def __init__(self, host: Host, address: str, n: int, file: Path) -> None:
        """Begin. What `ping` prints goes to `file`."""
        assert n <= N_MAX, f"ping counts to {N_MAX}"
        self.n_sent = n
        self._file = file
        command = ("ping", "-n", "-D", "-i", str(EVERY_S), "-c", str(n + _AFTER), address)
        with file.open("wb") as output:
            self._process: subprocess.Popen[bytes] = host.spawn(*command, stdout=output)

    def is_running(self) -> bool:
        """Return whether some are still to come."""
        return self._process.poll() is None

    def lost(self) -> list[Lost]:
        """Return those that were never answered, once all have been sent."""
        answered = dict[int, float]()
        for at_s, number in _ANSWER.findall(self._file.read_text(errors="replace")):
            answered.setdefault(int(number), float(at_s))
        missing = {*range(1, self.n_sent + 1)} - answered.keys()
        return [Lost(number, _near(answered, number)) for number in sorted(missing)]


def _near(answered: dict[int, float], number: int) -> float:
    return answered.get(min(answered, key=lambda each: abs(each - number), default=0), 0.0)
