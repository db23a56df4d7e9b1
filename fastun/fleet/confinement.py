"""What the process of a fleet keeps: the files of libpq, the copy, and the database's ports.

Files are named one by one, since beside them are others' keys. One that is replaced is another
file, which a process that is confined cannot be given: it ends, and a new one begins with those of
then.
"""

from __future__ import annotations

import os
import pwd
import re
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastun import import_paths, native
from fastun.peers.store_file import FILE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Libraries, and what they and libc's name service read.
_DIRECTORIES: Final = (
    "/usr", "/lib", "/lib32", "/lib64", "/nix", "/gnu", "/etc/ssl", "/etc/pki",
    "/etc/ca-certificates", "/etc/crypto-policies", "/run/systemd/resolve", "/run/resolvconf",
)  # fmt: skip
_FILES: Final = (
    "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf",
    "/etc/services", "/etc/protocols", "/etc/passwd", "/etc/group", "/etc/localtime",
    "/etc/ld.so.cache", "/etc/krb5.conf",
)  # fmt: skip
_DEVICES: Final = ("/dev/urandom", "/dev/null")

# libpq's parameters that name files, and what it looks for in the home directory without them.
_OF_LIBPQ: Final = {
    "passfile": ".pgpass",
    "sslcert": ".postgresql/postgresql.crt",
    "sslkey": ".postgresql/postgresql.key",
    "sslrootcert": ".postgresql/root.crt",
    "sslcrl": ".postgresql/root.crl",
    "sslcrldir": "",
}
_SERVICE_FILES: Final = ("/etc/postgresql-common", "/etc/postgresql", "/etc", "/usr/local/etc")
_DNS_PORT: Final = 53
_PORT_MAX: Final = 65535
_PORT: Final = re.compile(r"[0-9]{1,5}")
_POSTGRES_PORT: Final = 5432

# Half a million rows are some 500 MiB; the copy of them is a fifth of that.
_MORE_MEMORY: Final = 2 << 30
_FILE_BYTES_MAX: Final = 1 << 30
_DESCRIPTORS_MAX: Final = 64


class Files:
    """Those that libpq and the name service may read at a connection, as they are now."""

    def __init__(self, state: Path, url: str) -> None:
        """Find them. What is wrong with ``url`` libpq says when it connects."""
        self._url = url
        self.readable = sorted({*_FILES, *_of_libpq(url)})
        copy = state / FILE_NAME
        self.writable = [copy, copy.with_name(f"{copy.name}-journal")]
        self._were = self._now()

    def have_changed(self) -> bool:
        """Return whether there are others by their names, which this process may not open."""
        readable = sorted({*_FILES, *_of_libpq(self._url)})
        return readable != self.readable or self._now() != self._were

    def _now(self) -> list[tuple[int, int] | None]:
        return [_identity(path) for path in (*self.readable, *map(str, self.writable))]


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def give_up(url: str, files: Files) -> native.Confined:
    """Give up all else, for good. Raises OSError: this process must end then."""
    _limit()
    options = options_of(url)
    return native.confine_fleet(
        readable=sorted({*_directories(), *files.readable, *_DEVICES}),
        writable=files.writable,
        ports=ports_of(options),
        has_local=is_local(options),
    )


def _limit() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS_MAX),
        (resource.RLIMIT_FSIZE, _FILE_BYTES_MAX),
        (resource.RLIMIT_AS, pages * resource.getpagesize() + _MORE_MEMORY),
    ):
        hard = resource.getrlimit(limit)[1]
        new = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (new, new))


def _directories() -> Iterator[str]:
    yield from _DIRECTORIES
    yield from (sys.prefix, sys.base_prefix)
    yield from import_paths.directories()


def options_of(url: str) -> dict[str, str]:
    """Return libpq's parameters of this URL, with those of its service and of the environment."""
    import psycopg  # noqa: PLC0415 (for a fleet alone)
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415 (as above)
    from psycopg.pq import Conninfo  # noqa: PLC0415 (as above)

    try:
        given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except (psycopg.Error, UnicodeDecodeError):  # the connection says what is wrong
        given = {}
    before = os.environ.get("PGSERVICE")
    if "service" in given:  # the defaults are that service's
        os.environ["PGSERVICE"] = given["service"]
    try:
        defaults = Conninfo.get_defaults()
    except psycopg.Error:
        defaults = []
    finally:
        if "service" in given:
            if before is None:
                del os.environ["PGSERVICE"]
            else:
                os.environ["PGSERVICE"] = before
    found = {each.keyword.decode(): os.fsdecode(each.val) for each in defaults if each.val}
    return found | given


def _of_libpq(url: str) -> set[str]:
    return files_of(options_of(url))


def files_of(options: Mapping[str, str]) -> set[str]:
    """Return the files that libpq may read, whether they are there or not."""
    homes = {os.environ.get("HOME", ""), _home()} - {""}
    found = {options[name] for name in _OF_LIBPQ if options.get(name)}
    found |= {str(Path(home, name)) for home in homes for name in _OF_LIBPQ.values() if name}
    found |= {str(Path(home, ".pg_service.conf")) for home in homes}
    system = (os.environ.get("PGSYSCONFDIR", ""), *_SERVICE_FILES)
    found |= {str(Path(each, "pg_service.conf")) for each in system if each}
    found |= {os.environ.get(name, "") for name in ("PGSERVICEFILE", "SSL_CERT_FILE")}
    found.add(os.environ.get("KRB5CCNAME", "").removeprefix("FILE:"))
    return {path for path in found if path.startswith("/")}


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return ""


def ports_of(options: Mapping[str, str]) -> list[int]:
    """Return the TCP ports of the database, and of the name service."""
    numbers = (int(each) for each in options.get("port", "").split(",") if _PORT.fullmatch(each))
    return sorted({_POSTGRES_PORT, _DNS_PORT, *(each for each in numbers if each <= _PORT_MAX)})


def is_local(options: Mapping[str, str]) -> bool:
    """Return whether a host of the database is a directory, as it is where none is given."""
    hosts = options.get("host", "").split(",")
    addresses = options.get("hostaddr", "")
    return not addresses and any(not each or each.startswith(("/", "@")) for each in hosts)
