"""The device, the process and TCP connections, by the C library."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import msgspec

from fastun.native.library import checked, ffi, lib
from fastun.native.vocabulary import Mode, Offload

# More than any kernel's struct tcp_info so far (280 in Linux 6.18); what it has, it returns.
_TCP_INFO_BYTES = 512


def device_open(name: str, mode: Mode, *, has_queues: bool = False) -> int:
    """Make (or attach to) the interface and return its descriptor. Raises OSError."""
    open_it = lib.device_open_queue if has_queues else lib.device_open
    return checked(open_it(name.encode(), int(mode)))


def device_set_offload(fd: int, offload: Offload) -> None:
    """Choose which super-packets reads return. Raises OSError (EINVAL: the kernel is older)."""
    checked(lib.device_set_offload(fd, int(offload)))


def hide_memory() -> None:
    """Keep this process's memory, where keys are, out of core dumps. Raises OSError."""
    checked(lib.process_hide_memory())


def trim_memory() -> None:
    """Give the kernel the memory that was used for a moment."""
    lib.process_trim_memory()


def die_with_parent(parent_pid: int) -> None:
    """Be killed when the parent dies. Raises ProcessLookupError when it has already."""
    checked(lib.process_die_with_parent(parent_pid))


def fork_sibling() -> int:
    """Fork a process whose parent is ours; return its ID, and 0 in it. Raises OSError.

    Only in a process with one thread: Python's own hooks for forks are not called.
    """
    return checked(lib.process_fork_sibling())


def start_process(
    arguments: Sequence[str],
    environment: Sequence[str],
    inherited: int,
    log: int,
    *,
    sibling: bool,
    has_rights: bool,
) -> int:
    """Start the program ``arguments[0]``, and return its process ID. Any thread. Raises OSError.

    It has ``inherited`` beside the standard descriptors, and ``log`` as its stderr (-1: ours). A
    ``sibling`` is a child of our parent's, to be collected there. Without ``has_rights`` it has no
    ambient capability.
    """
    # Pointers do not keep what they point to.
    texts = [ffi.new("char[]", each.encode()) for each in (*arguments, *environment)]
    argv = ffi.new("char *[]", [*texts[: len(arguments)], ffi.NULL])
    envp = ffi.new("char *[]", [*texts[len(arguments) :], ffi.NULL])
    wanted = ffi.new(
        "struct process_wanted *",
        {
            "arguments": argv,
            "environment": envp,
            "inherited_fd": inherited,
            "log_fd": log,
            "is_sibling": sibling,
            "has_no_rights": not has_rights,
        },
    )
    return checked(lib.process_start(wanted))


def has_aes_instructions() -> bool:
    """Return whether AES-256-GCM is fast and safe on this processor."""
    return bool(lib.aead_has_aes_instructions())


def load_sealing_library() -> None:
    """Have this process, and those that it forks, seal by the fastest library that is here."""
    lib.aead_load_fastest()


def sealing_library() -> str:
    """Return the name of the fastest library, which seals from now on; "" when none can."""
    return str(ffi.string(lib.aead_library_name()).decode())


class TcpInfo(msgspec.Struct, frozen=True):
    """What the kernel reports of a TCP connection."""

    rtt_s: float
    n_retransmits: int
    notsent_bytes: int


def tcp_info(connection: socket.socket) -> TcpInfo:
    """Return the state of a TCP connection. Any thread. Raises OSError when it is closed."""
    option = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    info = ffi.new("struct link_tcp_info *")
    lib.link_tcp_info_decode(option, len(option), info)
    return TcpInfo(info.rtt_us / 1e6, info.n_retransmits, info.notsent_bytes)
