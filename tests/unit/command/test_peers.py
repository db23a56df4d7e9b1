"""Keys and peers for people: as they are typed, with what lands on stdout, stderr and disk."""

import base64
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path

import msgspec
import pytest

from fastun.command import peers as peer_commands
from fastun.config.served import server_of
from fastun.config.settings import Options, Settings, load
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError
from fastun.gateway.peer_sync import first_steps
from fastun.peers.peer import Peer, Server
from fastun.peers.store import FILE_NAME, PeerStore
from fastun.session import keys

# Each starts fastun as a process, some of them six times.
pytestmark = pytest.mark.slow

ENDPOINT = ("--endpoint", "tcp://vpn.example.net")


def fastun(
    *arguments: str, stdin: str = "", stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastun", *arguments],
        input=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"COLUMNS": "80"},
    )


def only_line(completed: subprocess.CompletedProcess[str], exit_code: int) -> str:
    assert completed.stdout in ("", None)
    (line,) = completed.stderr.splitlines()
    assert completed.returncode == exit_code
    return line


SERVER_KEY = keys.generate_private()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state directory of a server that has served."""
    options = Options(
        state=tmp_path / "state",
        run_dir=tmp_path / "run",
        address=("10.9.0.1/24", "fd00:9::1/64"),
        listen=("tcp://[::]:443",),
    )
    settings = load("serve", None, options)
    with PeerStore(options.state) as store:
        store.remember_server(server_of(settings, keys.public_of(SERVER_KEY)))
    return options.state


def loaded(text: str, directory: Path) -> Settings:
    path = directory / "client.toml"
    path.touch(0o600)
    path.write_text(text)
    return load("connect", str(path), Options())


def add(state: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    completed = fastun("peer", "add", name, "--state", str(state), *arguments)
    assert completed.returncode == 0, completed.stderr
    return completed


def refusal(state: Path, *arguments: str, exit_code: int = 2) -> str:
    return only_line(fastun("peer", *arguments, "--state", str(state)), exit_code)


# -- keys -------------------------------------------------------------------------------------


def test_a_key_pair_is_made_by_two_programs_that_only_pipe() -> None:
    private = fastun("keygen").stdout
    assert len(base64.b64decode(private, validate=False)) == 32
    assert private != fastun("keygen").stdout
    public = fastun("pubkey", stdin=private)
    assert public.stdout == keys.format_key(keys.public_of(base64.b64decode(private))) + "\n"
    assert public.stderr == ""


@pytest.mark.parametrize("stdin", ["", "secret", "s" * 44, "s" * 5000, "é\0"])
def test_what_is_not_a_key_is_not_repeated(stdin: str) -> None:
    line = only_line(fastun("pubkey", stdin=stdin), 2)
    assert line.startswith("fastun: stdin: not a key; give the 44 characters of base64")
    assert "secret" not in line


@pytest.mark.parametrize("command", [("keygen",), ("peer", "add", "a", *ENDPOINT)])
def test_a_file_that_gets_a_secret_is_its_owners_alone(
    state: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = tmp_path / "secret"
    options = ("--state", str(state)) if "peer" in command else ()
    with path.open("w") as file:
        os.fchmod(file.fileno(), 0o644)
        assert fastun(*command, *options, stdout=file.fileno()).returncode == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text()


@pytest.mark.parametrize("command", [("keygen",), ("peer", "add", "a", *ENDPOINT)])
def test_who_has_opened_the_file_before_it_was_closed_reads_no_secret(
    state: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    path = tmp_path / "secret"
    options = ("--state", str(state)) if "peer" in command else ()
    with path.open("w") as file, path.open() as early:
        os.fchmod(file.fileno(), 0o644)
        line = only_line(fastun(*command, *options, stdout=file.fileno()), 1)
        assert early.read() == ""
    assert line.startswith("fastun: stdout: another process has the file open")
    with PeerStore(state) as store:
        assert store.n_peers() == 0


# -- add --------------------------------------------------------------------------------------


def test_the_file_of_a_new_client_is_all_that_connect_needs(state: Path, tmp_path: Path) -> None:
    completed = add(state, "laptop", *ENDPOINT)
    settings = loaded(completed.stdout, tmp_path)
    assert settings.wire == "wireguard"
    assert settings.addresses == (ip_interface("10.9.0.2/24"), ip_interface("fd00:9::2/64"))
    assert settings.endpoint == Endpoint("tcp", "vpn.example.net", 55555)
    (server,) = settings.peers
    assert server.name == "vpn.example.net"
    assert server.public_key == keys.public_of(SERVER_KEY)
    assert server.allowed_ips == (ip_network("10.9.0.0/24"), ip_network("fd00:9::/64"))
    assert server.keepalive_s == 25
    assert settings.private_key is not None
    with PeerStore(state) as store:
        assert store.get("laptop") == Peer(
            name="laptop",
            public_key=keys.public_of(settings.private_key),
            preshared_key=server.preshared_key,
            allowed_ips=(ip_network("10.9.0.2/32"), ip_network("fd00:9::2/128")),
        )
    assert settings.private_key not in (state / FILE_NAME).read_bytes()
    assert keys.format_key(settings.private_key) not in completed.stderr


def test_each_client_has_an_address_and_keys_of_its_own(state: Path, tmp_path: Path) -> None:
    clients = [loaded(add(state, name, *ENDPOINT).stdout, tmp_path) for name in "abc"]
    assert [str(client.addresses[0].ip) for client in clients] == [
        *("10.9.0.2", "10.9.0.3", "10.9.0.4")
    ]
    assert len({client.private_key for client in clients}) == 3
    assert len({client.peers[0].preshared_key for client in clients}) == 3


def test_endpoints_are_remembered_until_others_are_given(state: Path, tmp_path: Path) -> None:
    urls = ("tcp://[2001:db8::1]:1", "tcp://b:2")
    add(state, "a", "--endpoint", urls[0], "--endpoint", urls[1])
    peers = loaded(add(state, "b").stdout, tmp_path).peers
    assert tuple(map(str, peers[0].endpoints)) == urls
    assert peers[0].name == "server", "a metric's label is never an address"
    add(state, "c", *ENDPOINT)
    peers = loaded(add(state, "d").stdout, tmp_path).peers
    assert peers[0].endpoints == (Endpoint("tcp", "vpn.example.net", 55555),)


def test_an_endpoint_that_was_not_given_is_the_one_listened_on(state: Path, tmp_path: Path) -> None:
    with PeerStore(state) as store:
        server = store.server()
        assert server is not None
        listen = (Endpoint("tcp", "::", 1), Endpoint("tcp", "192.0.2.9", 2))
        store.remember_server(replace(server, listen=listen))
    completed = add(state, "a")
    assert loaded(completed.stdout, tmp_path).endpoint == Endpoint("tcp", "192.0.2.9", 2)
    assert "a guess; --endpoint URL gives another and is remembered" in completed.stderr
    with PeerStore(state) as store:
        assert store.public_endpoints() == ()


def test_a_host_without_a_way_out_asks_for_the_endpoint(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_route(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(socket.socket, "connect", no_route)
    with pytest.raises(ConfigError, match=r"as in tcp://vpn\.example\.net:443"):
        peer_commands.add("a", (), (), "toml", state)


def test_an_address_can_be_chosen(state: Path, tmp_path: Path) -> None:
    chosen = ("--address", "10.9.0.77/32", "--address", "fd00:9::77/64")
    settings = loaded(add(state, "a", *chosen, *ENDPOINT).stdout, tmp_path)
    assert settings.addresses == (ip_interface("10.9.0.77/24"), ip_interface("fd00:9::77/64"))


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("10.9.0.2/24", "peers 'a' and 'b' both have 10.9.0.2/32"),
        ("10.9.0.1/24", "our own address"),
        (
            "10.9.1.2/24",
            "10.9.1.2 is outside the networks of fastun0; give an address in 10.9.0.0/24 fd00:9",
        ),
        ("10.9.0.255/24", "10.9.0.255 is not a host address in 10.9.0.0/24"),
        ("10.9.0.0/24", "10.9.0.0 is not a host address in 10.9.0.0/24"),
    ],
)
def test_an_address_that_cannot_be_the_clients_is_refused(
    state: Path, address: str, named: str
) -> None:
    add(state, "a", *ENDPOINT)
    assert named in refusal(state, "add", "b", "--address", address)
    with PeerStore(state) as store:
        assert [peer.name for peer in store.peers()] == ["a"]


def test_a_name_is_taken_once(state: Path) -> None:
    add(state, "a", *ENDPOINT)
    assert "NAME: a peer is named 'a' already; choose another name" in refusal(state, "add", "a")


def test_before_the_first_serve_an_address_says_which_network(tmp_path: Path) -> None:
    state = tmp_path / "state"
    line = refusal(state, "add", "a", *ENDPOINT)
    assert "start 'fastun serve' first, or give --address" in line
    line = refusal(state, "add", "a", *ENDPOINT, "--address", "10.9.0.2/32")
    assert "lacks its network's prefix length" in line
    settings = loaded(add(state, "a", *ENDPOINT, "--address", "10.9.0.2/24").stdout, tmp_path)
    assert settings.addresses == (ip_interface("10.9.0.2/24"),)
    assert settings.peers[0].allowed_ips == (ip_network("10.9.0.0/24"),)
    own = keys.load_private(state / "private.key")  # What serve will find.
    assert settings.peers[0].public_key == keys.public_of(own)


def test_a_client_of_a_tap_server_is_tap(state: Path, tmp_path: Path) -> None:
    with PeerStore(state) as store:
        server = store.server()
        assert server is not None
        store.remember_server(replace(server, mode="tap", addresses=()))
    settings = loaded(add(state, "a", *ENDPOINT).stdout, tmp_path)
    assert (settings.mode, settings.addresses) == ("tap", ())


def test_a_client_whose_file_is_lost_is_not_added(state: Path) -> None:
    with Path("/dev/full").open("w") as full:
        completed = fastun(
            "peer", "add", "a", *ENDPOINT, "--state", str(state), stdout=full.fileno()
        )
    assert only_line(completed, 1) == (
        "fastun: stdout: No space left on device; nothing was changed"
    )
    with PeerStore(state) as store:
        assert store.peers() == ()
        assert store.public_endpoints() == ()


# -- list, show, remove -----------------------------------------------------------------------


def test_the_list_fits_80_columns_and_shows_no_secret(state: Path) -> None:
    name = "a" * 64
    add(state, name, *ENDPOINT)
    with PeerStore(state) as store:
        preshared = store.get(name).preshared_key
        server = store.server()
        assert server is not None
        filed = Peer(name="filed", public_key=b"f" * 32, allowed_ips=(ip_network("fd00::/8"),))
        store.remember_server(replace(server, peers=(filed,)))
    assert preshared is not None
    table = fastun("peer", "list", "--state", str(state)).stdout
    assert max(map(len, table.splitlines())) <= 80
    for expected in ("10.9.0.2/32", "fd00:9::2/128", "filed: in the gateway's file"):
        assert expected in table
    as_json = fastun("peer", "list", "--json", "--state", str(state)).stdout
    first, second = json.loads(as_json)
    assert first["name"] == name
    assert first["allowed_ips"] == ["10.9.0.2/32", "fd00:9::2/128"]
    assert first["has_preshared_key"]
    assert (second["name"], second["source"]) == ("filed", "file")
    shown = fastun("peer", "show", name, "--state", str(state)).stdout
    assert first["public_key"] in shown
    for text in (table, as_json, shown):
        assert keys.format_key(preshared) not in text


def test_an_empty_list_makes_no_directory(tmp_path: Path) -> None:
    state = tmp_path / "nowhere"
    assert "'fastun peer add NAME' adds the first" in refusal(state, "list", exit_code=0)
    assert fastun("peer", "list", "--json", "--state", str(state)).stdout == "[]\n"
    for command in ("show", "remove"):
        assert "contains no peer directory" in refusal(state, command, "a")
    assert not state.exists()


@pytest.mark.parametrize("command", ["show", "remove"])
def test_a_peer_that_is_not_there_is_answered_with_the_nearest(state: Path, command: str) -> None:
    add(state, "laptop", *ENDPOINT)
    assert "did you mean 'laptop'?" in refusal(state, command, "labtop")
    # Not in UTF-8, of which a database would say that it is damaged.
    assert r"no peer is named '\udcff'; 'fastun peer list' shows" in refusal(
        state, command, "\udcff"
    )


def test_who_is_removed_leaves_the_address_to_the_next(state: Path, tmp_path: Path) -> None:
    add(state, "a", *ENDPOINT)
    assert refusal(state, "remove", "a", exit_code=0) == "removed a"
    settings = loaded(add(state, "b").stdout, tmp_path)
    assert settings.addresses[0] == ip_interface("10.9.0.2/24")


def test_a_damaged_directory_is_one_line_and_exit_code_1(state: Path) -> None:
    (state / FILE_NAME).write_bytes(b"x" * 4096)
    for command in (("add", "a"), ("list",), ("show", "a"), ("remove", "a")):
        assert "damaged" in refusal(state, *command, exit_code=1)


def test_a_directory_open_to_others_is_one_line_and_exit_code_2(state: Path) -> None:
    (state / FILE_NAME).chmod(0o644)
    assert "chmod 600" in refusal(state, "list")


# -- the gateway ------------------------------------------------------------------------------


def test_a_running_gateway_is_notified_and_one_that_refuses_is_not_a_failure(
    state: Path, tmp_path: Path
) -> None:
    commands: list[object] = []
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "run" / "fastun0.sock"))
        listener.listen()

        def refuse() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    (length,) = struct.unpack(">I", connection.recv(4))
                    commands.append(msgspec.msgpack.decode(connection.recv(length)))
                    reply = msgspec.msgpack.encode({"error": "unknown command"})
                    connection.sendall(struct.pack(">I", len(reply)) + reply)

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        add(state, "a", *ENDPOINT)
        assert refusal(state, "remove", "a", exit_code=0) == "removed a"
        thread.join(10)
    assert commands == [{"command": "peers-changed"}] * 2


def test_the_server_that_is_remembered_has_no_secrets_and_an_absolute_path() -> None:
    peer = Peer(name="a", public_key=b"a" * 32, preshared_key=b"p" * 32)
    settings = load("serve", None, Options(run_dir=Path("run")))
    remembered = server_of(replace(settings, peers=(peer,)), b"s" * 32)
    assert remembered.room_bytes is not None
    assert replace(remembered, room_bytes=None) == Server(
        interface="fastun0",
        run_dir=str(Path("run").absolute()),
        mode="tun",
        addresses=(ip_interface("10.55.0.1/24"),),
        public_key=b"s" * 32,
        listen=(Endpoint("udp", "::", 51820), Endpoint("tcp", "::", 55555)),
        peers=(Peer(name="a", public_key=b"a" * 32),),
    )


def test_the_first_steps_can_be_taken_as_they_stand(state: Path, tmp_path: Path) -> None:
    settings = load("serve", None, Options(state=state))
    command = next(line for line in first_steps(settings) if "peer add" in line)
    with PeerStore(state) as store:
        store.remember_public_endpoints((Endpoint("tcp", "a", 1),))
    program = command.replace("fastun", f"{sys.executable} -m fastun", 1)
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    subprocess.run(program, shell=True, check=True, cwd=tmp_path, timeout=60, env=environment)  # noqa: S602
    written = tmp_path / "laptop.toml"
    assert load("connect", str(written), Options()).peers[0].name == "a"
    assert "--state" not in " ".join(first_steps(replace(settings, state_dir=Options().state)))
