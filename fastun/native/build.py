"""Compile the C library into the extension module ``fastun.native._fastun`` (cffi, API mode).

``fastun.h`` and the headers beside it in csrc are the one declaration of the interface: cffi
parses them without their preprocessor lines, the compiler includes them as they are, so a
disagreement is a build error.
Run by setuptools (``cffi_modules`` in setup.py).
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import cffi

CSRC = Path("csrc")
SOURCES = sorted(str(path) for path in CSRC.rglob("*.c"))
HEADERS = sorted(str(path) for path in CSRC.rglob("*.h"))
COMPILE_ARGS = ["-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Wshadow", "-Wconversion"]


def has_header(name: str) -> bool:
    """Return whether the C compiler finds a header."""
    # fmt: off
    asked = subprocess.run(
        [os.environ.get("CC", "cc"), "-E", "-"], input=f"#include <{name}>\n",
        capture_output=True, text=True, check=False,
    )
    # fmt: on
    return asked.returncode == 0


#: The sealing libraries: libgcrypt always, the other where it is (csrc/session/aead_library.h).
LIBRARIES, DEFINES = ["gcrypt"], []
if has_header("intel-ipsec-mb.h"):
    LIBRARIES.append("IPSec_MB")
    DEFINES.append(("FASTUN_WITH_IPSEC_MB", "1"))


def declarations(header: str) -> str:
    """Return ``header`` as cffi wants it: without preprocessor lines and without comments."""
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    return "\n".join(line for line in header.splitlines() if not line.startswith("#"))


ffi = cffi.FFI()
for header in ("fastun.h", "capture.h", "confine.h", "counters.h", "keys.h"):
    ffi.cdef(declarations((CSRC / header).read_text(encoding="utf-8")))
ffi.set_source(
    "fastun.native._fastun",
    '#include "capture.h"\n#include "confine.h"\n#include "keys.h"',
    sources=SOURCES,
    depends=HEADERS,
    include_dirs=[str(CSRC)],
    libraries=LIBRARIES,
    define_macros=DEFINES,
    extra_compile_args=COMPILE_ARGS,
    py_limited_api=True,
)
