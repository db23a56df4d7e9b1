"""What ends a gateway: the request to stop, or the first failure."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from fastun import ending
from fastun.ending import AskedToStop
from fastun.errors import RuntimeFailure
from fastun.gateway.life import Life

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def asked_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    monkeypatch.setattr(ending, "_asked_by", asked)
    return asked


def ended(act: Callable[[Life], None]) -> BaseException:
    async def lives() -> None:
        life = Life()
        act(life)
        await life.wait()

    with pytest.raises(RuntimeFailure) as caught:
        asyncio.run(lives())
    return caught.value


def test_a_failure_ends_it() -> None:
    failure = RuntimeFailure("device ft0 was deleted")
    assert ended(lambda life: life.fail(failure)) is failure


def test_a_failure_after_the_request_to_stop_is_said_and_does_not_count(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def act(life: Life) -> None:
        ending.ask("SIGTERM")
        life.fail(RuntimeFailure("the host process has ended"))

    assert isinstance(ended(act), AskedToStop)
    said = capsys.readouterr()  # on either, as the log was set up before
    assert "the host process has ended" in said.out + said.err


def test_the_first_failure_is_the_one_that_counts() -> None:
    first = RuntimeFailure("first")

    def act(life: Life) -> None:
        life.fail(first)
        life.fail(RuntimeFailure("second"))
        ending.ask("SIGTERM")

    assert ended(act) is first
