"""What no complaint may show: the text of a key, wherever in a file or on a command line it is.

A complaint quotes what it complains about, and that may be a private key: pasted into the wrong
field, below a misspelt name, broken over two lines. So not each complaint has to be careful: all of
them pass here, and lose whatever looks like a key in the text that they are about, or follows a
secret's name there, down to a piece of five letters.
"""

from __future__ import annotations

import contextlib
import re
import string
from itertools import groupby
from typing import TYPE_CHECKING, Final

from fastun.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE_CHARS: Final = 5  # Shorter ones are in every text, and are no help in a search for the key.
_SHOWN: Final = "(hidden)"

# A key is 43 letters of base64 and a `=`; one that was cut or hex is long all the same. No name has
# that many capitals, digits and small letters in a row; a path is not a key.
_LONG = re.compile(r"[A-Za-z0-9+/=]{16,}")
# The padding shows an end that was left over; at the beginning of a line it could be a name.
_TAIL = re.compile(
    r"(?<![A-Za-z0-9+/])(?:(?<=[^\n])|(?=[a-zA-Z]*[0-9+/]))[A-Za-z0-9+/]{5,}=(?=[\s\"']|$)"
)
_PATH = re.compile(r"/\w+/.*")
_MIXED_CHARS: Final = 16
_NEARLY_WHOLE_CHARS: Final = 40
_MIXED = re.compile(r"(?=(?:.*[A-Z]){3})(?=(?:.*[a-z]){3})(?=.*[0-9+/]|(?:.*[A-Z]){5})")
# Longer text in base64 is another kind of file, of which a complaint quotes a beginning or an end.
_END_CHARS: Final = 1024
_HEXADECIMAL = re.compile(r"[0-9a-fA-F]{32,}")

_PUBLIC_KEY = re.compile(
    r"(?<![A-Za-z_-])public_?key[\"']?[ \t]*=[ \t]*[\"']?[A-Za-z0-9+/]{43}=", re.IGNORECASE
)
_COMMENT = re.compile(r"^[ \t]*#.*", re.MULTILINE)
_NAMED = re.compile(r"(?<![A-Za-z]{8})([A-Za-z][A-Za-z_-]{1,30})[\"']?[ \t]*[=:](?=([^\n]{0,200}))")
_UNJOINED = re.compile(r"(?:private|pre-?shared)[_-]?key[\"']?[ \t]+([^\n]{0,200})", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+")

_SECRETS: Final = ("privatekey", "presharedkey")
_SECRET_WORDS: Final = ("priv", "shared", "psk", "secret", "key")
_NO_SECRETS: Final = frozenset({"publickey", "privatekeyfile", "presharedkeyfile"})

_TO_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@contextlib.contextmanager
def hidden(text: str, shown: str = "") -> Iterator[None]:
    """Hide the keys of `text` in what is raised inside; `shown` is its beginning, kept as it is."""
    try:
        yield
    except Exception as error:
        error.args = tuple(
            _without(argument, text, shown) if isinstance(argument, str) else argument
            for argument in error.args
        )
        error.__cause__ = error.__context__ = None  # A traceback would show these as well.
        raise


def without_keys(message: str, text: str) -> str:
    """Return `message` without any piece of a key that `text` contains."""
    pieces = {
        key[start : start + _PIECE_CHARS]
        for whole in _keys_in(text)
        for key in {whole[:_END_CHARS], whole[-_END_CHARS:]}
        for start in range(len(key) - _PIECE_CHARS + 1)
    }
    lower, is_of_key = message.translate(_TO_LOWER), bytearray(len(message))
    for start in range(len(message) - _PIECE_CHARS + 1):
        if lower[start : start + _PIECE_CHARS] in pieces:
            is_of_key[start : start + _PIECE_CHARS] = b"\1" * _PIECE_CHARS
    runs = groupby(zip(message, is_of_key, strict=True), key=lambda each: each[1])
    return "".join(_SHOWN if hides else "".join(char for char, _ in run) for hides, run in runs)


def _without(message: str, text: str, shown: str) -> str:
    rest = message.removeprefix(shown)
    return message[: len(message) - len(rest)] + without_keys(rest, text)


def _keys_in(text: str) -> set[str]:
    """Return what may be keys or parts of some, in small letters."""
    text = _PUBLIC_KEY.sub("", text)  # The names of peers are made of these.
    keys = {run for run in _LONG.findall(text) if _looks_like_key(run)}
    keys.update(_TAIL.findall(text))
    text = _COMMENT.sub("", text)
    is_secret: dict[str, bool] = {}
    for name, value in _NAMED.findall(text):
        if name not in is_secret:
            is_secret[name] = _names_secret(name)
        if is_secret[name]:
            keys.update(_BASE64.findall(value))
    for value in _UNJOINED.findall(text):
        keys.update(_BASE64.findall(value))
    return {key.translate(_TO_LOWER) for key in keys}


def _looks_like_key(run: str) -> bool:
    if _PATH.fullmatch(run) and not any(map(_looks_like_key, run.split("/"))):
        return sum(map(str.isupper, run)) * 4 > len(run)
    if len(run) >= _NEARLY_WHOLE_CHARS:
        return True
    return (len(run) >= _MIXED_CHARS and _MIXED.match(run) is not None) or _HEXADECIMAL.fullmatch(
        run
    ) is not None


def _names_secret(name: str) -> bool:
    """Return whether it is a secret's name, or might be meant for one."""
    letters = name.lower().replace("_", "").replace("-", "")
    if letters in _NO_SECRETS:
        return False
    return any(word in letters for word in _SECRET_WORDS) or bool(nearest(letters, _SECRETS))
