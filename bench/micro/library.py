"""The measured parts of the data path: compiled for the occasion and loaded through cffi.

The extension module offers only what the gateway needs, so the C sources are compiled once more,
with the flags of the extension module, together with ``measured*.c``, which runs each part many
times in a row. Frames to run it on come from the native tests.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cffi

from fastun.errors import RuntimeFailure

CHECKOUT = Path(__file__).resolve().parents[2]
DIRECTORY = CHECKOUT / "bench" / "micro"
COMPILER = os.environ.get("CC", "cc")

with contextlib.chdir(CHECKOUT):  # the build's paths begin there
    from fastun.native.build import COMPILE_ARGS, DEFINES, LIBRARIES, declarations


@dataclass(frozen=True, slots=True)
class Subject:
    """What can be run many times in a row, in C.

    `n_bytes` is what one operation goes through, or 0; `calibration` names the loop to whose time
    its own is a ratio.
    """

    name: str
    calibration: str
    n_bytes: int
    #: The ``struct subject`` behind it.
    native: Any

    def prepare(self) -> None:
        """Make ready to run; another subject may then no longer be. RuntimeFailure."""
        error = self.native.prepare(self.native.size, self.native.kind)
        if error:
            raise RuntimeFailure(f"{self.name} could not be prepared: {os.strerror(-error)}")

    def run(self, n: int) -> None:
        """Do `n` operations. RuntimeFailure if one of them did not do what it should."""
        done = self.native.run(n)
        if done != n:
            raise RuntimeFailure(f"{self.name}: {n - done} of {n} operations failed")


@dataclass(frozen=True, slots=True)
class Library:
    """The compiled library. Its state is this process's only one."""

    subjects: dict[str, Subject]
    calibrations: dict[str, Subject]
    libgcrypt_version: str
    #: Unmapped when it is forgotten.
    mapping: Any


@functools.cache
def load() -> Library:
    """Compile and load, once a process. RuntimeFailure with the compiler's words if it cannot."""
    ffi: Any = cffi.FFI()
    ffi.cdef(declarations((DIRECTORY / "measured.h").read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory(prefix="fastun-micro-") as directory:
        loaded: Any = ffi.dlopen(str(compile_into(Path(directory))))

    def table(first: Any) -> dict[str, Subject]:
        subjects = {}
        while first.name:
            name, calibration = (
                ffi.string(text).decode() for text in (first.name, first.calibration)
            )
            subjects[name] = Subject(name, calibration, first.n_bytes, first)
            first = (ffi.addressof(first) + 1)[0]
        return subjects

    return Library(
        subjects=table(loaded.subjects[0]),
        calibrations=table(loaded.calibrations[0]),
        libgcrypt_version=ffi.string(loaded.measured_libgcrypt_version()).decode(),
        mapping=loaded,
    )


def compile_into(directory: Path) -> Path:
    """Compile the shared library; return its file. RuntimeFailure."""
    library = directory / "measured.so"
    sources = [*sorted(DIRECTORY.glob("measured*.c")), *sorted((CHECKOUT / "csrc").rglob("*.c"))]
    includes = [f"-I{CHECKOUT / path}" for path in ("csrc", "tests/native/harness")]
    command = [COMPILER, "-shared", "-fPIC", *COMPILE_ARGS, *includes]
    command += [f"-D{name}={value}" for name, value in DEFINES]
    command += ["-o", str(library), *map(str, sources), *(f"-l{name}" for name in LIBRARIES)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RuntimeFailure(f"{COMPILER}: {error.strerror}; set CC to a C compiler") from error
    if done.returncode != 0:
        raise RuntimeFailure(f"{COMPILER} ended with code {done.returncode}: {done.stderr}")
    return library


def compiler_version() -> str:
    """Return the first line of what the compiler says of its version."""
    command = [COMPILER, "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0]
