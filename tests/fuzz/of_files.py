"""Files that a user, another program, or a damaged disk may have made, and what programs print."""

from __future__ import annotations

import base64
import contextlib
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from fastun import endpoint
from fastun.config import key_text, quantity, routing_tables
from fastun.config.settings import Options, load
from fastun.config.wg_quick_saved import with_endpoints
from fastun.errors import ConfigError, FastunError, RuntimeFailure
from fastun.host import device_counters, users
from fastun.host.dns import name_lookup, resolv_conf, resolver, watch
from fastun.host.firewall import forward_check, forwarding, nft
from fastun.host.firewall.nft import NftRefused
from fastun.host.journal import journal_file, sysctls
from fastun.link.datagram.remembered import RememberedEndpoints
from fastun.peers.rows import ServerText, peers_of, terms_of
from fastun.peers.store import PeerStore
from fastun.session import keys
from fastun.session.timestamps import Timestamps
from fastun.state_file import OwnFiles
from tests.fuzz.target import Source, replaced, target

FOLDER = Path(tempfile.mkdtemp(prefix="fastun-fuzz-", dir="/dev/shm"))
KEY = base64.b64encode(bytes(range(32))).decode()


def _file(name: str, content: bytes) -> Path:
    path = FOLDER / name
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


# -- configuration ------------------------------------------------------------------------------


def _loaded(path: Path, content: bytes) -> None:
    """Settings, or one line that names the file and shows no key of it."""
    for role in ("serve", "connect"):
        options = Options(config=path, state=FOLDER, run_dir=FOLDER, hooks=True)
        try:
            load(cast("Any", role), None, options)
        except ConfigError as error:
            said = str(error)
            assert said.isprintable()
            assert KEY not in said or KEY.encode() not in content


@target
def toml_file(data: bytes) -> None:
    """Settings, or one line that says what is wrong."""
    _loaded(_file("ft0.toml", data), data)


@target
def wg_quick_file(data: bytes) -> None:
    """Settings, or one line; and it may be saved with the peers' endpoints, whatever it is."""
    _loaded(_file("ft0.conf", data), data)
    text = _text(data)
    saved = with_endpoints(text, {KEY: "192.0.2.1:51820"})
    assert with_endpoints(saved, {KEY: "192.0.2.1:51820"}) == saved
    assert with_endpoints(text, {}) == text


@target
def endpoint_url(data: bytes) -> None:
    """An endpoint that is written as URL is read as itself."""
    text = _text(data)
    with contextlib.suppress(ConfigError):
        parsed = endpoint.parse(text)
        assert endpoint.parse(str(parsed)) == parsed
    with contextlib.suppress(ConfigError):
        endpoint.parse_host_port(text)


@target
def quantities(data: bytes) -> None:
    """Rates, sizes and dates: a number, or one line."""
    text = _text(data)
    for parse in (quantity.parse_rate, quantity.parse_size):
        with contextlib.suppress(ConfigError):
            assert parse(text, "field") >= 0
    with contextlib.suppress(ConfigError):
        quantity.parse_date(text, 1e9, "field")
    with contextlib.suppress(ConfigError):
        quantity.parse_moment(text, 1e9, "field")


@target
def key(data: bytes) -> None:
    """One text for each key; and a line that shows a file's key does not show it any more."""
    text = _text(data)
    with contextlib.suppress(ConfigError):
        assert keys.format_key(keys.parse_key(text, "key")) == text
    with contextlib.suppress(ConfigError):
        keys.load_private(_file("private.key", data))
    with contextlib.suppress(ConfigError), key_text.hidden(f"private_key = '{KEY}'\n{text}"):
        raise ConfigError(f"{KEY} {text}")


# -- state --------------------------------------------------------------------------------------


@target
def peer_rows(data: bytes) -> None:
    """Peers, or an error that the store takes for a damaged file."""
    source = Source(data)
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        terms_of(_text(data))
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        msgspec.json.decode(data, type=ServerText).value()
    name, endpoints, prefix = source.text(), source.text(), source.text()
    with contextlib.suppress(ValueError, TypeError):
        rows = [(name, bytes(32), None, endpoints, source.byte(), "{}", prefix)]
        assert len(peers_of(rows)) == 1


