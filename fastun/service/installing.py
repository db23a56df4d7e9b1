"""Puts the files of the services into effect on this host, and takes an instance back.

What systemd is asked for is done by its own programs, whose complaints are passed on.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastun import private_file, service_user
from fastun.errors import ConfigError, RuntimeFailure, quote
from fastun.service import units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fastun.vocabulary import Role

_RUNS: Final = Path("/run/systemd/system")  # sd_booted(3)
_LIMIT_S: Final = 120.0
_LAST_LINES: Final = 8

# Where a package has put units, which an instance then uses.
_OF_OTHERS: Final = (Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))

_OLD_POLKIT: Final = Path("/etc/polkit-1/localauthority/50-local.d")


def write(files: dict[Path, str], root: Path = Path("/")) -> list[Path]:
    """Write what is not there as it should be, below ``root``; return it. Raises RuntimeFailure."""
    written = []
    for path, text in files.items():
        file = root / path.relative_to("/")
        try:
            if file.is_file() and file.read_text(encoding="utf-8") == text:
                continue
            file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            _replace(file, text)
        except OSError as error:
            raise RuntimeFailure(f"{file}: {error.strerror}; run as root") from None
        written.append(file)
    return written


def _replace(file: Path, text: str) -> None:
    """Write a file that root goes by: at no moment may others write to it, whatever the umask.

    Nothing that they have put in the place of the temporary one is followed or kept.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    made = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(made, "w", encoding="utf-8") as opened:
            opened.write(text)
            os.fchmod(made, 0o644)
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def install(role: Role, name: str, say: Callable[[str], None], *, starts: bool) -> None:
    """Make a service of /etc/fastun/NAME.toml; ``say`` what is done. Raises FastunError."""
    _check_host()
    file = units.SETTINGS / f"{name}.toml"
    if not file.is_file():
        raise ConfigError(f"{file}: missing; write the settings of the service there first")
    # Else whoever that is could have root open another file to the service, by a link of its name.
    private_file.check_directory(file, f"settings {quote(str(file))}", private_file.own_users())
    unit = units.unit_name(role, name)
    if _other(role) in _enabled(name):
        raise ConfigError(
            f"{name}: {units.unit_name(_other(role), name)} is enabled with the same file; first"
            f" run: fastun install-service {name} --role {_other(role)} --remove"
        )
    installation = units.this_installation()
    _say_whose(installation, say)
    files = units.of_old_polkit(_OLD_POLKIT)
    if not _is_packaged(role, installation):
        files |= units.texts(installation, units.OF_HOST)
    for path in write(files):
        say(f"wrote {path}")
    _run("systemd-sysusers")
    _run("systemd-tmpfiles", "--create", "fastun.conf")
    _give(file, say)
    _run("systemctl", "daemon-reload")
    _run("systemctl", "enable", "--quiet", unit)
    say(f"enabled {unit}")
    if starts:
        _start(unit)
        say(f"{unit} runs; its log: journalctl -u {unit}")


def remove(role: Role, name: str, say: Callable[[str], None]) -> None:
    """Stop a service, and remove what `install` has written once no other needs it."""
    _check_host()
    unit = units.unit_name(role, name)
    _run("systemctl", "disable", "--now", "--quiet", unit)
    say(f"stopped and disabled {unit}")
    if any(_enabled("*")):
        return
    files = units.texts(units.Installation(""), units.OF_HOST)
    for path in files | units.of_old_polkit(_OLD_POLKIT):
        if path.is_file() and path.read_text(encoding="utf-8").split("\n")[0].endswith(_MARK_END):
            path.unlink()
            say(f"removed {path}")
    _run("systemctl", "daemon-reload")


_MARK_END: Final = units.MARK.removeprefix("# ")


def _other(role: Role) -> Role:
    return "connect" if role == "serve" else "serve"


def _enabled(name: str) -> list[Role]:
    wants = units.OF_HOST.units / "multi-user.target.wants"
    found = [path.name for path in wants.iterdir()] if wants.is_dir() else []
    return [role for role in units.ROLES if fnmatch.filter(found, units.unit_name(role, name))]


def _check_host() -> None:
    if not _RUNS.is_dir() or not shutil.which("systemctl"):
        raise RuntimeFailure("systemd does not run here; have your service manager run fastun")
    if os.geteuid() != 0:
        raise RuntimeFailure("units are root's to install; run as root")


def _is_packaged(role: Role, installation: units.Installation) -> bool:
    """Return whether a package's unit runs this very installation."""
    line = f"\nExecStart={installation.command} {role} "
    files = [each / units.unit_name(role) for each in _OF_OTHERS]
    return any(each.is_file() and line in each.read_text(encoding="utf-8") for each in files)


def _say_whose(installation: units.Installation, say: Callable[[str], None]) -> None:
    """Say who else than root can change what the service runs, as in a home (pipx)."""
    program = Path(installation.command.partition(" ")[0])
    paths = [each for each in (program, *installation.hidden) if each.exists()]
    if of_others := next((each for each in paths if each.stat().st_uid != 0), None):
        user = private_file.user_named(of_others.stat().st_uid)
        say(
            f"{of_others} belongs to {user}, who can so change what the service runs, and has its"
            " rights and keys; install fastun as root, as in /opt/fastun, where that is too much"
        )


def _give(file: Path, say: Callable[[str], None]) -> None:
    """Let the service's user read the settings: it may be that only root can, for their keys."""
    status = file.stat()
    service = service_user.find()
    if service is None or status.st_mode & 0o004 or status.st_uid == service.user:
        return
    if status.st_gid != service.group or not status.st_mode & 0o040:
        os.chown(file, -1, service.group)
        file.chmod(stat.S_IMODE(status.st_mode) | 0o040)
        say(f"let group {service_user.NAME} read {file}: the service runs as that user")


def _start(unit: str) -> None:
    """Start it anew, and wait until it is up. RuntimeFailure with its last words."""
    done = _done("systemctl", "restart", unit)
    if done.returncode != 0:
        lines = _done("journalctl", "-u", unit, "-n", str(_LAST_LINES), "-o", "cat", "--no-pager")
        words = [line for line in lines.stdout.splitlines() if line.startswith("fastun: ")]
        last = words[-1].removeprefix("fastun: ") if words else f"see journalctl -u {unit}"
        raise RuntimeFailure(f"{unit} did not start: {last}")


def _run(*command: str) -> None:
    done = _done(*command)
    if done.returncode != 0:
        lines: Iterable[str] = (done.stderr or done.stdout).strip().splitlines()
        why = [*lines][-1:] or [f"exit code {done.returncode}"]
        raise RuntimeFailure(f"{' '.join(command)}: {why[0]}")


def _done(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except OSError as error:
        raise RuntimeFailure(f"{quote(command[0])}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise RuntimeFailure(f"{' '.join(command)}: no end after {_LIMIT_S:g} s") from None
