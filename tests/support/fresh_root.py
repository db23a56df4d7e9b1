"""Systems as debootstrap leaves them, with nothing but a distribution's minimum.

    with FreshRoot("trixie", tmp_path) as root:
        root.run("apt-get", "update")
        root.spawn(host, "fastun", "serve")

debootstrap runs once for each release, into .package/roots; a FreshRoot is an overlay on it, so
each begins anew. What runs on a host of the laboratory has /run and /var/lib/fastun of that host,
as separate machines have.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from fastun.lab.host import run_command

if TYPE_CHECKING:
    import subprocess
    from types import TracebackType

    from fastun.lab.host import Host

ROOT: Final = Path(__file__).resolve().parents[2]
ROOTS: Final = ROOT / ".package" / "roots"
DEBOOTSTRAP_LIMIT_S: Final = 600.0

# Enters the root: $1 is its directory, $2 that of the host; the command follows.
_ENTER: Final = """
set -e
root=$1 own=$2
shift 2
mount -t sysfs sysfs "$root/sys"
if [ -n "$own" ]; then
    mkdir -p "$own/run" "$own/state" "$root/var/lib/fastun"
    mount --bind "$own/run" "$root/run"
    mount --bind "$own/state" "$root/var/lib/fastun"
fi
exec chroot "$root" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive "$@"
"""


class Release(NamedTuple):
    """Where a release is from, and debootstrap's script for it."""

    mirror: str
    components: str = "main"
    script: str = "sid"
    options: tuple[str, ...] = ()
    has_updates: bool = False


_DEBIAN: Final = Release("http://deb.debian.org/debian")
# Its keys are not on every Debian. With updates, as every Ubuntu: 22.04 has Python 3.11 there.
_UBUNTU: Final = Release(
    "http://archive.ubuntu.com/ubuntu", "main,universe", "gutsy", ("--no-check-gpg",), True
)
RELEASES: Final = {
    "bookworm": _DEBIAN,
    "trixie": _DEBIAN,
    "forky": _DEBIAN,
    "jammy": _UBUNTU,
    "noble": _UBUNTU,
}


class FreshRoot:
    """A system of a release, below ``directory`` for as long as it is used."""

    def __init__(self, release: str, directory: Path) -> None:
        """Make the base, if it is not there."""
        self._base = _base(release)
        self._directory = directory
        self.path = directory / "root"

    def __enter__(self) -> Self:
        """Mount it."""
        for name in ("root", "upper", "work"):
            (self._directory / name).mkdir(parents=True)
        layers = f"lowerdir={self._base},upperdir={self._directory}/upper"
        options = f"{layers},workdir={self._directory}/work"
        run_command("mount", "-t", "overlay", "overlay", "-o", options, str(self.path))
        run_command("mount", "-t", "proc", "proc", str(self.path / "proc"))
        run_command("mount", "--rbind", "--make-rslave", "/dev", str(self.path / "dev"))
        shutil.copyfile("/etc/resolv.conf", self.path / "etc" / "resolv.conf")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Unmount it."""
        with contextlib.suppress(OSError):
            run_command("umount", "--recursive", str(self.path))

    def argv(self, host: Host | None, *command: str) -> list[str]:
        """Return what runs a command in here, on a host or on this machine's network."""
        own = str(self._directory / host.name) if host else ""
        return ["unshare", "-m", "sh", "-c", _ENTER, "sh", str(self.path), own, *command]

    def run(
        self, *command: str, host: Host | None = None, check: bool = True, timeout_s: float = 300.0
    ) -> str:
        """Run a command to its end; returns what it printed. Raises as `run_command`."""
        argv = self.argv(host, *command)
        if host is not None:
            return host.run(*argv, timeout_s=timeout_s, check=check).stdout
        return run_command(*argv, timeout_s=timeout_s, check=check).stdout

    def spawn(self, host: Host, log: Path, *command: str) -> subprocess.Popen[bytes]:
        """Start a command on a host; what it prints goes to ``log``."""
        with log.open("wb") as output:
            return host.spawn(*self.argv(host, *command), stdout=output, stderr=output)


def _base(release: str) -> Path:
    """Return the directory of a release as debootstrap leaves it."""
    directory, made = ROOTS / release, RELEASES[release]
    if not directory.is_dir():
        fresh = ROOTS / f"{release}.new"
        shutil.rmtree(fresh, ignore_errors=True)
        # fmt: off
        run_command(
            "debootstrap", "--variant=minbase", f"--components={made.components}", *made.options,
            release, str(fresh), made.mirror, made.script,
            timeout_s=DEBOOTSTRAP_LIMIT_S,
        )
        # fmt: on
        # A mirror may be behind.
        (fresh / "etc" / "apt" / "apt.conf.d" / "late").write_text(
            'Acquire::Check-Valid-Until "false";\n', encoding="utf-8"
        )
        if made.has_updates:
            line = f"deb {made.mirror} {release}-updates {made.components.replace(',', ' ')}\n"
            with (fresh / "etc" / "apt" / "sources.list").open("a", encoding="utf-8") as sources:
                sources.write(line)
        fresh.rename(directory)
    return directory
