"""wg-quick files: what wg(8) and wg-quick(8) read, as the Document that TOML would give; and back.

    [Interface]                 [Peer]
    PrivateKey = BASE64         PublicKey = BASE64
    Address = 10.9.0.2/24       AllowedIPs = 0.0.0.0/0, ::/0
    DNS = 10.9.0.1              Endpoint = vpn.example.net:51820

Here the form is read; what the values mean is checked where TOML's are, and complained of by the
names that this file has for them. Whether its commands may run is decided in hooks.py.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from fastun.config.document import Document, InterfaceSection, PeerSection, Secret
from fastun.config.peer import parse_name
from fastun.errors import ConfigError, nearest, quote
from fastun.peers import prefixes

if TYPE_CHECKING:
    from pathlib import Path

# The key in a file, and the field of the section that it is for.
_INTERFACE: Final = {
    "PrivateKey": "private_key",
    "Address": "address",
    "ListenPort": "listen_port",
    "MTU": "mtu",
    "DNS": "dns",
    "Table": "table",
    "FwMark": "fwmark",
}
_PEER: Final = {
    "PublicKey": "public_key",
    "PresharedKey": "preshared_key",
    "AllowedIPs": "allowed_ips",
    "Endpoint": "endpoint",
    "PersistentKeepalive": "keepalive",
}
_KEYS: Final = {"Interface": _INTERFACE, "Peer": _PEER}
COMMANDS: Final = ("PreUp", "PostUp", "PreDown", "PostDown")
_SAVE: Final = "SaveConfig"
_EMPTY_FOR_DEFAULT: Final = ("MTU", "Table")
_LISTS: Final = ("address", "dns", "allowed_ips")

_WORD = re.compile("[A-Za-z]{1,24}")  # Less than a key, which ends with = as well.
_NUMBER = re.compile("[0-9]{1,10}")
_HEXADECIMAL = re.compile("0[xX][0-9a-fA-F]{1,8}")
_NOT_OF_A_NAME = re.compile("[^A-Za-z0-9._@-]")
_KEY_CHARS_OF_A_NAME = 8  # Of 2^48 keys, two are hardly confused.


class ShellCommand(NamedTuple):
    """What is behind one of COMMANDS, for a shell; and the place where it is written."""

    key: str
    text: str
    where: str


class WgQuickDocument(Document, frozen=True):
    """What a wg-quick file says, with what TOML has no fields for."""

    commands: tuple[ShellCommand, ...] = ()
    saves: bool = False


class _Texts(dict[str, list[str]]):
    """One section as it is written: its fields' texts, each with the list's items that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[ShellCommand] = []
        self.saves = False


def is_wg_quick(path: Path | None) -> bool:
    """Return whether the file of that name is one; all else is TOML."""
    return path is not None and path.suffix == ".conf"


def place(field: str) -> str:
    """Return the name here of what TOML calls `field`, as in Peer[1].AllowedIPs."""
    if field == "interface.name":
        return "the file's name, which is the interface's unless --interface gives one"
    section, dot, name = field.partition(".")
    keys = _PEER if section.startswith("peer") else _INTERFACE
    known = {field: key for key, field in keys.items()}
    return section.capitalize() + dot + known.get(name, name)


def parse(text: str, path: Path) -> Document:
    """Return what the file says; ConfigError names the file, and the key or line that is wrong.

    Where it says nothing, the name is the file's and the routes are made, as wg-quick(8) does.
    """
    interface = _Texts()
    peers: list[_Texts] = []
    for section, texts in _sections(text, interface, path):
        if section == "Peer":
            peers.append(texts)
    values = {"name": path.stem, "table": "auto", **_values("Interface", interface, path)}
    return WgQuickDocument(
        interface=InterfaceSection(**values),
        peer=tuple(_peers(peers, path)),
        commands=tuple(interface.commands),
        saves=interface.saves,
    )


# -- the form ---------------------------------------------------------------------------------


def _sections(text: str, interface: _Texts, path: Path) -> Iterator[tuple[str, _Texts]]:
    """Yield each section's name and texts; raise ConfigError.

    All that is in [Interface] is one, however often that is opened again, as wg(8) has it.
    """
    section, texts = "", _Texts()
    for number, line in enumerate(text.split("\n"), start=1):
        where, content = f"{path}: line {number}", line.partition("#")[0].strip()
        if content.startswith("["):
            if section:
                yield section, texts
            section = _section_name(content, where)
            texts = interface if section == "Interface" else _Texts()
        elif content:
            # The text is not shown: it may be half of a key.
            key, equals, value = (part.strip() for part in content.partition("="))
            if not (section and equals and _WORD.fullmatch(key)):
                raise ConfigError(
                    f"{where}: expected [Interface], [Peer], or KEY = VALUE below one"
                )
            _add(section, key, value, texts, where)
    if section:
        yield section, texts


def _section_name(text: str, where: str) -> str:
    for name in _KEYS:
        if text.lower() == f"[{name}]".lower():
            return name
    raise ConfigError(f"{where}: {quote(text)} is not a section; use [Interface] or [Peer]")


def _add(section: str, key: str, value: str, texts: _Texts, where: str) -> None:
    """Add one line's value to `texts`; raise ConfigError."""
    known = {name.lower(): name for name in _KEYS[section]}
    name = known.get(key.lower())
    if name is None:
        if not (section == "Interface" and _add_action(key, value, texts, where)):
            _refuse_key(section, key, where)
        return
    field = _KEYS[section][name]
    if field in _LISTS:
        items = [item for part in value.split(",") for item in part.split()]
        texts.setdefault(field, []).extend(items)
    elif not value and name in _EMPTY_FOR_DEFAULT:
        return
    elif texts.get(field, [value]) != [value]:
        raise ConfigError(f"{where}: {section}.{name}: is listed twice; remove one")
    else:
        texts[field] = [value]


