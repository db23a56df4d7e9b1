"""Which server a command is about, found by its state directory.

Asked for in this order: --state, the gateway of -i, the only gateway that serves, the default.
"""

from __future__ import annotations

from pathlib import Path

from fastun.config.settings import Options
from fastun.errors import ConfigError, RuntimeFailure, quote

DEFAULT_STATE = Options().state


def find(state: Path | None, interface: str | None, run_dir: Path) -> Path:
    """Return the state directory. Raises FastunError: which one is unclear, or there is none."""
    if state is not None:
        if interface is not None:
            raise ConfigError("--interface: conflicts with --state; give one of the two")
        return state
    from fastun.status import control, report  # noqa: PLC0415 (rich; with --state needless)

    if interface is not None:
        found = control.request(control.socket_path(run_dir, interface), "status").state_dir
        if found is None:
            raise ConfigError(
                f"--interface: the gateway of {quote(interface)} has no peer directory; give the"
                " interface of a server on the wireguard wire, or --state"
            )
        return _with_peers(Path(found), interface)
    try:
        sockets = report.living(run_dir)
    except RuntimeFailure:  # none runs, or it is another user's
        return DEFAULT_STATE
    answers = [control.request(path, "status") for path in sockets]
    serving = {each.interface: Path(each.state_dir) for each in answers if each.state_dir}
    if len(set(serving.values())) > 1:
        known = ", ".join(f"{name} ({path})" for name, path in serving.items())
        raise ConfigError(f"several servers run; choose one with -i NAME or --state DIR: {known}")
    for name, path in serving.items():
        return _with_peers(path, name)
    return DEFAULT_STATE


def _with_peers(state: Path, interface: str) -> Path:
    """Return the directory that a gateway has named, if it has peers: by its word none is made.

    It has fewer rights than root, who may be asking. RuntimeFailure: there are none.
    """
    from fastun.peers.store_file import FILE_NAME  # noqa: PLC0415 (SQLite)

    try:
        has_peers = (state / FILE_NAME).is_file()
    except OSError:  # another user's: opening it says so
        has_peers = True
    if not has_peers:
        raise RuntimeFailure(
            f"the gateway of {quote(interface)} says that its peers are in {quote(str(state))}, "
            "where there are none; give --state"
        )
    return state
