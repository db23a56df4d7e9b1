"""What sections have in common, and how a field of theirs is described.

The description of a field is where the field is. The reference (fastun.config.reference), the help
of an option that overrides the field and the manual page are made from it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec

_LINK: Final = re.compile(r"\[([^\]]+)\]\([^)]+\)")


class Secret:
    """The text of a key. Only `reveal` shows it: a repr may end in a log or a traceback."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Hide `text`."""
        self._text = text

    def reveal(self) -> str:
        """Return the text."""
        return self._text


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all tables have in common: an unknown field is an error, never ignored."""


# TOML 1.0 promises 64 bits; unbounded, a number could be too long even to be shown.
Int = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


def described(
    text: str, *, example: Any, values: str = "", unset: str = "none", option: str = ""
) -> msgspec.Meta:
    """Describe a field for Annotated; ``text`` is Markdown, and its first sentence says what it is.

    ``values`` are those that it may have, where its type does not say it, ``unset`` is what applies
    where the default is None, ``option`` the one of the command line that overrides it.
    """
    return msgspec.Meta(
        description=text,
        examples=[example],
        extra={"values": values, "unset": unset, "option": option},
    )


def one_of(words: tuple[str, ...]) -> str:
    """Return the values of a field that has one of some words."""
    return ", ".join(f"`{word}`" for word in words)


def first_sentence(text: str) -> str:
    """Return what a field is, of its description."""
    return text.partition(". ")[0].removesuffix(".") + "."


def plain(markdown: str) -> str:
    """Return the text of Markdown without its marks; a command of several words is in quotes."""
    text = re.sub("`([^`]+ [^`]+)`", r"'\1'", _LINK.sub(r"\1", markdown))
    return text.replace("`", "").replace("**", "")


def summary(section: type[Section], field: str) -> str:
    """Return in a plain sentence what a field is, as for --help."""
    about = section.__annotations__[field].__metadata__[-1]
    return plain(first_sentence(about.description))
