"""What can go wrong, in the words of the person that has to fix it.

Every error that is meant to be read is a FastunError. Its text is one printable line that names the
field or device and says what to do, whatever bytes a file, a peer or a terminal put into it.
"""

import reprlib
from collections.abc import Iterable

_SHORT = reprlib.Repr()
_SHORT.maxstring = 64  # A whole hostname label or interface name; a pasted file is cut.
_SHORT.maxother = 64


class FastunError(Exception):
    """A failure to be shown as one line, without a traceback.

    `exit_code` is what the process returns when the error ends it.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        """Keep `message` as one printable line."""
        super().__init__(one_line(message))


class ConfigError(FastunError):
    """The command line or the configuration file asks for something that cannot be."""

    exit_code = 2


class RuntimeFailure(FastunError):  # noqa: N818 (it is what failed, not what was written wrong)
    """The configuration is sound, but the system refused: a device, a port, a privilege, a peer."""


def one_line(text: str) -> str:
    """Return `text` with line ends, terminal escapes and other unprintables written as escapes."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def quote(value: object) -> str:
    """Return `value` in quotes and cut to a readable length, to be part of a message."""
    return _SHORT.repr(value)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return which of the `known` words `word` was probably meant to be; empty if none is alike."""
    import difflib  # noqa: PLC0415 (only where something is wrong)

    return next(iter(difflib.get_close_matches(word, list(known), n=1)), "")
