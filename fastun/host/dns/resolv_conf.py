"""/etc/resolv.conf as the only place for a tunnel's DNS servers: no program manages it.

    # fastun0: these servers are a tunnel's; fastun restores the file when it ends
    nameserver 10.9.0.1
    search corp.example
    # fastun0: end
    #fastun0# nameserver 192.168.1.1
    options edns0

Our lines come first, and the servers that were there are commented out, not removed: taking that
back gives the file as it was, whatever else has changed in it meanwhile, also with several tunnels
at once. A program that writes the file anew, as a DHCP client does, takes out our lines, and with
them what there was to restore. A file that was a symbolic link, or was not there, becomes one; its
first line says so until the last tunnel has ended.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastun.errors import RuntimeFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PATH: Final = Path("/etc/resolv.conf")
_BYTES_MAX: Final = 1 << 16
_MODE: Final = 0o644

_BEGIN: Final = "# {}: these servers are a tunnel's; fastun restores the file when it ends"
_END: Final = "# {}: end"
_MASK: Final = "#{}# "
_ORIGIN: Final = "#fastun: before, this was "
_LINK, _NOTHING = "a link to ", "no file"

# The search list is the last of these two that is in the file (resolv.conf(5)).
_SERVER, _LISTS = "nameserver", ("search", "domain")


# -- the text -------------------------------------------------------------------------------------


def added(text: str, interface: str, servers: Iterable[str], search: Iterable[str] = ()) -> str:
    """Return the text with our servers in place of all others."""
    names = " ".join(search)
    masked = (_SERVER, *_LISTS) if names else (_SERVER,)
    before = removed(text, interface)
    origin, _, rest = before.partition("\n") if before.startswith(_ORIGIN) else ("", "", before)
    mask = _MASK.format(interface)
    lines = [origin] if origin else []
    lines += [_BEGIN.format(interface), *(f"{_SERVER} {server}" for server in servers)]
    lines += [f"{_LISTS[0]} {names}"] if names else []
    lines.append(_END.format(interface))
    lines += [mask + line if _is_one(line, masked) else line for line in rest.split("\n")]
    return "\n".join(lines)


def removed(text: str, interface: str) -> str:
    """Return the text without our servers, and with those that were there before."""
    return "\n".join(_without(text.split("\n"), interface))


def _without(lines: Iterable[str], interface: str) -> Iterator[str]:
    begin, end, mask = _BEGIN.format(interface), _END.format(interface), _MASK.format(interface)
    is_ours = False
    for line in lines:
        if line == begin:
            is_ours = True
        elif is_ours:
            is_ours = line != end
        else:
            yield line.removeprefix(mask)


def is_in(text: str, interface: str) -> bool:
    """Return whether our servers are in the text."""
    return _BEGIN.format(interface) in text.split("\n")


def is_first(interface: str, servers: Iterable[str]) -> bool:
    """Return whether our servers are in the file, and before all others."""
    text = read()
    lines = [line.split() for line in text.splitlines() if _is_one(line, (_SERVER,))]
    return is_in(text, interface) and [line[1:2] for line in lines[:1]] == [[*servers][:1]]


def set_aside(text: str) -> str:
    """Return the lines that tunnels have commented out."""
    lines = (line.partition("# ") for line in text.splitlines() if line.startswith("#"))
    return "\n".join(rest for mask, mark, rest in lines if mark and " " not in mask)


def _is_one(line: str, words: tuple[str, ...]) -> bool:
    return line.split()[:1] != [] and line.split(maxsplit=1)[0] in words


# -- the file -------------------------------------------------------------------------------------


def add(interface: str, servers: Iterable[str], search: Iterable[str] = ()) -> None:
    """Put our servers into the file. Raises RuntimeFailure."""
    if _is_of_other_namespaces():
        raise RuntimeFailure(
            f"{PATH} is shared with other network namespaces; give this one a file of its own, as"
            " ip-netns(8) does from /etc/netns/NAME/resolv.conf"
        )
    try:
        text, link = read(), _link()
        if link is not None:
            text = f"{_ORIGIN}{_LINK}{link}\n{text}"
        elif not PATH.exists():
            text = f"{_ORIGIN}{_NOTHING}\n"
        whole = added(text, interface, servers, search)
        if link is None and PATH.exists():
            _overwrite(whole)
        else:
            _replace(whole)
    except OSError as error:
        raise RuntimeFailure(f"{PATH}: {error.strerror}") from None


def remove(interface: str) -> None:
    """Restore the file unless another program has written it anew. Raises OSError."""
    text = read()
    if _link() is not None or not is_in(text, interface):
        return
    rest = removed(text, interface)
    origin, _, before = rest.partition("\n")
    if not origin.startswith(_ORIGIN) or _has_any(before):
        _overwrite(rest)
        return
    was = origin.removeprefix(_ORIGIN)
    if was.startswith(_LINK):
        _restore_link(was.removeprefix(_LINK))
    elif not before.strip():
        PATH.unlink()
    else:
        _overwrite(before)


def read() -> str:
    """Return the text, empty where there is none."""
    with (
        contextlib.suppress(OSError),
        PATH.open(encoding="utf-8", errors="surrogateescape") as file,
    ):
        return file.read(_BYTES_MAX)
    return ""


def _has_any(text: str) -> bool:
    """Return whether another tunnel's servers are in the text."""
    tail = _BEGIN.partition("{}")[2]
    return any(line.endswith(tail) for line in text.split("\n"))


def _link() -> str | None:
    try:
        return str(PATH.readlink())
    except OSError:
        return None


def _overwrite(text: str) -> None:
    """Write into the file that is there: it may be one that is mounted, as in containers."""
    content = text.encode("utf-8", "surrogateescape")
    descriptor = os.open(PATH, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))  # last, so that it is never empty
    finally:
        os.close(descriptor)


def _replace(text: str) -> None:
    """Put a new file in the place of a link, or of nothing."""
    descriptor, name = tempfile.mkstemp(dir=PATH.parent, prefix=".resolv.conf.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            os.fchmod(file.fileno(), _MODE)
        Path(name).replace(PATH)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _restore_link(target: str) -> None:
    temporary = PATH.with_name(f".resolv.conf.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(PATH)


def _is_of_other_namespaces() -> bool:
    """Return whether the file is that of another network namespace as well: an ancestor's."""
    import psutil  # noqa: PLC0415 (0.8 MiB, which most gateways do not need)

    ours = Path("/proc/self/ns/net").readlink()
    for ancestor in psutil.Process().parents():
        there = Path("/proc") / str(ancestor.pid)
        with contextlib.suppress(OSError):  # it is gone, or none of ours to look at
            is_other = (there / "ns" / "net").readlink() != ours
            if is_other and (there / "root" / PATH.relative_to("/")).samefile(PATH):
                return True
    return False
