"""A server that ends and starts again, whose client is the real wireguard-go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fastun.lab.host import wait_until
from tests.interop.conftest import OUR_INNER, THEIR_INNER

if TYPE_CHECKING:
    from tests.interop.conftest import Interop


def complaints(interop: Interop) -> int:
    return sum("invalid" in line.lower() for line in interop.peer.log().splitlines())


def test_wireguard_go_hears_no_goodbye_and_answers_the_call_of_a_server_that_was_killed(
    interop: Interop,
) -> None:
    gateway = interop.serve()
    home = gateway.log_file.parent
    interop.let_begin()
    interop.wait_up(interop.theirs, OUR_INNER[0])
    wait_until(lambda: bool(list(home.glob("endpoints-*"))), "it is written", timeout_s=5)
    gateway.process.kill()
    gateway.process.wait()
    wait_until(lambda: "ft0" not in interop.ours.devices(), "the old device is gone")
    again = interop.serve()
    begun_s = time.monotonic()
    interop.wait_up(interop.ours, THEIR_INNER[0], timeout_s=5)
    print(f"reached {time.monotonic() - begun_s:.2f} s after it listens")  # noqa: T201
    assert any("calling the clients that were here before" in line for line in again.log_tail(50))
    assert "flood" not in interop.peer.log()
    before = complaints(interop)
    assert again.stop() == 0
    time.sleep(0.5)
    assert complaints(interop) == before
    assert interop.messages.came_others() == 0
