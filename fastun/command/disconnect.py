"""``fastun disconnect``: the end of a client, and of its kill switch, which outlives it.

    the gateway, if one runs --SIGTERM--> gone --> the kill switch, if there is one, is removed

In this order: a running gateway would put it back, and nothing leaves the host before the end.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Final

from fastun import private_file
from fastun.errors import RuntimeFailure, quote
from fastun.host import run_directory
from fastun.host.firewall import kill_switch_found
from fastun.status import control

# A gateway is gone within 15 s, whatever hangs (host/journal.py).
_END_S: Final = 20.0
# What others remove is put back within half a second on a busy host (host/kill_switch.py).
_PUT_BACK_S: Final = 1.0
_LOOK_S: Final = 0.05
_UCRED: Final = struct.Struct("iII")  # pid, user and group: unix(7)


def disconnect(interface: str | None, run_dir: Path) -> None:
    """End the client of ``interface``, or the only one, and remove its kill switch; print both.

    Raises RuntimeFailure where there is neither, or several to choose from.
    """
    (running, servers), found = _gateways(interface, run_dir), _kill_switches()
    names = sorted({*running, *found})
    if interface is None and len(names) > 1:
        raise RuntimeFailure(f"several can be ended; choose one with -i: {', '.join(names)}")
    name = interface or (names[0] if names else "")
    if name in servers and name not in names:
        raise RuntimeFailure(f"{name} is a server; stop it where it was started, or with SIGTERM")
    if name not in names:
        of = f" of {quote(name)}" if name else ""
        others = f"; there is {', '.join(names)}" if names else ""
        raise RuntimeFailure(
            f"no client{of} is running (none listens in {run_dir}), and no kill switch{of} is set"
            f"{others}"
        )
    if name in running:
        end_client(name, control.socket_path(run_dir, name))
        sys.stdout.write(f"{name}: disconnected\n")
    if name in _kill_switches():
        kill_switch_found.remove(name)
        if _is_put_back(name):
            raise RuntimeFailure(
                f"the kill switch of {name} was put back: its fastun runs, but does not listen in "
                f"{run_dir}; give its --run-dir, or stop it first"
            )
        sys.stdout.write(f"{name}: kill switch removed\n")


def _gateways(interface: str | None, run_dir: Path) -> tuple[list[str], list[str]]:
    """Return the interfaces of the clients that run, and of the servers. Raises RuntimeFailure.

    A gateway is known by its socket, not by what it says of itself: that could be another's name.
    Where one is chosen, the others need not answer.
    """
    try:
        alive = [path for path in sorted(run_dir.glob("*.sock")) if control.is_alive(path)]
        asked = [path for path in alive if path.stem == interface] or alive
        roles = {path.stem: control.request(path, "status").role for path in asked}
    except OSError as error:
        raise RuntimeFailure(
            f"--run-dir {run_dir}: cannot be read ({error.strerror or error}); run as root, or as "
            "the user that runs the gateway"
        ) from None
    clients, servers = (
        [name for name, role in roles.items() if role == wanted] for wanted in ("connect", "serve")
    )
    return clients, servers


def _kill_switches() -> tuple[str, ...]:
    """Return the interfaces that have a kill switch. Raises RuntimeFailure."""
    try:
        return kill_switch_found.interfaces()
    except PermissionError:
        raise RuntimeFailure("nftables: permission denied; run as root") from None
    except OSError:  # a kernel without nftables
        return ()


def _is_put_back(interface: str) -> bool:
    """Return whether a gateway that we do not see puts a kill switch back; it has the device."""
    deadline = time.monotonic() + _PUT_BACK_S
    while time.monotonic() < deadline and _exists(interface):
        if interface in _kill_switches():
            return True
        time.sleep(_LOOK_S)
    return False


def _exists(interface: str) -> bool:
    try:
        return bool(socket.if_nametoindex(interface))
    except OSError:
        return False


def _is_made_by_us(path: Path) -> bool:
    """Return whether the socket is this user's or root's, whoever listens: a gateway has dropped.

    Its host process has made it, in a directory that only they may write to.
    """
    with contextlib.suppress(RuntimeFailure, OSError):
        run_directory.check(path.parent)
        return path.lstat().st_uid in private_file.trusted_users()
    return False


def _gateway_behind(asked: socket.socket, interface: str, path: Path) -> tuple[int, int]:
    """Return the process that listens, and a descriptor of it: only if it is to be signalled.

    A directory that others may write to could hold anything. Raises RuntimeFailure, OSError.
    """
    ucred = asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, user, _ = _UCRED.unpack(ucred)
    if pid == 0:
        raise RuntimeFailure(
            f"the gateway of {interface} runs in another PID namespace; stop it there"
        )
    if user not in (0, os.geteuid()) and not _is_made_by_us(path):
        raise RuntimeFailure(
            f"{path}: another user listens there (user ID {user}), so nothing is ended; "
            "run as that user, or choose another --run-dir"
        )
    process = os.pidfd_open(pid)  # before the look: from now on the number names no other one
    if not _is_fastun(pid):
        os.close(process)
        raise RuntimeFailure(
            f"{path}: process {pid}, which listens there, is not fastun, so nothing is ended; "
            "choose another --run-dir"
        )
    return pid, process


def _is_fastun(pid: int) -> bool:
    try:
        return b"fastun" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:  # it has ended: so says the descriptor, too
        return True


def end_client(interface: str, path: Path) -> None:
    """Stop the gateway behind a control socket, and wait for its end. Raises RuntimeFailure."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            asked.connect(str(path))
            pid, process = _gateway_behind(asked, interface, path)
    except (ConnectionRefusedError, FileNotFoundError, ProcessLookupError):
        return  # it has just ended
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGTERM)
        gone = select.poll()
        gone.register(process, select.POLLIN)
        if not gone.poll(_END_S * 1000):
            raise RuntimeFailure(
                f"the gateway of {interface} has not ended within {_END_S:.0f} s; run "
                f"'kill -KILL {pid}', then 'fastun disconnect -i {interface}' again"
            )
    except PermissionError:
        raise RuntimeFailure(
            f"the gateway of {interface} runs as another user; run as root"
        ) from None
    finally:
        os.close(process)
