"""Families are encoded one by one, and a scraper cannot tell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from fastun.metrics import server
from fastun.metrics.library import CollectorRegistry
from fastun.metrics.server import Exposition
from tests.support.idle_gateway import idle_gateway, viewing

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def exposition() -> Iterator[Exposition]:
    with idle_gateway() as gateway, viewing(gateway) as viewer:
        yield Exposition(viewer.view)


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text;version=1.0.0"])
def test_an_answer_is_the_same_as_of_all_at_once(exposition: Exposition, accept: str) -> None:
    def without_figures(text: bytes) -> bytes:
        return re.sub(rb"(?m) [0-9.e+-]+$", b"", text)

    encode, _ = server._encoder(accept)  # noqa: SLF001 (as `answer` gets it)
    registry = exposition._registry  # noqa: SLF001 (encoded at once, as the library would)
    assert isinstance(registry, CollectorRegistry)
    _, body = exposition.answer(accept, "")
    assert without_figures(body) == without_figures(encode(registry))
    assert body.count(b"# EOF\n") == (1 if accept else 0)
    assert body.endswith(b"# EOF\n") == bool(accept)