@target
def peer_database(data: bytes) -> None:
    """A directory, or one line that says that the file is damaged."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        (FOLDER / f"peers.sqlite{suffix}").unlink(missing_ok=True)
    _file("peers.sqlite", data)
    with contextlib.suppress(FastunError), PeerStore(FOLDER) as store:
        store.peers()
        store.server()
        store.server_key()
        store.usage()


@target
def journal(data: bytes) -> None:
    """Changes that are not undone, in order, and a complaint about the rest."""
    first, *lines = data.split(b"\n")
    with contextlib.suppress(RuntimeFailure):
        journal_file._header(first)
    pending, _ = journal_file.parse(lines)
    assert set(pending) <= set(range(1, len(lines) + 1))
    again, complaint = journal_file.parse(
        [journal_file.encode(change).strip() for change in pending.values()]
    )
    assert list(again.values()) == list(pending.values())
    assert not complaint
    path = _file("journal.jsonl", data)
    with contextlib.suppress(RuntimeFailure), path.open("rb") as file:
        journal_file._read(file.fileno())


_SOCKETS = SimpleNamespace(
    address_of=lambda *_: SimpleNamespace(socket_index=0), of_port=lambda _: None
)


@target
def state_files(data: bytes) -> None:
    """The time of the last handshake, and where clients were: or nothing, and a warning."""
    stored = object.__new__(Timestamps)
    stored._files, stored._name = OwnFiles(FOLDER), _file("initiations", data).name
    stored._has_warned = True
    assert stored._read() >= 0
    restored = object.__new__(RememberedEndpoints)
    restored._files, restored._name = OwnFiles(FOLDER), _file("endpoints", data).name
    restored._sockets = cast("Any", _SOCKETS)
    restored._has_warned = True
    for place in restored._read():
        assert len(place.key) == 32
        assert str(restored._address(place)).isprintable()


# -- files of this host ---------------------------------------------------------------------------


@target
def resolv_conf_file(data: bytes) -> None:
    """What was put into it is taken out again, and nothing else."""
    text = _text(data).replace("\r", "")
    servers = ("10.0.0.53",)
    if not resolv_conf.is_in(text, "ft0"):
        whole = resolv_conf.added(text, "ft0", servers, ("example.net",))
        assert resolv_conf.is_in(whole, "ft0")
        assert not resolv_conf.is_in(resolv_conf.removed(whole, "ft0"), "ft0")
    resolv_conf.set_aside(text)
    name_lookup.DnsFiles(text, text, text).all_servers()
    path = _file("resolv.conf", data)
    with replaced(path, (resolv_conf, "PATH"), (resolver, "_RESOLV_CONF"), (watch, "_FILE")):
        resolv_conf.is_first("ft0", servers)
        resolver._first_server()
        watch._first_server()


@target
def hosts_files(data: bytes) -> None:
    """hosts(5), nsswitch.conf(5) and rt_tables: what they say, as far as it can be read."""
    path = _file("hosts", data)
    with replaced(path, (name_lookup, "_HOSTS"), (resolver, "_NSSWITCH")):
        for found in name_lookup._in_hosts_file("localhost"):
            assert str(found.host)
        tuple(resolver._hosts_sources())
    with replaced((str(path),), (routing_tables, "_FILES")):
        assert {"main", "default", "local"} <= set(routing_tables._tables())


@target
def proc_files(data: bytes) -> None:
    """/proc and /etc/passwd: the kernel writes the former, and its numbers are numbers."""
    status = _file("status", data)
    _file("passwd", data)
    with replaced(FOLDER, (users, "_ETC"), (sysctls, "_PROC_SYS")):
        list(users._entries("passwd"))
        with contextlib.suppress(ValueError):
            sysctls.read("status")
    with replaced(status, (forwarding, "_IPV6_ROUTES"), (device_counters, "_FILE")):
        forwarding._advertised()
        with contextlib.suppress(ValueError, IndexError):
            device_counters.read("ft0")
    with contextlib.suppress(ValueError):
        list(users._users_of(status))
    with contextlib.suppress(ValueError):
        users._covers(status, 1)


@target
def printed(data: bytes) -> None:
    """What nft, iptables-save and resolvectl print."""
    text = _text(data)
    forward_check.judged_legacy(text, "iptables", "ft0")
    resolver.has_server(text, "10.0.0.53")
    with contextlib.suppress(NftRefused):
        for item in nft._items(text):
            nft._lasting(item)
