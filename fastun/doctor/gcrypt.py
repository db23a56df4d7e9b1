"""Asks libgcrypt: ``python -I -m fastun.doctor.gcrypt LIBRARY LEAST_VERSION CIPHER``.

A process of its own, because asking initialises the library, after which no other part of the
process can choose the memory of its secrets (csrc/session/aead_gcrypt.c). Prints the version,
whether it is new enough, and whether it has the cipher of that number (1 or 0 each); exits with 3
where the library is missing.
"""

import ctypes
import sys

MISSING = 3
_GCRYCTL_TEST_ALGO = 8  # gcrypt.h


def main() -> None:
    """Print what the library says of itself."""
    try:
        library = ctypes.CDLL(sys.argv[1])
    except OSError:
        sys.exit(MISSING)
    library.gcry_check_version.restype = ctypes.c_char_p
    version = library.gcry_check_version(None).decode("ascii", "replace")
    is_new = library.gcry_check_version(sys.argv[2].encode()) is not None
    refusal = library.gcry_cipher_algo_info(int(sys.argv[3]), _GCRYCTL_TEST_ALGO, None, None)
    print(version, int(is_new), int(refusal == 0))  # noqa: T201 (what it is for)


if __name__ == "__main__":
    main()