def _add_action(key: str, value: str, texts: _Texts, where: str) -> bool:
    """Add what is to be done; return whether the key says any such thing. Raises ConfigError."""
    if key.lower() == _SAVE.lower():
        if value.lower() not in ("true", "false"):
            raise ConfigError(f"{where}: Interface.{_SAVE}: use true or false")
        texts.saves = value.lower() == "true"
        return True
    name = next((each for each in COMMANDS if each.lower() == key.lower()), None)
    if name is not None and value:
        texts.commands.append(ShellCommand(name, value, f"{where}: Interface.{name}"))
    return name is not None


def _refuse_key(section: str, key: str, where: str) -> NoReturn:
    named = f"{where}: {section}.{key}"
    for other in _KEYS.keys() - {section}:
        actions = (*COMMANDS, _SAVE) if other == "Interface" else ()
        if key.lower() in map(str.lower, (*_KEYS[other], *actions)):
            raise ConfigError(f"{named}: belongs in [{other}]")
    names = {name.lower(): name for name in _KEYS[section]}
    meant = nearest(key.lower(), names)
    if meant:
        raise ConfigError(f"{named}: unknown key; did you mean {names[meant]}?")
    # Not shown: it may be the rest of a secret, broken over two lines.
    raise ConfigError(
        f"{where}: unknown key in [{section}]; use one of {', '.join(names.values())}"
    )


# -- values -----------------------------------------------------------------------------------


def _values(section: str, texts: _Texts, path: Path) -> dict[str, Any]:
    """Return the fields of InterfaceSection or PeerSection; raise ConfigError."""
    values = {}
    for name, field in _KEYS[section].items():
        if field in texts:
            try:
                values[field] = _READERS[field](*texts[field])
            except ValueError as error:
                raise ConfigError(f"{path}: {section}.{name}: {error}") from None
    return values


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{quote(text)} is not a number")
    return int(text)


def _number_or_off(text: str) -> int:
    return 0 if text.lower() == "off" else _number(text)


def _mark(text: str) -> int:
    return int(text, 16) if _HEXADECIMAL.fullmatch(text) else _number_or_off(text)


def _table(text: str) -> int | str:
    if _NUMBER.fullmatch(text) or _HEXADECIMAL.fullmatch(text):
        return int(text, 16 if text[1:2] in ("x", "X") else 10)
    return text.lower() if text.lower() in ("auto", "off") else text


def _with_length(*texts: str) -> tuple[str, ...]:
    """Return addresses with prefix lengths: one without is that host's alone (ip-address(8)).

    Of one that is there with several lengths, the network is the largest.
    """
    addresses: dict[object, str] = {}
    for text in texts:
        try:
            address = ip_interface(text)
        except ValueError:
            addresses[text] = text  # To be refused where TOML's are.
            continue
        known = addresses.get(address.ip)
        if known is None or ip_interface(known).network.prefixlen > address.network.prefixlen:
            addresses[address.ip] = text if "/" in text else str(address)
    return tuple(addresses.values())


def _without_host(*texts: str) -> tuple[str, ...]:
    """Return prefixes without bits beyond their lengths, each once, as wg(8) takes them."""
    networks: dict[object, str] = {}
    for text in texts:
        try:
            prefix = prefixes.parse(text)
        except ValueError:  # To be refused where TOML's are.
            networks[text] = text
            continue
        network = prefix.without_host()
        networks.setdefault(network, text if network == prefix else str(prefix.network()))
    return tuple(networks.values())


_READERS: Final[dict[str, Callable[..., Any]]] = {
    "private_key": Secret,
    "address": _with_length,
    "listen_port": _number,
    "mtu": _number,
    "dns": lambda *texts: texts,
    "table": _table,
    "fwmark": _mark,
    "public_key": str,
    "preshared_key": Secret,
    "allowed_ips": _without_host,
    "endpoint": "udp://{}".format,
    "keepalive": _number_or_off,
}


# -- names ------------------------------------------------------------------------------------


def _peers(peers: list[_Texts], path: Path) -> Iterator[PeerSection]:
    """Yield the peers with names: the only one has the file's, of several each that of its key."""
    names: set[str] = set()
    for index, texts in enumerate(peers):
        name = _file_name(path) if len(peers) == 1 else ""
        if not name:
            key = texts.get("public_key", [str(index)])[0][:_KEY_CHARS_OF_A_NAME]
            name = f"peer-{_NOT_OF_A_NAME.sub('_', key)}"
        if name in names:
            name = f"{name}-{index}"
        names.add(name)
        yield PeerSection(name=name, **_values("Peer", texts, path))


def _file_name(path: Path) -> str:
    with contextlib.suppress(ConfigError):
        return parse_name(path.stem, "")
    return ""


# -- writing ----------------------------------------------------------------------------------


def write(document: Document) -> str:
    """Return a file for WireGuard's own programs, keys included, of what they have keys for."""
    sections = [_section("Interface", document.interface)]
    sections += [_section("Peer", peer) for peer in document.peer]
    return "\n".join(sections)


def _section(name: str, section: InterfaceSection | PeerSection) -> str:
    defaults = type(section)()
    lines = [f"[{name}]"]
    for key, field in _KEYS[name].items():
        value = getattr(section, field)
        if value != getattr(defaults, field):
            lines.append(f"{key} = {_text(value)}")
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).removeprefix("udp://")
