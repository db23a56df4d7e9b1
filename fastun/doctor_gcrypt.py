"""Asks libgcrypt for its version and ciphers: ``python -I -m fastun.doctor_gcrypt LIBRARY LEAST``.

A process of its own, because to ask is to initialise the library, after which nobody else in the
process can say where its secrets are to stand (csrc/seal.c). Prints the version, and whether it is
new enough (1 or 0) and has ChaCha20-Poly1305 (1 or 0); exits with 3 where the library is missing.
"""

import ctypes
import sys

MISSING = 3
_GCRY_CIPHER_CHACHA20, _GCRYCTL_TEST_ALGO = 316, 8  # gcrypt.h


def main() -> None:
    """Print what the library says of itself."""
    try:
        library = ctypes.CDLL(sys.argv[1])
    except OSError:
        sys.exit(MISSING)
    library.gcry_check_version.restype = ctypes.c_char_p
    version = library.gcry_check_version(None).decode("ascii", "replace")
    is_new = library.gcry_check_version(sys.argv[2].encode()) is not None
    refusal = library.gcry_cipher_algo_info(_GCRY_CIPHER_CHACHA20, _GCRYCTL_TEST_ALGO, None, None)
    print(version, int(is_new), int(refusal == 0))  # noqa: T201 (what it is for)


if __name__ == "__main__":
    main()
