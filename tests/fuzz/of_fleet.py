"""What comes from a fleet's database, from its process, and from `fastun peer export`."""

from __future__ import annotations

import base64
import contextlib
import socket
from typing import Any

from fastun.codec import CodecError
from fastun.config.fleet import parse_directory
from fastun.errors import ConfigError, RuntimeFailure
from fastun.fleet import confinement, messages, postgres, transfer
from fastun.fleet.connection import explained
from fastun.fleet.postgres import PostgresDirectory
from fastun.fleet.sound import named, sound
from fastun.peers.peer import check_together
from tests.fuzz.target import Source, target
from tests.support.fleet_server import SERVER

KEY = base64.b64encode(bytes(range(32))).decode()


@target
def fleet_rows(data: bytes) -> None:
    """The peers of any rows go together; the others are named, each with one line."""
    source = Source(data)
    rows: list[Any] = []
    while not source.is_empty and len(rows) < 20:
        key = source.bytes(source.byte() % 4 * 16)
        endpoints, terms, name = source.text(), source.text(), source.text()
        prefix = source.text() if source.byte() % 4 else None
        psk = source.bytes(32) if source.byte() % 2 else None
        rows.append((name, key, psk, endpoints, source.byte() - 2, terms or "{}", prefix))
    grouped: dict[str, list[Any]] = {}
    for row in rows:
        grouped.setdefault(row[0], []).append(row)
    found = sound(grouped, SERVER)
    check_together(found.peers.values(), SERVER.addresses)
    for name, why in found.left_out.items():
        assert named(name).isprintable()
        assert why
    assert {row[0] for row in rows} >= found.peers.keys()


@target
def peer_export(data: bytes) -> None:
    """Peers that are written as they were read, or one line that shows no key."""
    peers, said = [], ""
    try:
        peers = transfer.read(data, "peers.jsonl")
    except ConfigError as error:
        said = str(error)
    assert KEY not in said
    again = transfer.read("".join(transfer.written(peers)).encode(), "peers.jsonl")
    assert again == peers


@target
def fleet_directory_url(data: bytes) -> None:
    """A URL as it is, or one line; a password is in neither."""
    text = data.decode(errors="surrogateescape")
    with contextlib.suppress(ConfigError):
        assert parse_directory(text, "fleet.directory") == text
    with contextlib.suppress(ConfigError):
        assert "hunter2" not in parse_directory(f"postgresql://a:hunter2@{text}", "URL")


@target
def fleet_options(data: bytes) -> None:
    """What is kept for any URL: files by absolute paths, ports; whether there are local sockets."""
    text = data.decode(errors="replace").replace("\0", "")
    options = confinement.options_of(f"postgresql://{text}")
    assert all(0 <= port <= 65535 for port in confinement.ports_of(options))
    assert isinstance(confinement.is_local(options), bool)
    assert all(path.startswith("/") for path in confinement.files_of(options))


@target
def fleet_messages(data: bytes) -> None:
    """A message, or an error that ends the channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.send(data[: messages.MESSAGE_BYTES_MAX])
        with contextlib.suppress(CodecError):
            found = messages.receive(theirs, (*messages.OF_PROCESS, *messages.OF_GATEWAY))
            if found is not None:
                messages.send(ours, found)
                assert messages.receive(theirs, [type(found)]) == found


@target
def fleet_facts(data: bytes) -> None:
    """A gateway, and the server's key, or one line that says that the directory is damaged."""
    text = data.decode(errors="surrogateescape")
    directory = object.__new__(PostgresDirectory)
    directory.url, directory._near = "postgresql:///", None
    directory._fact = lambda _: text  # type: ignore[method-assign]
    with contextlib.suppress(RuntimeFailure):
        directory.server_key()
    with contextlib.suppress(RuntimeFailure):
        directory.public_endpoints()
    with contextlib.suppress(RuntimeFailure), explained("postgresql:///"):
        postgres._server(text)
