"""``python -m fastun.bench.model.plain_end``: fastun that says no hello on UDP and hears none.

So it is to the other end what plain WireGuard is: it seals each packet by itself, with ChaCha20.
"""

from __future__ import annotations

import runpy
from typing import Any

from fastun.link.datagram.hellos import DatagramHellos


def _nothing(*_: object) -> None:
    """In the place of sending and receiving hellos."""


if __name__ == "__main__":
    replaced: Any = DatagramHellos
    replaced.send = replaced.receive = _nothing
    runpy.run_module("fastun", run_name="__main__", alter_sys=True)
