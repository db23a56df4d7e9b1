"""What ``fastun doctor`` looks at of the state and the run directory. Nothing is changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fastun import private_file
from fastun.config.settings import PRIVATE_KEY_FILE_NAME
from fastun.doctor.finding import Finding, Subject, finding, require
from fastun.errors import FastunError


def state_directory(subject: Subject) -> Finding:
    """Check that there is, or can be, a place for keys and peers that is ours alone."""
    path = subject.state
    if not path.exists():
        return _can_be_made(path, "--state")
    if not path.is_dir():
        return finding("FAIL", f"{path} is not a directory", "choose another --state")
    require(path, os.R_OK | os.X_OK)
    status = path.stat()
    if status.st_uid not in private_file.trusted_users():
        said = f"{path}: its owner, user {status.st_uid}, can replace its files"
        return finding("FAIL", said, f"chown {os.geteuid()} {path}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return finding("FAIL", f"{path}: others can replace its files", f"chmod 700 {path}")
    if not os.access(path, os.W_OK):
        return finding("warn", f"{path} cannot be written", "run as root, or mount it writable")
    return finding("ok", f"{path}, which only its owner can change")


def private_key(subject: Subject) -> Finding:
    """Check that this host's key is there, is one, and is read by its owner alone."""
    path = subject.state / PRIVATE_KEY_FILE_NAME
    if not path.exists():
        return finding("ok", f"no {path} yet; the first serve makes one")
    require(path, os.R_OK)
    from fastun.session import keys  # noqa: PLC0415 (cryptography takes 0.1 s)

    try:
        keys.load_private(path)
    except FastunError as error:
        return _refused(error, f"restore {path} from a backup, or move it away")
    return finding("ok", f"{path}, which only its owner can read")


def peer_directory(subject: Subject) -> Finding:
    """Check that the peers can be read, and by whom."""
    try:
        peers = subject.peers
    except FastunError as error:
        return _refused(error, "choose another --state")
    if peers is None:
        return finding("ok", "none yet; fastun peer add makes it")
    return finding("ok", f"{len(peers):,} peer{'s' * (len(peers) != 1)}")


def run_directory(subject: Subject) -> Finding:
    """Check that a gateway can make its control socket, and tell which do now."""
    path = subject.run_dir
    if not path.exists():
        return _can_be_made(path, "--run-dir")
    if not path.is_dir():
        return finding("FAIL", f"{path} is not a directory", "choose another --run-dir")
    require(path, os.R_OK | os.W_OK | os.X_OK)
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return finding("FAIL", f"{path}: others can replace its sockets", f"chmod go-w {path}")
    running = ", ".join(gateway.interface for gateway in subject.gateways)
    return finding("ok", f"{path} can be written; gateways that run: {running or 'none'}")


def _can_be_made(path: Path, option: str) -> Finding:
    ancestor = next(parent for parent in path.absolute().parents if parent.exists())
    if not ancestor.is_dir():
        said = f"{path} cannot be made: {ancestor} is not a directory"
        return finding("FAIL", said, f"choose another {option}")
    require(ancestor, os.W_OK | os.X_OK)
    return finding("ok", f"{path} will be made at the first start")


def _refused(error: FastunError, mend: str) -> Finding:
    """Return the complaint that the gateway would end with, which most often says the mend."""
    said, _, its_mend = str(error).partition("; ")
    return finding("FAIL", said, its_mend.removeprefix("run: ") or mend)
