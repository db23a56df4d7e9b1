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
    """Check that the directory for keys and peers exists or can be made, and is ours alone."""
    path = subject.state
    if not path.exists():
        return _can_be_made(path, "--state")
    if not path.is_dir():
        return finding("FAIL", f"{path} is not a directory", "choose another --state")
    require(path, os.R_OK | os.X_OK)
    status = path.stat()
    if status.st_uid not in private_file.trusted_users():
        message = f"{path}: its owner, user {status.st_uid}, can replace its files"
        return finding("FAIL", message, f"chown {os.geteuid()} {path}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return finding("FAIL", f"{path}: others can replace its files", f"chmod 700 {path}")
    if not os.access(path, os.W_OK):
        return finding("warn", f"{path} is not writable", "run as root, or mount it writable")
    return finding("ok", f"{path}: writable by its owner only")


def private_key(subject: Subject) -> Finding:
    """Check that this host's key is valid, and readable by its owner only."""
    path = subject.state / PRIVATE_KEY_FILE_NAME
    if not (path.exists() or path.is_symlink()):
        if subject.peers_known():
            message = f"{path} is missing, and the peers of {subject.state} know the old key"
            fix = "restore it; fine if the private key is in the configuration file"
            return finding("warn", message, fix)
        return finding("ok", f"no {path} yet; the first 'fastun serve' creates it")
    require(path, os.R_OK)
    from fastun.session import keys  # noqa: PLC0415 (loads PyNaCl)

    try:
        keys.load_private(path)
    except FastunError as error:
        return _refused(error, f"restore {path} from a backup, or move it away")
    return finding("ok", f"{path}: readable by its owner only")


def peer_directory(subject: Subject) -> Finding:
    """Check that the peers can be read, and only by their owner."""
    try:
        peers = subject.peers
    except FastunError as error:
        return _refused(error, "choose another --state")
    if peers is None:
        return finding("ok", "none yet; 'fastun peer add' creates it")
    return finding("ok", f"{len(peers):,} peer{'s' * (len(peers) != 1)}")


def run_directory(subject: Subject) -> Finding:
    """Check that a gateway can create its control socket, and list the running ones."""
    path = subject.run_dir
    if not path.exists():
        return _can_be_made(path, "--run-dir")
    if not path.is_dir():
        return finding("FAIL", f"{path} is not a directory", "choose another --run-dir")
    require(path, os.R_OK | os.W_OK | os.X_OK)
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return finding("FAIL", f"{path}: others can replace its sockets", f"chmod go-w {path}")
    running = ", ".join(gateway.interface for gateway in subject.gateways)
    return finding("ok", f"{path} is writable; running gateways: {running or 'none'}")


def _can_be_made(path: Path, option: str) -> Finding:
    ancestor = next(parent for parent in path.absolute().parents if parent.exists())
    if not ancestor.is_dir():
        message = f"{path} cannot be created: {ancestor} is not a directory"
        return finding("FAIL", message, f"choose another {option}")
    require(ancestor, os.W_OK | os.X_OK)
    return finding("ok", f"{path} will be created at the first start")


def _refused(error: FastunError, fix: str) -> Finding:
    """Return the complaint that the gateway would end with, which most often names the fix."""
    message, _, its_fix = str(error).partition("; ")
    return finding("FAIL", message, its_fix.removeprefix("run: ") or fix)
