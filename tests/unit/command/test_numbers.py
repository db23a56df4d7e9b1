"""Options that take a number take one: "nan" is in no range, and compares with nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from fastun.command.cli import cli
from fastun.command.options import NumberRange

if TYPE_CHECKING:
    from collections.abc import Iterator


def options(group: click.Group, name: str = "fastun") -> Iterator[tuple[str, click.Parameter]]:
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from options(command, f"{name} {word}")
        for option in command.params:
            yield f"{name} {word} {option.name}", option


FLOATS = {
    name: option.type
    for name, option in options(cli)
    if isinstance(option.type, (click.FloatRange, click.types.FloatParamType))
}


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("text", ["nan", "-nan", "inf", "-inf", "1e400"])
def test_every_option_refuses_what_is_not_a_number(name: str, text: str) -> None:
    with pytest.raises(click.BadParameter):
        FLOATS[name].convert(text, None, None)


def test_there_are_such_options_and_numbers_pass() -> None:
    assert len(FLOATS) >= 4
    assert NumberRange(min=0.2, max=60).convert("0.5", None, None) == 0.5
