"""The reading end of a capture's rings: ``csrc/capture.h``."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence

from fastun.native.library import checked, ffi, lib
from fastun.native.shared import Ring, bounded
from fastun.native.vocabulary import DROPS, CaptureStage

# What one read may give, in bytes: some of the longest frames.
ROOM_BYTES = 1024 * 1024


def layout() -> int:
    """Return a number that two versions share whose captures mean the same."""
    return zlib.crc32(repr([(drop.role, drop.reason) for drop in DROPS]).encode())


class CaptureReader:
    """Takes packets out of the rings as blocks of a pcapng file."""

    def __init__(
        self, fds: Sequence[int], ring_bytes: int, interfaces: Mapping[CaptureStage, int]
    ) -> None:
        """Map the rings, whose descriptors are closed; ``interfaces``: a stage's number in a file.

        Raises OSError.
        """
        self._rings: list[Ring] = []
        self._buffer = ffi.new("uint8_t[]", ROOM_BYTES)
        self._output = ffi.new("struct capture_output *")
        for stage, interface in interfaces.items():
            self._output.interfaces[stage] = interface
        try:
            for fd in fds:
                self._rings.append(Ring.attach(fd, ring_bytes))
        finally:
            for fd in fds:
                os.close(fd)
        self._pointers = ffi.new("struct ring *[]", [ring.pointer for ring in self._rings])

    def read(self, most: int) -> memoryview:
        """Return blocks of ``most`` packets at most; valid until the next call.

        Raises OSError when the memory was damaged.
        """
        self._output.n_left = most
        n_bytes = checked(
            lib.capture_read(
                self._pointers, len(self._rings), self._output, self._buffer, ROOM_BYTES
            )
        )
        return memoryview(ffi.buffer(self._buffer, n_bytes))

    def n_packets(self, stage: CaptureStage) -> int:
        """Return how many of the stage were read."""
        return int(self._output.n_packets[stage])

    def n_lost(self, stage: CaptureStage) -> int:
        """Return how many of the stage found no room."""
        return bounded(sum(int(lib.capture_lost(ring.pointer, stage)) for ring in self._rings))

    def close(self) -> None:
        """Unmap."""
        for ring in self._rings:
            ring.close()
        self._rings = []
