"""Compile the C library into the extension module ``fastun.native._fastun`` (cffi, API mode).

``fastun.h`` and the headers beside it in csrc are the one declaration of the interface: cffi
parses them without their preprocessor lines, the compiler includes them as they are, so a
disagreement is a build error.
Run by setuptools (``cffi_modules`` in setup.py).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import cffi

CSRC = Path("csrc")
SOURCES = sorted(str(path) for path in CSRC.rglob("*.c"))
HEADERS = sorted(str(path) for path in CSRC.rglob("*.h"))
COMPILE_ARGS = ["-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Wshadow", "-Wconversion"]


def has_header(name: str) -> bool:
    """Return whether the C compiler finds a header."""
    compiler = os.environ.get("CC", "cc").split()
    preprocess = ("-I", sysconfig.get_path("include"), "-x", "c", "-E", "-")
    # fmt: off
    asked = subprocess.run(
        [*compiler, *preprocess], input=f"#include <{name}>\n",
        capture_output=True, text=True, check=False,
    )
    # fmt: on
    return asked.returncode == 0


#: What must be there, and the packages that have it on Debian and Ubuntu; Fedora; Alpine.
NEEDED = {
    "Python.h": ("python3-dev", "python3-devel", "python3-dev"),
    "gcrypt.h": ("libgcrypt20-dev", "libgcrypt-devel", "libgcrypt-dev"),
    "linux/if_tun.h": ("linux-libc-dev", "kernel-headers", "linux-headers"),
}


def check() -> None:
    """Raise SystemExit, in one line, where something is missing that the build needs."""
    compiler = os.environ.get("CC", "cc").split()[0]
    if shutil.which(compiler) is None:
        raise SystemExit(
            f"fastun cannot be built: no C compiler ({compiler}); install gcc and try again"
        )
    missing = [name for name in NEEDED if not has_header(name)]
    if missing:
        debian, fedora, alpine = (
            " ".join(NEEDED[name][i] for name in missing) for i in range(len(NEEDED["gcrypt.h"]))
        )
        raise SystemExit(
            f"fastun cannot be built: {', '.join(missing)} missing; install {debian} (Debian, "
            f"Ubuntu), {fedora} (Fedora) or {alpine} (Alpine), and try again"
        )


check()

#: The other sealing library is looked for at run time (csrc/session/aead_ipsec_mb.c).
LIBRARIES, DEFINES = ["gcrypt", "dl"], []
if has_header("intel-ipsec-mb.h"):
    DEFINES.append(("FASTUN_WITH_IPSEC_MB", "1"))


def declarations(header: str) -> str:
    """Return ``header`` as cffi wants it: without preprocessor lines and without comments."""
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    return "\n".join(line for line in header.splitlines() if not line.startswith("#"))


ffi = cffi.FFI()
for header in ("fastun.h", "capture.h", "confine.h", "counters.h", "keys.h", "lanes.h"):
    ffi.cdef(declarations((CSRC / header).read_text(encoding="utf-8")))
ffi.set_source(
    "fastun.native._fastun",
    '#include "capture.h"\n#include "confine.h"\n#include "keys.h"\n#include "lanes.h"',
    sources=SOURCES,
    depends=HEADERS,
    include_dirs=[str(CSRC)],
    libraries=LIBRARIES,
    define_macros=DEFINES,
    extra_compile_args=COMPILE_ARGS,
    py_limited_api=True,
)
