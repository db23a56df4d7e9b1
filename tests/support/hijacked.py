"""A process in an attacker's hands: it is made to make a system call, as code of theirs would.

Or in a debugger's, which holds it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ATTACH, _GETREGS, _SETREGS, _DETACH, _PEEKTEXT = 16, 12, 13, 17, 1
_ALSO_TRACED = 0x40000000  # __WALL: it is not our child
_SYSCALL = b"\x0f\x05"

# struct user_regs_struct of x86-64
# fmt: off
_NAMES = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
    "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs",
    "gs",
)
# fmt: on


class _Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in _NAMES]


def _trace(request: int, pid: int, address: int, data: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    result = libc.ptrace(request, pid, ctypes.c_void_p(address), data)
    if result == -1 and ctypes.get_errno() != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request}")
    return int(result)


@contextlib.contextmanager
def held(pid: int) -> Iterator[None]:
    """Let another process do nothing meanwhile. Enter and leave it in one thread: the tracer."""
    _trace(_ATTACH, pid, 0, None)
    os.waitpid(pid, _ALSO_TRACED)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it was killed
            _trace(_DETACH, pid, 0, None)


def make_call(pid: int, number: int) -> None:
    """Let another process, as soon as it is in some system call, go on with that of this number."""
    while not _replace_call(pid, number):
        time.sleep(0.001)


def _replace_call(pid: int, number: int) -> bool:
    """Return whether it was in one; if not it goes on as it was."""
    _trace(_ATTACH, pid, 0, None)
    os.waitpid(pid, _ALSO_TRACED)
    registers = _Registers()
    _trace(_GETREGS, pid, 0, ctypes.byref(registers))
    # The instruction behind which it is, once more, with another number.
    code = (_trace(_PEEKTEXT, pid, registers.rip - 2, None) & 0xFFFF).to_bytes(2, "little")
    is_in_call = code == _SYSCALL
    if is_in_call:
        registers.rip -= 2
        registers.rax, registers.orig_rax = number, 2**64 - 1  # which is not restarted
        registers.rdi = registers.rsi = registers.rdx = 0
        _trace(_SETREGS, pid, 0, ctypes.byref(registers))
    _trace(_DETACH, pid, 0, None)
    return is_in_call
