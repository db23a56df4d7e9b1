"""Workers of the laboratory that are made slow, as by a processor that others have taken."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator


@contextlib.contextmanager
def slowed(pid: int) -> Iterator[None]:
    """Let a process run for a twentieth of the time only: some 3 ms, and then not for some 60."""
    ends = threading.Event()

    def hold() -> None:
        while not ends.is_set():
            os.kill(pid, signal.SIGSTOP)
            # Irregular, so that what looks at it regularly sees all of it.
            time.sleep(random.uniform(0.02, 0.1))
            os.kill(pid, signal.SIGCONT)
            time.sleep(random.uniform(0.001, 0.005))

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        yield
    finally:
        ends.set()
        holder.join()
